//! Who waits for something to become ready, by line.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::job::Line;

/// For each line a number that changes whenever something may have become ready in it.
#[derive(Default)]
pub(super) struct Hints(Mutex<HashMap<String, watch::Sender<u64>>>);

impl Hints {
    /// The number of a line.
    pub(super) fn of(&self, line: &Line) -> watch::Receiver<u64> {
        self.lock().entry(line.name()).or_default().subscribe()
    }

    /// Something may have become ready in the line of this name.
    pub(super) fn tell(&self, line: &str) {
        if let Some(number) = self.lock().get(line) {
            bump(number);
        }
    }

    /// Something may have become ready anywhere.
    pub(super) fn tell_all(&self) {
        self.lock().values().for_each(bump);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bump(number: &watch::Sender<u64>) {
    number.send_modify(|number| *number = number.wrapping_add(1));
}
