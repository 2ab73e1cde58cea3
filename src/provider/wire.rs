//! The HTTP call that all wire formats share: one deadline, one cap, no redirects, no key told.

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::fault::{Failure, Fault, Verdict};
use super::settings::{AccountSettings, Vendor};
use super::{ErrorClass, ProviderError, codes, hint, told};
use crate::clock::SharedClock;
use crate::domain::completion::Completion;
use crate::domain::told::Told;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// The longest answer read, in bytes.
const CAP: usize = 8 << 20;

/// The most characters of a provider's message that are repeated.
const LONGEST_MESSAGE: usize = 500;

/// How a key is shown to a provider.
pub(super) enum Auth {
    /// `Authorization: Bearer …`.
    Bearer,
    /// A header of the provider's own.
    Header(HeaderName),
}

/// What came back.
pub(super) enum Reply {
    /// A JSON document with a good status, and what its headers tell of limits.
    Answered(Value, Vec<Told>),
    /// An error.
    Refused(Box<Failure>),
}

/// A connection to one account.
pub(super) struct Wire {
    client: Client,
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
        #[expect(clippy::disallowed_methods, reason = "this is the wire the lint points to")]
        let builder = Client::builder();
        let client = builder
            .default_headers(headers)
            .user_agent(concat!("spillway/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .redirect(redirect::Policy::none())
            .referer(false)
            .build()
            .map_err(|fault| format!("no HTTP client: {}", causes(&fault)))?;
        Ok(Self { client, base, key: account.api_key, vendor: account.vendor, clock })
    }

    /// Posts JSON and reads the answer within `timeout`.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<Reply, ProviderError> {
        self.call(self.client.post(format!("{}{path}", self.base)).json(body), timeout).await
    }

    /// Gets JSON within `timeout`.
    pub(super) async fn get(&self, path: &str, timeout: Duration) -> Result<Reply, ProviderError> {
        self.call(self.client.get(format!("{}{path}", self.base)), timeout).await
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

    async fn call(
        &self,
        request: RequestBuilder,
        timeout: Duration,
    ) -> Result<Reply, ProviderError> {
        // The request's own timeout would begin anew with the body.
        let exchange = Box::pin(exchange(request));
        match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok((status, headers, body))) => self.sort(status, &headers, &body),
            Ok(Err(error)) => {
                Err(ProviderError { message: self.without_key(&error.message), ..error })
            }
            Err(_elapsed) => {
                let message = format!("no answer within {timeout:?}");
                Err(ProviderError::new(ErrorClass::FailoverProvider, codes::TIMED_OUT, message))
            }
        }
    }

    fn sort(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Reply, ProviderError> {
        let (body, now) = (trimmed(body), self.clock.now());
        let told = told::in_headers(self.vendor, headers, now);
        if !status.is_success() {
            let (status, fault) = (status.as_u16(), Fault::read(body));
            let wait = hint::wait(headers, &fault, now);
            let retry = hint::retry(headers);
            let failure = Failure { status, fault, wait, told, retry };
            return Ok(Reply::Refused(Box::new(self.with_told(failure))));
        }
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => Ok(Reply::Answered(value, told)),
            Err(fault) => {
                let garbled = garbled(status, &format!("the answer is not JSON: {fault}"));
                Err(ProviderError { told, ..garbled })
            }
        }
    }

    /// An error inside an answer with a good status, whose headers tell this.
    pub(super) fn inside(&self, error: &Value, told: Vec<Told>) -> Failure {
        self.with_told(Failure { told, ..Failure::inside(error) })
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

impl Auth {
    fn header(self, key: &SecretString) -> Result<(HeaderName, HeaderValue), String> {
        let key = key.expose_secret().trim();
        let (name, value) = match self {
            Self::Bearer => (AUTHORIZATION, HeaderValue::try_from(format!("Bearer {key}"))),
            Self::Header(name) => (name, HeaderValue::try_from(key)),
        };
        // The fault itself would repeat the key.
        let mut value = value.map_err(|_bad| {
            "the API key has characters that an HTTP header cannot carry".to_owned()
        })?;
        value.set_sensitive(true);
        Ok((name, value))
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

/// The answer is there but says nothing we can read.
fn garbled(status: StatusCode, message: &str) -> ProviderError {
    ProviderError {
        status: Some(status.as_u16()),
        ..ProviderError::new(ErrorClass::FailoverProvider, codes::GARBLED, message)
    }
}

/// The address up to and with the version. People copy addresses with and without it.
fn base(account: &AccountSettings, version: &str) -> Result<String, String> {
    let given = account.base_url.as_deref().or(account.vendor.default_base_url());
    let given = given.ok_or_else(|| format!("`{}` needs a base_url", account.vendor.as_str()))?;
    let url = Url::parse(given).map_err(|fault| format!("base_url `{given}`: {fault}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("base_url `{given}` is not an http or https address"));
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err("base_url takes no user, no query and no fragment".to_owned());
    }
    let base = given.trim_end_matches('/');
    let last = base.rsplit('/').next().unwrap_or_default();
    let mut letters = last.chars();
    let versioned =
        letters.next() == Some('v') && letters.next().is_some_and(|c| c.is_ascii_digit());
    Ok(if versioned { base.to_owned() } else { format!("{base}/{version}") })
}

async fn exchange(
    request: RequestBuilder,
) -> Result<(StatusCode, HeaderMap, Vec<u8>), ProviderError> {
    let mut response = request.send().await.map_err(|fault| broken(&fault))?;
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let body = read(response).await?;
    Ok((status, headers, body))
}

async fn read(mut response: Response) -> Result<Vec<u8>, ProviderError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|fault| broken(&fault))? {
        if body.len() + chunk.len() > CAP {
            let message = format!("the answer is longer than {CAP} bytes");
            return Err(ProviderError {
                status: Some(response.status().as_u16()),
                ..ProviderError::new(ErrorClass::FailoverProvider, codes::TOO_LARGE, message)
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn broken(fault: &reqwest::Error) -> ProviderError {
    let code = if fault.is_timeout() && !fault.is_connect() {
        codes::TIMED_OUT
    } else {
        codes::UNREACHABLE
    };
    ProviderError::new(ErrorClass::FailoverProvider, code, causes(fault))
}

/// What went wrong, down to its cause.
fn causes(fault: &reqwest::Error) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(under) = cause {
        // Writing to a `String` cannot fail.
        let _written = write!(text, ": {under}");
        cause = under.source();
    }
    text
}

/// A body may begin with a byte order mark, and OpenRouter's with the blank lines it sends to
/// keep the connection open.
fn trimmed(body: &[u8]) -> &[u8] {
    let body = body.trim_ascii_start();
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(vendor: Vendor, base_url: Option<&str>) -> Result<String, String> {
        let account =
            AccountSettings { vendor, base_url: base_url.map(str::to_owned), api_key: None };
        base(&account, "v1")
    }

    #[test]
    fn an_address_may_end_in_the_version() {
        for (given, read) in [
            ("http://h", "http://h/v1"),
            ("http://h/", "http://h/v1"),
            ("http://h/v1/", "http://h/v1"),
            ("https://h/api/paas/v4", "https://h/api/paas/v4"),
            ("https://h/vault", "https://h/vault/v1"),
        ] {
            assert_eq!(at(Vendor::OpenAiCompatible, Some(given)).as_deref(), Ok(read));
        }
        let own = at(Vendor::Groq, None);
        assert_eq!(own.as_deref(), Ok("https://api.groq.com/openai/v1"));
        for bad in ["h", "ftp://h", "http://u:p@h", "http://h?x=1", "http://h#x"] {
            assert!(at(Vendor::Groq, Some(bad)).is_err(), "{bad}");
        }
        assert!(at(Vendor::OpenAiCompatible, None).is_err());
    }
}
