//! A Messages request read.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::super::problem::Problem;
use super::super::asked::{Asked, Conversation, Fields, fault, is_empty, object};
use super::super::openai::effort;
use crate::domain::completion::ToolCall;
use crate::domain::content::Content;
use crate::domain::prompt::{
    CacheUse, Dialect, Effort, Message, Native, Prompt, Role, Tool, ToolChoice,
};

/// Fields that other languages have no words for, and without which the answer would be another.
const OWN: [&str; 2] = ["mcp_servers", "container"];

/// Blocks that can be left out where they are not understood.
const SPARED: [&str; 2] = ["thinking", "redacted_thinking"];

/// Reads a request. `counts` when only its tokens are to be counted.
pub(in super::super) fn read(
    body: Map<String, Value>,
    headers: Vec<(String, String)>,
    counts: bool,
) -> Result<Asked, Problem> {
    let fields = Fields::of(&body);
    let mut read = Conversation::new(Dialect::Anthropic);
    if let Some(system) = fields.value("system") {
        let system = read.content(system, "/system")?;
        read.instruct(system);
    }
    conversation(&mut read, fields)?;
    if let Some(own) = OWN.iter().find(|name| fields.value(name).is_some_and(|own| !is_empty(own)))
    {
        read.bind(format!("`{own}`"));
    }
    let tools = tools(&mut read, fields)?;
    let (tool_choice, parallel_tool_calls) = tool_choice(fields)?;
    let max = fields.tokens("max_tokens")?;
    if max.is_none() && !counts {
        return Err(fields.fault("max_tokens", "is missing"));
    }
    let format = ["/output_config/format/schema", "/output_format/schema"];
    let output_schema = format.iter().find_map(|place| at(&body, place)).cloned();
    let asked = Asked {
        name: fields.needed("model")?.to_owned(),
        stream: fields.flag("stream")?.unwrap_or_default(),
        tell_usage: true,
        session: session(&body),
        provider: None,
        prompt: Prompt {
            tools,
            tool_choice,
            parallel_tool_calls,
            max_output_tokens: max.unwrap_or_default().max(1),
            temperature: fields.number("temperature")?,
            top_p: fields.number("top_p")?,
            stop: fields.texts("stop_sequences")?,
            effort: how_much(&body),
            json: output_schema.is_some(),
            output_schema,
            cache_key: None,
            cache: CacheUse::default(),
            system: read.system,
            messages: read.messages,
            bound: read.bound,
            native: None,
        },
    };
    let native = Native { dialect: Dialect::Anthropic, body, headers };
    Ok(Asked { prompt: Prompt { native: Some(Arc::new(native)), ..asked.prompt }, ..asked })
}

fn at<'a>(body: &'a Map<String, Value>, place: &str) -> Option<&'a Value> {
    let (first, rest) = place.trim_start_matches('/').split_once('/')?;
    body.get(first)?.pointer(&format!("/{rest}")).filter(|value| !value.is_null())
}

/// Claude Code names its session within the user's id. Any other id is a person, who may have many
/// conversations.
fn session(body: &Map<String, Value>) -> Option<String> {
    let user = at(body, "/metadata/user_id")?.as_str()?;
    (user.contains("session") && user.len() <= 512).then(|| user.to_owned())
}

fn how_much(body: &Map<String, Value>) -> Option<Effort> {
    if let Some(text) = at(body, "/output_config/effort").and_then(Value::as_str) {
        return Some(effort(text));
    }
    match at(body, "/thinking/type")?.as_str()? {
        "disabled" => Some(Effort::None),
        "enabled" => Some(match at(body, "/thinking/budget_tokens").and_then(Value::as_u64) {
            Some(0..=2_048) => Effort::Low,
            Some(8_193..) => Effort::High,
            _ => Effort::Medium,
        }),
        _ => None,
    }
}

fn conversation(read: &mut Conversation, fields: Fields<'_>) -> Result<(), Problem> {
    for (index, given) in fields.list("messages")?.iter().enumerate() {
        let place = format!("/messages/{index}");
        let message = Fields { object: object(given, &place)?, place: &place };
        let place = format!("{place}/content");
        let content = message.value("content");
        let content = content.ok_or_else(|| message.fault("content", "is missing"))?;
        match message.needed("role")? {
            "user" => user(read, content, &place)?,
            "assistant" => assistant(read, content, &place)?,
            "system" => {
                let content = read.content(content, &place)?;
                read.instruct(content);
            }
            _ => return Err(message.fault("role", "must be user or assistant")),
        }
    }
    if read.messages.is_empty() {
        return Err(fields.fault("messages", "needs at least one message"));
    }
    Ok(())
}

/// What a user says may begin with tools' answers.
fn user(read: &mut Conversation, content: &Value, place: &str) -> Result<(), Problem> {
    let mut said = Content::default();
    let Some(blocks) = content.as_array() else {
        let content = read.content(content, place)?;
        read.messages.push(Message::user(content));
        return Ok(());
    };
    let before = read.messages.len();
    for (index, block) in blocks.iter().enumerate() {
        let place = format!("{place}/{index}");
        if kind(block) == "tool_result" {
            let fields = Fields { object: object(block, &place)?, place: &place };
            let answer = fields.object.get("content").unwrap_or(&Value::Null);
            let mut content = read.content(answer, &format!("{place}/content"))?;
            if let (Some(mark), Some(last)) = (fields.value("cache_control"), content.0.last_mut())
            {
                last.cache.get_or_insert_with(|| mark.clone());
            }
            read.messages.push(Message {
                tool_call_id: Some(fields.needed("tool_use_id")?.to_owned()),
                is_error: fields.flag("is_error")?.unwrap_or_default(),
                ..Message::new(Role::Tool, content)
            });
        } else {
            said.0.extend(read.part(block, &place)?);
        }
    }
    if !said.0.is_empty() || read.messages.len() == before {
        read.messages.push(Message::user(said));
    }
    Ok(())
}

fn assistant(read: &mut Conversation, content: &Value, place: &str) -> Result<(), Problem> {
    let mut message = Message::new(Role::Assistant, Content::default());
    let Some(blocks) = content.as_array() else {
        message.content = read.content(content, place)?;
        read.messages.push(message);
        return Ok(());
    };
    for (index, block) in blocks.iter().enumerate() {
        let place = format!("{place}/{index}");
        match kind(block) {
            "tool_use" => {
                let fields = Fields { object: object(block, &place)?, place: &place };
                message.tool_calls.push(ToolCall {
                    id: fields.needed("id")?.to_owned(),
                    name: fields.needed("name")?.to_owned(),
                    arguments: fields.value("input").cloned().unwrap_or_else(|| json!({})),
                });
            }
            spared if SPARED.contains(&spared) => {}
            _ => message.content.0.extend(read.part(block, &place)?),
        }
    }
    read.messages.push(message);
    Ok(())
}

fn kind(block: &Value) -> &str {
    block.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn tools(read: &mut Conversation, fields: Fields<'_>) -> Result<Vec<Tool>, Problem> {
    let mut tools = Vec::new();
    for (index, tool) in fields.list("tools")?.iter().enumerate() {
        let place = format!("/tools/{index}");
        let tool = Fields { object: object(tool, &place)?, place: &place };
        match (tool.text("type")?, tool.value("input_schema")) {
            (None | Some("custom"), Some(schema)) => tools.push(Tool {
                name: tool.needed("name")?.to_owned(),
                description: tool.text("description")?.unwrap_or_default().to_owned(),
                parameters: schema.clone(),
                strict: tool.flag("strict")?,
            }),
            (None | Some("custom"), None) => return Err(tool.fault("input_schema", "is missing")),
            (Some(kind), _) => read.bind(format!("a tool of type `{kind}`")),
        }
    }
    Ok(tools)
}

fn tool_choice(fields: Fields<'_>) -> Result<(Option<ToolChoice>, Option<bool>), Problem> {
    let Some(given) = fields.value("tool_choice") else { return Ok((None, None)) };
    let given = Fields { object: object(given, "/tool_choice")?, place: "/tool_choice" };
    let choice = match given.needed("type")? {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Tool(given.needed("name")?.to_owned()),
        _ => return Err(fault("/tool_choice/type", "must be auto, any, tool or none")),
    };
    let parallel = given.flag("disable_parallel_tool_use")?.map(|disabled| !disabled);
    Ok((Some(choice), parallel))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::content::Image;

    fn asked(more: &Value) -> Result<Asked, Problem> {
        let mut body = json!({ "model": "m", "max_tokens": 9,
                               "messages": [{ "role": "user", "content": "Hi" }] });
        let fields = body.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        read(fields.clone(), Vec::new(), false)
    }

    #[test]
    fn a_conversation_with_tools_and_images_is_read() {
        let mark = json!({ "type": "ephemeral" });
        let asked = asked(&json!({
            "system": [{ "type": "text", "text": "Be brief.", "cache_control": mark }],
            "messages": [
                { "role": "user", "content": "Look" },
                { "role": "assistant", "content": [
                    { "type": "thinking", "thinking": "Hm", "signature": "s" },
                    { "type": "text", "text": "I look." },
                    { "type": "tool_use", "id": "t1", "name": "look", "input": { "at": 1 } },
                ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "t1", "is_error": true,
                      "content": [{ "type": "text", "text": "dark" }], "cache_control": mark },
                    { "type": "image", "source":
                        { "type": "base64", "media_type": "image/png", "data": "QUJD" } },
                ] },
            ],
            "tools": [{ "name": "look", "input_schema": { "type": "object" } }],
            "tool_choice": { "type": "any", "disable_parallel_tool_use": true },
            "stop_sequences": ["END"], "thinking": { "type": "enabled", "budget_tokens": 1024 },
            "output_config": { "format": { "type": "json_schema", "schema": { "type": "object" } } },
            "metadata": { "user_id": "user_1_account_2_session_3" }, "stream": true, "top_k": 5,
        }))
        .unwrap();
        let prompt = &asked.prompt;
        assert_eq!(prompt.system.as_ref().unwrap().0[0].cache.as_ref(), Some(&mark));
        let roles: Vec<_> = prompt.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::User]);
        let [_, called, answered, shown] = prompt.messages.as_slice() else { panic!() };
        assert_eq!((called.content.text().as_ref(), called.tool_calls.len()), ("I look.", 1));
        assert!(answered.is_error && answered.content.0[0].cache.is_some());
        let image = Image::at("data:image/png;base64,QUJD");
        assert_eq!(shown.content.images().next(), Some(&image));
        assert_eq!(prompt.tool_choice, Some(ToolChoice::Required));
        assert_eq!((prompt.parallel_tool_calls, prompt.max_output_tokens), (Some(false), 9));
        assert_eq!((prompt.effort, prompt.output_schema.is_some()), (Some(Effort::Low), true));
        assert_eq!(asked.session.as_deref(), Some("user_1_account_2_session_3"));
        assert!(asked.stream && prompt.bound.is_none());
        assert_eq!(prompt.native.as_ref().unwrap().body["top_k"], 5);
    }

    #[test]
    fn what_other_languages_have_no_words_for_binds() {
        for own in [
            json!({ "messages": [{ "role": "user", "content": [{ "type": "document" }] }] }),
            json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }),
            json!({ "mcp_servers": [{}] }),
        ] {
            assert!(asked(&own).unwrap().prompt.bound.is_some(), "{own}");
        }
        for nothing in [json!({ "mcp_servers": [] }), json!({ "max_tokens": 100.0 })] {
            assert!(asked(&nothing).unwrap().prompt.bound.is_none(), "{nothing}");
        }
        assert_eq!(asked(&json!({ "metadata": { "user_id": "u" } })).unwrap().session, None);
    }

    #[test]
    fn faults_name_their_place() {
        for (bad, place) in [
            (json!({ "max_tokens": null }), "#/max_tokens"),
            (json!({ "messages": [] }), "#/messages"),
            (json!({ "messages": [{ "role": "user" }] }), "#/messages/0/content"),
            (
                json!({ "messages": [{ "role": "user", "content": [{ "type": "tool_result" }] }] }),
                "#/messages/0/content/0/tool_use_id",
            ),
            (json!({ "tools": [{ "name": "x" }] }), "#/tools/0/input_schema"),
            (json!({ "tool_choice": { "type": "x" } }), "#/tool_choice/type"),
        ] {
            let problem = asked(&bad).err().unwrap();
            assert!(format!("{problem:?}").contains(&format!("\"{place}\"")), "{bad}: {problem:?}");
        }
    }
}
