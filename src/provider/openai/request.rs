//! A prompt in the words of OpenAI's chat completions.

use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};

use super::messages::Reader;
use super::{Dialect, effort};
use crate::domain::content::Content;
use crate::domain::limits::glob;
use crate::domain::prompt::{self, Prompt, Tool, ToolChoice};
use crate::provider::native;
use crate::provider::output::{OPENAI, instructed, instructed_json, is_object, strict_schema};
use crate::provider::parameters;
use crate::provider::sampling::{takes_parallel, takes_stop, takes_temperature};
use crate::provider::{ProviderError, unsupported};

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

/// The most texts that may end an answer, at those who say so.
const MOST_STOPS: usize = 4;

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

/// What is sent; an error when it cannot be asked here.
pub(super) fn asked(
    dialect: Dialect,
    model: &str,
    prompt: &Prompt,
    streamed: bool,
) -> Result<Asked, ProviderError> {
    let own = prompt.native_in(prompt::Dialect::OpenAi);
    let mut body = match own {
        Some(own) => capped(native::body(own, model, streamed), dialect, prompt),
        None => body(dialect, model, prompt)?,
    };
    let had_usage = streamed && with_usage(&mut body);
    if !streamed {
        // Refused where there is no stream.
        body.remove("stream_options");
    }
    Ok(Asked {
        body: Value::Object(body),
        headers: own.map(native::headers).unwrap_or_default(),
        is_native: own.is_some(),
        hides_usage: !had_usage,
    })
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

/// What the longest answer is called. OpenAI's reasoning models refuse the old name; many others
/// know only that.
const fn cap(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi | Dialect::Groq | Dialect::Cerebras => "max_completion_tokens",
        Dialect::OpenRouter | Dialect::Plain => "max_tokens",
    }
}

/// The caller's own request with the longest answer that is reckoned with, when it names none.
fn capped(mut body: Map<String, Value>, dialect: Dialect, prompt: &Prompt) -> Map<String, Value> {
    let names = |name: &&str| body.get(*name).is_some_and(|value| !value.is_null());
    if !["max_completion_tokens", "max_tokens"].iter().any(names) {
        body.insert(cap(dialect).to_owned(), prompt.max_output_tokens.into());
    }
    body
}

/// The body of a request.
pub(super) fn body(
    dialect: Dialect,
    model: &str,
    prompt: &Prompt,
) -> Result<Map<String, Value>, ProviderError> {
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    let (system, response_format) = answer_form(dialect, model, prompt);
    let messages = Reader { dialect, model }.messages(system.as_ref(), &prompt.messages)?;
    body.insert("messages".to_owned(), messages);
    body.insert(cap(dialect).to_owned(), prompt.max_output_tokens.into());
    sampling(&mut body, dialect, model, prompt)?;
    if !prompt.tools.is_empty() {
        put_tools(&mut body, dialect, model, prompt);
    }
    // Else OpenRouter may choose someone who drops silently what he does not know.
    let all =
        dialect == Dialect::OpenRouter && (response_format.is_some() || !prompt.tools.is_empty());
    if all {
        body.insert("provider".to_owned(), json!({ "require_parameters": true }));
    }
    if let Some(format) = response_format {
        body.insert("response_format".to_owned(), format);
    }
    if let Some(effort) = prompt.effort.filter(|_| !all || effort::thinks_at_openrouter(model)) {
        effort::put(&mut body, dialect, model, effort);
    }
    if effort::is_raw(dialect, model) {
        body.insert("reasoning_format".to_owned(), "parsed".into());
    }
    let keyed = matches!(dialect, Dialect::OpenAi | Dialect::Cerebras);
    if let Some(key) = prompt.cache_key.as_ref().filter(|_| keyed) {
        body.insert("prompt_cache_key".to_owned(), key.as_str().into());
    }
    Ok(body)
}

/// The instructions and the knob that bring the answer into its form.
fn answer_form(dialect: Dialect, model: &str, prompt: &Prompt) -> (Option<Content>, Option<Value>) {
    let system = prompt.system.clone();
    let any_json = || Some(json!({ "type": "json_object" }));
    if let Some(schema) = &prompt.output_schema {
        return match form(dialect, model, schema, !prompt.tools.is_empty()) {
            Form::Format(format) => (system, Some(format)),
            Form::AnyJson => (Some(instructed(system, schema)), any_json()),
            Form::Words => (Some(instructed(system, schema)), None),
        };
    }
    if !prompt.json {
        return (system, None);
    }
    // The knob is refused where the prompt itself does not speak of JSON.
    let system = if speaks_of_json(prompt) { system } else { Some(instructed_json(system)) };
    let refused = matches!(dialect, Dialect::Groq | Dialect::Cerebras) && !prompt.tools.is_empty();
    if refused { (Some(instructed_json(system)), None) } else { (system, any_json()) }
}

fn speaks_of_json(prompt: &Prompt) -> bool {
    let messages = prompt.messages.iter().map(|message| &message.content);
    let mut texts = prompt.system.iter().chain(messages).flat_map(Content::texts);
    texts.any(|text| text.to_ascii_lowercase().contains("json"))
}

fn sampling(
    body: &mut Map<String, Value>,
    dialect: Dialect,
    model: &str,
    prompt: &Prompt,
) -> Result<(), ProviderError> {
    if takes_temperature(model) {
        if let Some(temperature) = prompt.temperature {
            body.insert("temperature".to_owned(), temperature.into());
        }
        if let Some(top_p) = prompt.top_p {
            body.insert("top_p".to_owned(), top_p.into());
        }
    }
    if prompt.stop.is_empty() || !takes_stop(model) {
        return Ok(());
    }
    let counted = matches!(dialect, Dialect::OpenAi | Dialect::Groq | Dialect::Cerebras);
    if counted && prompt.stop.len() > MOST_STOPS {
        return Err(unsupported(format!("at most {MOST_STOPS} stop sequences are taken")));
    }
    body.insert("stop".to_owned(), json!(prompt.stop));
    Ok(())
}

fn put_tools(body: &mut Map<String, Value>, dialect: Dialect, model: &str, prompt: &Prompt) {
    let strict = !matches!(dialect, Dialect::Groq | Dialect::Plain);
    let tools: Value = prompt.tools.iter().map(|one| tool(one, strict)).collect();
    body.insert("tools".to_owned(), tools);
    let choice = prompt.tool_choice.as_ref().map(|choice| match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Tool(name) => json!({ "type": "function", "function": { "name": name } }),
    });
    if let Some(choice) = choice {
        body.insert("tool_choice".to_owned(), choice);
    }
    if let Some(parallel) = prompt.parallel_tool_calls.filter(|_| takes_parallel(model)) {
        body.insert("parallel_tool_calls".to_owned(), parallel.into());
    }
}

/// A tool whose parameters strict modes cannot say is sent without strictness.
fn tool(tool: &Tool, strict: bool) -> Value {
    let wanted = strict && tool.strict == Some(true);
    let held = wanted.then(|| strict_schema(&tool.parameters, &OPENAI)).flatten();
    let is_strict = held.is_some();
    let parameters = held.unwrap_or_else(|| tool.parameters.clone());
    let mut function =
        json!({ "name": tool.name, "description": tool.description, "parameters": parameters });
    if let Some(function) = function.as_object_mut().filter(|_| is_strict) {
        function.insert("strict".to_owned(), true.into());
    }
    json!({ "type": "function", "function": function })
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
