//! What was used up, on disk: one file (redb) in the folder of the embedded store. One thread
//! writes; what waits for it shares one flush to the disk.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

use super::BudgetError;

/// By caller and period (`caller`, a space, `20261121` or `202611`): billionths of a dollar spent,
/// and calls.
const USED: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("used");

/// Pages kept in memory: what was used up is small, and kept in memory anyway.
const CACHE: usize = 1 << 20;

/// Read and written by the owner, by nobody else.
const PRIVATE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

/// What was used up in a period; `None` forgets it.
pub(super) type Row = (String, Option<(u64, u64)>);

/// All that is kept.
pub(super) type Rows = Vec<(String, (u64, u64))>;

/// A change, and who waits for it to be on disk.
type Change = (Vec<Row>, oneshot::Sender<Result<(), Arc<str>>>);

/// The file's writer.
pub(super) struct Writer(Sender<Change>);

/// Waits for a change to be on disk.
pub(super) type Written = oneshot::Receiver<Result<(), Arc<str>>>;

/// Opens the file in this folder, and tells what is in it.
pub(super) fn open(folder: &Path) -> Result<(Writer, Rows), BudgetError> {
    let path = folder.join("budget.redb");
    let broken = |fault: redb::Error| BudgetError::Broken(format!("{}: {fault}", path.display()));
    let database = open_database(folder, &path).map_err(broken)?;
    let rows = read(&database).map_err(broken)?;
    let (sender, changes) = mpsc::channel();
    let write = move || write_all(&database, &changes);
    thread::Builder::new()
        .name("budget".to_owned())
        .spawn(write)
        .map_err(|fault| BudgetError::Unavailable(fault.to_string()))?;
    Ok((Writer(sender), rows))
}

impl Writer {
    /// Writes rows over what was there.
    pub(super) fn write(&self, rows: Vec<Row>) -> Written {
        let (done, written) = oneshot::channel();
        // Without a writer nobody answers, which is told to the one who waits.
        drop(self.0.send((rows, done)));
        written
    }
}

fn open_database(folder: &Path, path: &Path) -> Result<Database, redb::Error> {
    fs::DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(folder)?;
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
    file.set_permissions(Permissions::from_mode(PRIVATE))?;
    let database = Database::builder().set_cache_size(CACHE).create_file(file)?;
    File::open(folder)?.sync_all()?;
    let transaction = database.begin_write()?;
    drop(transaction.open_table(USED)?);
    transaction.commit()?;
    Ok(database)
}

fn read(database: &Database) -> Result<Rows, redb::Error> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(USED)?;
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (name, used) = row?;
        rows.push((name.value().to_owned(), used.value()));
    }
    Ok(rows)
}

/// Ends once nobody can send any more.
fn write_all(database: &Database, changes: &Receiver<Change>) {
    while let Ok(first) = changes.recv() {
        let (mut rows, mut waiting) = (BTreeMap::new(), Vec::new());
        for (more, done) in std::iter::once(first).chain(changes.try_iter()) {
            rows.extend(more);
            waiting.push(done);
        }
        let outcome = write(database, &rows).map_err(|fault| Arc::from(fault.to_string()));
        for done in waiting {
            // Whoever waited may have gone away.
            drop(done.send(outcome.clone()));
        }
    }
}

fn write(
    database: &Database,
    rows: &BTreeMap<String, Option<(u64, u64)>>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(USED)?;
        for (name, used) in rows {
            match used {
                Some(used) => drop(table.insert(name.as_str(), used)?),
                None => drop(table.remove(name.as_str())?),
            }
        }
    }
    Ok(transaction.commit()?)
}
