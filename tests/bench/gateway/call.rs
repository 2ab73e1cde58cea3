//! The call that is made.

use serde_json::json;

use crate::common::load::Shots;
use crate::server::{Kind, Server};

/// The API key that Spillway and LiteLLM ask for.
pub(crate) const KEY: &str = "sw_bench_0123456789abcdef0123456789abcdef";

/// Calls on so many connections.
pub(crate) fn calls(server: &Server, connections: usize) -> Shots {
    let request = request(server, false);
    Shots { requests: vec![request; connections], answer: "HTTP/1.1 200 " }
}

/// The whole request.
pub(crate) fn request(server: &Server, stream: bool) -> Vec<u8> {
    let text = "The invoice was charged twice and the customer asks for her money back. ";
    let body = json!({
        "model": "bench",
        "messages": [
            { "role": "system", "content": "You answer the mail of a small shop." },
            { "role": "user", "content": text.repeat(10) },
        ],
        "max_tokens": 200,
        "stream": stream,
    })
    .to_string();
    let further = match server.kind() {
        Kind::Portkey => format!(
            "x-portkey-provider: openai\r\nx-portkey-custom-host: http://127.0.0.1:{}/v1\r\n",
            server.upstream()
        ),
        Kind::Direct | Kind::Local | Kind::Redis | Kind::Litellm => String::new(),
    };
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\n{further}Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
