//! A task: what a declared kind of work needs to be run.

use std::time::Duration;

use minijinja::Environment;
use serde::Deserialize;
use serde_json::{Value, json};

use super::content::Content;
use super::job::Lane;
use super::prompt::{Message, Prompt, Role, Tool, ToolChoice};
use super::schema::{Schema, Violation};

/// A declared kind of work and everything that follows from it.
#[derive(Debug)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// What it is for, in a sentence.
    pub description: String,
    /// The route for each lane, in the order of [`Lane::ALL`].
    pub routes: [String; 3],
    /// The route a job goes on to when no answer fits `output`, a repaired one included.
    pub escalate_to: Option<String>,
    /// The lane of a job that names none.
    pub lane: Lane,
    /// Instructions to the model.
    pub system: Option<String>,
    /// Makes the user's message out of the input; `None` for a conversation (`messages`).
    pub template: Option<String>,
    /// Makes the result's `text` out of its `data`.
    pub text: Option<String>,
    /// What the input must look like; `None` for anything.
    pub input: Option<Schema>,
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
    system: Option<Content>,
    #[serde(default)]
    tools: Vec<Tool>,
    #[serde(default)]
    tool_choice: Option<ToolChoice>,
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

    /// Every way in which an input does not fit.
    pub fn unfit(&self, input: &Value) -> Vec<Violation> {
        self.input.as_ref().map(|schema| schema.violations(input)).unwrap_or_default()
    }

    /// Whether an input fits. Cheaper than to tell every way in which it does not.
    pub fn fits(&self, input: &Value) -> bool {
        self.input.as_ref().is_none_or(|schema| schema.is_valid(input))
    }

    /// The prompt for this input, which must fit the input schema. Text alone stands for
    /// `{"text": …}` or, in a conversation, for one message of the user's.
    pub fn prompt(&self, input: &Value) -> Result<Prompt, String> {
        let empty = Prompt {
            system: self.system.clone().map(Content::from),
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

    /// What is asked when no task is named: whatever comes is the answer.
    pub fn plain(max_output_tokens: u32, timeout: Duration) -> Self {
        Self {
            name: "chat".to_owned(),
            description: String::new(),
            routes: [const { String::new() }; 3],
            escalate_to: None,
            lane: Lane::Interactive,
            system: None,
            template: None,
            text: None,
            input: None,
            output: None,
            max_output_tokens,
            temperature: None,
            timeout,
        }
    }

    /// The prompt when a conversation calls for this task: as it is with the task's instructions
    /// before it, or, for a task that makes its message from an input, from what the user said last
    /// (an object when that is JSON and the task takes one, else text).
    pub fn asked_live(&self, asked: Prompt) -> Result<Prompt, Vec<Violation>> {
        let cap = asked.max_output_tokens.min(self.max_output_tokens);
        if self.template.is_none() {
            let own = self.system.clone().map(Content::from);
            let system = own.into_iter().chain(asked.system).reduce(Content::and);
            return Ok(Prompt {
                system,
                max_output_tokens: cap,
                temperature: asked.temperature.or(self.temperature),
                output_schema: self.output.as_ref().map(|schema| schema.source().clone()),
                native: None,
                ..asked
            });
        }
        let said = asked.messages.iter().rev().find(|message| message.role == Role::User);
        let text = said.map(|message| message.content.text().into_owned()).unwrap_or_default();
        let object = serde_json::from_str::<Value>(&text).ok().filter(Value::is_object);
        let input = object.filter(|input| self.fits(input)).unwrap_or(Value::String(text));
        let violations = self.unfit(&input);
        if !violations.is_empty() {
            return Err(violations);
        }
        let prompt = self.prompt(&input);
        let prompt =
            prompt.map_err(|detail| vec![Violation { pointer: "#".to_owned(), detail }])?;
        Ok(Prompt { max_output_tokens: cap, cache_key: asked.cache_key, ..prompt })
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
    Message::user(content)
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
    let system = empty
        .system
        .into_iter()
        .chain(given.system)
        .chain(system.into_iter().map(|message| message.content))
        .reduce(Content::and);
    let Conversation { tools, tool_choice, .. } = given;
    Ok(Prompt { system, messages, tools, tool_choice, ..empty })
}
