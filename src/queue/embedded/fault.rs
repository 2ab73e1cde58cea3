//! What can go wrong below a step, and what it means to the caller.

use std::io::ErrorKind;

use crate::queue::QueueError;

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] redb::Error),
    /// The database could not be opened again after an earlier fault.
    #[error("the database is closed after a fault")]
    Closed,
    /// What is stored is not what we store.
    #[error("{0}")]
    Odd(String),
}

macro_rules! from_database {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Fault {
            fn from(error: redb::$error) -> Self {
                Self::Database(error.into())
            }
        })*
    };
}

from_database!(CommitError, DatabaseError, SetDurabilityError, StorageError);
from_database!(TableError, TransactionError);

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Odd(format!("a stored value cannot be read: {error}"))
    }
}

impl Fault {
    /// Whether the database refuses to go on until it is opened again.
    pub(super) fn needs_reopening(&self) -> bool {
        match self {
            Self::Database(error) => matches!(
                error,
                redb::Error::Io(_)
                    | redb::Error::PreviousIo
                    | redb::Error::DatabaseClosed
                    | redb::Error::Corrupted(_)
                    | redb::Error::LockPoisoned(_)
            ),
            Self::Closed => true,
            Self::Odd(_) => false,
        }
    }

    /// What the caller is told. Several callers of one commit are told the same.
    pub(super) fn told(&self) -> QueueError {
        match self {
            Self::Database(redb::Error::Io(error)) if is_full(error.kind()) => QueueError::Full,
            Self::Database(redb::Error::DatabaseAlreadyOpen) => QueueError::InUse,
            Self::Database(redb::Error::Io(_) | redb::Error::PreviousIo) | Self::Closed => {
                QueueError::Unavailable(self.to_string())
            }
            Self::Database(_) | Self::Odd(_) => QueueError::Broken(self.to_string()),
        }
    }
}

const fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}
