//! One call over HTTP: what goes out, in time, and how it goes wrong on the way.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::web::Bytes;
use actix_web::{HttpResponse, HttpResponseBuilder};
use futures::StreamExt;

use super::broken::{PAGE, end, half, huge, nothing, stalled};
use super::dialect::{Asked, Body, Dialect, Refusal, Said};
use super::fault::Fault;
use super::model::{Call, Model, Outcome};
use super::script::Script;
use super::timeline::{Beat, play, without_end};

/// Answers a request.
pub(super) async fn answer(model: &Arc<Model>, dialect: Dialect, asked: Asked) -> HttpResponse {
    let mut call = model.call_in(dialect, &asked.model, &asked.prompt);
    let exchange = Exchange { dialect, now: model.seconds(), asked };
    if exchange.asked.stream && call.said().is_some() {
        return exchange.streamed(call);
    }
    if !call.first().is_zero() {
        tokio::time::sleep(call.first()).await;
    }
    call.begin();
    let rest = call.latency().saturating_sub(call.first());
    if !rest.is_zero() {
        tokio::time::sleep(rest).await;
    }
    match call.outcome() {
        Outcome::Answer(_) => exchange.whole(&call),
        Outcome::Limited(limited) => {
            let refusal = dialect.voice().limited(limited, &exchange.asked.model, exchange.now);
            exchange.refused(refusal, &call)
        }
        Outcome::Fault(fault) => {
            let fault = *fault;
            exchange.go_wrong(fault, call)
        }
    }
}

struct Exchange {
    dialect: Dialect,
    now: i64,
    asked: Asked,
}

impl Exchange {
    fn whole(&self, call: &Call) -> HttpResponse {
        let body = self.said(call).map(|said| self.dialect.voice().whole(&said));
        self.json(StatusCode::OK, call).body(body.unwrap_or_default())
    }

    fn said<'a>(&'a self, call: &'a Call) -> Option<Said<'a>> {
        Some(Said {
            number: call.number(),
            model: &self.asked.model,
            answer: call.said()?,
            now: self.now,
            usage: self.asked.usage,
        })
    }

    /// A response with the headers that stand on every one.
    fn respond(&self, status: StatusCode, call: &Call) -> HttpResponseBuilder {
        let mut response = HttpResponse::build(status);
        response.insert_header(("openai-processing-ms", call.latency().as_millis().to_string()));
        for header in self.dialect.voice().headers(call.number(), call.told(), self.now) {
            response.insert_header(header);
        }
        response
    }

    fn json(&self, status: StatusCode, call: &Call) -> HttpResponseBuilder {
        let mut response = self.respond(status, call);
        response.content_type(ContentType::json());
        response
    }

    fn refused(&self, refusal: Refusal, call: &Call) -> HttpResponse {
        let status = StatusCode::from_u16(refusal.status);
        let mut response = self.respond(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), call);
        for header in refusal.headers {
            response.insert_header(header);
        }
        match refusal.body {
            Body::Json(body) => response.content_type(ContentType::json()).body(body.to_string()),
            Body::Page(page) => response.content_type(ContentType::html()).body(page),
            Body::Text(text) => response.content_type(ContentType::plaintext()).body(text),
        }
    }

    fn go_wrong(&self, fault: Fault, call: Call) -> HttpResponse {
        let voice = self.dialect.voice();
        let mut response = self.json(StatusCode::OK, &call);
        let whole = || self.said(&call).map(|said| voice.whole(&said)).unwrap_or_default();
        match fault {
            Fault::Html => response.content_type(ContentType::html()).body(PAGE),
            Fault::Empty => response.finish(),
            Fault::Half | Fault::Cut => response.body(half(whole())),
            Fault::Stall => {
                let whole = whole();
                response.body(stalled(whole, call))
            }
            Fault::Huge => response.body(huge()),
            Fault::ErrorInside => response.body(voice.inside(None)),
            Fault::ErrorMidway => response.body(voice.inside(self.said(&call).as_ref())),
            Fault::Hang | Fault::Reset | Fault::Refuse => response.body(nothing()),
            _ => self.refused(self.dialect.failed(fault, &self.asked.model), &call),
        }
    }

    fn streamed(&self, call: Call) -> HttpResponse {
        let voice = self.dialect.voice();
        let Some(script) = self.said(&call).map(|said| voice.script(&said).map(Vec::from)) else {
            return HttpResponse::InternalServerError().finish();
        };
        let mut response = self.respond(StatusCode::OK, &call);
        response.content_type("text/event-stream; charset=utf-8");
        response.insert_header(("cache-control", "no-cache"));
        let (beats, breaks) = match call.fault() {
            None => (script.timed(&call), false),
            // Half of them end as if they were whole, as a proxy in between lets them.
            Some(Fault::Cut) => (cut(script, &call).timed(&call), call.number().is_multiple_of(2)),
            Some(Fault::ErrorInside) => {
                (script.unsaid().with(voice.broken().into()).timed(&call), false)
            }
            Some(Fault::ErrorMidway) => {
                (script.halved().with(voice.broken().into()).timed(&call), false)
            }
            Some(Fault::Stall) => (without_end(script.halved().timed(&call)), false),
            Some(_) => (script.halved().timed(&call), true),
        };
        let parts = play(call, joined(beats)).map(|part| Ok::<_, io::Error>(Bytes::from(part)));
        if breaks {
            response.streaming(Box::pin(parts.chain(end())))
        } else {
            response.streaming(parts)
        }
    }
}

/// Only its first bytes, never all of them but the blank line at its end.
fn cut(script: Script<Vec<u8>>, call: &Call) -> Script<Vec<u8>> {
    let Script { early, tokens, tail } = &script;
    let whole: usize = early.iter().chain(tokens).chain(tail).map(Vec::len).sum();
    let mut left = call.cut_after(whole.saturating_sub(2));
    let kept = script.map(|mut bytes| {
        bytes.truncate(left);
        left -= bytes.len();
        bytes
    });
    kept.spoken(|bytes| !bytes.is_empty())
}

/// What comes at the same time leaves together.
fn joined(beats: VecDeque<Beat<Vec<u8>>>) -> VecDeque<Beat<Vec<u8>>> {
    let mut all: VecDeque<Beat<Vec<u8>>> = VecDeque::new();
    for beat in beats {
        let before = all.back_mut().filter(|last| beat.pause.is_zero() && last.part.is_some());
        match (before, beat.part) {
            (Some(last), Some(bytes)) => {
                last.part.get_or_insert_default().extend(bytes);
                last.begins |= beat.begins;
            }
            (_, part) => all.push_back(Beat { part, ..beat }),
        }
    }
    all
}
