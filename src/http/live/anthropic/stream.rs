//! A stream of events as Anthropic's Messages have it.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use bytes::Bytes;
use serde_json::{Value, json};

use super::super::Head;
use super::super::sse::{Writer, named};
use super::write::{error, stop_reason, usage};
use crate::domain::completion::Usage;
use crate::provider::stream::{Ending, Event, Piece};

/// What ends a whole stream.
const STOP: &str = "message_stop";

/// Writes events.
pub(in super::super) struct Events {
    head: Head,
    model: String,
    begun: bool,
    /// Blocks begun so far.
    blocks: u32,
    /// The block that is open.
    open: Option<Open>,
    /// Which block each call is.
    calls: BTreeMap<u32, u32>,
    /// The provider's own events are passed on.
    native: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Text(u32),
    Call(u32),
}

impl Events {
    /// Events of an answer by this model.
    pub(in super::super) const fn new(head: Head, model: String) -> Self {
        let calls = BTreeMap::new();
        Self { head, model, begun: false, blocks: 0, open: None, calls, native: false }
    }

    fn begin(&mut self, out: &mut String) {
        if self.begun {
            return;
        }
        self.begun = true;
        let message = json!({
            "id": self.head.name("msg_"), "type": "message", "role": "assistant",
            "model": self.model, "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": usage(&Usage::default()),
        });
        say(out, "message_start", json!({ "message": message }));
    }

    fn close(&mut self, out: &mut String) {
        if let Some(Open::Text(index) | Open::Call(index)) = self.open.take() {
            say(out, "content_block_stop", json!({ "index": index }));
        }
    }

    fn start(&mut self, block: &Value, out: &mut String) -> u32 {
        self.close(out);
        let index = self.blocks;
        self.blocks += 1;
        say(out, "content_block_start", json!({ "index": index, "content_block": block }));
        index
    }

    fn event(&mut self, event: &Event, out: &mut String) {
        self.begin(out);
        match event {
            Event::Text(text) => {
                let index = match self.open {
                    Some(Open::Text(index)) => index,
                    _ => self.start(&json!({ "type": "text", "text": "" }), out),
                };
                self.open = Some(Open::Text(index));
                delta(out, index, &json!({ "type": "text_delta", "text": text }));
            }
            Event::Call { index, id, name } => {
                let call = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
                let block = self.start(&call, out);
                self.open = Some(Open::Call(block));
                self.calls.insert(*index, block);
            }
            Event::Arguments { index, text } => {
                let Some(block) = self.calls.get(index) else { return };
                delta(out, *block, &json!({ "type": "input_json_delta", "partial_json": text }));
            }
            // A thinking block needs a signature that only Anthropic gives, and there is none for
            // images.
            Event::Reasoning(_) | Event::Image(_) => {}
            Event::End(ending) => self.end(ending, out),
        }
    }

    fn end(&mut self, ending: &Ending, out: &mut String) {
        self.close(out);
        let stopped = json!({ "stop_reason": stop_reason(ending.finish), "stop_sequence": null });
        let used = usage(&ending.usage.unwrap_or_default());
        say(out, "message_delta", json!({ "delta": stopped, "usage": used }));
        say(out, STOP, json!({}));
    }
}

/// An event whose type stands in it, too.
fn say(out: &mut String, kind: &str, mut event: Value) {
    if let Some(fields) = event.as_object_mut() {
        fields.shift_insert(0, "type".to_owned(), kind.into());
    }
    out.push_str(&named(kind, &event));
}

fn delta(out: &mut String, index: u32, delta: &Value) {
    say(out, "content_block_delta", json!({ "index": index, "delta": delta }));
}

impl Writer for Events {
    fn piece(&mut self, piece: Piece) -> Bytes {
        let ends = piece.events.iter().any(|event| matches!(event, Event::End(_)));
        let mut out = String::new();
        if let Some(own) = piece.native {
            self.native = true;
            let stops = own.windows(STOP.len()).any(|window| window == STOP.as_bytes());
            if stops || !ends {
                return own;
            }
            out.push_str(&String::from_utf8_lossy(&own));
        }
        if self.native {
            if ends {
                say(&mut out, STOP, json!({}));
            }
            return out.into();
        }
        piece.events.iter().for_each(|event| self.event(event, &mut out));
        out.into()
    }

    fn failed(&mut self, status: StatusCode, _code: &str, message: &str) -> Bytes {
        let id = Some(self.head.id.as_str());
        named("error", &error(status, message, id)).into()
    }

    fn idle(&self) -> Bytes {
        Bytes::from_static(b"event: ping\ndata: {\"type\":\"ping\"}\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::completion::Finish;

    fn events() -> Events {
        Events::new(Head { id: "job_0_1".to_owned(), created: 7 }, "m".to_owned())
    }

    fn read(bytes: &[u8]) -> Vec<Value> {
        let text = std::str::from_utf8(bytes).unwrap();
        let events = text.split("\n\n").filter(|event| !event.is_empty());
        events
            .map(|event| {
                let (name, data) = event.split_once("\ndata: ").unwrap();
                let data: Value = serde_json::from_str(data).unwrap();
                assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
                data
            })
            .collect()
    }

    #[test]
    fn events_follow_each_other_as_anthropic_sends_them() {
        let call = |index, id: &str| Event::Call { index, id: id.to_owned(), name: "f".to_owned() };
        let arguments = |index| Event::Arguments { index, text: "{\"a\":1}".to_owned() };
        let usage = Usage {
            input_tokens: 9,
            cached_input_tokens: 4,
            cache_write_tokens: 2,
            output_tokens: 3,
            ..Usage::default()
        };
        let ending = Ending { finish: Finish::ToolCalls, usage: Some(usage), ..Ending::default() };
        let told = vec![
            Event::Reasoning("Hm".to_owned()),
            Event::Text("H".to_owned()),
            Event::Text("i".to_owned()),
            call(0, "a"),
            arguments(0),
            call(1, "b"),
            arguments(1),
            Event::End(Box::new(ending)),
        ];
        let told = read(&events().piece(Piece { events: told, native: None }));
        let kinds: Vec<_> = told.iter().map(|event| event["type"].as_str().unwrap()).collect();
        let (start, delta, stop) =
            ("content_block_start", "content_block_delta", "content_block_stop");
        assert_eq!(
            kinds,
            [
                "message_start",
                start,
                delta,
                delta,
                stop,
                start,
                delta,
                stop,
                start,
                delta,
                stop,
                "message_delta",
                "message_stop",
            ]
        );
        assert_eq!((&told[5]["index"], &told[8]["content_block"]["id"]), (&json!(1), &json!("b")));
        assert_eq!(told[9]["delta"]["partial_json"], "{\"a\":1}");
        assert_eq!(told[11]["delta"]["stop_reason"], "tool_use");
        assert_eq!(
            told[11]["usage"],
            json!({ "input_tokens": 3, "cache_creation_input_tokens": 2,
            "cache_read_input_tokens": 4, "output_tokens": 3 })
        );
    }

    #[test]
    fn what_the_provider_sent_is_passed_on_and_ends_once() {
        let own = |text: &'static str, ends: bool| Piece {
            events: ends.then(|| Event::End(Box::default())).into_iter().collect(),
            native: Some(Bytes::from_static(text.as_bytes())),
        };
        let said = "event: x_new\ndata: {\"type\":\"x_new\"}\n\n";
        let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        for last in [own(stop, true), Piece { native: None, ..own("", true) }, own("", true)] {
            let mut events = events();
            let mut told = events.piece(own(said, false)).to_vec();
            told.extend(events.piece(last));
            assert_eq!(String::from_utf8(told).unwrap(), format!("{said}{stop}"));
        }
    }
}
