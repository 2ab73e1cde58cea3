//! `POST /chat`: messages in, our one shape out.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::super::operation::Operation;
use super::super::problem::{Kind, Problem};
use super::super::{State, body, jobs};
use super::asked::{Asked, Conversation, Fields, choice};
use super::docs::steered;
use super::problems::Failure;
use super::{Receipt, named, openai, steer};
use crate::domain::prompt::{Dialect, Message, Prompt};
use crate::domain::result::JobResult;
use crate::engine::live::Call;

/// What is asked when nobody says what to ask.
const DEFAULT: &str = "task:chat";

pub(in super::super) fn chat_doc() -> Operation {
    let operation = Operation::new(
        "Chat",
        "One call on an open connection: messages in, the one shape of a result out. Nothing is \
         stored.",
    );
    steered(operation.body("chat")).answer::<JobResult>(200, "The result")
}

pub(in super::super) async fn chat(
    state: Data<State>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let caller = state.auth.caller(&request).await?;
    jobs::refuse_if_stopping(&state)?;
    let body = body::object(&request, payload, &state.settings).await?;
    let fields = Fields::of(&body);
    let asked = read(fields, state.engine.live().max_output_tokens)?;
    let named = named(&state, &caller.name, &asked.name)?;
    let (workflow, max_cost_usd, metadata) = (
        fields.text("workflow")?.map(str::to_owned),
        steer::most_cost(fields.number("max_cost_usd")?, "max_cost_usd")?,
        fields.value("metadata").map(serde_json::value::to_raw_value),
    );
    let call = steer::call(&state, &request, caller.name, (named, asked))?;
    let call = Call {
        workflow: call.workflow.or(workflow),
        max_cost_usd: call.max_cost_usd.or(max_cost_usd),
        metadata: metadata.and_then(Result::ok),
        ..call
    };
    let done = state.engine.call(call).await;
    let done = done.map_err(|error| Failure::from(error).problem)?;
    let mut response = HttpResponse::Ok();
    Receipt::of(&done.result).told(&mut response);
    Ok(response.json(done.result))
}

/// Reads a request.
fn read(fields: Fields<'_>, cap: u32) -> Result<Asked, Problem> {
    let mut read = Conversation::new(Dialect::OpenAi);
    if let Some(system) = fields.value("system") {
        let system = read.content(system, "/system")?;
        read.instruct(system);
    }
    if fields.value("messages").is_some() {
        openai::conversation(&mut read, fields)?;
    }
    for name in ["message", "text"] {
        if let Some(said) = fields.value(name) {
            let said = read.content(said, &format!("/{name}"))?;
            read.messages.push(Message::user(said));
        }
    }
    if read.messages.is_empty() {
        return Err(
            fields.fault("messages", "is missing: a list of messages, or `message`, a text")
        );
    }
    let tools = openai::tools(&mut read, fields)?;
    let tool_choice = openai::tool_choice(&mut read, fields)?;
    if let Some(bound) = read.bound {
        let detail = format!("The request has {}, which is not known here.", bound.by);
        return Err(Problem::new(Kind::InvalidRequest, detail));
    }
    let max = match fields.tokens("max_output_tokens")? {
        None => fields.tokens("max_tokens")?,
        some => some,
    };
    let output_schema = fields.value("output_schema").filter(|schema| schema.is_object()).cloned();
    Ok(Asked {
        name: name(fields)?,
        stream: false,
        tell_usage: false,
        session: fields.text("session")?.map(str::to_owned),
        provider: choice(fields.value("provider"))?,
        prompt: Prompt {
            tools,
            tool_choice,
            parallel_tool_calls: fields.flag("parallel_tool_calls")?,
            max_output_tokens: max.unwrap_or(cap).max(1),
            temperature: fields.number("temperature")?,
            top_p: fields.number("top_p")?,
            stop: fields.texts("stop")?,
            effort: fields.text("reasoning_effort")?.map(openai::effort),
            json: output_schema.is_some(),
            output_schema,
            system: read.system,
            messages: read.messages,
            ..Prompt::default()
        },
    })
}

/// One of `model`, `task` and `route`.
fn name(fields: Fields<'_>) -> Result<String, Problem> {
    let task = fields.text("task")?.map(|task| format!("task:{task}"));
    let given =
        [fields.text("model")?.map(str::to_owned), task, fields.text("route")?.map(str::to_owned)];
    let mut given = given.into_iter().flatten().filter(|name| !name.is_empty());
    match (given.next(), given.next()) {
        (name, None) => Ok(name.unwrap_or_else(|| DEFAULT.to_owned())),
        _ => Err(fields.fault("model", "is one of three: give `model`, `task` or `route`")),
    }
}

/// A body's fields that are known here.
#[cfg(test)]
const KNOWN: [&str; 21] = [
    "message",
    "text",
    "messages",
    "system",
    "model",
    "task",
    "route",
    "max_output_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "reasoning_effort",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "output_schema",
    "session",
    "workflow",
    "provider",
    "max_cost_usd",
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value, json};

    fn asked(body: &Value) -> Result<Asked, Problem> {
        let body: &Map<String, Value> = body.as_object().unwrap();
        read(Fields::of(body), 4_096)
    }

    #[test]
    fn a_text_or_a_conversation_is_read() {
        let short = asked(&json!({ "message": "Hi" })).unwrap();
        assert_eq!((short.name.as_str(), short.prompt.messages.len()), ("task:chat", 1));
        let long = asked(&json!({
            "route": "cheap", "system": "Be brief.", "session": "s",
            "messages": [{ "role": "user", "content": "Hi" },
                         { "role": "assistant", "content": "", "tool_calls":
                             [{ "id": "1", "name": "look", "arguments": { "a": 1 } }] },
                         { "role": "tool", "tool_call_id": "1", "content": "x" }],
            "tools": [{ "name": "look", "parameters": { "type": "object" } }],
        }))
        .unwrap();
        assert_eq!((long.name.as_str(), long.prompt.messages.len()), ("cheap", 3));
        assert_eq!(long.prompt.messages[1].tool_calls[0].arguments, json!({ "a": 1 }));
        assert_eq!((long.prompt.tools.len(), long.session.as_deref()), (1, Some("s")));
        for bad in [json!({}), json!({ "message": "x", "task": "tag", "model": "m" })] {
            assert!(asked(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_schema_names_every_field() {
        let schema: Value =
            serde_json::from_str(include_str!("../../../schemas/chat.json")).unwrap();
        let named: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        for known in KNOWN.iter().copied().chain(["metadata"]) {
            assert!(named.iter().any(|name| *name == known), "{known}");
        }
        assert_eq!(named.len(), KNOWN.len() + 1);
    }
}
