//! A task: what a declared kind of work needs to be run.

use std::time::Duration;

use minijinja::Environment;
use serde::Deserialize;
use serde_json::{Value, json};

use super::completion::{Message, Prompt, Role, Tool};
use super::job::Lane;
use super::schema::Schema;

/// A declared kind of work and everything that follows from it.
#[derive(Debug)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// What it is for, in a sentence.
    pub description: String,
    /// The route for each lane, in the order of [`Lane::ALL`].
    pub routes: [String; 3],
    /// The lane of a job that names none.
    pub lane: Lane,
    /// Instructions to the model.
    pub system: Option<String>,
    /// Makes the user's message out of the input; `None` for a conversation (`messages`).
    pub template: Option<String>,
    /// Makes the result's `text` out of its `data`.
    pub text: Option<String>,
    /// What the input must look like.
    pub input: Schema,
    /// What the answer must look like; `None` for free text.
    pub output: Option<Schema>,
    /// The most tokens an answer may have.
    pub max_output_tokens: u32,
    /// How freely the model chooses.
    pub temperature: Option<f64>,
    /// The longest one attempt may take.
    pub timeout: Duration,
}

/// The input of a conversation.
#[derive(Deserialize)]
struct Conversation {
    messages: Vec<Message>,
    #[serde(default)]
    system: Option<String>,
    #[serde(default)]
    tools: Vec<Tool>,
}

impl Task {
    /// The route of a job in this lane.
    pub fn route(&self, lane: Lane) -> &str {
        let [interactive, standard, batch] = &self.routes;
        match lane {
            Lane::Interactive => interactive,
            Lane::Standard => standard,
            Lane::Batch => batch,
        }
    }

    /// The prompt for this input, which must fit the input schema. Text alone stands for
    /// `{"text": …}` or, in a conversation, for one message of the user's.
    pub fn prompt(&self, input: &Value) -> Result<Prompt, String> {
        let empty = Prompt {
            system: self.system.clone(),
            max_output_tokens: self.max_output_tokens,
            temperature: self.temperature,
            output_schema: self.output.as_ref().map(|schema| schema.source().clone()),
            ..Prompt::default()
        };
        match (&self.template, input) {
            (Some(template), Value::String(text)) => {
                let content = render(template, &json!({ "text": text }))?;
                Ok(Prompt { messages: vec![user(content)], ..empty })
            }
            (Some(template), _) => {
                Ok(Prompt { messages: vec![user(render(template, input)?)], ..empty })
            }
            (None, Value::String(text)) => {
                Ok(Prompt { messages: vec![user(text.clone())], ..empty })
            }
            (None, _) => conversation(input, empty),
        }
    }

    /// The `text` of a result with this data.
    pub fn text_of(&self, data: &Value) -> String {
        let rendered = self.text.as_ref().and_then(|template| render(template, data).ok());
        rendered.unwrap_or_else(|| data.to_string())
    }
}

/// Whether a template can be read; the fault in words when not.
pub fn check_template(template: &str) -> Result<(), String> {
    Environment::new().template_from_str(template).map(|_| ()).map_err(|fault| fault.to_string())
}

fn user(content: String) -> Message {
    Message { role: Role::User, content, tool_calls: Vec::new(), tool_call_id: None }
}

fn render(template: &str, values: &Value) -> Result<String, String> {
    Environment::new().render_str(template, values).map_err(|fault| fault.to_string())
}

/// System messages of a conversation become part of the instructions: two providers of three
/// take them only there.
fn conversation(input: &Value, empty: Prompt) -> Result<Prompt, String> {
    let given = Conversation::deserialize(input).map_err(|fault| fault.to_string())?;
    let (system, messages): (Vec<Message>, Vec<Message>) =
        given.messages.into_iter().partition(|message| message.role == Role::System);
    if messages.is_empty() {
        return Err("`messages` needs at least one message that is not from the system".to_owned());
    }
    let system: Vec<String> = empty
        .system
        .into_iter()
        .chain(given.system)
        .chain(system.into_iter().map(|message| message.content))
        .collect();
    let system = (!system.is_empty()).then(|| system.join("\n\n"));
    Ok(Prompt { system, messages, tools: given.tools, ..empty })
}
