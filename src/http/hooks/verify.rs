//! Whether a request comes from whom it should: secrets and signatures over the bytes as they came,
//! compared in constant time.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::event::Request;
use super::settings::{Encoding, HookAuth, Scheme};

/// How old or early a signed timestamp may be when nobody says more.
const TOLERANCE: Duration = Duration::from_secs(300);

/// The shortest secret that is taken for one.
const SHORTEST: usize = 8;

/// How senders of a hook are known, ready for use.
#[derive(Clone, Debug)]
pub(super) struct Verifier {
    pub(super) scheme: Scheme,
    name: String,
    secrets: Vec<SecretString>,
    encoding: Encoding,
    prefix: String,
    tolerance: Duration,
    verify_token: Option<SecretString>,
}

/// Why a request is not taken. For the operator: senders are told no more than that it is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// What should prove it is not there.
    #[error("it has no {0}")]
    Missing(String),
    /// What should prove it cannot be read.
    #[error("its {0} cannot be read: expected {1}")]
    Unreadable(String, &'static str),
    /// Too old, or from the future.
    #[error(
        "its timestamp is {0} seconds off: it is old or repeated, or one of the two clocks is wrong"
    )]
    Stale(u64),
    /// It was not made with the secret.
    #[error(
        "its {0} does not match: another secret, or the body was changed on its way (a proxy or a tool that \
         writes JSON anew)"
    )]
    Wrong(String),
}

/// What a signature stands over, and what it says.
struct Claim<'a> {
    what: String,
    parts: Vec<&'a [u8]>,
    given: Vec<Vec<u8>>,
}

impl Verifier {
    /// Reads the settings; every fault is told with the key below `auth`.
    pub(super) fn new(settings: &HookAuth, told: &mut dyn FnMut(&str, String)) -> Self {
        check_fields(settings, told);
        let secrets = settings.secret.iter().map(|secret| ("secret".to_owned(), secret));
        let old = settings.old_secrets.iter().enumerate();
        let old = old.map(|(index, secret)| (format!("old_secrets[{index}]"), secret));
        let mut kept = Vec::new();
        for (key, secret) in secrets.chain(old) {
            match secret_of(settings.scheme, secret.0.expose_secret()) {
                Ok(text) => kept.push(text.into()),
                Err(fault) => told(&key, fault),
            }
        }
        Self {
            scheme: settings.scheme,
            name: settings.name.clone().unwrap_or_default(),
            secrets: kept,
            encoding: settings.encoding.unwrap_or_default(),
            prefix: settings.prefix.clone().unwrap_or_default(),
            tolerance: settings.tolerance.map_or(TOLERANCE, |span| span.0),
            verify_token: settings.verify_token.as_ref().map(|secret| secret.0.clone()),
        }
    }

    /// The header or parameter that holds the secret itself: not for templates, jobs or logs.
    pub(super) fn secret_place(&self) -> Option<&str> {
        let is_secret = matches!(self.scheme, Scheme::Header | Scheme::Query);
        is_secret.then_some(self.name.as_str())
    }

    /// Whether a request may be taken. An API key is the service's own matter.
    pub(super) fn check(&self, request: &Request, now: DateTime<Utc>) -> Result<(), Refused> {
        match self.scheme {
            Scheme::Bearer | Scheme::Open => Ok(()),
            Scheme::Header => {
                let what = format!("header `{}`", self.name);
                let given = request.header(&self.name).ok_or(Refused::Missing(what.clone()))?;
                // What is set as `secret` may be sent as `Bearer secret`.
                let bare = given.strip_prefix("Bearer ").unwrap_or(given);
                self.same(&[given, bare]).then_some(()).ok_or(Refused::Wrong(what))
            }
            Scheme::Query => {
                let what = format!("query parameter `{}`", self.name);
                let given = request.parameter(&self.name).ok_or(Refused::Missing(what.clone()))?;
                self.same(&[given]).then_some(()).ok_or(Refused::Wrong(what))
            }
            Scheme::StandardWebhooks => self.signed(&self.standard(request, now)?),
            Scheme::Github => {
                self.signed(&plain(request, "x-hub-signature-256", "sha256=", Encoding::Hex)?)
            }
            Scheme::Hmac => self.signed(&plain(request, &self.name, &self.prefix, self.encoding)?),
            Scheme::Stripe => self.signed(&self.stripe(request, now)?),
            Scheme::Slack => self.signed(&self.slack(request, now)?),
        }
    }

    /// Whether this is the token a handshake must show.
    pub(super) fn is_verify_token(&self, given: &str) -> bool {
        self.verify_token.as_ref().is_some_and(|secret| equal(secret.expose_secret(), given))
    }

    fn same(&self, given: &[&str]) -> bool {
        let mut right = false;
        for secret in &self.secrets {
            for given in given {
                right |= equal(secret.expose_secret(), given);
            }
        }
        right
    }

    fn signed(&self, claim: &Claim<'_>) -> Result<(), Refused> {
        let mut right = Choice::from(0);
        for secret in &self.secrets {
            let key = match self.scheme {
                Scheme::StandardWebhooks => {
                    STANDARD.decode(secret.expose_secret()).unwrap_or_default()
                }
                _ => secret.expose_secret().as_bytes().to_vec(),
            };
            // A key of any length makes an HMAC.
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { continue };
            claim.parts.iter().for_each(|part| mac.update(part));
            let expected = mac.finalize().into_bytes();
            for given in &claim.given {
                right |= expected.as_slice().ct_eq(given);
            }
        }
        if right.into() { Ok(()) } else { Err(Refused::Wrong(claim.what.clone())) }
    }

    fn fresh(&self, made: &str, what: &str, now: DateTime<Utc>) -> Result<(), Refused> {
        let made: i64 = made
            .parse()
            .map_err(|_fault| Refused::Unreadable(what.to_owned(), "whole seconds since 1970"))?;
        let off = made.abs_diff(now.timestamp());
        if off > self.tolerance.as_secs() { Err(Refused::Stale(off)) } else { Ok(()) }
    }

    /// Svix, which the standard comes from, calls the headers `svix-…`.
    fn standard<'a>(&self, request: &'a Request, now: DateTime<Utc>) -> Result<Claim<'a>, Refused> {
        let get = |name: &str| {
            let found = request.header(&format!("webhook-{name}"));
            // The standard's own libraries take an empty one for none.
            found
                .or_else(|| request.header(&format!("svix-{name}")))
                .filter(|text| !text.trim().is_empty())
                .ok_or_else(|| Refused::Missing(format!("header `webhook-{name}`")))
        };
        let (id, timestamp, signature) = (get("id")?, get("timestamp")?, get("signature")?);
        // A dot in the id would let one signature stand for two messages.
        if id.contains('.') {
            return Err(Refused::Unreadable(
                "header `webhook-id`".to_owned(),
                "an id without a dot",
            ));
        }
        self.fresh(timestamp, "header `webhook-timestamp`", now)?;
        let given = signature.split(' ').filter_map(|part| part.strip_prefix("v1,"));
        let given: Vec<Vec<u8>> = given.filter_map(|text| STANDARD.decode(text).ok()).collect();
        let what = "header `webhook-signature`".to_owned();
        if given.is_empty() {
            return Err(Refused::Unreadable(what, "`v1,` and base64"));
        }
        let parts = vec![id.as_bytes(), b".", timestamp.as_bytes(), b".", &request.body];
        Ok(Claim { what, parts, given })
    }

    fn stripe<'a>(&self, request: &'a Request, now: DateTime<Utc>) -> Result<Claim<'a>, Refused> {
        let what = "header `Stripe-Signature`".to_owned();
        let header = request.header("stripe-signature").ok_or(Refused::Missing(what.clone()))?;
        let pairs = header.split(',').filter_map(|part| part.trim().split_once('='));
        let (mut timestamp, mut given) = (None, Vec::new());
        for (name, value) in pairs {
            match name {
                "t" => timestamp = Some(value),
                "v1" => given.extend(hex(value)),
                _ => {}
            }
        }
        let expected = "`t=`, and `v1=` with hexadecimal digits";
        let Some(timestamp) = timestamp.filter(|_| !given.is_empty()) else {
            return Err(Refused::Unreadable(what, expected));
        };
        self.fresh(timestamp, &what, now)?;
        Ok(Claim { what, parts: vec![timestamp.as_bytes(), b".", &request.body], given })
    }

    fn slack<'a>(&self, request: &'a Request, now: DateTime<Utc>) -> Result<Claim<'a>, Refused> {
        let what = "header `X-Slack-Request-Timestamp`";
        let timestamp = request
            .header("x-slack-request-timestamp")
            .ok_or_else(|| Refused::Missing(what.to_owned()))?;
        let claim = plain(request, "x-slack-signature", "v0=", Encoding::Hex)?;
        self.fresh(timestamp, what, now)?;
        let parts = vec![b"v0:".as_slice(), timestamp.as_bytes(), b":", &request.body];
        Ok(Claim { parts, ..claim })
    }
}

/// A signature over the body alone.
fn plain<'a>(
    request: &'a Request,
    name: &str,
    prefix: &str,
    encoding: Encoding,
) -> Result<Claim<'a>, Refused> {
    let what = format!("header `{name}`");
    let header = request.header(name).ok_or_else(|| Refused::Missing(what.clone()))?;
    let text = header.trim().strip_prefix(prefix);
    let given = text.and_then(|text| match encoding {
        Encoding::Hex => hex(text),
        Encoding::Base64 => STANDARD.decode(text).ok(),
    });
    let expected = match encoding {
        Encoding::Hex => "the prefix and hexadecimal digits",
        Encoding::Base64 => "the prefix and base64",
    };
    let given = given.ok_or_else(|| Refused::Unreadable(what.clone(), expected))?;
    Ok(Claim { what, parts: vec![&request.body], given: vec![given] })
}

/// Takes as long wherever the two differ, and however long they are.
fn equal(secret: &str, given: &str) -> bool {
    Sha256::digest(secret).as_slice().ct_eq(Sha256::digest(given).as_slice()).into()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

/// A secret as it is worked with, or what is wrong with it. Never repeats the text.
fn secret_of(scheme: Scheme, text: &str) -> Result<String, String> {
    let text = text.trim();
    let visible = text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    match scheme {
        Scheme::StandardWebhooks => {
            let encoded = text.trim_start_matches("v1,").trim_start_matches("whsec_");
            match STANDARD.decode(encoded) {
                Ok(key) if (16..=128).contains(&key.len()) => Ok(encoded.to_owned()),
                _ => Err("is not `whsec_` and 24 to 64 bytes in base64, as the sender shows it"
                    .to_owned()),
            }
        }
        Scheme::Stripe if !text.starts_with("whsec_") => Err(
            "is not the signing secret of the endpoint at Stripe, which begins with `whsec_` (the \
                 API key is another)"
                .to_owned(),
        ),
        _ if text.len() < SHORTEST || !visible => {
            Err(format!("is no secret: expected {SHORTEST} or more letters, digits and signs"))
        }
        _ => Ok(text.to_owned()),
    }
}

/// What a scheme needs, and what means nothing to it.
fn check_fields(settings: &HookAuth, told: &mut dyn FnMut(&str, String)) {
    use Scheme::{Bearer, Header, Hmac, Open, Query, Slack, StandardWebhooks, Stripe};
    let scheme = settings.scheme;
    let word = scheme.as_str();
    let has_secret = !matches!(scheme, Bearer | Open);
    if has_secret && settings.secret.is_none() && settings.secret_file.is_none() {
        let fault = format!(
            "is missing: expected the secret of `{word}`, such as \"${{SECRET}}\", or `secret_file`"
        );
        told("secret", fault);
    }
    let needs_name = matches!(scheme, Header | Query | Hmac);
    match (&settings.name, needs_name) {
        (None, true) => {
            let example = if scheme == Query {
                "the parameter, such as \"token\""
            } else {
                "the header, such as \"X-Signature\""
            };
            told("name", format!("is missing: expected {example}"));
        }
        (Some(name), true) if scheme != Query && !name.chars().all(is_token) => {
            told("name", "is not a header's name: expected letters, digits and `-`".to_owned());
        }
        _ => {}
    }
    let is_signed = matches!(scheme, StandardWebhooks | Stripe | Slack);
    for (name, is_given, fits, those) in [
        ("secret", settings.secret.is_some(), has_secret, "schemes with a secret"),
        ("old_secrets", !settings.old_secrets.is_empty(), has_secret, "schemes with a secret"),
        ("name", settings.name.is_some(), needs_name, "`header`, `query` and `hmac`"),
        ("encoding", settings.encoding.is_some(), scheme == Hmac, "`hmac`"),
        ("prefix", settings.prefix.is_some(), scheme == Hmac, "`hmac`"),
        (
            "tolerance",
            settings.tolerance.is_some(),
            is_signed,
            "`standard-webhooks`, `stripe` and `slack`, which sign the time",
        ),
    ] {
        if is_given && !fits {
            told(name, format!("means nothing to `{word}`: it is for {those}"));
        }
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Secret;

    fn verifier(scheme: Scheme, secrets: &[&str]) -> Verifier {
        let secret = |text: &&str| Secret((*text).to_owned().into());
        let settings = HookAuth {
            scheme,
            secret: secrets.first().map(secret),
            old_secrets: secrets.iter().skip(1).map(secret).collect(),
            name: matches!(scheme, Scheme::Header | Scheme::Query | Scheme::Hmac)
                .then(|| "X-Signature".to_owned()),
            ..HookAuth::default()
        };
        Verifier::new(&settings, &mut |key, fault| panic!("{key}: {fault}"))
    }

    fn request(headers: &[(&str, &str)], body: &str) -> Request {
        let headers =
            headers.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned()));
        Request { headers: headers.collect(), query: Vec::new(), body: body.to_owned().into() }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    /// docs.github.com, "Validating webhook deliveries", "Testing the webhook payload validation".
    #[test]
    fn githubs_own_example_is_right_and_nothing_near_it() {
        let github = verifier(Scheme::Github, &["It's a Secret to Everybody"]);
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let with = |signature: &str, body: &str| {
            github.check(&request(&[("X-Hub-Signature-256", signature)], body), at(0))
        };
        assert_eq!(with(signature, "Hello, World!"), Ok(()));
        assert!(matches!(with(signature, "Hello, World"), Err(Refused::Wrong(_))));
        assert!(matches!(
            with(&signature.replace("sha256", "sha1"), "Hello, World!"),
            Err(Refused::Unreadable(..))
        ));
        assert!(matches!(with("sha256=7", "Hello, World!"), Err(Refused::Unreadable(..))));
        assert!(matches!(
            github.check(&request(&[], "Hello, World!"), at(0)),
            Err(Refused::Missing(_))
        ));
    }

    /// github.com/standard-webhooks/standard-webhooks, the tests of its libraries.
    #[test]
    fn the_standards_own_example_is_right_within_its_time() {
        let secrets =
            ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];
        let standard = verifier(Scheme::StandardWebhooks, &secrets);
        let headers = |prefix: &str, id: &str| {
            request(
                &[
                    (&format!("{prefix}-id"), id),
                    (&format!("{prefix}-timestamp"), "1614265330"),
                    (
                        &format!("{prefix}-signature"),
                        "v1a,AAAA v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
                    ),
                ],
                "{\"test\": 2432232314}",
            )
        };
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let right = headers("webhook", id);
        assert_eq!(standard.check(&right, at(1_614_265_330 + 300)), Ok(()));
        assert_eq!(standard.check(&headers("svix", id), at(1_614_265_330 - 300)), Ok(()));
        assert_eq!(standard.check(&right, at(1_614_265_330 + 301)), Err(Refused::Stale(301)));
        assert!(matches!(
            standard.check(&headers("webhook", "msg_2"), at(1_614_265_330)),
            Err(Refused::Wrong(_))
        ));
        let empty = standard.check(&headers("webhook", ""), at(1_614_265_330));
        assert_eq!(empty, Err(Refused::Missing("header `webhook-id`".to_owned())));
        assert!(matches!(
            standard.check(&headers("webhook", "a.b"), at(1_614_265_330)),
            Err(Refused::Unreadable(..))
        ));
    }

    /// docs.slack.dev, "Verifying requests from Slack".
    #[test]
    fn slacks_own_example_is_right() {
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
                    &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
                    &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554\
                    %2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let slack = verifier(Scheme::Slack, &["8f742231b10e8888abcd99yyyzzz85a5"]);
        let headers = [
            ("X-Slack-Request-Timestamp", "1531420618"),
            (
                "X-Slack-Signature",
                "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            ),
        ];
        assert_eq!(slack.check(&request(&headers, body), at(1_531_420_618)), Ok(()));
        assert!(slack.check(&request(&headers, body), at(1_531_421_618)).is_err());
    }

    #[test]
    fn stripe_takes_any_of_several_signatures_and_secrets() {
        let sign = |secret: &str, body: &str| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
            mac.update(format!("1700000000.{body}").as_bytes());
            crate::domain::id::hex(&mac.finalize().into_bytes())
        };
        let stripe = verifier(Scheme::Stripe, &["whsec_new_one", "whsec_old_one"]);
        let check = |header: &str, body: &str| {
            stripe.check(&request(&[("Stripe-Signature", header)], body), at(1_700_000_100))
        };
        let (old, foreign) = (sign("whsec_old_one", "{}"), sign("whsec_foreign", "{}"));
        assert_eq!(check(&format!("t=1700000000,v1={foreign},v1={old},v0=6ffb"), "{}"), Ok(()));
        assert!(matches!(
            check(&format!("t=1700000000,v1={foreign}"), "{}"),
            Err(Refused::Wrong(_))
        ));
        assert!(matches!(
            check(&format!("t=1700000000,v0={old}"), "{}"),
            Err(Refused::Unreadable(..))
        ));
        assert!(matches!(check(&format!("t=1600000000,v1={old}"), "{}"), Err(Refused::Stale(_))));
        assert!(matches!(check(&format!("t=1700000000,v1={old}"), "{ }"), Err(Refused::Wrong(_))));
    }

    #[test]
    fn a_fixed_header_is_compared_whole() {
        let header = verifier(Scheme::Header, &["correct horse", "older horse"]);
        let check = |value: &str| header.check(&request(&[("x-signature", value)], ""), at(0));
        assert_eq!(check("correct horse"), Ok(()));
        assert_eq!(check("Bearer older horse"), Ok(()));
        for wrong in ["", "correct", "correct horse "] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert!(!format!("{header:?}").contains("horse"));
    }
}
