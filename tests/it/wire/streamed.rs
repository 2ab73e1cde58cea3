//! Streams as each format writes them, and a server that sends them as a test wants.

use std::sync::Arc;

use futures::StreamExt as _;
use serde_json::Value;
use spillway::domain::prompt::{Dialect, Native, Prompt};
use spillway::provider::settings::Vendor;
use spillway::provider::stream::{Piece, Pieces, checked};
use spillway::provider::{ProviderError, Timeouts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{LONG, question};

/// A good stream of each format, by a vendor who speaks it.
pub(super) const GOOD: [(Vendor, &str); 3] =
    [(Vendor::Anthropic, ANTHROPIC), (Vendor::OpenAi, OPENAI), (Vendor::Gemini, GEMINI)];

pub(super) const ANTHROPIC: &str = r#"event: message_start
data: {"type":"message_start","message":{"model":"claude-x","role":"assistant","content":[],"stop_reason":null,"usage":{"input_tokens":7,"cache_creation_input_tokens":2,"cache_read_input_tokens":3,"output_tokens":1}}   }

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm … "}     }

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"S="}}

event: content_block_stop
data: {"type":"content_block_stop","index":0 }

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Grüß "}        }

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Gott 👋\n\n"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"look","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""} }

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"q\": \"x"}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_2","name":"list","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_stop
data: {"type":"content_block_stop","index":3}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":44}            }

event: message_stop
data: {"type":"message_stop"   }

"#;

pub(super) const OPENAI: &str = r#": PROCESSING

data: {"model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}

data: {"choices":[{"index":0,"delta":{"reasoning":"Hm … "},"finish_reason":null}],"usage":null}

data: {"choices":[{"index":0,"delta":{"content":"Grüß "},"finish_reason":null}],"usage":null}

data: {"choices":[{"index":0,"delta":{"content":"Gott 👋\n\n"},"finish_reason":null}],"usage":null}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"look","arguments":""}}]},"finish_reason":null}],"usage":null}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"q\": \"x"}}]},"finish_reason":null}],"usage":null}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_2","type":"function","function":{"name":"list","arguments":""}},{"index":0,"function":{"arguments":"\"}"}}]},"finish_reason":null}],"usage":null}

data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":null}

data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":44,"prompt_tokens_details":{"cached_tokens":3}}}

data: [DONE]

"#;

pub(super) const GEMINI: &str = "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \
    \"Hm … \",\"thought\": true}],\"role\": \"model\"},\"index\": 0}],\"usageMetadata\": \
    {\"promptTokenCount\": 12,\"totalTokenCount\": 12},\"modelVersion\": \"gemini-x\",\
    \"responseId\": \"r\"}\r\n\r\ndata: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \
    \"Grüß \"}],\"role\": \"model\"},\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": \
    12,\"candidatesTokenCount\": 2},\"modelVersion\": \"gemini-x\",\"responseId\": \"r\"}\r\n\r\n\
    data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"Gott 👋\\n\\n\"}, \
    {\"functionCall\": {\"name\": \"look\",\"args\": {\"q\": \"x\"}}},{\"functionCall\": {\"name\": \
    \"list\"}}],\"role\": \"model\"},\"finishReason\": \"STOP\",\"index\": 0}],\"usageMetadata\": \
    {\"promptTokenCount\": 12,\"candidatesTokenCount\": 40,\"thoughtsTokenCount\": 4,\
    \"cachedContentTokenCount\": 3},\"modelVersion\": \"gemini-x\",\"responseId\": \"r\"}\r\n\r\n";

/// Where in a stream its last word ends: what is cut behind it lacks nothing.
pub(super) fn end(stream: &str) -> usize {
    stream.trim_end().len()
}

pub(super) const PATIENT: Timeouts = Timeouts { first: LONG, total: LONG };

/// The question, asked in the vendor's own language where a caller could have asked in it.
pub(super) fn natively(vendor: Vendor, body: Value) -> Prompt {
    let dialect = if vendor == Vendor::Anthropic { Dialect::Anthropic } else { Dialect::OpenAi };
    let Value::Object(body) = body else { panic!("an object") };
    let native = Native { dialect, body, headers: Vec::new() };
    Prompt { native: Some(Arc::new(native)), ..question() }
}

/// All pieces, held to the contract, and what they end with.
pub(super) async fn taken(pieces: Pieces) -> (Vec<Piece>, Option<ProviderError>) {
    let mut pieces = checked(pieces);
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => all.push(piece),
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}

/// A server that gives each connection, with the request on it, to `serve`.
pub(super) async fn serving<F, W>(serve: F) -> String
where
    F: Fn(TcpStream, String) -> W + Send + Clone + 'static,
    W: Future<Output = std::io::Result<()>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let serve = serve.clone();
            tokio::spawn(async move {
                let request = request(&mut stream).await;
                // The client may leave when it likes.
                drop(serve(stream, request).await);
            });
        }
    });
    address
}

/// Reads one request to the end of its body; empty when none came.
pub(super) async fn request(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.split_once("content-length: ").map_or(0, |(_, rest)| {
                rest.split("\r\n").next().unwrap().parse::<usize>().unwrap()
            });
            if body.len() >= length {
                return text;
            }
        }
        match stream.read_buf(&mut seen).await {
            Ok(0) | Err(_) => return String::new(),
            Ok(_) => {}
        }
    }
}

/// The head of a stream whose body comes in chunks.
pub(super) const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                               transfer-encoding: chunked\r\n\r\n";

/// Bytes as one chunk of a body.
pub(super) async fn chunk(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    stream.write_all(&framed).await
}

/// A server that sends this as the body of a good stream.
pub(super) async fn sending(body: impl Into<String>) -> String {
    sending_after(HEAD.to_owned(), body.into()).await
}

/// A server that sends this as the body of a good stream of lines.
pub(super) async fn sending_lines(body: impl Into<String>) -> String {
    sending_after(HEAD.replace("text/event-stream", LINES), body.into()).await
}

/// What a stream of lines is called.
pub(super) const LINES: &str = "application/x-ndjson";

async fn sending_after(head: String, body: String) -> String {
    serving(move |mut stream, _request| {
        let (head, body) = (head.clone(), body.clone());
        async move {
            stream.write_all(head.as_bytes()).await?;
            chunk(&mut stream, body.as_bytes()).await?;
            stream.write_all(b"0\r\n\r\n").await
        }
    })
    .await
}
