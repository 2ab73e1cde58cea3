//! What this Redis is and how it is set up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::super::settings::Settings;
use super::super::{Durability, QueueError};
use crate::keyspace::{Keyspace, KeyspaceError};
use crate::lifecycle::Lifecycle;

/// The oldest Redis that has every command the scripts use.
const OLDEST: (u32, u32) = (6, 2);

/// The first Redis that reads flags in a script's first line.
const FLAGS: (u32, u32) = (7, 0);

/// The first Redis that can be waited for until it has synced its file (`WAITAOF`).
const WAITAOF: (u32, u32) = (7, 2);

/// How often the level is looked up again: an operator may change it while we run.
const REFRESH: Duration = Duration::from_secs(30);

/// What a Redis told of itself.
pub(super) struct Server {
    version: (u32, u32),
    policy: Option<String>,
    persistence: Persistence,
    replicas: Option<u32>,
}

/// How it writes to disk; `None` is what it would not tell.
struct Persistence {
    appends: bool,
    fsync: Option<String>,
}

/// What the server is to be waited for after a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Its own append-only file to be synced.
    Fsync,
    /// A replica to have received it. Not to have synced its file, which it does once a second
    /// and tells once a second: accepting would take up to two, and the loss of one machine is
    /// survived without.
    Replica,
}

impl Server {
    /// Asks for everything that decides whether and how the queue runs here.
    pub(super) async fn ask(keyspace: &Keyspace) -> Result<Self, QueueError> {
        let text: String = keyspace.ask(&redis::cmd("INFO")).await?;
        let facts = parse(&text);
        let version = facts.get("redis_version").and_then(|text| version(text));
        let told = config(keyspace, "maxmemory-policy").await?;
        let policy = told.or_else(|| facts.get("maxmemory_policy").map(|text| (*text).to_owned()));
        let persistence = persistence(keyspace, &facts).await?;
        let replicas = facts.get("connected_slaves").and_then(|count| count.parse().ok());
        // One that calls itself by no version we understand is tried.
        Ok(Self { version: version.unwrap_or(OLDEST), policy, persistence, replicas })
    }

    /// Whether jobs may be entrusted to it.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), QueueError> {
        let (major, minor) = self.version;
        if self.version < OLDEST {
            let refusal = format!("Redis {major}.{minor} is too old: 6.2 or newer is needed");
            return Err(QueueError::Broken(refusal));
        }
        self.check_policy(settings)?;
        self.check_durability(settings)?;
        if settings.durability == Some(Durability::Replicated) && self.replicas == Some(0) {
            tracing::warn!(
                "store.durability is `replicated`, but no replica is connected to Redis: until one \
                 is, every new job is answered with 503"
            );
        }
        Ok(())
    }

    fn check_policy(&self, settings: &Settings) -> Result<(), QueueError> {
        let policy = self.policy.as_deref().unwrap_or("unknown");
        if policy == "noeviction" {
            return Ok(());
        }
        if settings.allow_eviction || self.policy.is_none() {
            tracing::warn!(
                policy,
                "unless `maxmemory-policy` is `noeviction`, a full Redis drops accepted jobs"
            );
            return Ok(());
        }
        Err(QueueError::Broken(format!(
            "Redis' maxmemory-policy is `{policy}`: it would drop accepted jobs when it is full. \
             Set `maxmemory-policy noeviction` in Redis, or `allow_eviction = true` under [store] \
             to start all the same"
        )))
    }

    fn check_durability(&self, settings: &Settings) -> Result<(), QueueError> {
        let own = self.durability();
        let remedy = match settings.durability {
            Some(Durability::Appended | Durability::Fsynced) if own == Durability::Volatile => {
                "set `appendonly yes` in Redis"
            }
            Some(Durability::Fsynced) if own < Durability::Fsynced && self.version < WAITAOF => {
                "set `appendfsync always` in Redis, or use Redis 7.2 or newer"
            }
            _ => return Ok(()),
        };
        let wanted = settings.durability.map_or("", Durability::as_str);
        Err(QueueError::Broken(format!(
            "store.durability is `{wanted}`, and this Redis offers no more than `{}`: {remedy}",
            own.as_str()
        )))
    }

    /// What a write survives by itself.
    pub(super) fn durability(&self) -> Durability {
        self.persistence.level()
    }

    /// What is asked for beyond that.
    pub(super) fn beyond(&self, settings: &Settings) -> Option<Wanted> {
        match settings.durability? {
            Durability::Volatile | Durability::Appended => None,
            Durability::Fsynced => {
                (self.durability() < Durability::Fsynced).then_some(Wanted::Fsync)
            }
            Durability::Replicated => Some(Wanted::Replica),
        }
    }

    /// Whether it reads flags in a script's first line.
    pub(super) fn knows_flags(&self) -> bool {
        self.version >= FLAGS
    }
}

impl Persistence {
    fn level(&self) -> Durability {
        match (self.appends, self.fsync.as_deref()) {
            (false, _) => Durability::Volatile,
            (true, Some("always")) => Durability::Fsynced,
            (true, _) => Durability::Appended,
        }
    }
}

/// The level a write reaches, kept up to date.
pub(super) struct Level(AtomicU8);

impl Level {
    pub(super) fn new(level: Durability) -> Self {
        Self(AtomicU8::new(level as u8))
    }

    pub(super) fn get(&self) -> Durability {
        let levels = [Durability::Appended, Durability::Fsynced, Durability::Replicated];
        let stored = self.0.load(Ordering::Relaxed);
        levels.into_iter().find(|level| *level as u8 == stored).unwrap_or(Durability::Volatile)
    }

    pub(super) fn set(&self, level: Durability) {
        self.0.store(level as u8, Ordering::Relaxed);
    }

    /// Looks the server and its own level up from time to time.
    pub(super) fn watch(self: &Arc<Self>, keyspace: &Keyspace, lifecycle: &Lifecycle) {
        let (level, keyspace, stop) = (Arc::clone(self), keyspace.clone(), lifecycle.clone());
        lifecycle.spawn(async move {
            while stop.sleep(REFRESH).await {
                keyspace.look_again();
                // While Redis does not answer, nothing is accepted and the level does not matter.
                if let Ok(found) = current(&keyspace).await
                    && found != level.get()
                {
                    tracing::warn!(level = found.as_str(), "what a 202 survives has changed");
                    level.set(found);
                }
            }
        });
    }
}

async fn current(keyspace: &Keyspace) -> Result<Durability, KeyspaceError> {
    let mut ask = redis::cmd("INFO");
    ask.arg("persistence");
    let text: String = keyspace.ask(&ask).await?;
    Ok(persistence(keyspace, &parse(&text)).await?.level())
}

async fn persistence(
    keyspace: &Keyspace,
    facts: &HashMap<&str, &str>,
) -> Result<Persistence, KeyspaceError> {
    let appends = match config(keyspace, "appendonly").await? {
        Some(told) => told == "yes",
        None => facts.get("aof_enabled") == Some(&"1"),
    };
    Ok(Persistence { appends, fsync: config(keyspace, "appendfsync").await? })
}

/// One of the server's settings; `None` where it keeps them to itself, as managed ones do.
async fn config(keyspace: &Keyspace, name: &str) -> Result<Option<String>, KeyspaceError> {
    let mut ask = redis::cmd("CONFIG");
    ask.arg("GET").arg(name);
    match keyspace.ask::<HashMap<String, String>>(&ask).await {
        Ok(mut told) => Ok(told.remove(name)),
        Err(KeyspaceError::Refused(_)) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// The used part of the memory limit, from `INFO memory`; `None` when there is no limit.
#[expect(clippy::cast_precision_loss, reason = "a ratio for a gauge")]
pub(super) fn used_memory(text: &str) -> Option<f64> {
    let facts = parse(text);
    let number = |name: &str| facts.get(name)?.parse::<u64>().ok();
    let limit = number("maxmemory").filter(|limit| *limit > 0)?;
    Some(number("used_memory")? as f64 / limit as f64)
}

fn parse(text: &str) -> HashMap<&str, &str> {
    text.lines().filter_map(|line| line.trim_end().split_once(':')).collect()
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: (u32, u32), appends: bool, fsync: Option<&str>) -> Server {
        let persistence = Persistence { appends, fsync: fsync.map(str::to_owned) };
        let policy = Some("noeviction".to_owned());
        Server { version, policy, persistence, replicas: Some(1) }
    }

    fn asking(durability: Durability) -> Settings {
        Settings { durability: Some(durability), ..Settings::default() }
    }

    #[test]
    fn a_server_that_keeps_its_settings_to_itself_is_taken_to_append_at_most() {
        assert_eq!(server((7, 0), true, None).durability(), Durability::Appended);
        assert_eq!(server((7, 0), false, None).durability(), Durability::Volatile);
    }

    #[test]
    fn what_a_server_can_never_do_is_refused() {
        let refused = |server: Server, level| server.check(&asking(level)).is_err();
        assert!(refused(server((6, 1), true, None), Durability::Volatile));
        assert!(refused(server((7, 4), false, None), Durability::Appended));
        assert!(refused(server((7, 4), false, None), Durability::Fsynced));
        assert!(refused(server((7, 0), true, Some("everysec")), Durability::Fsynced));
        assert!(!refused(server((7, 0), true, Some("always")), Durability::Fsynced));
        assert!(!refused(server((7, 2), true, Some("everysec")), Durability::Fsynced));
    }

    #[test]
    fn a_server_is_waited_for_only_when_it_must_do_more_than_it_does() {
        let beyond = |server: Server, level| server.beyond(&asking(level));
        let (everysec, always) = (Some("everysec"), Some("always"));
        assert_eq!(beyond(server((7, 4), true, everysec), Durability::Appended), None);
        assert_eq!(beyond(server((7, 4), true, always), Durability::Fsynced), None);
        let fsync = beyond(server((7, 4), true, everysec), Durability::Fsynced);
        assert_eq!(fsync, Some(Wanted::Fsync));
        let replica = beyond(server((7, 0), true, always), Durability::Replicated);
        assert_eq!(replica, Some(Wanted::Replica));
    }

    #[test]
    fn memory_without_a_limit_has_no_ratio() {
        assert_eq!(used_memory("used_memory:5\r\nmaxmemory:0\r\n"), None);
        assert_eq!(used_memory("# Memory\r\nused_memory:5\r\nmaxmemory:10\r\n"), Some(0.5));
    }
}
