//! A small JSON file of our own, for a service without Redis.
//!
//! It is readable by its owner alone and only ever replaced as a whole, so that a reader sees the old
//! or the new one. Writers, which may be a running service and a command beside it, take turns by a
//! lock on a file beside it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Read and written by the owner, by nobody else.
const PRIVATE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

/// Why a file could not be read or written. Repeats nothing of what it holds.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FileError {
    /// The file system said so.
    #[error("{0}")]
    Unavailable(String),
    /// It is there and not what we wrote.
    #[error("{0}")]
    Broken(String),
}

/// A file `<name>.json` in a folder, which holds one `T`.
pub struct JsonFile<T>(Arc<Inner<T>>);

struct Inner<T> {
    /// `None` when nothing is written to a disk.
    place: Option<(PathBuf, &'static str)>,
    known: Mutex<Known<T>>,
}

/// What was read last.
#[derive(Default)]
struct Known<T> {
    snapshot: Option<Snapshot>,
    contents: Arc<T>,
}

/// The file as it was last read. It stays open: while it does, no other file gets its inode, and a
/// replaced file is told from it for certain.
struct Snapshot {
    _file: File,
    stamp: Stamp,
}

/// Tells one state of the file from another, also when it was edited by hand.
#[derive(PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl<T> JsonFile<T>
where
    T: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// The file of this name in this folder. Nothing is touched before the first change.
    pub fn new(folder: impl Into<PathBuf>, name: &'static str) -> Self {
        Self(Arc::new(Inner { place: Some((folder.into(), name)), known: Mutex::default() }))
    }

    /// One that ends with the process.
    pub fn in_memory() -> Self {
        Self(Arc::new(Inner { place: None, known: Mutex::default() }))
    }

    /// What it holds now; no file is the default. The very same (`Arc::ptr_eq`) until it changes.
    pub async fn read(&self) -> Result<Arc<T>, FileError> {
        self.on_thread(Inner::contents).await
    }

    /// Changes it while nobody else does; it is on the disk when this answers. Nothing is written
    /// when the change is refused.
    pub async fn change<R: Send + 'static, E: Send + 'static>(
        &self,
        change: impl FnOnce(&mut T) -> Result<R, E> + Send + 'static,
    ) -> Result<Result<R, E>, FileError> {
        self.on_thread(|inner| inner.change(change)).await
    }

    /// Files block: they are used on a thread that may.
    async fn on_thread<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner<T>) -> Result<R, FileError> + Send + 'static,
    ) -> Result<R, FileError> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|fault| FileError::Unavailable(fault.to_string()))?
    }
}

impl<T: Clone + Default + Serialize + DeserializeOwned> Inner<T> {
    fn contents(&self) -> Result<Arc<T>, FileError> {
        let mut known = self.known();
        let Some((folder, name)) = &self.place else {
            return Ok(Arc::clone(&known.contents));
        };
        let path = folder.join(format!("{name}.json"));
        let stamp = match fs::metadata(&path) {
            Ok(found) => Stamp::of(&found),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
                if known.snapshot.is_some() {
                    *known = Known::default();
                }
                return Ok(Arc::clone(&known.contents));
            }
            Err(fault) => return Err(unavailable(&path, &fault)),
        };
        if known.snapshot.as_ref().is_none_or(|snapshot| snapshot.stamp != stamp) {
            *known = read(&path)?;
        }
        Ok(Arc::clone(&known.contents))
    }

    fn change<R, E>(
        &self,
        change: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<Result<R, E>, FileError> {
        let Some((folder, name)) = &self.place else {
            let mut known = self.known();
            let mut contents = T::clone(&known.contents);
            let outcome = change(&mut contents);
            if outcome.is_ok() {
                known.contents = Arc::new(contents);
            }
            return Ok(outcome);
        };
        let lock = lock(folder, name).map_err(|fault| unavailable(folder, &fault))?;
        let mut contents = T::clone(&*self.contents()?);
        let outcome = change(&mut contents);
        if outcome.is_ok() {
            replace(folder, name, &contents)
                .map_err(|fault| unavailable(&folder.join(format!("{name}.json")), &fault))?;
        }
        drop(lock);
        Ok(outcome)
    }

    fn known(&self) -> MutexGuard<'_, Known<T>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the turn to write, which lasts until the file is dropped.
fn lock(folder: &Path, name: &str) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(folder)?;
    let lock = private().open(folder.join(format!("{name}.lock")))?;
    lock.lock()?;
    Ok(lock)
}

/// Puts a whole new file in the place of the old one, on the disk when this returns.
fn replace(folder: &Path, name: &str, contents: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(contents)?;
    text.push(b'\n');
    let draft = folder.join(format!("{name}.json.new"));
    let mut file = private().truncate(true).open(&draft)?;
    // A draft that a crash left behind keeps the mode it had.
    file.set_permissions(Permissions::from_mode(PRIVATE))?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(format!("{name}.json")))?;
    File::open(folder)?.sync_all()
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Known<T>, FileError> {
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
        FileError::Broken(format!("{} cannot be understood at {place}", path.display()))
    })?;
    Ok(Known { snapshot: Some(Snapshot { _file: file, stamp }), contents: Arc::new(contents) })
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

fn unavailable(path: &Path, fault: &io::Error) -> FileError {
    FileError::Unavailable(format!("{}: {fault}", path.display()))
}
