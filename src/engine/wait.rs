//! Callers that wait for a job's end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Engine;
use crate::domain::id::JobId;
use crate::queue::{QueueError, Record};

/// How often to look for jobs that end on another replica: at first, and at the most.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Who waits for which job.
#[derive(Default)]
pub(super) struct Waiters(Mutex<HashMap<JobId, Arc<Notify>>>);

impl Waiters {
    /// Wakes those who wait for this job.
    pub(super) fn wake(&self, id: &JobId) {
        if let Some(waiting) = self.lock().get(id) {
            waiting.notify_waiters();
        }
    }

    fn join(&self, id: &JobId) -> Arc<Notify> {
        Arc::clone(self.lock().entry(id.clone()).or_default())
    }

    fn leave(&self, id: &JobId, own: Arc<Notify>) {
        let mut waiting = self.lock();
        drop(own);
        if waiting.get(id).is_some_and(|shared| Arc::strong_count(shared) == 1) {
            waiting.remove(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Notify>>> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

impl Engine {
    /// The job once it has ended, or as it stands when the time is over. Ends early when the
    /// service stops.
    pub async fn wait_for(&self, id: &JobId, time: Duration) -> Result<Option<Record>, QueueError> {
        let deadline = Instant::now() + time;
        let waiting = self.waiters.join(id);
        let answer = self.look_until(id, deadline, &waiting).await;
        self.waiters.leave(id, waiting);
        answer
    }

    async fn look_until(
        &self,
        id: &JobId,
        deadline: Instant,
        waiting: &Notify,
    ) -> Result<Option<Record>, QueueError> {
        let (mut pause, longest) = LOOK;
        loop {
            let woken = waiting.notified();
            let Some(record) = self.queue.find(id).await? else {
                return Ok(None);
            };
            if record.stage.has_ended() || Instant::now() >= deadline || self.is_draining() {
                return Ok(Some(record));
            }
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(deadline.min(Instant::now() + pause)) => {}
                () = self.lifecycle.draining() => {}
            }
            pause = (pause * 2).min(longest);
        }
    }
}
