//! The database file: opened once, and opened again after an I/O error.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::backends::InMemoryBackend;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};

use super::fault::Fault;
use super::tables::{FACTS, Tables};

/// How what is stored is laid out. A store laid out by a newer spillway is refused.
const SCHEMA: u64 = 1;

/// Pages kept in memory. Jobs are read about twice and soon, so that more would gain little.
const CACHE: usize = 64 << 20;

/// Read and written by the owner, by nobody else.
const PRIVATE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

/// The database file.
pub(super) struct Store {
    /// `None` when nothing is written to a disk.
    path: Option<PathBuf>,
    /// Absent between a fault and the moment it could be opened again. Every transaction lives
    /// under a read guard, so that whoever holds the write guard is alone with the file.
    database: RwLock<Option<Database>>,
}

impl Store {
    /// Opens the store in this folder, which is made when it is not there.
    pub(super) fn open(folder: &Path) -> Result<Self, Fault> {
        make_private(folder).map_err(redb::Error::Io)?;
        let path = folder.join("queue.redb");
        let database = open(&path)?;
        // A new file is not safe before its name is.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(redb::Error::Io)?;
        check_schema(&database)?;
        Ok(Self { path: Some(path), database: RwLock::new(Some(database)) })
    }

    /// A store that ends with the process.
    pub(super) fn in_memory() -> Result<Self, Fault> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        let database = builder.create_with_backend(InMemoryBackend::new())?;
        check_schema(&database)?;
        Ok(Self { path: None, database: RwLock::new(Some(database)) })
    }

    /// Takes every lease from a holder that ended with its process. How many there were.
    pub(super) fn free_all(&self, now: u64) -> Result<usize, Fault> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            let freed = Tables::open(&transaction, now)?.free_all()?;
            transaction.commit()?;
            Ok(freed)
        })
    }

    /// Works with the database.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        work(guard.as_ref().ok_or(Fault::Closed)?)
    }

    /// Reads what was committed last.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.with(|database| work(&database.begin_read()?))
    }

    /// Closes the database and opens it again: after an I/O error it answers nothing else, and
    /// what was committed without being on disk is gone.
    pub(super) fn reopen(&self) -> Result<(), Fault> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The old one holds the lock on the file until it is dropped.
        guard.take();
        *guard = Some(open(path)?);
        Ok(())
    }
}

fn open(path: &Path) -> Result<Database, Fault> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder.set_repair_callback(|session| {
        let percent = session.progress() * 100.0;
        tracing::info!(percent, "the store was not closed; checking it");
    });
    Ok(builder.create_file(private_file(path).map_err(redb::Error::Io)?)?)
}

/// The file for its owner alone, also when the folder was there before and others may enter it: it
/// holds prompts and the secrets in callback addresses.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(PRIVATE);
    let file = options.open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0
        && let Err(fault) = file.set_permissions(Permissions::from_mode(PRIVATE))
    {
        let path = path.display();
        tracing::warn!(%path, %fault, "others may read the store, and that could not be changed");
    }
    Ok(file)
}

fn make_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(folder)
}

/// Makes the tables of a new store, and refuses one that a newer spillway has laid out.
fn check_schema(database: &Database) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    {
        let mut facts = transaction.open_table(FACTS)?;
        let found = facts.get("schema")?.map(|value| value.value());
        if let Some(found) = found.filter(|found| *found != SCHEMA) {
            return Err(Fault::Odd(format!(
                "the store has layout {found}, this spillway knows layout {SCHEMA}; \
                 use the spillway that wrote it"
            )));
        }
        facts.insert("schema", SCHEMA)?;
    }
    drop(Tables::open(&transaction, 0)?);
    Ok(transaction.commit()?)
}
