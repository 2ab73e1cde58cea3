//! Callers' API keys. Only their digests are stored.

use std::cmp::Ordering;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub mod file;
pub mod redis;
pub mod secret;

/// Keeps callers' API keys.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// All keys that are not revoked, by age.
    async fn list(&self) -> Result<Vec<KeyRecord>, KeyStoreError>;

    /// Stores a key's record.
    async fn add(&self, record: KeyRecord) -> Result<(), KeyStoreError>;

    /// Removes a key. `false` when there is none of this id.
    async fn revoke(&self, id: &str) -> Result<bool, KeyStoreError>;

    /// The secret callbacks are signed with when the settings name none: the one stored, or
    /// `fresh`, which is then stored. All replicas get the same.
    async fn signing_secret(&self, fresh: &str) -> Result<String, KeyStoreError>;
}

/// A key store many hold.
pub type SharedKeyStore = Arc<dyn KeyStore>;

/// What is known of a key. Not the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The part of the key that may be shown.
    pub id: String,
    /// Who holds it. Keys of one caller see the same jobs.
    pub caller: String,
    /// SHA-256 of the whole key, in hexadecimal.
    pub digest: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl KeyRecord {
    /// Orders records by age, the oldest first.
    fn by_age(&self, other: &Self) -> Ordering {
        (self.created_at, &self.id).cmp(&(other.created_at, &other.id))
    }
}

/// Why the keys could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// The store cannot be reached.
    #[error("the key store is not available: {0}")]
    Unavailable(String),
    /// What is stored cannot be understood.
    #[error("the key store is broken: {0}")]
    Broken(String),
}
