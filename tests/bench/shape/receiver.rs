//! The callbacks' receiver.

use std::collections::HashSet;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use actix_web::web::{Bytes, Data, PayloadConfig};
use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::{Result, ensure};
use serde::Deserialize;
use spillway::domain::result::{JobResult, Status};

/// A job that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// Its workflow.
    pub(crate) workflow: String,
    /// Whether it succeeded.
    pub(crate) ok: bool,
    /// When it was accepted, in µs.
    pub(crate) created_at: i64,
    /// When it ended.
    pub(crate) finished_at: i64,
    /// From its accept to its first call, in ms.
    pub(crate) queued_ms: f64,
}

#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    done: Vec<Done>,
}

/// Takes every callback and remembers each job once.
pub(crate) struct Receiver {
    seen: Arc<Mutex<Seen>>,
    url: String,
}

#[derive(Deserialize)]
struct Callback {
    data: JobResult,
}

impl Receiver {
    /// Starts one on a thread of its own that ends with the process.
    pub(crate) fn start() -> Result<Self> {
        let seen = Arc::new(Mutex::<Seen>::default());
        let state = Data::from(Arc::clone(&seen));
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/", listener.local_addr()?);
        // What goes wrong there shows as callbacks that do not come.
        std::thread::spawn(move || serve(listener, state));
        Ok(Self { seen, url })
    }

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How many jobs have ended.
    pub(crate) fn count(&self) -> usize {
        lock(&self.seen).done.len()
    }

    /// How many jobs of a workflow have ended.
    pub(crate) fn count_of(&self, workflow: &str) -> usize {
        lock(&self.seen).done.iter().filter(|done| done.workflow == workflow).count()
    }

    /// All jobs that have ended.
    pub(crate) fn done(&self) -> Vec<Done> {
        lock(&self.seen).done.clone()
    }

    /// Waits until something holds of it.
    pub(crate) async fn until(
        &self,
        what: &str,
        patience: Duration,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !holds(self) {
            let given_up = Instant::now() > deadline;
            ensure!(!given_up, "not within {patience:.0?}: {what} ({} jobs ended)", self.count());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn serve(listener: TcpListener, seen: Data<Mutex<Seen>>) -> io::Result<()> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(seen.clone())
            .app_data(PayloadConfig::new(64 << 20))
            .default_service(web::to(take))
    });
    let server = server.workers(1).backlog(4_096).disable_signals().listen(listener)?;
    actix_web::rt::System::new().block_on(server.run())
}

async fn take(seen: Data<Mutex<Seen>>, body: Bytes) -> HttpResponse {
    let Ok(Callback { data: result }) = serde_json::from_slice(&body) else {
        return HttpResponse::BadRequest().finish();
    };
    let mut seen = lock(&seen);
    if seen.ids.insert(result.id.clone()) {
        seen.done.push(Done::from(result));
    }
    HttpResponse::Ok().finish()
}

impl From<JobResult> for Done {
    fn from(result: JobResult) -> Self {
        let queued = result.timing.queued_ms.and_then(|ms| u32::try_from(ms).ok());
        Self {
            workflow: result.workflow.unwrap_or_default(),
            ok: result.status == Status::Succeeded,
            created_at: result.created_at.timestamp_micros(),
            finished_at: result.finished_at.map_or(0, |at| at.timestamp_micros()),
            queued_ms: queued.map_or(f64::INFINITY, f64::from),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}
