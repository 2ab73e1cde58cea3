//! Subscriptions in Redis, for replicas.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `subscriptions` | hash | `<caller's digest>/<id>` → the subscription as JSON |
//! | `subscriptions:version` | string | a text that no other state of them ever had |

use async_trait::async_trait;
use redis::{Pipeline, Value};
use ulid::Ulid;

use super::{Added, Snapshot, StoreError, Subscription, SubscriptionStore, Version};
use crate::domain::id::{SubscriptionId, digest16};
use crate::keyspace::{Keyspace, KeyspaceError, Script, script};

/// Keeps subscriptions in Redis.
pub struct RedisSubscriptions {
    keyspace: Keyspace,
    all: String,
    version: String,
    add: Script,
}

impl RedisSubscriptions {
    /// Subscriptions in this corner of Redis.
    pub fn new(keyspace: Keyspace) -> Self {
        let (all, version) = (keyspace.key("subscriptions"), keyspace.key("subscriptions:version"));
        Self { keyspace, all, version, add: script(include_str!("lua/add.lua")) }
    }

    /// One that cannot be read is left out: the others are none the worse for it.
    fn read(&self, field: &str, json: &[u8]) -> Option<Subscription> {
        let read = serde_json::from_slice(json).ok();
        if read.is_none() {
            tracing::error!(key = self.all, field, "a stored subscription is damaged");
        }
        read
    }
}

/// A version like no other: a count could come again after another Redis took over.
fn fresh() -> String {
    Ulid::generate().to_string()
}

fn field(caller: &str, id: &SubscriptionId) -> String {
    format!("{}/{id}", digest16(&[caller]))
}

#[async_trait]
impl SubscriptionStore for RedisSubscriptions {
    async fn changed(&self, since: Option<&Version>) -> Result<Option<Snapshot>, StoreError> {
        if let Some(Version(known)) = since {
            let mut get = redis::cmd("GET");
            let now: Option<String> = self.keyspace.ask(get.arg(&self.version)).await?;
            if now.unwrap_or_default() == *known {
                return Ok(None);
            }
        }
        let mut both = Pipeline::new();
        both.atomic().get(&self.version).hgetall(&self.all);
        let (version, stored): (Option<String>, Vec<(String, Vec<u8>)>) =
            self.keyspace.ask_all(&both).await?;
        let read = stored.iter().filter_map(|(field, json)| self.read(field, json));
        let mut all: Vec<_> = read.collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(Some(Snapshot { version: Version(version.unwrap_or_default()), all }))
    }

    async fn add(&self, subscription: Subscription, most: usize) -> Result<Added, StoreError> {
        let json = serde_json::to_vec(&subscription)
            .map_err(|fault| StoreError::Broken(fault.to_string()))?;
        let mut add = self.add.key(&self.all);
        add.key(&self.version).arg(digest16(&[&subscription.caller]));
        add.arg(subscription.id.as_str()).arg(json).arg(most).arg(fresh());
        add.arg(subscription.key().unwrap_or_default());
        match self.keyspace.run::<Value>(&add).await? {
            Value::Int(1) => Ok(Added::Stored),
            Value::BulkString(json) => serde_json::from_slice(&json)
                .map(|known| Added::Known(Box::new(known)))
                .map_err(|fault| StoreError::Broken(fault.to_string())),
            _ => Ok(Added::Full),
        }
    }

    async fn remove(&self, caller: &str, id: &SubscriptionId) -> Result<bool, StoreError> {
        let mut both = Pipeline::new();
        both.atomic().hdel(&self.all, field(caller, id)).set(&self.version, fresh()).ignore();
        let (removed,): (bool,) = self.keyspace.ask_all(&both).await?;
        Ok(removed)
    }
}

impl From<KeyspaceError> for StoreError {
    fn from(fault: KeyspaceError) -> Self {
        match fault {
            KeyspaceError::Unreachable(_) | KeyspaceError::OutOfMemory => {
                Self::Unavailable(fault.to_string())
            }
            KeyspaceError::Refused(_) => Self::Broken(fault.to_string()),
        }
    }
}
