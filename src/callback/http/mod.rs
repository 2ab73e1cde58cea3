//! Posts a result to its callback over HTTP: guarded, signed, with one deadline over everything.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::redirect;
use tokio::time::{Instant as Deadline, timeout_at};

use super::guard::{Guard, Refusal};
use super::settings::Settings;
use super::sign::{self, Secret};
use crate::clock::SharedClock;
use crate::domain::job::Callback;
use crate::domain::result::DeliveryAttempt;

mod answer;
mod headers;

use answer::Answer;
pub use answer::Verdict;
pub use headers::check_headers;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// How much of an answer is read.
const READ: usize = 64 * 1_024;

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// What to do with the delivery.
    pub verdict: Verdict,
    /// What to write down.
    pub log: DeliveryAttempt,
    /// When the receiver wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// Posts callbacks.
#[derive(Clone)]
pub struct Poster {
    client: reqwest::Client,
    guard: Guard,
    signing: Arc<[Secret]>,
    clock: SharedClock,
    timeout: Duration,
}

impl Poster {
    /// A poster that signs with all of `signing`, the newest first.
    pub fn new(
        settings: &Settings,
        signing: Vec<Secret>,
        clock: SharedClock,
    ) -> Result<Self, String> {
        if signing.is_empty() {
            return Err("callbacks need a secret to be signed with".to_owned());
        }
        let guard = Guard::new(settings.allow_networks.clone(), settings.allow_http);
        let client = client(guard.clone(), settings)
            .map_err(|fault| format!("callbacks cannot be posted: {}", root_cause(&fault)))?;
        Ok(Self { client, guard, signing: signing.into(), clock, timeout: settings.timeout.0 })
    }

    /// The same poster, signing with other secrets.
    #[must_use]
    pub fn signing_with(&self, secrets: Arc<[Secret]>) -> Self {
        Self { signing: secrets, ..self.clone() }
    }

    /// What decides where callbacks may go; a submit asks it too.
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Posts `body`. `id` names the delivery and is the same at every attempt; `attempt` counts
    /// from one. Ends within the settings' timeout, whatever the receiver does.
    pub async fn post(&self, callback: &Callback, id: &str, attempt: u32, body: Bytes) -> Reply {
        let at = self.clock.now();
        let (begun, deadline) = (Instant::now(), Deadline::now() + self.timeout);
        let timestamp = at.timestamp();
        let signature = sign::sign(&self.signing, id, timestamp, &body);
        let own = headers::Own { id, timestamp, signature: &signature, attempt };
        let outcome = match self.request(callback, &own, body) {
            Ok(request) => self.exchange(request, deadline).await,
            Err(fault) => Err(fault),
        };
        let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let log =
            DeliveryAttempt { at, status: None, ms, error: None, response: None, event: None };
        match outcome {
            Err(fault) => {
                let log = DeliveryAttempt { error: Some(fault), ..log };
                Reply { verdict: Verdict::Again, log, retry_after: None }
            }
            Ok(answer) => {
                let (verdict, error) = answer.judge(callback);
                let status = Some(answer.status.as_u16());
                let response = answer.excerpt(callback);
                let again = verdict == Verdict::Again;
                let retry_after = if again { answer.retry_after(self.clock.now()) } else { None };
                let log = DeliveryAttempt { status, error, response, ..log };
                Reply { verdict, log, retry_after }
            }
        }
    }

    fn request(
        &self,
        callback: &Callback,
        own: &headers::Own<'_>,
        body: Bytes,
    ) -> Result<reqwest::Request, String> {
        // The resolver is never asked about an address that stands in the URL itself.
        let url = self.guard.admit(&callback.url).map_err(|refusal| in_words(&refusal))?;
        let headers = headers::compose(&callback.headers, own)
            .ok_or_else(|| "the delivery's id cannot stand in a header".to_owned())?;
        self.client
            .post(url)
            .headers(headers)
            .body(body)
            .build()
            .map_err(|_fault| "the callback URL cannot be requested".to_owned())
    }

    async fn exchange(
        &self,
        request: reqwest::Request,
        deadline: Deadline,
    ) -> Result<Answer, String> {
        let late = || format!("no answer within {:?}", self.timeout);
        let mut response = match timeout_at(deadline, self.client.execute(request)).await {
            Err(_) => return Err(late()),
            Ok(Err(fault)) => return Err(self.fault_in_words(&fault)),
            Ok(Ok(response)) => response,
        };
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = Vec::new();
        let broken_off = loop {
            let room = READ.saturating_sub(body.len());
            if room == 0 {
                break None;
            }
            match timeout_at(deadline, response.chunk()).await {
                Ok(Ok(Some(chunk))) => body.extend(chunk.iter().take(room)),
                Ok(Ok(None)) => break None,
                Ok(Err(_)) => break Some("the answer broke off"),
                Err(_) => break Some("the answer did not end in time"),
            }
        };
        Ok(Answer { status, headers, body, broken_off })
    }

    /// Why there was no answer, without anything of the URL.
    fn fault_in_words(&self, fault: &reqwest::Error) -> String {
        let mut cause = fault.source();
        while let Some(inner) = cause {
            if let Some(refusal) = inner.downcast_ref::<Refusal>() {
                return in_words(refusal);
            }
            cause = inner.source();
        }
        if fault.is_dns() {
            return "the host's name does not resolve".to_owned();
        }
        match (fault.is_connect(), fault.is_timeout()) {
            (true, true) => format!("no connection within {:?}", CONNECT.min(self.timeout)),
            (true, false) => format!("no connection: {}", root_cause(fault)),
            _ => format!("no usable answer: {}", root_cause(fault)),
        }
    }
}

/// The body of a callback: the Standard Webhooks envelope of this kind around `data`, a JSON
/// document that is passed on as it is.
pub fn envelope(kind: &str, at: DateTime<Utc>, data: &[u8]) -> Bytes {
    let kind = serde_json::Value::from(kind);
    let at = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let mut body = format!(r#"{{"type":{kind},"timestamp":"{at}","data":"#).into_bytes();
    body.extend_from_slice(data);
    body.push(b'}');
    body.into()
}

#[expect(clippy::disallowed_methods, reason = "this client resolves through the guard")]
fn client(guard: Guard, settings: &Settings) -> reqwest::Result<reqwest::Client> {
    // Whoever comes first installs it; they all install the same.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let idle = usize::try_from(settings.per_host_concurrency).unwrap_or(usize::MAX);
    reqwest::Client::builder()
        .dns_resolver(guard)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(idle)
        .build()
}

/// A refusal as the attempt's log tells it: its caller may read the log, and must not learn from it
/// what our network looks like.
fn in_words(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Invalid(_) | Refusal::PlainHttp => refusal.to_string(),
        Refusal::Port(_)
        | Refusal::Address { .. }
        | Refusal::Internal(_)
        | Refusal::Resolved(_) => refusal.code().to_owned(),
    }
}

/// The innermost reason: the outer ones only name the layers it passed through.
fn root_cause(fault: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = fault;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    if innermost.is::<reqwest::Error>() {
        // Only this one repeats the URL.
        return "the request failed".to_owned();
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_leaves_its_data_alone() {
        let at = DateTime::from_timestamp_millis(1_760_000_000_123).unwrap();
        let body = envelope("job.succeeded", at, b"{\"cost\": 1.10,\"a\":\"\\u00e9\"}");
        let expected = r#"{"type":"job.succeeded","timestamp":"2025-10-09T08:53:20.123Z","data":{"cost": 1.10,"a":"\u00e9"}}"#;
        assert_eq!(body, expected.as_bytes());
    }
}
