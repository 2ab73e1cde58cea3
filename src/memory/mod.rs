//! What replicas remember together and may lose: it makes calls cheaper or faster, and without it
//! every call is still right. All of it runs out by itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::keyspace::KeyspaceError;

pub mod local;
pub mod redis;
pub mod speeds;

/// Remembers where what was said lately is cached. A key is a digest (of a session's name, or of
/// the beginning of a prompt), a place names an account and a model.
#[async_trait]
pub trait Bindings: Send + Sync + 'static {
    /// To which places these keys are bound, and how many sessions are bound to these places; in
    /// the order asked for, in one round trip.
    async fn look(&self, keys: &[String], places: &[String]) -> Result<Known, MemoryError>;

    /// Binds keys to a place for a while. A key may be bound to several places; a binding that
    /// lasts longer stays so.
    async fn bind(&self, bond: &Bond) -> Result<(), MemoryError>;
}

/// Bindings many hold.
pub type SharedBindings = Arc<dyn Bindings>;

/// What is bound to a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bond {
    /// The keys.
    pub keys: Vec<String>,
    /// The key that counts as a session there.
    pub session: String,
    /// To which place.
    pub place: String,
    /// For how long.
    pub time: Duration,
}

/// A place that a key is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The place.
    pub place: String,
    /// For how long still.
    pub left: Duration,
}

/// What is known of some keys and places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// For each key, the places it is bound to; the one bound longest comes first.
    pub bound: Vec<Vec<Bound>>,
    /// For each place, how many sessions are bound to it.
    pub sessions: Vec<u64>,
}

/// Why something is not remembered.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The store cannot be reached, or is full.
    #[error("the shared memory is not available: {0}")]
    Unavailable(String),
    /// It answers, but not as it should.
    #[error("the shared memory is broken: {0}")]
    Broken(String),
}

impl From<KeyspaceError> for MemoryError {
    fn from(fault: KeyspaceError) -> Self {
        match fault {
            KeyspaceError::Unreachable(_) | KeyspaceError::OutOfMemory => {
                Self::Unavailable(fault.to_string())
            }
            KeyspaceError::Refused(_) => Self::Broken(fault.to_string()),
        }
    }
}
