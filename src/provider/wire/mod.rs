//! The HTTP call that all wire formats share: deadlines, caps, no redirects, no key told.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::fault::{Failure, Fault, Verdict};
use super::settings::{AccountSettings, Vendor};
use super::{ErrorClass, ProviderError, Timeouts, hint, told};
use crate::clock::SharedClock;
use crate::domain::completion::Completion;
use crate::domain::told::Told;
use crate::keyspace::PerRuntime;
use address::base;
use body::{broken, garbled, trimmed};
use frames::{Begun, Deadlines};

pub(super) use address::Auth;
pub(super) use frames::Frames;
pub(super) use framing::Frame;

mod address;
mod body;
mod frames;
mod framing;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// The most characters of a provider's message that are repeated.
const LONGEST_MESSAGE: usize = 500;

/// What came back.
pub(super) enum Reply {
    /// A JSON document with a good status.
    Answered(Answer),
    /// An error.
    Refused(Box<Failure>),
}

/// What came back where a stream was asked for.
pub(super) enum Opened {
    /// A stream, of which nothing is read yet.
    Stream(Box<Frames>),
    /// A JSON document with a good status: the server does not stream, or an error.
    Answered(Answer),
    /// An error.
    Refused(Box<Failure>),
}

/// A JSON document.
pub(super) struct Answer {
    /// What it says.
    pub value: Value,
    /// What its headers tell of limits.
    pub told: Vec<Told>,
    /// As it came.
    pub raw: Bytes,
}

/// A connection to one account.
pub(super) struct Wire {
    /// One for each runtime: what drives a connection then runs on its caller's own thread.
    clients: PerRuntime<Client>,
    headers: HeaderMap,
    base: String,
    key: Option<SecretString>,
    vendor: Vendor,
    clock: SharedClock,
}

impl Wire {
    /// Gets ready to ask; nothing is sent yet. `version` is the path of the API's version,
    /// appended unless the address ends in one.
    pub(super) fn new(
        account: AccountSettings,
        version: &str,
        (auth, further): (Auth, HeaderMap),
        clock: SharedClock,
    ) -> Result<Self, String> {
        // Fails when a provider is installed already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let base = base(&account, version)?;
        let mut headers = further;
        if let Some(key) = &account.api_key {
            let (name, value) = auth.header(key)?;
            headers.insert(name, value);
        }
        let AccountSettings { api_key: key, vendor, .. } = account;
        Ok(Self { clients: PerRuntime::default(), headers, base, key, vendor, clock })
    }

    fn client(&self) -> Result<Arc<Client>, ProviderError> {
        let made = self.clients.get(|| {
            #[expect(clippy::disallowed_methods, reason = "this is the wire the lint points to")]
            let builder = Client::builder();
            builder
                .default_headers(self.headers.clone())
                .user_agent(concat!("spillway/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT)
                .redirect(redirect::Policy::none())
                .referer(false)
                .build()
        });
        made.map_err(|fault| broken(&fault))
    }

    /// Posts JSON, with further headers, and reads the answer within `timeout`.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &Value,
        headers: &HeaderMap,
        timeout: Duration,
    ) -> Result<Reply, ProviderError> {
        self.call(self.posting(path, body, headers)?, timeout).await
    }

    /// Posts JSON, with further headers, for an answer that comes as a stream.
    pub(super) async fn stream(
        &self,
        path: &str,
        body: &Value,
        headers: &HeaderMap,
        timeouts: Timeouts,
    ) -> Result<Opened, ProviderError> {
        let request = self.posting(path, body, headers)?;
        let deadlines = Deadlines::from_now(timeouts);
        let opened = deadlines.keep(Box::pin(self.open(request, deadlines))).await.flatten();
        opened.map_err(|error| self.masked(error))
    }

    /// Gets JSON within `timeout`.
    pub(super) async fn get(&self, path: &str, timeout: Duration) -> Result<Reply, ProviderError> {
        self.call(self.client()?.get(format!("{}{path}", self.base)), timeout).await
    }

    /// The clock that waits are reckoned by.
    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// An error for the caller, without the key and of bearable length.
    pub(super) fn failed(&self, failure: Failure, verdict: Verdict) -> ProviderError {
        use ErrorClass::{CooldownKey, FailoverProvider, RetrySameKey};
        let verdict = verdict.heeding(failure.retry);
        let hint = failure
            .wait
            .filter(|_| matches!(verdict.class, CooldownKey | FailoverProvider | RetrySameKey));
        let message = match failure.fault.message.as_str() {
            "" => format!("the provider answered {}", failure.status),
            message => self.without_key(message),
        };
        ProviderError {
            status: Some(failure.status),
            retry_after: verdict.wait.or(hint),
            told: failure.told,
            ..ProviderError::new(verdict.class, verdict.code, message)
        }
    }

    fn posting(
        &self,
        path: &str,
        body: &Value,
        headers: &HeaderMap,
    ) -> Result<RequestBuilder, ProviderError> {
        let request = self.client()?.post(format!("{}{path}", self.base));
        Ok(request.headers(headers.clone()).json(body))
    }

    async fn call(
        &self,
        request: RequestBuilder,
        timeout: Duration,
    ) -> Result<Reply, ProviderError> {
        // The request's own timeout would begin anew with the body.
        let deadlines = Deadlines::from_now(Timeouts { first: timeout, total: timeout });
        let exchange = deadlines.keep(Box::pin(exchange(request))).await.flatten();
        let (status, headers, body) = exchange.map_err(|error| self.masked(error))?;
        self.sort(status, &headers, &body)
    }

    async fn open(
        &self,
        request: RequestBuilder,
        deadlines: Deadlines,
    ) -> Result<Opened, ProviderError> {
        let response = request.send().await.map_err(|fault| body::broken(&fault))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let document = if status.is_success() {
            let told = told::in_headers(self.vendor, &headers, self.clock.now());
            match Frames::begin(response, deadlines, told).await? {
                Begun::Stream(frames) => return Ok(Opened::Stream(frames)),
                Begun::Document(document) => document,
            }
        } else {
            body::read(response, BytesMut::new()).await?.freeze()
        };
        Ok(match self.sort(status, &headers, &document)? {
            Reply::Answered(answer) => Opened::Answered(answer),
            Reply::Refused(failure) => Opened::Refused(failure),
        })
    }

    fn sort(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        whole: &Bytes,
    ) -> Result<Reply, ProviderError> {
        let (body, now) = (trimmed(whole), self.clock.now());
        let told = told::in_headers(self.vendor, headers, now);
        if !status.is_success() {
            let (status, fault) = (status.as_u16(), Fault::read(body));
            let wait = hint::wait(headers, &fault, now);
            let retry = hint::retry(headers);
            let failure = Failure { status, fault, wait, told, retry };
            return Ok(Reply::Refused(Box::new(self.with_told(failure))));
        }
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => Ok(Reply::Answered(Answer { value, told, raw: whole.slice_ref(body) })),
            Err(fault) => {
                let garbled = garbled(status, &format!("the answer is not JSON: {fault}"));
                Err(ProviderError { told, ..garbled })
            }
        }
    }

    /// An error inside an answer with a good status, whose headers tell this.
    pub(super) fn inside(&self, error: &Value, told: Vec<Told>) -> Failure {
        let failure = Failure::inside(error);
        // Headers of a good answer are no hint when to come back.
        let wait = hint::wait(&HeaderMap::new(), &failure.fault, self.clock.now());
        self.with_told(Failure { wait, told, ..failure })
    }

    /// The same error without the key.
    fn masked(&self, error: ProviderError) -> ProviderError {
        ProviderError { message: self.without_key(&error.message), ..error }
    }

    /// Adds what the body tells of limits to what the headers told.
    fn with_told(&self, failure: Failure) -> Failure {
        let now = self.clock.now();
        let second = told::in_fault(self.vendor, failure.status, &failure.fault, now);
        Failure { told: told::joined(failure.told, second), ..failure }
    }

    /// The key is taken out before the text is cut, so that no half of it stays at the cut.
    fn without_key(&self, text: &str) -> String {
        let key = self.key.as_ref().map(|key| key.expose_secret().trim()).unwrap_or_default();
        let text = if key.is_empty() { text.to_owned() } else { text.replace(key, "[key]") };
        match text.char_indices().nth(LONGEST_MESSAGE) {
            Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
            None => text,
        }
    }
}

/// What was read, with what the headers told of limits; `otherwise` is said when it was nothing.
pub(super) fn heard(
    read: Option<Completion>,
    told: Vec<Told>,
    otherwise: &str,
) -> Result<Completion, ProviderError> {
    match read {
        Some(completion) => Ok(Completion { told, ..completion }),
        None => Err(ProviderError { told, ..garbled(StatusCode::OK, otherwise) }),
    }
}

async fn exchange(
    request: RequestBuilder,
) -> Result<(StatusCode, HeaderMap, Bytes), ProviderError> {
    let mut response = request.send().await.map_err(|fault| body::broken(&fault))?;
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let body = body::read(response, BytesMut::new()).await?;
    Ok((status, headers, body.freeze()))
}
