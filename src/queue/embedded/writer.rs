//! The one thread that writes. It takes every step that waits for it into one transaction, so
//! that all of them share one flush to the disk, and answers after that.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use redb::Durability;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::super::hints::Hints;
use super::fault::Fault;
use super::moment;
use super::store::Store;
use super::tables::{Change, Tables};
use crate::clock::SharedClock;
use crate::queue::QueueError;

/// Steps of one transaction.
const MOST_STEPS: usize = 512;

/// Steps that may wait for the writer; whoever comes later waits to be let in.
const ROOM: usize = 2_048;

/// How long a change that costs no more than a repetition may be in memory alone. It bounds what
/// a job that crashes the process can do: its lease is on disk by then, and counts as a loss.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// A step that waits for the writer.
trait Step: Send {
    /// Takes the step. It may be asked to again when the transaction failed.
    fn take(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault>;
    /// Tells the one who waits what came of it.
    fn answer(self: Box<Self>, outcome: Result<(), QueueError>);
}

struct Pending<T, F> {
    work: F,
    done: Option<T>,
    to: oneshot::Sender<Result<T, QueueError>>,
    _room: OwnedSemaphorePermit,
}

impl<T, F> Step for Pending<T, F>
where
    T: Send,
    F: FnMut(&mut Tables<'_>) -> Result<T, Fault> + Send,
{
    fn take(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        self.done = Some((self.work)(tables)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), QueueError>) {
        let Self { done, to, .. } = *self;
        let missing = || QueueError::Broken("the step was not taken".to_owned());
        // Whoever asked may have gone away.
        drop(to.send(outcome.and_then(|()| done.ok_or_else(missing))));
    }
}

/// The way to the thread. The thread ends when this is dropped.
pub(super) struct Writer {
    /// Where whoever asks works, when there is no thread.
    inline: Option<Mutex<Desk>>,
    steps: Option<Sender<Box<dyn Step>>>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        store: Arc<Store>,
        clock: SharedClock,
        hints: Arc<Hints>,
    ) -> Result<Self, QueueError> {
        let (steps, waiting) = mpsc::channel();
        let mut desk = Desk { store, clock, hints, waiting, unflushed: None };
        let inline = None;
        let thread = thread::Builder::new()
            .name("queue-writer".to_owned())
            .spawn(move || desk.serve())
            .map_err(|fault| QueueError::Broken(format!("no thread to write with: {fault}")))?;
        let room = Arc::new(Semaphore::new(ROOM));
        Ok(Self { inline, steps: Some(steps), room, thread: Some(thread) })
    }

    /// Takes each step where it is asked for, without a thread: nothing waits for anything, and
    /// the same steps have the same outcome in every run.
    pub(super) fn inline(store: Arc<Store>, clock: SharedClock, hints: Arc<Hints>) -> Self {
        let (_, waiting) = mpsc::channel();
        let desk = Desk { store, clock, hints, waiting, unflushed: None };
        let room = Arc::new(Semaphore::new(ROOM));
        Self { inline: Some(Mutex::new(desk)), steps: None, room, thread: None }
    }

    /// Whether there is no thread.
    pub(super) const fn is_inline(&self) -> bool {
        self.inline.is_some()
    }

    /// Has a step taken and waits until what it did is as safe as it says.
    pub(super) async fn ask<T, F>(&self, work: F) -> Result<T, QueueError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let gone = || QueueError::Broken("the store's writer has ended".to_owned());
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_closed| gone())?;
        let (to, answer) = oneshot::channel();
        let step = Box::new(Pending { work, done: None, to, _room: room });
        if let Some(desk) = &self.inline {
            desk.lock().unwrap_or_else(PoisonError::into_inner).commit(vec![step]);
            return answer.await.map_err(|_closed| gone())?;
        }
        let steps = self.steps.as_ref().ok_or_else(gone)?;
        steps.send(step).map_err(|_closed| gone())?;
        answer.await.map_err(|_closed| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.steps = None;
        if let Some(thread) = self.thread.take() {
            // It panicked: there is nobody left to tell.
            drop(thread.join());
        }
    }
}

/// Where the thread works.
struct Desk {
    store: Arc<Store>,
    clock: SharedClock,
    hints: Arc<Hints>,
    waiting: Receiver<Box<dyn Step>>,
    /// Since when there are changes in memory alone.
    unflushed: Option<Instant>,
}

impl Desk {
    fn serve(&mut self) {
        loop {
            let first = match self.unflushed {
                None => self.waiting.recv().map_err(|_ended| RecvTimeoutError::Disconnected),
                Some(since) => {
                    self.waiting.recv_timeout(FLUSH_AFTER.saturating_sub(since.elapsed()))
                }
            };
            match first {
                Ok(step) => {
                    let mut steps = vec![step];
                    steps.extend(self.waiting.try_iter().take(MOST_STEPS - 1));
                    self.commit(steps);
                }
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => {
                    if self.unflushed.is_some() {
                        self.flush();
                    }
                    return;
                }
            }
        }
    }

    /// Takes steps together and answers them. Should one of them be impossible, the others do
    /// not suffer for it.
    fn commit(&mut self, mut steps: Vec<Box<dyn Step>>) {
        match self.attempt(&mut steps) {
            Ok(()) => steps.into_iter().for_each(|step| step.answer(Ok(()))),
            Err(fault) if steps.len() > 1 && !fault.needs_reopening() => {
                for step in steps {
                    self.commit(vec![step]);
                }
            }
            Err(fault) => {
                tracing::error!(error = %fault, "the store did not take a step");
                for step in steps {
                    step.answer(Err(fault.told()));
                }
                if fault.needs_reopening() {
                    self.reopen();
                }
            }
        }
    }

    /// One transaction.
    fn attempt(&mut self, steps: &mut [Box<dyn Step>]) -> Result<(), Fault> {
        let now = moment(self.clock.now());
        let overdue = self.unflushed.is_some_and(|since| since.elapsed() >= FLUSH_AFTER);
        let attempt = || {
            self.store.with(|database| {
                let mut transaction = database.begin_write()?;
                let (change, came) = take_all(&transaction, now, steps)?;
                match change {
                    Change::None => {
                        transaction.abort()?;
                        return Ok((change, came));
                    }
                    Change::Light if !overdue => transaction.set_durability(Durability::None)?,
                    Change::Light | Change::Lasting => {}
                }
                transaction.commit()?;
                Ok((change, came))
            })
        };
        let panicked = |_| Fault::Odd("a step panicked".to_owned());
        let (change, came) = catch_unwind(AssertUnwindSafe(attempt)).map_err(panicked)??;
        match change {
            Change::None => {}
            Change::Light if !overdue => {
                self.unflushed.get_or_insert_with(Instant::now);
            }
            Change::Light | Change::Lasting => self.unflushed = None,
        }
        for line in &came {
            self.hints.tell(line);
        }
        Ok(())
    }

    /// Puts on disk what is in memory alone.
    fn flush(&mut self) {
        self.unflushed = None;
        let flushed = self.store.with(|database| Ok(database.begin_write()?.commit()?));
        if let Err(fault) = flushed {
            tracing::error!(error = %fault, "the store could not be flushed");
            if fault.needs_reopening() {
                self.reopen();
            }
        }
    }

    /// Opens the database again, so that it works once there is room or the disk is back. The
    /// next step tries again when it does not open now.
    fn reopen(&mut self) {
        self.unflushed = None;
        if let Err(fault) = self.store.reopen() {
            tracing::error!(error = %fault, "the store could not be opened again");
        }
    }
}

/// Takes all steps. What they changed, and the lines that something came into.
fn take_all(
    transaction: &redb::WriteTransaction,
    now: u64,
    steps: &mut [Box<dyn Step>],
) -> Result<(Change, BTreeSet<String>), Fault> {
    let mut tables = Tables::open(transaction, now)?;
    for step in steps {
        step.take(&mut tables)?;
    }
    Ok((tables.change, tables.came))
}
