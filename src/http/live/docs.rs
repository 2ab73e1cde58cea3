//! How the dialects' endpoints are described.

use super::super::operation::Operation;
use super::steer::{MAX_COST, MAX_WAIT, SESSION, WORKFLOW};

/// The headers that every call may have.
pub(super) fn steered(operation: Operation) -> Operation {
    operation
        .header(SESSION, "The conversation it belongs to: it stays where it is cached.")
        .header(WORKFLOW, "Your automation's name.")
        .header(MAX_WAIT, "The longest to wait for a turn, in seconds; then 429.")
        .header(MAX_COST, "The most all attempts together may cost.")
}

pub(in super::super) fn chat_completions_doc() -> Operation {
    let operation = Operation::new(
        "Chat completion, in OpenAI's dialect",
        "As OpenAI documents it, streams included, whoever answers. `model` is a model, \
         ACCOUNT/MODEL, a route, or `task:NAME`. `provider` is OpenRouter's object. `n` must be 1. \
         Errors are OpenAI's. Headers of the answer: Spillway-Request-Id, Spillway-Provider, \
         Spillway-Model, Spillway-Attempts, Spillway-Cost-Usd.",
    );
    steered(operation.dialect("A chat completion request as OpenAI documents it."))
        .text(200, "A chat completion, or with `stream` its chunks as server-sent events")
}

pub(in super::super) fn messages_doc() -> Operation {
    let operation = Operation::new(
        "Message, in Anthropic's dialect",
        "As Anthropic documents it, streams included, whoever answers. `model` is a model, \
         ACCOUNT/MODEL, a route, or `task:NAME`. Errors are Anthropic's. Headers of the answer: \
         Spillway-Request-Id, Spillway-Provider, Spillway-Model, Spillway-Attempts, \
         Spillway-Cost-Usd.",
    );
    steered(operation.dialect("A Messages request as Anthropic documents it."))
        .text(200, "A message, or with `stream` its server-sent events")
}
