//! The jobs that are posted.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::common::load::Shots;

/// The API key that Spillway asks for; the others do not look at it.
pub(crate) const KEY: &str = "sw_bench_0123456789abcdef0123456789abcdef";

/// The size of every job's body.
pub(crate) const BODY_BYTES: usize = 1024;

/// The workflows the jobs come from.
const WORKFLOWS: usize = 16;

/// Jobs on so many connections.
pub(crate) fn jobs(connections: usize) -> Result<Shots> {
    let requests = (0..connections).map(request).collect::<Result<_>>()?;
    Ok(Shots { requests, answer: "HTTP/1.1 202 " })
}

/// The request that this connection repeats.
fn request(connection: usize) -> Result<Vec<u8>> {
    let body = body(connection % WORKFLOWS)?;
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Ok([head.into_bytes(), body].concat())
}

/// A job of exactly [`BODY_BYTES`].
fn body(workflow: usize) -> Result<Vec<u8>> {
    let job = |input: &str| {
        serde_json::to_vec(&json!({
            "task": "tag",
            "input": input,
            // Nobody listens there.
            "callback_url": "http://127.0.0.1:9009/webhook-waiting/4711",
            "workflow": format!("lead-intake-{workflow:02}"),
            "metadata": { "row": 17 },
        }))
    };
    let sentence = "The invoice was charged twice and the customer asks for her money back. ";
    let room = BODY_BYTES - job("")?.len();
    let text: String = sentence.chars().cycle().take(room).collect();
    let body = job(&text)?;
    ensure!(body.len() == BODY_BYTES, "a body of {} bytes", body.len());
    Ok(body)
}
