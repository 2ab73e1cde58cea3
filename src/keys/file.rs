//! Keys in a file, for a service without Redis: `keys.json`, which holds
//! `{"keys": [record, …], "signing": "whsec_…"}`.

use std::convert::Infallible;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{KeyRecord, KeyStore, KeyStoreError};
use crate::files::{FileError, JsonFile};

/// Keeps keys in a folder.
pub struct FileKeyStore(JsonFile<Contents>);

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    keys: Vec<KeyRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signing: Option<String>,
}

/// Nothing is to be written.
struct Unchanged;

impl FileKeyStore {
    /// Keys in this folder. Nothing is touched before the first key is written.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(JsonFile::new(folder, "keys"))
    }
}

#[async_trait]
impl KeyStore for FileKeyStore {
    async fn list(&self) -> Result<Vec<KeyRecord>, KeyStoreError> {
        Ok(self.0.read().await?.keys.clone())
    }

    async fn add(&self, record: KeyRecord) -> Result<(), KeyStoreError> {
        let added = self.0.change(move |contents| {
            contents.keys.retain(|known| known.id != record.id);
            contents.keys.push(record);
            contents.keys.sort_by(KeyRecord::by_age);
            Ok::<_, Infallible>(())
        });
        let Ok(()) = added.await?;
        Ok(())
    }

    async fn revoke(&self, id: &str) -> Result<bool, KeyStoreError> {
        if self.0.read().await?.keys.iter().all(|known| known.id != id) {
            return Ok(false);
        }
        let id = id.to_owned();
        let revoked = self.0.change(move |contents| {
            let before = contents.keys.len();
            contents.keys.retain(|known| known.id != id);
            if contents.keys.len() < before { Ok(()) } else { Err(Unchanged) }
        });
        Ok(revoked.await?.is_ok())
    }

    async fn signing_secret(&self, fresh: &str) -> Result<String, KeyStoreError> {
        if let Some(known) = self.0.read().await?.signing.clone() {
            return Ok(known);
        }
        let fresh = fresh.to_owned();
        let kept = self.0.change(move |contents| {
            Ok::<_, Infallible>(contents.signing.get_or_insert(fresh).clone())
        });
        let Ok(kept) = kept.await?;
        Ok(kept)
    }
}

impl From<FileError> for KeyStoreError {
    fn from(fault: FileError) -> Self {
        match fault {
            FileError::Unavailable(why) => Self::Unavailable(why),
            FileError::Broken(why) => Self::Broken(why),
        }
    }
}
