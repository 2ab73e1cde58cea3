//! From an API key to its caller.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::AUTHORIZATION;
use actix_web::{HttpMessage, HttpRequest};
use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::address;
use super::problem::{Kind, Problem};
use crate::engine::allowances::ANONYMOUS;
use crate::keys::secret;
use crate::keys::{KeyRecord, KeyStoreError, SharedKeyStore};

/// How old the known keys may be while the store answers: a revoked key is accepted no longer.
const FRESH: Duration = Duration::from_secs(2);

/// How old they may be while the store is away. Nobody can revoke a key there meanwhile, unless
/// the store is away for this replica alone; then a revoked key is accepted no longer than this.
const KEPT: Duration = Duration::from_secs(60);

/// How often an unknown key, or a store that failed, is looked at anew.
const LOOK: Duration = Duration::from_millis(500);

/// How long a request waits for another one's look.
const PATIENCE: Duration = Duration::from_secs(3);

/// Knows the callers' keys.
///
/// A key is accepted when the store had it within the last two seconds. While the store cannot be
/// reached, those it had within the last minute go on being accepted, so that its outage alone
/// refuses no known caller.
pub struct Authenticator {
    configured: Vec<KeyRecord>,
    store: SharedKeyStore,
    known: ArcSwap<Known>,
    looking: Mutex<()>,
    /// Who may tell for whom a request is, when callers are let in without a key.
    anonymous: Option<Vec<IpNet>>,
}

/// What the store told.
#[derive(Clone, Default)]
struct Known {
    at: Option<Instant>,
    keys: Arc<Vec<KeyRecord>>,
    /// Since then it told nothing.
    failed: Option<Failure>,
}

/// The last look's failure.
#[derive(Clone, Copy)]
struct Failure {
    at: Instant,
    /// The store could not be reached; otherwise it told what cannot be understood.
    away: bool,
}

/// Marks a request whose key is known.
pub(super) struct Authenticated;

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
        Self {
            configured,
            store,
            known: ArcSwap::default(),
            looking: Mutex::new(()),
            anonymous: None,
        }
    }

    /// The same, letting in callers without a key; their addresses are told by these proxies.
    #[must_use]
    pub fn letting_in(mut self, proxies: Option<Vec<IpNet>>) -> Self {
        self.anonymous = proxies;
        self
    }

    /// The request's caller.
    pub async fn caller(&self, request: &HttpRequest) -> Result<Caller, Problem> {
        let Some(key) = presented(request) else {
            // Who shows something means to be known.
            if let Some(proxies) = &self.anonymous
                && !request.headers().contains_key(AUTHORIZATION)
                && let Some(address) = address::of(request, proxies)
            {
                let name = format!("{ANONYMOUS}{address}");
                return Ok(Caller { name, key_id: "none".to_owned() });
            }
            let detail = "Send your API key as `Authorization: Bearer <key>` or `X-Api-Key: <key>`. \
                          `spillway keys create NAME` makes one.";
            return Err(Problem::new(Kind::Unauthorized, detail));
        };
        let caller = match secret::find(&self.configured, key) {
            Some(record) => caller(record),
            None => self.stored(key).await?,
        };
        request.extensions_mut().insert(Authenticated);
        Ok(caller)
    }

    async fn stored(&self, key: &str) -> Result<Caller, Problem> {
        let known = self.known.load_full();
        if within(known.at, FRESH)
            && let Some(record) = secret::find(known.keys.iter(), key)
        {
            return Ok(caller(record));
        }
        match self.looking.try_lock() {
            Ok(_turn) => self.look().await,
            // Somebody looks already; what has just failed is not waited for.
            Err(_) if known.failed.is_some_and(|it| within(Some(it.at), PATIENCE * 2)) => {}
            Err(_) => {
                let turn = tokio::time::timeout(PATIENCE, self.looking.lock()).await;
                let _turn = turn.map_err(|_late| unchecked())?;
                self.look().await;
            }
        }
        self.known.load().caller(key)
    }

    /// Reads the store's keys, unless that was just tried. One request at a time does.
    async fn look(&self) {
        let known = self.known.load_full();
        let tried = known.failed.map_or(known.at, |failure| Some(failure.at));
        if within(tried, LOOK) {
            return;
        }
        let now = match self.store.list().await {
            Ok(keys) => Known { at: Some(Instant::now()), keys: Arc::new(keys), failed: None },
            Err(fault) => {
                tracing::warn!(%fault, "the API keys could not be read");
                let away = matches!(fault, KeyStoreError::Unavailable(_));
                let failed = Some(Failure { at: Instant::now(), away });
                Known { failed, ..Known::clone(&known) }
            }
        };
        self.known.store(Arc::new(now));
    }
}

impl Known {
    /// The key's caller, by what the store told last.
    fn caller(&self, key: &str) -> Result<Caller, Problem> {
        let found = secret::find(self.keys.iter(), key);
        match (self.failed, found) {
            (None, Some(record)) => Ok(caller(record)),
            (None, None) => {
                let detail = "This API key is not known here: it may be mistyped or revoked.";
                Err(Problem::new(Kind::Unauthorized, detail))
            }
            (Some(failure), Some(record)) if failure.away && within(self.at, KEPT) => {
                Ok(caller(record))
            }
            (Some(_), _) => Err(unchecked()),
        }
    }
}

fn within(since: Option<Instant>, time: Duration) -> bool {
    since.is_some_and(|since| since.elapsed() < time)
}

fn unchecked() -> Problem {
    let detail = "API keys cannot be checked right now. Try again in a moment.";
    Problem::new(Kind::StoreUnavailable, detail).retry_after(Duration::from_secs(2))
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
