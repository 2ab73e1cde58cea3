//! Keys in a file, for a service without Redis.
//!
//! `keys.json` holds all of it: `{"keys": [record, …], "signing": "whsec_…"}`. It is readable by
//! its owner alone and only ever replaced as a whole, so that a reader sees the old or the new one.
//! Writers, which may be a running service and `spillway keys` beside it, take turns by a lock on
//! `keys.lock`.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{KeyRecord, KeyStore, KeyStoreError};

/// Read and written by the owner, by nobody else.
const PRIVATE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

/// Keeps keys in a folder.
pub struct FileKeyStore(Arc<Store>);

struct Store {
    folder: PathBuf,
    read: Mutex<Option<Snapshot>>,
}

/// The file as it was last read. It stays open: while it does, no other file gets its inode, and a
/// replaced file is told from it for certain.
struct Snapshot {
    _file: File,
    stamp: Stamp,
    contents: Arc<Contents>,
}

/// Tells one state of the file from another, also when it was edited by hand.
#[derive(PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    keys: Vec<KeyRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signing: Option<String>,
}

impl FileKeyStore {
    /// Keys in this folder. Nothing is touched before the first key is written.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Store { folder: folder.into(), read: Mutex::default() }))
    }

    /// Files block: they are used on a thread that may.
    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, KeyStoreError> + Send + 'static,
    ) -> Result<T, KeyStoreError> {
        let store = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&store))
            .await
            .map_err(|fault| KeyStoreError::Unavailable(fault.to_string()))?
    }
}

#[async_trait]
impl KeyStore for FileKeyStore {
    async fn list(&self) -> Result<Vec<KeyRecord>, KeyStoreError> {
        self.on_thread(|store| Ok(store.contents()?.keys.clone())).await
    }

    async fn add(&self, record: KeyRecord) -> Result<(), KeyStoreError> {
        self.on_thread(move |store| {
            store.change(|contents| {
                contents.keys.retain(|known| known.id != record.id);
                contents.keys.push(record);
                contents.keys.sort_by(KeyRecord::by_age);
            })
        })
        .await
    }

    async fn revoke(&self, id: &str) -> Result<bool, KeyStoreError> {
        let id = id.to_owned();
        self.on_thread(move |store| {
            if store.contents()?.keys.iter().all(|known| known.id != id) {
                return Ok(false);
            }
            store.change(|contents| {
                let before = contents.keys.len();
                contents.keys.retain(|known| known.id != id);
                contents.keys.len() < before
            })
        })
        .await
    }

    async fn signing_secret(&self, fresh: &str) -> Result<String, KeyStoreError> {
        let fresh = fresh.to_owned();
        self.on_thread(move |store| match store.contents()?.signing.clone() {
            Some(known) => Ok(known),
            None => store.change(|contents| contents.signing.get_or_insert(fresh).clone()),
        })
        .await
    }
}

impl Store {
    fn path(&self) -> PathBuf {
        self.folder.join("keys.json")
    }

    /// What is in the file now; no file is no keys.
    fn contents(&self) -> Result<Arc<Contents>, KeyStoreError> {
        let path = self.path();
        let mut last = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = match fs::metadata(&path) {
            Ok(found) => Stamp::of(&found),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
                *last = None;
                return Ok(Arc::default());
            }
            Err(fault) => return Err(unavailable(&path, &fault)),
        };
        if let Some(snapshot) = last.as_ref().filter(|snapshot| snapshot.stamp == stamp) {
            return Ok(Arc::clone(&snapshot.contents));
        }
        let snapshot = Snapshot::take(&path)?;
        let contents = Arc::clone(&snapshot.contents);
        *last = Some(snapshot);
        Ok(contents)
    }

    /// Changes the file while nobody else does.
    fn change<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> Result<T, KeyStoreError> {
        let lock = self.lock().map_err(|fault| unavailable(&self.folder, &fault))?;
        let mut contents = Contents::clone(&*self.contents()?);
        let outcome = change(&mut contents);
        self.replace(&contents).map_err(|fault| unavailable(&self.path(), &fault))?;
        drop(lock);
        Ok(outcome)
    }

    /// Waits for the turn to write, which lasts until the file is dropped.
    fn lock(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(&self.folder)?;
        let lock = private().open(self.folder.join("keys.lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    /// Puts a whole new file in the place of the old one, on the disk when this returns.
    fn replace(&self, contents: &Contents) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(contents)?;
        text.push(b'\n');
        let draft = self.folder.join("keys.json.new");
        let mut file = private().truncate(true).open(&draft)?;
        // A draft that a crash left behind keeps the mode it had.
        file.set_permissions(Permissions::from_mode(PRIVATE))?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&draft, self.path())?;
        File::open(&self.folder)?.sync_all()
    }
}

impl Snapshot {
    fn take(path: &Path) -> Result<Self, KeyStoreError> {
        let read = || {
            let mut file = File::open(path)?;
            let stamp = Stamp::of(&file.metadata()?);
            let mut text = Vec::new();
            file.read_to_end(&mut text)?;
            Ok((file, stamp, text))
        };
        let (file, stamp, text) = read().map_err(|fault: io::Error| unavailable(path, &fault))?;
        // Only the place is told: serde repeats what it found there, which may be a secret.
        let contents = serde_json::from_slice(&text).map_err(|fault| {
            let place = format!("line {}, column {}", fault.line(), fault.column());
            KeyStoreError::Broken(format!("{} cannot be understood at {place}", path.display()))
        })?;
        Ok(Self { _file: file, stamp, contents: Arc::new(contents) })
    }
}

impl Stamp {
    fn of(found: &fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            changed: (found.mtime(), found.mtime_nsec()),
        }
    }
}

/// How files are opened that nobody else may read.
fn private() -> OpenOptions {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(PRIVATE);
    options
}

fn unavailable(path: &Path, fault: &io::Error) -> KeyStoreError {
    KeyStoreError::Unavailable(format!("{}: {fault}", path.display()))
}
