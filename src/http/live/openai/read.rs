//! A chat completion request read.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::super::problem::Problem;
use super::super::asked::{Asked, Conversation, Fields, choice, fault, is_empty, object};
use crate::domain::completion::ToolCall;
use crate::domain::prompt::{
    CacheUse, Dialect, Effort, Message, Native, Prompt, Role, Tool, ToolChoice,
};
use crate::provider::stream::read_arguments;

/// Fields that other languages have no words for, and without which the answer would be another.
const OWN: [&str; 4] = ["functions", "function_call", "audio", "web_search_options"];

/// Reads a request. The caller's own one goes along for whoever speaks the same language, without
/// what is meant for us; `cap` stands in where the caller names no longest answer.
pub(in super::super) fn read(
    mut body: Map<String, Value>,
    headers: Vec<(String, String)>,
    cap: u32,
) -> Result<Asked, Problem> {
    // Meant for us: nobody else would know it.
    let provider = choice(body.remove("provider").as_ref())?;
    let fields = Fields::of(&body);
    if fields.value("n").is_some_and(|n| n.as_u64() != Some(1)) {
        return Err(fields.fault("n", "must be 1: ask as often as you want answers"));
    }
    let mut read = Conversation::new(Dialect::OpenAi);
    conversation(&mut read, fields)?;
    if read.messages.is_empty() {
        // Others have no words for a conversation in which nobody has spoken.
        read.bind("messages from the system only");
    }
    if let Some(own) = OWN.iter().find(|name| fields.value(name).is_some_and(|own| !is_empty(own)))
    {
        read.bind(format!("`{own}`"));
    }
    if fields.texts("modalities")?.iter().any(|kind| kind != "text") {
        read.bind("`modalities`");
    }
    let tools = tools(&mut read, fields)?;
    let tool_choice = tool_choice(&mut read, fields)?;
    let (json, output_schema) = format(fields)?;
    // Which of the two counts is for the provider to say.
    let max = fields.tokens("max_completion_tokens")?.max(fields.tokens("max_tokens")?);
    let cache_key = fields.text("prompt_cache_key")?.map(str::to_owned);
    let options = fields.value("stream_options").and_then(|options| options.get("include_usage"));
    let asked = Asked {
        name: fields.needed("model")?.to_owned(),
        stream: fields.flag("stream")?.unwrap_or_default(),
        tell_usage: options.and_then(Value::as_bool).unwrap_or_default(),
        session: cache_key.clone(),
        provider,
        prompt: Prompt {
            tools,
            tool_choice,
            parallel_tool_calls: fields.flag("parallel_tool_calls")?,
            max_output_tokens: max.unwrap_or(cap).max(1),
            temperature: fields.number("temperature")?,
            top_p: fields.number("top_p")?,
            stop: fields.texts("stop")?,
            effort: fields.text("reasoning_effort")?.map(effort),
            json,
            output_schema,
            cache_key,
            cache: CacheUse::default(),
            system: read.system,
            messages: read.messages,
            bound: read.bound,
            native: None,
        },
    };
    let native = Native { dialect: Dialect::OpenAi, body, headers };
    Ok(Asked { prompt: Prompt { native: Some(Arc::new(native)), ..asked.prompt }, ..asked })
}

/// The messages, with instructions wherever they stand gathered in one place.
pub(in super::super) fn conversation(
    read: &mut Conversation,
    fields: Fields<'_>,
) -> Result<(), Problem> {
    for (index, given) in fields.list("messages")?.iter().enumerate() {
        let place = format!("/messages/{index}");
        message(read, Fields { object: object(given, &place)?, place: &place })?;
    }
    if read.messages.is_empty() && read.system.is_none() {
        return Err(fields.fault("messages", "needs at least one message"));
    }
    Ok(())
}

fn message(read: &mut Conversation, fields: Fields<'_>) -> Result<(), Problem> {
    let role = match fields.needed("role")? {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        "function" => {
            read.bind("a message of the role `function`");
            return Ok(());
        }
        _ => {
            let roles = "must be system, developer, user, assistant or tool";
            return Err(fields.fault("role", roles));
        }
    };
    let place = format!("{}/content", fields.place);
    let mut content = read.content(fields.object.get("content").unwrap_or(&Value::Null), &place)?;
    if role == Role::System {
        read.instruct(content);
        return Ok(());
    }
    if let Some(refusal) = fields.text("refusal")?.filter(|_| content.is_empty()) {
        content = refusal.into();
    }
    let mut tool_calls = Vec::new();
    for (index, call) in fields.list("tool_calls")?.iter().enumerate() {
        let place = format!("{}/tool_calls/{index}", fields.place);
        tool_calls
            .extend(tool_call(read, Fields { object: object(call, &place)?, place: &place })?);
    }
    let tool_call_id = fields.text("tool_call_id")?.map(str::to_owned);
    if role == Role::Tool && tool_call_id.is_none() {
        return Err(fields.fault("tool_call_id", "is missing"));
    }
    let is_error = fields.flag("is_error")?.unwrap_or_default();
    let message = Message { tool_calls, tool_call_id, is_error, ..Message::new(role, content) };
    read.messages.push(message);
    Ok(())
}

/// A call as OpenAI writes it, or as our own results do.
fn tool_call(read: &mut Conversation, call: Fields<'_>) -> Result<Option<ToolCall>, Problem> {
    let id = call.needed("id")?.to_owned();
    let inner = match call.value("function") {
        Some(function) => Fields { object: object(function, call.place)?, place: call.place },
        None if call.value("name").is_some() => call,
        None => {
            read.bind("a tool call that is none of a function's");
            return Ok(None);
        }
    };
    let arguments = match inner.value("arguments") {
        Some(Value::String(text)) => read_arguments(text),
        Some(other) => other.clone(),
        None => json!({}),
    };
    Ok(Some(ToolCall { id, name: inner.needed("name")?.to_owned(), arguments }))
}

/// Tools as OpenAI writes them, or bare: `name`, `description`, `parameters`.
pub(in super::super) fn tools(
    read: &mut Conversation,
    fields: Fields<'_>,
) -> Result<Vec<Tool>, Problem> {
    let mut tools = Vec::new();
    for (index, tool) in fields.list("tools")?.iter().enumerate() {
        let place = format!("/tools/{index}");
        let outer = Fields { object: object(tool, &place)?, place: &place };
        let kind = outer.text("type")?.unwrap_or("function");
        let inner = outer.value("function").and_then(Value::as_object).unwrap_or(outer.object);
        if kind != "function" {
            read.bind(format!("a tool of type `{kind}`"));
            continue;
        }
        let inner = Fields { object: inner, place: &place };
        let empty = || json!({ "type": "object", "properties": {} });
        tools.push(Tool {
            name: inner.needed("name")?.to_owned(),
            description: inner.text("description")?.unwrap_or_default().to_owned(),
            parameters: inner.value("parameters").cloned().unwrap_or_else(empty),
            strict: inner.flag("strict")?,
        });
    }
    Ok(tools)
}

/// Whether and which tools must be asked for.
pub(in super::super) fn tool_choice(
    read: &mut Conversation,
    fields: Fields<'_>,
) -> Result<Option<ToolChoice>, Problem> {
    let Some(given) = fields.value("tool_choice") else { return Ok(None) };
    let name = || given.pointer("/function/name").or_else(|| given.get("name"))?.as_str();
    Ok(Some(match (given.as_str(), name()) {
        (Some("auto"), _) => ToolChoice::Auto,
        (Some("none"), _) => ToolChoice::None,
        (Some("required"), _) => ToolChoice::Required,
        (None, Some(name)) => ToolChoice::Tool(name.to_owned()),
        (None, None) if given.is_object() => {
            read.bind("this `tool_choice`");
            return Ok(None);
        }
        _ => {
            let known = "must be auto, none, required or a function";
            return Err(fields.fault("tool_choice", known));
        }
    }))
}

/// Whether JSON is wanted, and of which schema.
fn format(fields: Fields<'_>) -> Result<(bool, Option<Value>), Problem> {
    let Some(format) = fields.value("response_format") else { return Ok((false, None)) };
    let schema = || format.pointer("/json_schema/schema").filter(|schema| schema.is_object());
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok((false, None)),
        Some("json_object") => Ok((true, None)),
        Some("json_schema") => match schema() {
            Some(schema) => Ok((true, Some(schema.clone()))),
            None => Err(fault("/response_format/json_schema/schema", "must be a schema")),
        },
        _ => Err(fields.fault("response_format", "must be text, json_object or json_schema")),
    }
}

/// How much to think; a level we do not know is more than we know.
pub(in super::super) fn effort(text: &str) -> Effort {
    match text {
        "none" => Effort::None,
        "minimal" => Effort::Minimal,
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        _ => Effort::High,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::content::Image;

    fn asked(more: &Value) -> Result<Asked, Problem> {
        let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] });
        let fields = body.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        read(fields.clone(), Vec::new(), 4_096)
    }

    #[test]
    fn a_conversation_with_tools_and_images_is_read() {
        let asked = asked(&json!({
            "messages": [
                { "role": "developer", "content": "Be brief." },
                { "role": "user", "content": [
                    { "type": "text", "text": "See" },
                    { "type": "image_url", "image_url": { "url": "data:image/png;base64,QUJD" } },
                ] },
                { "role": "assistant", "content": null, "tool_calls": [
                    { "id": "c1", "type": "function",
                      "function": { "name": "look", "arguments": "{\"at\":1}" } },
                ] },
                { "role": "tool", "tool_call_id": "c1", "content": "a cat" },
                { "role": "system", "content": "In French." },
            ],
            "tools": [{ "type": "function", "function": {
                "name": "look", "parameters": { "type": "object" }, "strict": true } }],
            "tool_choice": { "type": "function", "function": { "name": "look" } },
            "parallel_tool_calls": false, "max_completion_tokens": 7, "stop": "END",
            "temperature": 0.5, "top_p": 0.9, "reasoning_effort": "low", "seed": 17,
            "provider": { "only": ["groq"] }, "prompt_cache_key": "k",
            "stream": true, "stream_options": { "include_usage": true },
        }))
        .unwrap();
        let prompt = &asked.prompt;
        assert_eq!(prompt.system.as_ref().unwrap().text(), "Be brief.\nIn French.");
        let image = Image::at("data:image/png;base64,QUJD");
        assert_eq!(prompt.messages[0].content.images().next(), Some(&image));
        assert_eq!(prompt.messages[1].tool_calls[0].arguments, json!({ "at": 1 }));
        assert_eq!(prompt.messages[2].tool_call_id.as_deref(), Some("c1"));
        assert_eq!(prompt.tools[0].strict, Some(true));
        assert_eq!(prompt.tool_choice, Some(ToolChoice::Tool("look".to_owned())));
        assert_eq!((prompt.max_output_tokens, prompt.parallel_tool_calls), (7, Some(false)));
        assert_eq!(
            (prompt.stop.as_slice(), prompt.effort),
            (&["END".into()][..], Some(Effort::Low))
        );
        assert_eq!((prompt.temperature, prompt.top_p), (Some(0.5), Some(0.9)));
        assert!(asked.stream && asked.tell_usage && prompt.bound.is_none());
        assert_eq!(asked.session.as_deref(), Some("k"));
        assert_eq!(asked.provider.unwrap().only, ["groq"]);
        let native = prompt.native.as_ref().unwrap();
        assert_eq!(native.body["seed"], 17);
        assert!(!native.body.contains_key("provider"));
    }

    #[test]
    fn what_other_languages_have_no_words_for_binds() {
        for own in [
            json!({ "messages": [{ "role": "user", "content": [{ "type": "input_audio" }] }] }),
            json!({ "tools": [{ "type": "custom", "custom": { "name": "x" } }] }),
            json!({ "modalities": ["text", "audio"] }),
            json!({ "tool_choice": { "type": "allowed_tools" } }),
            json!({ "functions": [{}] }),
            json!({ "messages": [{ "role": "system", "content": "x" }] }),
        ] {
            assert!(asked(&own).unwrap().prompt.bound.is_some(), "{own}");
        }
        let plain = asked(&json!({ "logprobs": true, "max_tokens": null, "functions": [] }))
            .unwrap()
            .prompt;
        assert_eq!((plain.bound.is_none(), plain.max_output_tokens), (true, 4_096));
        assert!(!plain.native.unwrap().body.contains_key("max_completion_tokens"));
        let both = asked(&json!({ "max_tokens": 9, "max_completion_tokens": 7 })).unwrap();
        assert_eq!(both.prompt.max_output_tokens, 9);
    }

    #[test]
    fn faults_name_their_place() {
        for (bad, place) in [
            (json!({ "n": 2 }), "#/n"),
            (json!({ "model": "" }), "#/model"),
            (json!({ "messages": [] }), "#/messages"),
            (json!({ "messages": [] }), "#/messages"),
            (json!({ "messages": [{ "role": "user", "content": 7 }] }), "#/messages/0/content"),
            (json!({ "messages": [{ "role": "king" }] }), "#/messages/0/role"),
            (json!({ "messages": [{ "role": "tool" }] }), "#/messages/0/tool_call_id"),
            (json!({ "tools": [{ "function": {} }] }), "#/tools/0/name"),
            (json!({ "temperature": "hot" }), "#/temperature"),
            (json!({ "response_format": { "type": "xml" } }), "#/response_format"),
            (json!({ "provider": 7 }), "#/provider"),
        ] {
            let problem = asked(&bad).err().unwrap();
            assert!(format!("{problem:?}").contains(&format!("\"{place}\"")), "{bad}: {problem:?}");
        }
    }
}
