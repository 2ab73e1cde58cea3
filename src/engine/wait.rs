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

/// The most callers that wait at the same time.
pub(super) const MOST: usize = 1_000;

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

    fn join(&self, id: &JobId) -> Waiting<'_> {
        let notify = Arc::clone(self.lock().entry(id.clone()).or_default());
        Waiting { waiters: self, id: id.clone(), notify }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Notify>>> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

/// One that waits. It leaves however the waiting ends, also when its caller hangs up.
struct Waiting<'a> {
    waiters: &'a Waiters,
    id: JobId,
    notify: Arc<Notify>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        // The table's and this one.
        if waiting.get(&self.id).is_some_and(|shared| Arc::strong_count(shared) == 2) {
            waiting.remove(&self.id);
        }
    }
}

impl Engine {
    /// The job once it has ended, or as it stands when the time is over. Ends early when the
    /// service stops, and at once when too many wait already.
    pub async fn wait_for(&self, id: &JobId, time: Duration) -> Result<Option<Record>, QueueError> {
        let deadline = Instant::now() + time;
        // A wait costs the store a look now and then; past a number of them nobody waits.
        let Ok(_place) = self.waiting.try_acquire() else {
            return self.queue.find(id).await;
        };
        let waiting = self.waiters.join(id);
        self.look_until(id, deadline, &waiting.notify).await
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
