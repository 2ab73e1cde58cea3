//! Keeps callbacks out of networks that are not the public internet, unless the operator allows
//! them. Whoever may submit jobs chooses where we post to: without this they could reach whatever
//! we can reach.
//!
//! An address is judged when a job is submitted, so that the caller hears of it, and again at every
//! attempt, by the resolver of the connection itself, because a name may lead elsewhere by then.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

mod ranges;
mod verdicts;

use verdicts::Verdicts;

/// The longest callback address.
const MAX_URL: usize = 2_048;
/// How long a submit waits for the name service.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ports from 1024 up where other services than web servers listen: databases, brokers, control
/// planes, and what browsers refuse.
const FOREIGN_PORTS: [u16; 41] = [
    1433, 1521, 1719, 1720, 1723, 2049, 2375, 2376, 2379, 2380, 3306, 3389, 3659, 4045, 4190, 5060,
    5061, 5432, 5672, 5900, 5984, 6000, 6379, 6380, 6443, 6566, 6665, 6666, 6667, 6668, 6669, 6679,
    6697, 9042, 9092, 9200, 9300, 10080, 10250, 11211, 27017,
];

/// Endings of names that no public name has.
const INTERNAL_ENDINGS: [&str; 6] =
    [".localhost", ".local", ".internal", ".localdomain", ".lan", ".home.arpa"];

/// Why a callback may not go to this address. The text is for the caller: it says what to do, never
/// what an internal name leads to, and never the URL's query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a URL we could post to.
    #[error("the callback URL is not valid: {0}")]
    Invalid(&'static str),
    /// `http` where only `https` is allowed.
    #[error("the callback URL must begin with https://; callbacks.allow_http permits plain http")]
    PlainHttp,
    /// A port where no web server listens.
    #[error("callbacks do not go to port {0}; use 80, 443 or a web server's port from 1024 up")]
    Port(u16),
    /// The address itself is not a public one.
    #[error(
        "callbacks do not go to {address}, which is {what}. If that is your n8n, set its \
         N8N_WEBHOOK_URL to an address Spillway can reach, or allow this one in Spillway's settings: \
         callbacks.allow_networks = [\"{address}/{}\"]",
        if address.is_ipv4() { 32 } else { 128 }
    )]
    Address {
        /// The address in the URL.
        address: IpAddr,
        /// What kind of address it is.
        what: &'static str,
    },
    /// A name that exists only inside a network.
    #[error(
        "callbacks do not go to {0}, a name that only a private network knows. If that is your n8n, \
         set its N8N_WEBHOOK_URL to an address Spillway can reach, or allow its network in Spillway's \
         settings, such as callbacks.allow_networks = [\"127.0.0.0/8\", \"172.16.0.0/12\"]"
    )]
    Internal(String),
    /// The name leads to an address that is not public.
    #[error(
        "callbacks do not go to {0}: it does not lead to a public address. If that is your n8n, set \
         its N8N_WEBHOOK_URL to an address Spillway can reach, or allow its network in Spillway's \
         settings, such as callbacks.allow_networks = [\"172.16.0.0/12\"]"
    )]
    Resolved(String),
}

impl Refusal {
    /// The stable code: the URL is wrong, or it is right and leads where callbacks may not go.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) | Self::PlainHttp => "invalid_callback_url",
            Self::Port(_) | Self::Address { .. } | Self::Internal(_) | Self::Resolved(_) => {
                "blocked_destination"
            }
        }
    }
}

/// Asks the name service for a host's addresses.
pub type Lookup =
    Box<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync + 'static>;

/// Decides which addresses callbacks may reach.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    allowed: Vec<IpNet>,
    allow_http: bool,
    lookup: Lookup,
    verdicts: Verdicts,
}

impl Guard {
    /// A guard that lets through public addresses and these networks.
    pub fn new(allow_networks: Vec<IpNet>, allow_http: bool) -> Self {
        Self::with_lookup(allow_networks, allow_http, Box::new(system_lookup))
    }

    /// The same with another name service.
    pub fn with_lookup(allow_networks: Vec<IpNet>, allow_http: bool, lookup: Lookup) -> Self {
        let verdicts = Verdicts::default();
        Self(Arc::new(Inner { allowed: allow_networks, allow_http, lookup, verdicts }))
    }

    /// Judges what can be judged without asking the name service.
    pub fn admit(&self, text: &str) -> Result<Url, Refusal> {
        if text.len() > MAX_URL {
            return Err(Refusal::Invalid("it is longer than 2048 bytes"));
        }
        if text.trim().contains(|c: char| c.is_control()) {
            // A URL parser would drop them without a word, and the receiver would miss them.
            return Err(Refusal::Invalid("it contains a line break or another control character"));
        }
        let url = Url::parse(text).map_err(|fault| Refusal::Invalid(in_words(fault)))?;
        match url.scheme() {
            "https" => {}
            "http" if self.0.allow_http => {}
            "http" => return Err(Refusal::PlainHttp),
            _ => return Err(Refusal::Invalid("it must begin with https:// or http://")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Invalid(
                "it has a user name or password; send an Authorization header instead",
            ));
        }
        if url.fragment().is_some() {
            return Err(Refusal::Invalid("it has a part after `#`, which is never sent"));
        }
        match url.host() {
            Some(Host::Ipv4(address)) => self.judge_literal(address.into())?,
            Some(Host::Ipv6(address)) => self.judge_literal(address.into())?,
            Some(Host::Domain(name)) => self.judge_name(name)?,
            None => return Err(Refusal::Invalid("it has no host")),
        }
        // Also where the operator allows the network: it has databases beside the receivers.
        match url.port_or_known_default() {
            Some(port) if is_foreign(port) => Err(Refusal::Port(port)),
            _ => Ok(url),
        }
    }

    /// Judges an address when a job is submitted. A name that does not resolve within a second is
    /// let through: it may yet, and every attempt judges again.
    pub async fn admit_resolved(&self, text: &str) -> Result<Url, Refusal> {
        let url = self.admit(text)?;
        if let Some(Host::Domain(name)) = url.host() {
            let ask = || async {
                match tokio::time::timeout(PATIENCE, (self.0.lookup)(name.to_owned())).await {
                    Ok(Ok(found)) => self.judge_found(name, found).map(|_| ()),
                    Ok(Err(_)) | Err(_) => Ok(()),
                }
            };
            self.0.verdicts.get(name, Instant::now(), ask).await?;
        }
        Ok(url)
    }

    fn allows(&self, address: IpAddr) -> bool {
        let canonical = address.to_canonical();
        self.0.allowed.iter().any(|net| net.contains(&canonical) || net.contains(&address))
    }

    fn judge_literal(&self, address: IpAddr) -> Result<(), Refusal> {
        match ranges::special(address) {
            Some(what) if !self.allows(address) => {
                Err(Refusal::Address { address: address.to_canonical(), what })
            }
            _ => Ok(()),
        }
    }

    fn judge_name(&self, name: &str) -> Result<(), Refusal> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let bare = name.strip_suffix('.').unwrap_or(name);
        if !name.chars().all(plain) || bare.split('.').any(str::is_empty) {
            return Err(Refusal::Invalid("its host is not a host name"));
        }
        // Where the operator allows some networks, the addresses of the name decide.
        if is_internal(name) && self.0.allowed.is_empty() {
            return Err(Refusal::Internal(bare.to_owned()));
        }
        Ok(())
    }

    /// Which of a name's addresses may be connected to.
    ///
    /// A public name with a single forbidden address is refused whole: that is how rebinding looks.
    /// An internal name is the operator's own; of its addresses those that they allow are used
    /// (`localhost` is often both `127.0.0.1` and `::1`, and only one of them is allowed).
    fn judge_found(&self, name: &str, found: Vec<IpAddr>) -> Result<Vec<IpAddr>, Refusal> {
        let internal = is_internal(name);
        let forbidden = |address: &IpAddr| {
            !self.allows(*address) && (internal || ranges::special(*address).is_some())
        };
        let first = found.iter().copied().find(forbidden);
        let usable: Vec<IpAddr> = found.into_iter().filter(|at| !forbidden(at)).collect();
        match first {
            Some(address) if !internal || usable.is_empty() => {
                tracing::warn!(host = name, %address, "a callback's host leads to a network that callbacks may not reach");
                Err(Refusal::Resolved(name.to_owned()))
            }
            _ => Ok(usable),
        }
    }
}

impl Resolve for Guard {
    /// Resolves for a connection: what is returned is what is connected to.
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found = (guard.0.lookup)(name.clone()).await?;
            let usable = guard.judge_found(&name, found)?;
            let addresses: Addrs =
                Box::new(usable.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

/// Asks as the machine is set up to ask.
fn system_lookup(host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
    Box::pin(async move {
        let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
        Ok(found.map(|socket| socket.ip()).collect())
    })
}

/// Whether a name is known only inside a network: it has one label, or an ending set aside for it.
fn is_internal(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.contains('.') || INTERNAL_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn is_foreign(port: u16) -> bool {
    (port < 1_024 && !matches!(port, 80 | 443)) || FOREIGN_PORTS.contains(&port)
}

const fn in_words(fault: url::ParseError) -> &'static str {
    match fault {
        url::ParseError::EmptyHost => "it has no host",
        url::ParseError::InvalidPort => "its port is not a number up to 65535",
        url::ParseError::InvalidIpv4Address | url::ParseError::InvalidIpv6Address => {
            "its address is not an IP address"
        }
        url::ParseError::RelativeUrlWithoutBase => "it must begin with https:// or http://",
        _ => "it is not a URL",
    }
}

#[cfg(test)]
mod tests;
