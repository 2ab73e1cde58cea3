//! Groups of many megabytes are stored on a Redis that is reached by a slow link.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::redis::RedisServer;
use crate::support::spillway::{SCRIPTED, Spillway, answer, settings};

/// What the link carries to Redis in a second.
const BYTES_A_SECOND: u64 = 4 * 1_024 * 1_024;

/// A link to this address: its port.
fn slow_link(to: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = to.to_owned();
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(&to) else { continue };
            let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
            thread::spawn(move || carry(near, far, BYTES_A_SECOND));
            thread::spawn(move || carry(back.0, back.1, u64::MAX));
        }
    });
    port
}

fn carry(mut from: TcpStream, mut to: TcpStream, bytes_a_second: u64) {
    let mut some = vec![0; 64 * 1_024];
    while let Ok(count @ 1..) = from.read(&mut some) {
        thread::sleep(Duration::from_micros(count as u64 * 1_000_000 / bytes_a_second));
        if to.write_all(&some[..count]).is_err() {
            break;
        }
    }
    let _gone = to.shutdown(Shutdown::Write);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_group_takes_longer_than_an_ordinary_answer_may() {
    let redis = RedisServer::start(&[]);
    let port = slow_link(redis.url().strip_prefix("redis://").unwrap());
    let store = format!("url = \"redis://127.0.0.1:{port}\"\nresponse_timeout = \"1s\"");
    let spillway = Spillway::start(&settings(&store, SCRIPTED));
    // Three seconds on the link.
    let text = "x".repeat(200 * 1_024);
    let jobs: Vec<_> =
        (0..60).map(|n| json!({ "task": "tag", "input": format!("{n} {text}") })).collect();
    let group = json!({ "jobs": jobs });
    let submit = async || {
        let request = spillway.request(Method::POST, "/v1/groups").json(&group);
        answer(request.header("idempotency-key", "large")).await
    };
    let (status, first) = submit().await;
    assert_eq!(status, 202, "{first}");
    let (status, again) = submit().await;
    assert_eq!((status, &again["id"]), (202.try_into().unwrap(), &first["id"]), "{again}");
}
