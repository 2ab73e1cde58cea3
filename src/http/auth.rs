//! From an API key to its caller.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::problem::{Kind, Problem};
use crate::keys::secret;
use crate::keys::{KeyRecord, SharedKeyStore};

/// How old the known keys may be: a revoked key is accepted no longer than this.
const FRESH: Duration = Duration::from_secs(2);

/// How often an unknown key may make us look for new ones.
const LOOK: Duration = Duration::from_millis(500);

/// Knows the callers' keys.
pub struct Authenticator {
    configured: Vec<KeyRecord>,
    store: SharedKeyStore,
    known: ArcSwap<(Instant, Vec<KeyRecord>)>,
    looking: Mutex<()>,
}

/// Who sends a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The caller's name.
    pub name: String,
    /// The part of its key that may be shown.
    pub key_id: String,
}

impl Authenticator {
    /// Keys of the settings and of the store.
    pub fn new(configured: Vec<KeyRecord>, store: SharedKeyStore) -> Self {
        let long_ago = Instant::now().checked_sub(FRESH * 2).unwrap_or_else(Instant::now);
        Self {
            configured,
            store,
            known: ArcSwap::from_pointee((long_ago, Vec::new())),
            looking: Mutex::new(()),
        }
    }

    /// The request's caller.
    pub async fn caller(&self, request: &HttpRequest) -> Result<Caller, Problem> {
        let Some(key) = presented(request) else {
            let detail = "Send your API key as `Authorization: Bearer <key>` or `X-Api-Key: <key>`. \
                          `spillway keys create NAME` makes one.";
            return Err(Problem::new(Kind::Unauthorized, detail));
        };
        if let Some(record) = secret::find(&self.configured, key) {
            return Ok(caller(record));
        }
        let known = self.known.load_full();
        if known.0.elapsed() < FRESH
            && let Some(record) = secret::find(&known.1, key)
        {
            return Ok(caller(record));
        }
        self.look(key).await
    }

    /// Reads the store's keys, one request at a time and not too often.
    async fn look(&self, key: &str) -> Result<Caller, Problem> {
        let _turn = self.looking.lock().await;
        let known = self.known.load_full();
        let known = if known.0.elapsed() < LOOK {
            known
        } else {
            match self.store.list().await {
                Ok(records) => {
                    let fresh = Arc::new((Instant::now(), records));
                    self.known.store(Arc::clone(&fresh));
                    fresh
                }
                Err(fault) => {
                    tracing::warn!(%fault, "the API keys could not be read");
                    let detail = "API keys cannot be checked right now. Try again in a moment.";
                    let problem = Problem::new(Kind::StoreUnavailable, detail);
                    return Err(problem.retry_after(Duration::from_secs(2)));
                }
            }
        };
        secret::find(&known.1, key).map(caller).ok_or_else(|| {
            let detail = "This API key is not known here: it may be mistyped or revoked.";
            Problem::new(Kind::Unauthorized, detail)
        })
    }
}

fn caller(record: &KeyRecord) -> Caller {
    Caller { name: record.caller.clone(), key_id: record.id.clone() }
}

fn presented(request: &HttpRequest) -> Option<&str> {
    let headers = request.headers();
    let bearer =
        headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key)
        });
    let plain = || headers.get("x-api-key").and_then(|value| value.to_str().ok());
    bearer.or_else(plain).map(str::trim).filter(|key| !key.is_empty())
}
