//! The same calls without a network in between: what they come to, in the classes that the same
//! answer on HTTP leads to.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::time::Instant;

use super::answer::{Answer, pieces};
use super::fault::Fault;
use super::model::{Call, Outcome};
use super::refusal::Limited;
use super::script::Script;
use super::timeline::{Beat, play, without_end};
use crate::domain::completion::Completion;
use crate::domain::told::Told;
use crate::provider::stream::{Ending, Event, Piece, Pieces, cut};
use crate::provider::told::joined;
use crate::provider::{ErrorClass, ProviderError, Timeouts, codes};

/// The whole answer.
pub(super) async fn complete(
    mut call: Call,
    model: &str,
    timeout: Duration,
) -> Result<Completion, ProviderError> {
    tokio::time::sleep(call.first().min(timeout)).await;
    if call.first() <= timeout {
        call.begin();
    }
    tokio::time::sleep(call.latency().min(timeout).saturating_sub(call.first())).await;
    if call.latency() > timeout || call.fault() == Some(Fault::Stall) {
        return Err(timed_out(timeout));
    }
    end(&call, model)
}

/// The answer piece by piece.
pub(super) async fn stream(
    call: Call,
    model: &str,
    timeouts: Timeouts,
) -> Result<Pieces, ProviderError> {
    let until = Instant::now() + timeouts.total;
    let said = call.said().filter(|_| call.fault() != Some(Fault::ErrorInside));
    let Some(answer) = said else {
        let patience = timeouts.first.min(timeouts.total);
        return complete(call, model, patience).await.map(crate::provider::stream::at_once);
    };
    if call.first() > timeouts.first {
        tokio::time::sleep(timeouts.first).await;
        return Err(timed_out(timeouts.first));
    }
    let script = script(answer, model, call.told());
    let (beats, error) = match call.fault() {
        None => (script.timed(&call), None),
        Some(fault @ Fault::ErrorMidway) => (script.halved().timed(&call), Some(error_of(fault))),
        Some(Fault::Stall) => (without_end(script.halved().timed(&call)), Some(cut())),
        // At least one piece came, or it is no stream.
        Some(_) => {
            let mut script = script;
            let most = call.cut_after(script.tokens.len().max(1)).max(1);
            script.tokens.truncate(most);
            script.tail.clear();
            (script.timed(&call), Some(cut()))
        }
    };
    first(beats, call, error, (until, timeouts.total)).await
}

/// Waits for the first piece.
async fn first(
    beats: VecDeque<Beat<Event>>,
    call: Call,
    error: Option<ProviderError>,
    until: (Instant, Duration),
) -> Result<Pieces, ProviderError> {
    let piece = |event| Ok(Piece { events: vec![event], native: None });
    let parts = play(call, beats).map(piece).chain(stream::iter(error.map(Err)));
    let mut pieces = timed(parts.boxed(), until).boxed();
    let first = pieces.next().await.unwrap_or_else(|| Err(cut()))?;
    Ok(stream::once(std::future::ready(Ok(first))).chain(pieces).boxed())
}

/// The same, ended when its time is over.
fn timed(
    pieces: Pieces,
    until: (Instant, Duration),
) -> impl Stream<Item = <Pieces as Stream>::Item> {
    stream::unfold(Some(pieces), move |pieces| async move {
        let mut pieces = pieces?;
        match tokio::time::timeout_at(until.0, pieces.next()).await {
            Ok(piece) => Some((piece?, Some(pieces))),
            Err(_elapsed) => Some((Err(timed_out(until.1)), None)),
        }
    })
}

fn script(answer: &Answer, model: &str, told: &[Told]) -> Script<Event> {
    let text = pieces(&answer.text).into_iter().map(|text| Event::Text(text.to_owned()));
    let mut tokens: Vec<Event> = text.collect();
    for (index, call) in (0..).zip(&answer.tool_calls) {
        let (id, name) = (call.id.clone(), call.name.clone());
        tokens.push(Event::Call { index, id, name });
        let arguments = call.arguments.to_string();
        tokens.extend(
            pieces(&arguments)
                .into_iter()
                .map(|text| Event::Arguments { index, text: text.to_owned() }),
        );
    }
    let ending = Ending {
        model: model.to_owned(),
        finish: answer.finish,
        usage: Some(answer.usage),
        cost_usd: None,
        told: told.to_vec(),
    };
    Script { early: Vec::new(), tokens, tail: vec![Event::End(Box::new(ending))] }
}

/// What the call has come to.
fn end(call: &Call, model: &str) -> Result<Completion, ProviderError> {
    match call.outcome() {
        Outcome::Answer(answer) => Ok(Completion {
            model: model.to_owned(),
            text: answer.text.clone(),
            tool_calls: answer.tool_calls.clone(),
            finish: answer.finish,
            usage: Some(answer.usage),
            told: call.told().to_vec(),
            ..Completion::default()
        }),
        Outcome::Fault(fault) => {
            Err(ProviderError { told: call.told().to_vec(), ..error_of(*fault) })
        }
        Outcome::Limited(limited) => Err(rate_limited(limited, model, call.told())),
    }
}

fn rate_limited(limited: &Limited, model: &str, told: &[Told]) -> ProviderError {
    let (class, code) = limited.class();
    ProviderError {
        status: Some(429),
        retry_after: limited.wait,
        told: joined(told.to_vec(), limited.told().into_iter().collect()),
        ..ProviderError::new(class, code, limited.message(model))
    }
}

fn timed_out(timeout: Duration) -> ProviderError {
    let message = format!("no answer within {} ms", timeout.as_millis());
    ProviderError::new(ErrorClass::FailoverProvider, codes::TIMED_OUT, message)
}

fn error_of(fault: Fault) -> ProviderError {
    use ErrorClass::{AuthOrBilling, CallerError, CooldownKey, FailoverProvider, RetrySameKey};
    let (class, code) = match fault {
        Fault::RateLimited | Fault::RateLimitedBare => (CooldownKey, codes::RATE_LIMITED),
        Fault::ServerError | Fault::BadGateway | Fault::ErrorInside | Fault::ErrorMidway => {
            (RetrySameKey, codes::SERVER_ERROR)
        }
        Fault::Unavailable | Fault::PlainUnavailable => (RetrySameKey, codes::OVERLOADED),
        Fault::Overloaded => (FailoverProvider, codes::OVERLOADED),
        Fault::BadKey => (AuthOrBilling, codes::BAD_KEY),
        Fault::Quota | Fault::NoCredit => (AuthOrBilling, codes::INSUFFICIENT_QUOTA),
        Fault::Forbidden => (AuthOrBilling, codes::FORBIDDEN),
        Fault::NoModel => (CallerError, codes::MODEL_NOT_FOUND),
        Fault::TooLarge => (CallerError, codes::REQUEST_TOO_LARGE),
        Fault::ContextLength => (CallerError, codes::CONTEXT_LENGTH),
        Fault::Huge => (FailoverProvider, codes::TOO_LARGE),
        Fault::Hang | Fault::Stall => (FailoverProvider, codes::TIMED_OUT),
        Fault::Reset | Fault::Refuse => (FailoverProvider, codes::UNREACHABLE),
        Fault::Html
        | Fault::Half
        | Fault::Cut
        | Fault::Empty
        | Fault::InvalidOutput
        | Fault::Text => (FailoverProvider, codes::GARBLED),
    };
    let status = match fault {
        // The one that the error stands for.
        Fault::ErrorInside | Fault::ErrorMidway => Some(500),
        Fault::Stall => None,
        _ => fault.status(),
    };
    ProviderError { status, ..ProviderError::new(class, code, fault.message()) }
}
