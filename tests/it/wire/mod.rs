//! What goes over the wire to providers: each dialect's requests, and every way to fail.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use spillway::clock::ManualClock;
use spillway::domain::prompt::{Message, Prompt, Role};
use spillway::provider::settings::{AccountSettings, Api, Vendor};
use spillway::provider::{SharedProvider, connect_account};

mod bounds;
mod cuts;
mod errors;
mod failures;
mod native;
mod ollama;
mod parts;
mod requests;
mod responses;
mod stream_errors;
mod streamed;
mod streams;
mod traps;

/// The time all of these tests happen at.
const NOW: &str = "2026-11-20T12:00:00Z";

/// The key all of these tests use.
const KEY: &str = "sk-secret-0123456789";

fn provider(vendor: Vendor, base_url: &str) -> SharedProvider {
    speaking((vendor, None), base_url)
}

/// One who speaks this API of a vendor.
fn speaking((vendor, api): (Vendor, Option<Api>), base_url: &str) -> SharedProvider {
    let clock = Arc::new(ManualClock::at(NOW.parse().unwrap()));
    let (base_url, api_key) = (Some(base_url.to_owned()), Some(KEY.into()));
    connect_account(AccountSettings { vendor, base_url, api_key, api }, clock).unwrap()
}

fn message(role: Role, content: &str) -> Message {
    Message::new(role, content)
}

fn question() -> Prompt {
    Prompt {
        messages: vec![message(Role::User, "Hi")],
        max_output_tokens: 100,
        ..Prompt::default()
    }
}

/// A server that does with each connection what a test wants; answers its address.
fn raw(serve: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            serve(stream);
        }
    });
    address
}

/// Takes the request off the line and sends `answer` as it is.
fn answering(answer: &'static [u8]) -> String {
    raw(move |mut stream| {
        take_request(&mut stream);
        // The client may have gone already, and that is its right.
        drop(stream.write_all(answer));
    })
}

/// Reads a request to the end of its body.
fn take_request(stream: &mut TcpStream) {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        let head = String::from_utf8_lossy(&seen).to_ascii_lowercase();
        if let Some((head, body)) = head.split_once("\r\n\r\n") {
            let length = head.split_once("content-length: ").map_or(0, |(_, rest)| {
                rest.split("\r\n").next().unwrap().parse::<usize>().unwrap()
            });
            if body.len() >= length {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => seen.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Long enough for anything that answers.
const LONG: Duration = Duration::from_secs(20);
