//! Finds the server that serves our keys and takes writes.
//!
//! All our keys share a hash tag, so in a cluster one master has all of them: we speak to that one
//! as if there were no other. Seeds are asked together, and whom they tell is asked whether it is
//! true. Addresses are used as they are told.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, RedisError, Value, cmd,
};

use super::address::{Address, Way};
use super::fault::{KeyspaceError, asks_for_password, is_elsewhere, is_forbidden};

/// The slot of every key with the tag `{0}`.
const SLOT: i64 = 13_907;

/// How long further seeds are waited for once one has answered: the first may be behind the times.
const GATHER: Duration = Duration::from_millis(100);

/// Knows where to ask.
pub(super) struct Locator {
    address: Address,
    config: AsyncConnectionConfig,
    /// A key of ours: the master serves it.
    key: String,
}

/// Whom a seed takes for the master.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    /// Grows with every failover the seed knows of.
    epoch: u64,
    host: String,
    port: u16,
}

/// What came of asking one server.
type Asked<T> = Result<T, KeyspaceError>;

impl Locator {
    pub(super) const fn new(address: Address, config: AsyncConnectionConfig, key: String) -> Self {
        Self { address, config, key }
    }

    /// Whether the master is always where the address says.
    pub(super) const fn is_direct(&self) -> bool {
        matches!(self.address.way, Way::Direct)
    }

    /// The master, asked whether it is.
    pub(super) async fn find(&self) -> Asked<ConnectionInfo> {
        let told = match &self.address.way {
            Way::Direct => self.address.seeds.clone(),
            Way::Cluster => self.gather(|seed| self.ask_node(seed)).await?,
            Way::Sentinel { name } => self.gather(|seed| self.ask_sentinel(seed, name)).await?,
        };
        let mut asked: FuturesUnordered<_> =
            told.into_iter().map(|node| self.confirmed(node)).collect();
        let mut faults = Vec::new();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(node) => return Ok(node),
                Err(fault) => faults.push(fault),
            }
        }
        Err(together(faults))
    }

    /// Asks all seeds; tells whom the latest of them take for the master.
    async fn gather<'a, F: Future<Output = Asked<Told>>>(
        &'a self,
        ask: impl Fn(&'a ConnectionInfo) -> F,
    ) -> Asked<Vec<ConnectionInfo>> {
        let mut asked: FuturesUnordered<_> = self.address.seeds.iter().map(ask).collect();
        let (mut told, mut faults): (Vec<Told>, Vec<_>) = (Vec::new(), Vec::new());
        // Until one has told something there is nothing better to do than to wait.
        while let Some(answer) = asked.next().await {
            let is_first = answer.is_ok();
            note(answer, &mut told, &mut faults);
            if is_first {
                break;
            }
        }
        let rest = async {
            while let Some(answer) = asked.next().await {
                note(answer, &mut told, &mut faults);
            }
        };
        // Who is slow is not needed.
        drop(tokio::time::timeout(GATHER, rest).await);
        let Some(latest) = told.iter().map(|told| told.epoch).max() else {
            return Err(together(faults));
        };
        told.retain(|told| told.epoch == latest);
        told.sort_by(|one, other| (&one.host, one.port).cmp(&(&other.host, other.port)));
        told.dedup();
        Ok(told.into_iter().map(|told| self.address.at(told.host, told.port)).collect())
    }

    async fn ask_node(&self, seed: &ConnectionInfo) -> Asked<Told> {
        let ask = async {
            let mut connection = self.connect(seed).await?;
            cmd("CLUSTER").arg("SLOTS").query_async::<Vec<Vec<Value>>>(&mut connection).await
        };
        let slots = ask.await.map_err(|fault| told_by(seed, fault))?;
        let owner = slots.iter().find_map(|range| owner(range));
        let (host, port) = owner.ok_or_else(|| unreachable(seed, "no master has our keys"))?;
        let own = |host: &Option<String>| host.as_ref().is_none_or(String::is_empty);
        let host = if own(&host) { host_of(seed) } else { host };
        let host = host.ok_or_else(|| unreachable(seed, "the master's address is unknown"))?;
        Ok(Told { epoch: 0, host, port })
    }

    async fn ask_sentinel(&self, seed: &ConnectionInfo, name: &str) -> Asked<Told> {
        match self.sentinel_says(seed, name).await {
            // One without a password of its own in the URL may have the same as the master.
            Err(fault) if asks_for_password(&fault) => {
                self.sentinel_says(&self.address.with_login(seed), name).await
            }
            answer => answer,
        }
        .map_err(|fault| told_by(seed, fault))?
        .ok_or_else(|| {
            let why = format!("{}: knows no master named `{name}`", seed.addr());
            KeyspaceError::Refused(why)
        })
    }

    async fn sentinel_says(
        &self,
        seed: &ConnectionInfo,
        name: &str,
    ) -> Result<Option<Told>, RedisError> {
        let mut connection = self.connect(seed).await?;
        let mut ask = cmd("SENTINEL");
        ask.arg("get-master-addr-by-name").arg(name);
        let place: Option<(String, u16)> = ask.query_async(&mut connection).await?;
        let Some((host, port)) = place else { return Ok(None) };
        let mut ask = cmd("SENTINEL");
        ask.arg("master").arg(name);
        let facts: HashMap<String, String> =
            ask.query_async(&mut connection).await.unwrap_or_default();
        let epoch = facts.get("config-epoch").and_then(|epoch| epoch.parse().ok());
        Ok(Some(Told { epoch: epoch.unwrap_or_default(), host, port }))
    }

    /// The same server, if it serves our keys and takes writes.
    async fn confirmed(&self, node: ConnectionInfo) -> Asked<ConnectionInfo> {
        match self.confirm(&node).await {
            Ok(true) => Ok(node),
            Ok(false) => Err(unreachable(&node, "is not the master yet")),
            Err(fault) if self.is_direct() && is_elsewhere(&fault) => {
                let why = "is a node of a cluster: begin the URL with redis+cluster://";
                Err(KeyspaceError::Refused(format!("{} {why}", node.addr())))
            }
            Err(fault) => Err(told_by(&node, fault)),
        }
    }

    async fn confirm(&self, node: &ConnectionInfo) -> Result<bool, RedisError> {
        let mut connection = self.connect(node).await?;
        cmd("EXISTS").arg(&self.key).query_async::<()>(&mut connection).await?;
        if self.is_direct() {
            return Ok(true);
        }
        match cmd("ROLE").query_async::<Vec<Value>>(&mut connection).await {
            Ok(role) => Ok(role.first().is_some_and(|role| text(role) == Some("master"))),
            // Who may not ask finds out by writing.
            Err(fault) if is_forbidden(&fault) => Ok(true),
            Err(fault) => Err(fault),
        }
    }

    async fn connect(&self, server: &ConnectionInfo) -> Result<MultiplexedConnection, RedisError> {
        #[expect(clippy::disallowed_methods, reason = "this is where connections are made")]
        let client = Client::open(server.clone())?;
        client.get_multiplexed_async_connection_with_config(&self.config).await
    }
}

fn note(answer: Asked<Told>, told: &mut Vec<Told>, faults: &mut Vec<KeyspaceError>) {
    match answer {
        Ok(answer) => told.push(answer),
        Err(fault) => faults.push(fault),
    }
}

/// The master of a range of slots that ours is in: its host, unless that is the one asked, and its
/// port.
fn owner(range: &[Value]) -> Option<(Option<String>, u16)> {
    let [Value::Int(from), Value::Int(to), Value::Array(master), ..] = range else { return None };
    let [host, Value::Int(port), ..] = &master[..] else { return None };
    let is_ours = (*from..=*to).contains(&SLOT);
    is_ours.then_some((text(host).map(str::to_owned), u16::try_from(*port).ok()?))
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn host_of(server: &ConnectionInfo) -> Option<String> {
    match server.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Some(host.clone()),
        _ => None,
    }
}

fn unreachable(server: &ConnectionInfo, why: &str) -> KeyspaceError {
    KeyspaceError::Unreachable(format!("{}: {why}", server.addr()))
}

/// A fault with the server that told it.
fn told_by(server: &ConnectionInfo, fault: RedisError) -> KeyspaceError {
    match KeyspaceError::from(fault) {
        KeyspaceError::Unreachable(why) => unreachable(server, &why),
        KeyspaceError::Refused(why) => KeyspaceError::Refused(format!("{}: {why}", server.addr())),
        full @ KeyspaceError::OutOfMemory => full,
    }
}

/// Several faults as one. As long as one of them may pass, all of it may.
fn together(faults: Vec<KeyspaceError>) -> KeyspaceError {
    let passes = |fault: &KeyspaceError| !matches!(fault, KeyspaceError::Refused(_));
    let may_pass = faults.is_empty() || faults.iter().any(passes);
    let words: Vec<String> = faults
        .into_iter()
        .map(|fault| match fault {
            KeyspaceError::Unreachable(why) | KeyspaceError::Refused(why) => why,
            full @ KeyspaceError::OutOfMemory => full.to_string(),
        })
        .collect();
    let words = words.join("; ");
    if may_pass { KeyspaceError::Unreachable(words) } else { KeyspaceError::Refused(words) }
}
