//! Keys in Redis, for replicas.
//!
//! | key       | type   | holds                                             |
//! |-----------|--------|---------------------------------------------------|
//! | `keys`    | hash   | a key's id → its record as JSON                   |
//! | `signing` | string | the secret callbacks are signed with (`whsec_…`)  |

use async_trait::async_trait;
use redis::{Cmd, Pipeline};

use super::{KeyRecord, KeyStore, KeyStoreError};
use crate::keyspace::{Keyspace, KeyspaceError};

/// Keeps keys in Redis.
pub struct RedisKeyStore {
    keyspace: Keyspace,
    keys: String,
    signing: String,
}

impl RedisKeyStore {
    /// Keys in this corner of Redis.
    pub fn new(keyspace: Keyspace) -> Self {
        let (keys, signing) = (keyspace.key("keys"), keyspace.key("signing"));
        Self { keyspace, keys, signing }
    }
}

#[async_trait]
impl KeyStore for RedisKeyStore {
    async fn list(&self) -> Result<Vec<KeyRecord>, KeyStoreError> {
        let stored: Vec<(String, Vec<u8>)> = self.keyspace.ask(&Cmd::hgetall(&self.keys)).await?;
        let read = |(id, json): &(String, Vec<u8>)| {
            serde_json::from_slice(json).map_err(|_fault| {
                KeyStoreError::Broken(format!("{} {id} is not a key's record", self.keys))
            })
        };
        let mut records = stored.iter().map(read).collect::<Result<Vec<KeyRecord>, _>>()?;
        records.sort_by(KeyRecord::by_age);
        Ok(records)
    }

    async fn add(&self, record: KeyRecord) -> Result<(), KeyStoreError> {
        let json = serde_json::to_vec(&record)
            .map_err(|fault| KeyStoreError::Broken(fault.to_string()))?;
        Ok(self.keyspace.ask(&Cmd::hset(&self.keys, &record.id, json)).await?)
    }

    async fn revoke(&self, id: &str) -> Result<bool, KeyStoreError> {
        Ok(self.keyspace.ask(&Cmd::hdel(&self.keys, id)).await?)
    }

    async fn signing_secret(&self, fresh: &str) -> Result<String, KeyStoreError> {
        let mut both = Pipeline::new();
        both.set_nx(&self.signing, fresh).ignore().get(&self.signing);
        let (stored,): (Option<String>,) = self.keyspace.ask_all(&both).await?;
        stored.ok_or_else(|| KeyStoreError::Broken(format!("{} vanished", self.signing)))
    }
}

impl From<KeyspaceError> for KeyStoreError {
    fn from(fault: KeyspaceError) -> Self {
        match fault {
            KeyspaceError::Unreachable(_) | KeyspaceError::OutOfMemory => {
                Self::Unavailable(fault.to_string())
            }
            KeyspaceError::Refused(_) => Self::Broken(fault.to_string()),
        }
    }
}
