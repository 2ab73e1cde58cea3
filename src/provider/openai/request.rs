//! A prompt in the words of OpenAI's chat completions.

use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};

use super::Dialect;
use crate::domain::content::Content;
use crate::domain::limits::glob;
use crate::domain::prompt::{self, Message, Prompt, Role};
use crate::provider::native;
use crate::provider::output::{OPENAI, instructed, is_object, joined, strict_schema};
use crate::provider::parameters;
use crate::provider::sampling::takes_temperature;
use crate::provider::tool_id::portable;

/// OpenAI's models that know JSON but no schema.
const SCHEMALESS: [&str; 4] = ["gpt-3.5*", "gpt-4", "gpt-4-*", "gpt-4o-2024-05-13"];

/// Groq's models that can be held to a schema.
const GROQ_STRICT: [&str; 1] = ["openai/gpt-oss-*"];

/// Groq's models that take a schema as a wish.
const GROQ_SCHEMA: [&str; 2] = ["meta-llama/llama-4-*", "moonshotai/kimi-k2*"];

/// What the prompt asks for that the model is not held to, or not sent.
pub(super) fn lacks(dialect: Dialect, model: &str, prompt: &Prompt) -> Option<&'static str> {
    let free =
        |schema| !matches!(form(dialect, model, schema, !prompt.tools.is_empty()), Form::Format(_));
    if prompt.output_schema.as_ref().is_some_and(free) {
        return Some(parameters::SCHEMA);
    }
    let warm = prompt.temperature.is_some() && !takes_temperature(model);
    warm.then_some(parameters::TEMPERATURE)
}

/// How a schema is brought to a model.
enum Form {
    /// Its own knob.
    Format(Value),
    /// JSON is asked for; the schema stands in the instructions.
    AnyJson,
    /// The instructions alone.
    Words,
}

/// What is sent.
pub(super) struct Asked {
    /// The body.
    pub body: Value,
    /// Further headers.
    pub headers: HeaderMap,
    /// Whether it is the caller's own request.
    pub is_native: bool,
    /// Whether the usage at the end of a stream is asked for by us alone.
    pub hides_usage: bool,
}

/// What is sent.
pub(super) fn asked(dialect: Dialect, model: &str, prompt: &Prompt, streamed: bool) -> Asked {
    let own = prompt.native_in(prompt::Dialect::OpenAi);
    let mut body =
        own.map_or_else(|| body(dialect, model, prompt), |own| native::body(own, model, streamed));
    let had_usage = streamed && with_usage(&mut body);
    if !streamed {
        // Refused where there is no stream.
        body.remove("stream_options");
    }
    Asked {
        body: Value::Object(body),
        headers: own.map(native::headers).unwrap_or_default(),
        is_native: own.is_some(),
        hides_usage: !had_usage,
    }
}

/// Asks for a stream that tells at its end what was used; whether that was asked for already.
fn with_usage(body: &mut Map<String, Value>) -> bool {
    body.insert("stream".to_owned(), true.into());
    let options = body.entry("stream_options").or_insert_with(|| json!({}));
    if options.is_null() {
        *options = json!({});
    }
    let Some(options) = options.as_object_mut() else { return false };
    options.insert("include_usage".to_owned(), true.into()) == Some(true.into())
}

/// The body of a request.
fn body(dialect: Dialect, model: &str, prompt: &Prompt) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    let mut system = prompt.system.clone();
    let mut response_format = None;
    if let Some(schema) = &prompt.output_schema {
        response_format = match form(dialect, model, schema, !prompt.tools.is_empty()) {
            Form::Format(format) => Some(format),
            Form::AnyJson => {
                system = Some(instructed(system, schema));
                Some(json!({ "type": "json_object" }))
            }
            Form::Words => {
                system = Some(instructed(system, schema));
                None
            }
        };
    }
    body.insert("messages".to_owned(), messages(system.as_ref(), &prompt.messages));
    // OpenAI's reasoning models refuse the old name; many others know only that.
    let cap = match dialect {
        Dialect::OpenAi | Dialect::Groq | Dialect::Cerebras => "max_completion_tokens",
        Dialect::OpenRouter | Dialect::Plain => "max_tokens",
    };
    body.insert(cap.to_owned(), prompt.max_output_tokens.into());
    if let Some(temperature) = prompt.temperature.filter(|_| takes_temperature(model)) {
        body.insert("temperature".to_owned(), temperature.into());
    }
    if !prompt.tools.is_empty() {
        body.insert("tools".to_owned(), tools(prompt));
    }
    // Else OpenRouter may choose someone who drops silently what he does not know.
    if dialect == Dialect::OpenRouter && (response_format.is_some() || !prompt.tools.is_empty()) {
        body.insert("provider".to_owned(), json!({ "require_parameters": true }));
    }
    if let Some(format) = response_format {
        body.insert("response_format".to_owned(), format);
    }
    body
}

fn form(dialect: Dialect, model: &str, schema: &Value, tools: bool) -> Form {
    let any = |patterns: &[&str]| patterns.iter().any(|pattern| glob(pattern, model));
    let strict = || strict_schema(schema, &OPENAI);
    match dialect {
        // Those who run models compile any schema into a grammar.
        Dialect::Plain => Form::Format(format(schema, true)),
        // JSON modes answer with an object, and these two refuse them beside tools.
        _ if !is_object(schema) => Form::Words,
        Dialect::Groq | Dialect::Cerebras if tools => Form::Words,
        Dialect::Groq if any(&GROQ_SCHEMA) => Form::Format(format(schema, false)),
        Dialect::Groq if !any(&GROQ_STRICT) => Form::AnyJson,
        Dialect::OpenAi if any(&SCHEMALESS) => Form::AnyJson,
        Dialect::OpenAi | Dialect::Groq | Dialect::Cerebras | Dialect::OpenRouter => {
            Form::Format(strict().map_or_else(|| format(schema, false), |own| format(&own, true)))
        }
    }
}

fn format(schema: &Value, strict: bool) -> Value {
    json!({
        "type": "json_schema",
        "json_schema": { "name": "answer", "strict": strict, "schema": schema },
    })
}

fn messages(system: Option<&Content>, messages: &[Message]) -> Value {
    let system = system.map(|text| json!({ "role": "system", "content": joined(text) }));
    system.into_iter().chain(messages.iter().map(message)).collect()
}

fn message(message: &Message) -> Value {
    match message.role {
        Role::System => json!({ "role": "system", "content": message.content.text() }),
        Role::User => json!({ "role": "user", "content": message.content.text() }),
        Role::Tool => {
            let id = portable(message.tool_call_id.as_deref().unwrap_or_default());
            json!({ "role": "tool", "tool_call_id": id, "content": message.content.text() })
        }
        Role::Assistant if message.tool_calls.is_empty() => {
            json!({ "role": "assistant", "content": message.content.text() })
        }
        Role::Assistant => {
            let calls = message.tool_calls.iter().map(|call| {
                // Arguments are text here.
                let arguments = match &call.arguments {
                    Value::String(raw) => raw.clone(),
                    other => other.to_string(),
                };
                json!({ "id": portable(&call.id), "type": "function",
                        "function": { "name": call.name, "arguments": arguments } })
            });
            let calls: Value = calls.collect();
            let content = Some(message.content.text()).filter(|text| !text.is_empty());
            json!({ "role": "assistant", "content": content, "tool_calls": calls })
        }
    }
}

fn tools(prompt: &Prompt) -> Value {
    let tools = prompt.tools.iter().map(|tool| {
        json!({ "type": "function", "function": {
            "name": tool.name, "description": tool.description, "parameters": tool.parameters,
        } })
    });
    tools.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_is_asked_for_json_in_the_way_it_knows() {
        use Dialect::{Cerebras, Groq, OpenAi, OpenRouter, Plain};
        let schema = json!({ "type": "object", "properties": { "a": { "type": "string" } },
                             "required": ["a"] });
        let loose = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
        let list = json!({ "type": "array", "items": { "type": "string" } });
        let told =
            |dialect, model: &str, schema: &Value, tools| match form(dialect, model, schema, tools)
            {
                Form::Format(format) => {
                    let strict = format.pointer("/json_schema/strict") == Some(&json!(true));
                    if strict { "strict" } else { "wish" }
                }
                Form::AnyJson => "any json",
                Form::Words => "words",
            };
        for (dialect, model, schema, tools, expected) in [
            (OpenAi, "gpt-4.1", &schema, false, "strict"),
            (OpenAi, "gpt-4.1", &schema, true, "strict"),
            (OpenAi, "gpt-4.1", &loose, false, "wish"),
            (OpenAi, "gpt-4.1", &list, false, "words"),
            (OpenAi, "gpt-4-turbo", &schema, false, "any json"),
            (OpenAi, "gpt-3.5-turbo", &schema, false, "any json"),
            (Groq, "openai/gpt-oss-20b", &schema, false, "strict"),
            (Groq, "openai/gpt-oss-20b", &schema, true, "words"),
            (Groq, "meta-llama/llama-4-scout-17b-16e-instruct", &schema, false, "wish"),
            (Groq, "llama-3.3-70b-versatile", &schema, false, "any json"),
            (Cerebras, "gpt-oss-120b", &schema, false, "strict"),
            (Cerebras, "gpt-oss-120b", &schema, true, "words"),
            (OpenRouter, "x/y", &loose, true, "wish"),
            (Plain, "qwen3", &list, true, "strict"),
        ] {
            assert_eq!(told(dialect, model, schema, tools), expected, "{dialect:?} {model}");
        }
    }
}
