//! A stream of chunks as OpenAI's chat completions have it.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::Head;
use super::super::sse::{Writer, data};
use super::write::{error, finish, image, usage};
use crate::domain::completion::Finish;
use crate::provider::stream::{Ending, Event, Piece};
use actix_web::http::StatusCode;

/// What ends a whole stream.
const DONE: &str = "data: [DONE]";

/// Writes chunks.
pub(in super::super) struct Chunks {
    head: Head,
    model: String,
    tell_usage: bool,
    begun: bool,
    /// The provider's own chunks are passed on.
    native: bool,
}

impl Chunks {
    /// Chunks of an answer by this model. Its end tells what was used when `tell_usage`.
    pub(in super::super) const fn new(head: Head, model: String, tell_usage: bool) -> Self {
        Self { head, model, tell_usage, begun: false, native: false }
    }

    fn chunk(&self, delta: &Value, finish: Option<&str>) -> String {
        let choice =
            json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish });
        self.around(&json!([choice]), None)
    }

    fn around(&self, choices: &Value, usage: Option<Value>) -> String {
        let mut chunk = json!({
            "id": self.head.name("chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": self.head.created,
            "model": self.model,
            "choices": choices,
        });
        if self.tell_usage
            && let Some(fields) = chunk.as_object_mut()
        {
            fields.insert("usage".to_owned(), usage.unwrap_or_default());
        }
        data(&chunk)
    }

    fn event(&mut self, event: &Event, out: &mut String) {
        if !self.begun {
            self.begun = true;
            out.push_str(&self.chunk(&json!({ "role": "assistant", "content": "" }), None));
        }
        let delta = match event {
            Event::Text(text) => json!({ "content": text }),
            Event::Reasoning(text) => json!({ "reasoning_content": text }),
            Event::Image(made) => json!({ "images": [image(made)] }),
            Event::Call { index, id, name } => json!({ "tool_calls": [{
                "index": index, "id": id, "type": "function",
                "function": { "name": name, "arguments": "" },
            }] }),
            Event::Arguments { index, text } => {
                json!({ "tool_calls": [{ "index": index, "function": { "arguments": text } }] })
            }
            Event::End(ending) => return self.end(ending, out),
        };
        out.push_str(&self.chunk(&delta, None));
    }

    fn end(&self, ending: &Ending, out: &mut String) {
        let finish = match ending.finish {
            // What was said went out as content already.
            Finish::Refusal => "content_filter",
            other => finish(other),
        };
        out.push_str(&self.chunk(&json!({}), Some(finish)));
        if self.tell_usage
            && let Some(used) = &ending.usage
        {
            out.push_str(&self.around(&json!([]), Some(usage(used))));
        }
        out.push_str(DONE);
        out.push_str("\n\n");
    }

    /// The provider's own chunk.
    fn own(&mut self, own: Bytes, ends: bool) -> Bytes {
        self.native = true;
        let is_done = own.windows(DONE.len()).any(|window| window == DONE.as_bytes());
        if is_done || !ends {
            return own;
        }
        format!("{}{DONE}\n\n", String::from_utf8_lossy(&own)).into()
    }
}

impl Writer for Chunks {
    fn piece(&mut self, piece: Piece) -> Bytes {
        let ends = piece.events.iter().any(|event| matches!(event, Event::End(_)));
        if let Some(own) = piece.native {
            return self.own(own, ends);
        }
        if self.native {
            return if ends { format!("{DONE}\n\n").into() } else { Bytes::new() };
        }
        let mut out = String::new();
        piece.events.iter().for_each(|event| self.event(event, &mut out));
        out.into()
    }

    fn failed(&mut self, status: StatusCode, code: &str, message: &str) -> Bytes {
        data(&error(status, code, message, None)).into()
    }

    fn idle(&self) -> Bytes {
        Bytes::from_static(b": waiting\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::completion::Usage;

    fn chunks(tell_usage: bool) -> Chunks {
        let head = Head { id: "job_0_1".to_owned(), created: 7 };
        Chunks::new(head, "m".to_owned(), tell_usage)
    }

    fn read(bytes: &[u8]) -> Vec<Value> {
        let text = std::str::from_utf8(bytes).unwrap();
        let events = text.split("\n\n").filter(|event| !event.is_empty());
        events
            .map(|event| {
                let data = event.strip_prefix("data: ").unwrap();
                serde_json::from_str(data).unwrap_or_else(|_| json!(data))
            })
            .collect()
    }

    fn end(finish: Finish) -> Event {
        let usage = Some(Usage { input_tokens: 5, output_tokens: 2, ..Usage::default() });
        Event::End(Box::new(Ending { finish, usage, ..Ending::default() }))
    }

    #[test]
    fn chunks_follow_each_other_as_openai_sends_them() {
        let events = vec![
            Event::Text("Hi".to_owned()),
            Event::Call { index: 0, id: "c".to_owned(), name: "look".to_owned() },
            Event::Arguments { index: 0, text: "{}".to_owned() },
            end(Finish::ToolCalls),
        ];
        let told = read(&chunks(true).piece(Piece { events, native: None }));
        let at = |index: usize, place: &str| told[index].pointer(place).cloned().unwrap();
        assert_eq!(at(0, "/choices/0/delta/role"), "assistant");
        assert_eq!(at(1, "/choices/0/delta/content"), "Hi");
        assert_eq!(at(2, "/choices/0/delta/tool_calls/0/function/name"), "look");
        assert_eq!(at(3, "/choices/0/delta/tool_calls/0/function/arguments"), "{}");
        assert_eq!(at(4, "/choices/0/finish_reason"), "tool_calls");
        assert_eq!((at(5, "/choices"), at(5, "/usage/total_tokens")), (json!([]), json!(7)));
        assert_eq!((told.len(), &told[6]), (7, &json!("[DONE]")));
        assert!(told.iter().take(6).all(|chunk| chunk["id"] == "chatcmpl-1"));
    }

    #[test]
    fn usage_is_told_only_when_asked_for_and_the_end_comes_once() {
        let plain = chunks(false).piece(Piece { events: vec![end(Finish::Stop)], native: None });
        assert!(!String::from_utf8_lossy(&plain).contains("usage"));
        let own = |text: &'static str, ends: bool| Piece {
            events: ends.then(|| end(Finish::Stop)).into_iter().collect(),
            native: Some(Bytes::from_static(text.as_bytes())),
        };
        let said = "data: {\"choices\":[{\"delta\":{\"x\": 1.0}}]}\n\n";
        let done = "data: [DONE]\n\n";
        for last in [own(done, true), own("", true)] {
            let mut chunks = chunks(false);
            let mut told = chunks.piece(own(said, false)).to_vec();
            told.extend(chunks.piece(last));
            assert_eq!(String::from_utf8(told).unwrap(), format!("{said}{done}"));
        }
        let mut chunks = chunks(false);
        chunks.piece(own(said, false));
        let last = chunks.piece(Piece { events: vec![end(Finish::Stop)], native: None });
        assert_eq!(last, done);
    }
}
