//! What Redis is told, by its own `MONITOR`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, ensure};

use crate::common::redis::RedisServer;

/// What is said to Redis when enough was heard: all that came before has been told by then.
const ENOUGH: &str = "that is all";

/// Listens until it is asked what it heard.
pub(super) struct Monitor {
    listener: JoinHandle<Vec<Command>>,
}

/// A command as a client sent it.
pub(super) type Command = Vec<Vec<u8>>;

impl Monitor {
    /// Begins to listen to a Redis. Of each command, at most `words` words are kept.
    pub(super) fn start(redis: &RedisServer, words: usize) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", redis.port()))?;
        stream.write_all(b"MONITOR\r\n")?;
        let mut lines = BufReader::new(stream);
        let mut first = Vec::new();
        lines.read_until(b'\n', &mut first)?;
        ensure!(first.starts_with(b"+OK"), "MONITOR: {}", String::from_utf8_lossy(&first));
        let listener = std::thread::spawn(move || {
            let lines = lines.split(b'\n').map_while(Result::ok);
            let commands = lines.filter_map(|line| command(&line, words));
            let is_last =
                |command: &Command| command.get(1).is_some_and(|w| w == ENOUGH.as_bytes());
            commands.take_while(|command| !is_last(command)).collect()
        });
        Ok(Self { listener })
    }

    /// What clients have sent since then, in order.
    pub(super) fn heard(self, redis: &mut RedisServer) -> Result<Vec<Command>> {
        redis.echo(ENOUGH)?;
        self.listener.join().map_err(|_panic| anyhow!("the listener to MONITOR panicked"))
    }
}

/// How often each command came; scripts by their digests.
pub(super) fn counted(commands: &[Command]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for command in commands {
        let text = |word: Option<&Vec<u8>>| {
            word.map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).unwrap_or_default()
        };
        let mut name = text(command.first());
        if name == "evalsha" {
            name = text(command.get(1));
        }
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// Reads `+1700000000.123456 [0 127.0.0.1:1234] "GET" "key"`; `None` for what a script did.
fn command(line: &[u8], words: usize) -> Option<Command> {
    let end = line.iter().position(|byte| *byte == b']')?;
    let (head, rest) = line.split_at_checked(end)?;
    if head.ends_with(b" lua") {
        return None;
    }
    let mut found = Vec::new();
    let mut rest = rest.iter().copied();
    while found.len() < words && rest.by_ref().any(|byte| byte == b'"') {
        found.push(word(&mut rest)?);
    }
    Some(found)
}

/// The rest of a quoted word, its escapes undone.
fn word(rest: &mut impl Iterator<Item = u8>) -> Option<Vec<u8>> {
    let mut word = Vec::new();
    loop {
        word.push(match rest.next()? {
            b'"' => return Some(word),
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'a' => 7,
                b'b' => 8,
                b'x' => {
                    let digit = |byte: u8| char::from(byte).to_digit(16);
                    let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                    u8::try_from(high * 16 + low).ok()?
                }
                other => other,
            },
            plain => plain,
        });
    }
}

/// The one script call among these commands.
pub(super) fn only_script(commands: Vec<Command>) -> Result<Command> {
    let is_script = |command: &Command| {
        command.first().is_some_and(|name| name.eq_ignore_ascii_case(b"EVALSHA"))
    };
    let mut scripts: Vec<Command> = commands.into_iter().filter(is_script).collect();
    ensure!(scripts.len() == 1, "{} scripts ran instead of one", scripts.len());
    scripts.pop().context("no script ran")
}
