//! Subscriptions in a file, for a service without Redis: `subscriptions.json`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Added, Snapshot, StoreError, Subscription, SubscriptionStore, Version};
use crate::domain::id::SubscriptionId;
use crate::files::{FileError, JsonFile};

/// Keeps subscriptions in a folder.
pub struct FileSubscriptions {
    file: JsonFile<Contents>,
    told: Mutex<Told>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    subscriptions: Vec<Subscription>,
}

/// What was read last, and how many states were before it.
#[derive(Default)]
struct Told {
    contents: Option<Arc<Contents>>,
    states: u64,
}

/// Nothing is to be written.
struct Unchanged;

impl FileSubscriptions {
    /// Subscriptions in this folder. Nothing is touched before the first is made.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { file: JsonFile::new(folder, "subscriptions"), told: Mutex::default() }
    }

    /// Some that end with the process.
    pub fn in_memory() -> Self {
        Self { file: JsonFile::in_memory(), told: Mutex::default() }
    }

    /// The version of what was read.
    fn version(&self, contents: &Arc<Contents>) -> Version {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contents.as_ref().is_none_or(|known| !Arc::ptr_eq(known, contents)) {
            told.contents = Some(Arc::clone(contents));
            told.states += 1;
        }
        Version(told.states.to_string())
    }
}

#[async_trait]
impl SubscriptionStore for FileSubscriptions {
    async fn changed(&self, since: Option<&Version>) -> Result<Option<Snapshot>, StoreError> {
        let contents = self.file.read().await?;
        let version = self.version(&contents);
        Ok((since != Some(&version))
            .then(|| Snapshot { version, all: contents.subscriptions.clone() }))
    }

    async fn add(&self, subscription: Subscription, most: usize) -> Result<Added, StoreError> {
        let added = self.file.change(move |contents| {
            let all = &mut contents.subscriptions;
            let own = || all.iter().filter(|known| known.caller == subscription.caller);
            let is_same = |known: &&Subscription| known.key() == subscription.key();
            if let Some(known) = subscription.key().and_then(|_| own().find(is_same)) {
                return Err(Added::Known(Box::new(known.clone())));
            }
            if own().count() >= most {
                return Err(Added::Full);
            }
            all.push(subscription);
            all.sort_by(|one, other| one.id.cmp(&other.id));
            Ok(Added::Stored)
        });
        // What was refused is told, too.
        Ok(added.await?.unwrap_or_else(|why| why))
    }

    async fn remove(&self, caller: &str, id: &SubscriptionId) -> Result<bool, StoreError> {
        let (caller, id) = (caller.to_owned(), id.clone());
        let removed = self.file.change(move |contents| {
            let before = contents.subscriptions.len();
            contents.subscriptions.retain(|known| known.caller != caller || known.id != id);
            if contents.subscriptions.len() < before { Ok(()) } else { Err(Unchanged) }
        });
        Ok(removed.await?.is_ok())
    }
}

impl From<FileError> for StoreError {
    fn from(fault: FileError) -> Self {
        match fault {
            FileError::Unavailable(why) => Self::Unavailable(why),
            FileError::Broken(why) => Self::Broken(why),
        }
    }
}
