//! One value for each tokio runtime.
//!
//! Every worker of the HTTP server is a runtime on a thread of its own. What one runtime's tasks
//! drive, such as a connection, is slow to use from another, since each call wakes a thread of the
//! other, and dead once that runtime is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Handle, Id};

/// One value for each runtime that asked for it, kept for as long as this is.
pub struct PerRuntime<T>(Mutex<HashMap<Id, Arc<T>>>);

impl<T> Default for PerRuntime<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> PerRuntime<T> {
    /// The current runtime's value, made when it is asked for first.
    pub fn get<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let id = Handle::current().id();
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = values.get(&id) {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(make()?);
        values.insert(id, Arc::clone(&value));
        Ok(value)
    }
}
