//! Where a Redis is, as `store.url` says it: at an address, in a cluster, or behind sentinels.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use url::Url;

/// Where a Redis is.
#[derive(Clone, Debug)]
pub struct Address {
    /// Whom to ask first: the Redis itself, nodes of its cluster, or its sentinels.
    pub(super) seeds: Vec<ConnectionInfo>,
    /// How to speak to the master, wherever it is.
    node: ConnectionInfo,
    pub(super) way: Way,
}

/// How to find the master.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// It is where the address says.
    Direct,
    /// The cluster's nodes know.
    Cluster,
    /// The sentinels know it by this name.
    Sentinel { name: String },
}

/// What is wrong with a URL, and what is expected. Holds no part of it that may be secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressFault(String);

/// The forms of a URL that leads to a Redis. With `rediss` in place of `redis`, TLS is spoken.
pub const FORMS: [&str; 4] = [
    "redis://host:port",
    "rediss://host:port",
    "redis+cluster://host:port,host:port",
    "redis+sentinel://host:port,host:port/NAME",
];

/// Where sentinels listen unless told otherwise.
const SENTINEL_PORT: u16 = 26_379;

impl Address {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<Self, AddressFault> {
        let parts = Parts::of(text)?;
        match parts.kind {
            "" => Self::direct(&parts),
            "cluster" => Self::cluster(&parts),
            "sentinel" => Self::sentinel(&parts),
            _ => nowhere(),
        }
    }

    fn direct(parts: &Parts<'_>) -> Result<Self, AddressFault> {
        let [_] = parts.hosts[..] else {
            return fault(
                "names several hosts: expected one, or redis+cluster:// or redis+sentinel:// in \
                 the beginning",
            );
        };
        let node = read(parts.text)?;
        Ok(Self { seeds: vec![node.clone()], node, way: Way::Direct })
    }

    fn cluster(parts: &Parts<'_>) -> Result<Self, AddressFault> {
        if !matches!(parts.path, "" | "/" | "/0") || !parts.query.is_empty() {
            return fault("ends in a path or a query: a cluster has one database and no name");
        }
        let seeds = parts.seeds(parts.user, None)?;
        let Some(node) = seeds.first().cloned() else {
            return fault("names no host");
        };
        Ok(Self { seeds, node, way: Way::Cluster })
    }

    fn sentinel(parts: &Parts<'_>) -> Result<Self, AddressFault> {
        let name = parts.path.trim_matches('/');
        if name.is_empty() || name.contains('/') {
            return fault("names no master: expected redis+sentinel://host:port/NAME");
        }
        // Read as the query of a URL, for its escapes.
        let query = Url::parse(&format!("redis://host/{name}?{}", parts.query));
        let Ok(query) = query else { return fault("has a name or a query that cannot be read") };
        let (mut login, mut db) = (RedisConnectionInfo::default(), 0);
        for (key, value) in query.query_pairs() {
            match &*key {
                "db" => match value.parse() {
                    Ok(number @ 0_i64..) => db = number,
                    _ => return fault("has a `db` that is no database's number"),
                },
                "sentinel_user" => login = login.set_username(value),
                "sentinel_password" => login = login.set_password(value),
                _ => {
                    return fault(
                        "has a query that is not known: expected `db`, `sentinel_user` or \
                         `sentinel_password`",
                    );
                }
            }
        }
        let seeds = parts.seeds("", Some(SENTINEL_PORT))?;
        let seeds = seeds.into_iter().map(|seed| seed.set_redis_settings(login.clone())).collect();
        let Some(node) = parts.seeds(parts.user, None)?.into_iter().next() else {
            return fault("names no host");
        };
        let settings = node.redis_settings().clone().set_db(db);
        let node = node.set_redis_settings(settings);
        let name = percent_decoded(name)?;
        Ok(Self { seeds, node, way: Way::Sentinel { name } })
    }

    /// The server at this host, spoken to as the master is.
    pub(super) fn at(&self, host: String, port: u16) -> ConnectionInfo {
        let place = match self.node.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.node.clone().set_addr(place)
    }

    /// A seed to be asked with the master's password.
    pub(super) fn with_login(&self, seed: &ConnectionInfo) -> ConnectionInfo {
        let settings = self.node.redis_settings().clone().set_db(0);
        seed.clone().set_redis_settings(settings)
    }
}

/// A URL taken apart. Several hosts make it one that no URL parser takes whole.
struct Parts<'a> {
    text: &'a str,
    /// `redis` or `rediss`.
    scheme: &'a str,
    /// What follows `+` in the scheme.
    kind: &'a str,
    user: &'a str,
    hosts: Vec<&'a str>,
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, AddressFault> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", ""));
        let (scheme, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(scheme, "redis" | "rediss") {
            return nowhere();
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        // What is told of the rest must not be a piece of a password.
        if path.contains('@') || user.contains('@') {
            return fault(
                "has an @ too many: expected user and password once, before the first host, \
                 and in them %40 for @, %2F for /, %3F for ?",
            );
        }
        Ok(Self { text, scheme, kind, user, hosts: hosts.split(',').collect(), path, query })
    }

    /// What each host is reached by.
    fn seeds(&self, user: &str, port: Option<u16>) -> Result<Vec<ConnectionInfo>, AddressFault> {
        let user = if user.is_empty() { String::new() } else { format!("{user}@") };
        let seed = |host: &&str| {
            let url = format!("{}://{user}{host}", self.scheme);
            let port = port.filter(|_| Url::parse(&url).is_ok_and(|url| url.port().is_none()));
            read(&port.map_or_else(|| url.clone(), |port| format!("{url}:{port}")))
        };
        self.hosts.iter().map(seed).collect()
    }
}

/// Reads the URL of one server.
fn read(text: &str) -> Result<ConnectionInfo, AddressFault> {
    let url = Url::parse(text);
    if !url.is_ok_and(|url| url.host_str().is_some_and(|host| !host.is_empty())) {
        return fault("names a host that cannot be: expected host:port, each after a comma");
    }
    text.into_connection_info()
        .map_err(|why| AddressFault(format!("cannot be read: {}", why.to_string().to_lowercase())))
}

fn percent_decoded(text: &str) -> Result<String, AddressFault> {
    // The one decoder at hand is the one for queries, to which a plus is a space.
    let escaped = text.replace('+', "%2B");
    let pairs = Url::parse(&format!("redis://host/?name={escaped}"));
    let name =
        pairs.ok().and_then(|url| url.query_pairs().next().map(|(_, value)| value.into_owned()));
    name.ok_or_else(|| AddressFault("has a name that cannot be read".to_owned()))
}

fn nowhere<T>() -> Result<T, AddressFault> {
    let forms = FORMS.map(|form| format!("`{form}`"));
    fault(format!("leads to no Redis: expected one of {}", forms.join(", ")))
}

fn fault<T>(why: impl Into<String>) -> Result<T, AddressFault> {
    Err(AddressFault(why.into()))
}

/// What stands for a secret.
const HIDDEN: &str = "[hidden]";

/// A store's URL without its passwords, whether or not it can be read.
pub fn hidden(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    };
    // With an @ there, the ? may belong to a password.
    if query.is_some_and(|query| query.contains('@')) {
        return format!("{scheme}://{HIDDEN}");
    }
    let place = match place.rsplit_once('@') {
        Some((user, hosts)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:{HIDDEN}@{hosts}"),
            None => place.to_owned(),
        },
        None => place.to_owned(),
    };
    let values = query.map(|query| {
        let pairs = query.split('&').map(|pair| match pair.split_once('=') {
            Some((key, _)) if key != "db" => format!("{key}={HIDDEN}"),
            _ => pair.to_owned(),
        });
        format!("?{}", pairs.collect::<Vec<_>>().join("&"))
    });
    format!("{scheme}://{place}{}", values.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(seeds: &[ConnectionInfo]) -> Vec<String> {
        seeds.iter().map(|seed| seed.addr().to_string()).collect()
    }

    #[test]
    fn a_cluster_is_named_by_some_of_its_nodes() {
        let read = Address::parse("redis+cluster://me:se%40cret@a:7000,b,[::1]:7002").unwrap();
        assert_eq!(places(&read.seeds), ["a:7000", "b:6379", "::1:7002"]);
        assert!(matches!(read.way, Way::Cluster));
        for seed in read.seeds.iter().chain([&read.at("c".to_owned(), 7_003)]) {
            let settings = seed.redis_settings();
            assert_eq!((settings.username(), settings.password()), (Some("me"), Some("se@cret")));
        }
    }

    #[test]
    fn sentinels_have_a_port_and_a_password_of_their_own() {
        let text = "rediss+sentinel://:one@a,b:7001/my%20master?db=3&sentinel_password=t%26wo";
        let read = Address::parse(text).unwrap();
        assert_eq!(places(&read.seeds), ["a:26379", "b:7001"]);
        let Way::Sentinel { name } = &read.way else { panic!("{read:?}") };
        assert_eq!(name, "my master");
        assert_eq!(read.seeds[0].redis_settings().password(), Some("t&wo"));
        assert_eq!(read.seeds[0].redis_settings().db(), 0);
        let node = read.at("c".to_owned(), 6_379);
        assert_eq!(
            (node.redis_settings().password(), node.redis_settings().db()),
            (Some("one"), 3)
        );
        assert!(matches!(node.addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
        let same = read.with_login(&read.seeds[0]);
        assert_eq!(
            (same.redis_settings().password(), same.redis_settings().db()),
            (Some("one"), 0)
        );
    }

    #[test]
    fn a_wrong_url_is_told_with_what_is_expected_and_without_secrets() {
        for (text, expected) in [
            ("http://hunter2@a", "leads to no Redis"),
            ("redis+sharded://:hunter2@a", "leads to no Redis"),
            ("redis://:hunter2@a,b", "redis+cluster"),
            ("redis://:hunter2@", "host:port"),
            ("redis+cluster://:hunter2@", "host:port"),
            ("redis+cluster://:hunter2@a,,b", "host:port"),
            ("redis+cluster://:hunter2@a:port", "host:port"),
            ("redis+cluster://:hunter2@a,b/1", "one database"),
            ("redis+cluster://:hunter2@a,:hunter2@b", "once, before the first host"),
            ("redis+cluster://:hunt/er2@a,b", "%2F for /"),
            ("redis+sentinel://:hunter2@a,b", "names no master"),
            ("redis+sentinel://:hunter2@a,b/name?db=x", "`db`"),
            ("redis+sentinel://:hunter2@a,b/name?password=hunter2", "`sentinel_password`"),
            ("redis://:hunter2@a/first", "database number"),
        ] {
            let told = Address::parse(text).unwrap_err().to_string();
            assert!(told.contains(expected), "{text}: {told}");
            assert!(!told.contains("hunt"), "{text}: {told}");
        }
    }

    #[test]
    fn no_password_is_shown() {
        for (text, shown) in [
            ("embedded:./data", "embedded:./data"),
            ("redis://a:1", "redis://a:1"),
            ("redis://u:hunter2@a:1/2", "redis://u:[hidden]@a:1/2"),
            ("redis+cluster://:hunter2@a,b", "redis+cluster://:[hidden]@a,b"),
            ("redis+cluster://:h@unter/2@a,b", "redis+cluster://:[hidden]@a,b"),
            ("redis://:hunt?er2@a", "redis://[hidden]"),
            (
                "redis+sentinel://:hunter2@a,b/n?db=1&sentinel_password=hunter2",
                "redis+sentinel://:[hidden]@a,b/n?db=1&sentinel_password=[hidden]",
            ),
        ] {
            assert_eq!(hidden(text), shown);
        }
    }
}
