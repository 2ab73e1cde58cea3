//! Stopping: first softly (take nothing new, finish what is held), then hard. Every task of the
//! service is started here, so that stopping can wait for it.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts tasks and stops them.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// Starts a task that stopping waits for and, past its patience, drops.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let hard = self.hard.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = hard.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Whether to take nothing new.
    pub fn is_draining(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Completes once nothing new is to be taken.
    pub async fn draining(&self) {
        self.soft.cancelled().await;
    }

    /// Asks everything to take nothing new.
    pub fn drain(&self) {
        self.soft.cancel();
    }

    /// Drains and waits up to `patience` for what is held. Whether all tasks ended.
    pub async fn finish(&self, patience: Duration) -> bool {
        self.soft.cancel();
        self.tasks.close();
        tokio::time::timeout(patience, self.tasks.wait()).await.is_ok()
    }

    /// Drops all tasks that have not ended.
    pub async fn drop_all(&self) {
        self.soft.cancel();
        self.hard.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Drains, waits up to `patience` for what is held, then drops the rest. Whether all ended
    /// by themselves.
    pub async fn stop(&self, patience: Duration) -> bool {
        let finished = self.finish(patience).await;
        self.drop_all().await;
        finished
    }

    /// Sleeps, unless draining begins first. Whether the time passed in full.
    pub async fn sleep(&self, time: Duration) -> bool {
        tokio::select! {
            () = self.soft.cancelled() => false,
            () = tokio::time::sleep(time) => true,
        }
    }
}
