//! Standard Webhooks 1.0: how a callback is signed, and how its receiver checks it.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use rand::CryptoRng;
use secrecy::{ExposeSecret, SecretBox};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

const PREFIX: &str = "whsec_";
const VERSION: &str = "v1";
const SIZES: RangeInclusive<usize> = 24..=64;
/// How many seconds a timestamp may be off, either way.
const TOLERANCE: u64 = 5 * 60;

/// The block size of SHA-256. HMAC fills shorter keys up to it with zeros, and no key is longer.
const BLOCK: usize = 64;

/// A key that callbacks are signed with. It is never shown.
#[derive(Debug)]
pub struct Secret(SecretBox<[u8; BLOCK]>);

/// Why a text is not a callback secret. Never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// `v1,whsec_…`, as some dashboards show it.
    #[error("a callback secret begins with `whsec_`: leave out the `v1,` before it")]
    Versioned,
    /// A key of the scheme `v1a`.
    #[error("`whsk_` and `whpk_` are keys for another scheme (v1a); use a `whsec_` secret")]
    Asymmetric,
    /// Anything else without the prefix.
    #[error("a callback secret begins with `whsec_`")]
    Prefix,
    /// The other base64 alphabet.
    #[error("after `whsec_` comes standard base64 (`+` and `/`), not the URL-safe kind")]
    UrlSafe,
    /// Not base64, or without its padding.
    #[error("after `whsec_` comes standard base64 with its padding (`=`); this is not")]
    Base64,
    /// Too short to be safe, or too long to be meant.
    #[error("a callback secret holds 24 to 64 bytes; this one holds {0}")]
    Size(usize),
}

impl Secret {
    /// Reads `whsec_` and 24 to 64 bytes in base64. A text that is nearly right is an error: a key
    /// guessed from it would make signatures that nobody can check.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            return Err(match text {
                _ if text.starts_with("v1,") => SecretError::Versioned,
                _ if text.starts_with("whsk_") || text.starts_with("whpk_") => {
                    SecretError::Asymmetric
                }
                _ => SecretError::Prefix,
            });
        };
        let bytes = STANDARD.decode(encoded).map_err(|_fault| {
            if encoded.contains(['-', '_']) { SecretError::UrlSafe } else { SecretError::Base64 }
        })?;
        if !SIZES.contains(&bytes.len()) {
            return Err(SecretError::Size(bytes.len()));
        }
        let mut block = Box::new([0; BLOCK]);
        for (to, from) in block.iter_mut().zip(&bytes) {
            *to = *from;
        }
        Ok(Self(SecretBox::new(block)))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new(self.0.expose_secret().into());
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// A new secret, as it is written in the settings.
pub fn generate(random: &mut impl CryptoRng) -> String {
    let mut bytes = [0; 32];
    random.fill_bytes(&mut bytes);
    format!("{PREFIX}{}", STANDARD.encode(bytes))
}

/// The `webhook-signature` of a callback: one signature for each secret, so that a receiver that
/// still has the old one accepts it too.
pub fn sign(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    let signatures: Vec<String> = secrets
        .iter()
        .map(|secret| format!("{VERSION},{}", STANDARD.encode(secret.mac(id, &timestamp, body))))
        .collect();
    signatures.join(" ")
}

/// What a receiver finds in the three headers.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`.
    pub timestamp: &'a str,
    /// `webhook-signature`.
    pub signature: &'a str,
}

/// Whether one of the signatures was made with one of the secrets, within five minutes of `now`.
/// Takes as long for a wrong signature as for a right one.
pub fn verify(secrets: &[Secret], signed: &Signed<'_>, body: &[u8], now: DateTime<Utc>) -> bool {
    let fresh = signed
        .timestamp
        .parse::<i64>()
        .is_ok_and(|made| made.abs_diff(now.timestamp()) <= TOLERANCE);
    // A dot in the id would let one signature stand for two messages.
    if !fresh || signed.id.contains('.') {
        return false;
    }
    let given: Vec<Vec<u8>> = signed
        .signature
        .split(' ')
        .filter_map(|part| part.strip_prefix(VERSION)?.strip_prefix(','))
        .filter_map(|encoded| STANDARD.decode(encoded).ok())
        .collect();
    let mut right = Choice::from(0);
    for secret in secrets {
        let expected = secret.mac(signed.id, signed.timestamp, body);
        for signature in &given {
            right |= expected.as_slice().ct_eq(signature);
        }
    }
    right.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SECOND: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: i64 = 1_614_265_330;

    fn secret(text: &str) -> Secret {
        Secret::parse(text).unwrap()
    }

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn signatures_are_those_of_the_published_vectors() {
        let vectors = [
            (
                FIRST,
                ID,
                AT,
                r#"{"test": 2432232314}"#,
                "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                SECOND,
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
            (FIRST, ID, AT, "", "v48jdbgvh29KJz2Qc+ghw8G6vG3nAKnujWBg8oM/62A="),
            (
                FIRST,
                ID,
                AT,
                r#"{"t":"héllo — 日本"}"#,
                "DqTSX+JDhzu3gN0Tgjy/t31N2xjL3VMLOW2pboZ6TjM=",
            ),
        ];
        for (key, id, at, body, expected) in vectors {
            let signature = sign(&[secret(key)], id, at, body.as_bytes());
            assert_eq!(signature, format!("v1,{expected}"));
            let signed = Signed { id, timestamp: &at.to_string(), signature: &signature };
            assert!(verify(&[secret(key)], &signed, body.as_bytes(), time(at)));
        }
    }

    #[test]
    fn a_secret_that_is_nearly_right_is_an_error() {
        let cases = [
            ("", SecretError::Prefix),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretError::Prefix),
            ("polar_whs_abc", SecretError::Prefix),
            ("v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretError::Versioned),
            ("whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=", SecretError::Asymmetric),
            ("whsec_C2FVsBQIhrscChlQIMV-b5sSYspob7oD", SecretError::UrlSafe),
            ("whsec_C2FVsBQIhrscChlQIMV_b5sSYspob7oD", SecretError::UrlSafe),
            ("whsec_not base64 at all, but long enough", SecretError::Base64),
            ("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", SecretError::Base64),
            ("whsec_", SecretError::Size(0)),
            ("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", SecretError::Size(23)),
        ];
        for (text, expected) in cases {
            assert_eq!(Secret::parse(text).map(|_| ()), Err(expected), "{text}");
        }
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        assert_eq!(Secret::parse(&long).map(|_| ()), Err(SecretError::Size(65)));
        assert!(Secret::parse(&format!(" whsec_{}\n", STANDARD.encode([7; 64]))).is_ok());
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        let shown = format!("{:?}", secret(FIRST));
        assert!(!shown.contains("MfKQ") && !shown.contains("49"), "{shown}");
    }

    #[test]
    fn a_made_secret_is_a_good_one_and_never_the_same() {
        let mut random = StdRng::seed_from_u64(1);
        let (one, two) = (generate(&mut random), generate(&mut random));
        assert!(Secret::parse(&one).is_ok() && Secret::parse(&two).is_ok());
        assert_ne!(one, two);
    }

    #[test]
    fn either_secret_of_a_rotation_accepts() {
        let signature = sign(&[secret(FIRST), secret(SECOND)], ID, AT, b"{}");
        assert_eq!(signature.split(' ').count(), 2);
        let timestamp = AT.to_string();
        let signed = Signed { id: ID, timestamp: &timestamp, signature: &signature };
        for key in [FIRST, SECOND] {
            assert!(verify(&[secret(key)], &signed, b"{}", time(AT)));
        }
        assert!(!verify(&[secret(&generate(&mut rand::rng()))], &signed, b"{}", time(AT)));
    }

    #[test]
    fn old_future_and_foreign_signatures_are_refused() {
        let good = sign(&[secret(FIRST)], ID, AT, b"{}");
        let check = |id: &str, timestamp: &str, signature: &str, now: i64| {
            verify(&[secret(FIRST)], &Signed { id, timestamp, signature }, b"{}", time(now))
        };
        let stamp = AT.to_string();
        assert!(check(ID, &stamp, &good, AT + 300) && check(ID, &stamp, &good, AT - 300));
        assert!(check(ID, &stamp, &format!("v1a,AAAA v2,x v1,??? {good}"), AT));
        assert!(!check(ID, &stamp, &good, AT + 301) && !check(ID, &stamp, &good, AT - 301));
        assert!(!check("other", &stamp, &good, AT) && !check(ID, "soon", &good, AT));
        assert!(!check(ID, &stamp, &good.replace("v1,", "v2,"), AT));
        for short in ["", "v1,", "v1", "v1,AAAA"] {
            assert!(!check(ID, &stamp, short, AT), "{short}");
        }
        let dotted = sign(&[secret(FIRST)], "a.1", AT, b"{}");
        assert!(!check("a.1", &stamp, &dotted, AT));
    }

    proptest! {
        #[test]
        fn another_implementation_makes_and_accepts_the_same(
            key in proptest::collection::vec(any::<u8>(), 24..=64),
            id in "[a-zA-Z0-9_]{1,40}",
            body in ".{0,200}",
        ) {
            let text = format!("whsec_{}", STANDARD.encode(&key));
            let judge = standardwebhooks::Webhook::new(&text).unwrap();
            let ours = sign(&[secret(&text)], &id, AT, body.as_bytes());
            let theirs = judge.sign(&id, AT, body.as_bytes()).unwrap();
            prop_assert_eq!(&ours, &theirs);
            let signed = Signed { id: &id, timestamp: &AT.to_string(), signature: &theirs };
            prop_assert!(verify(&[secret(&text)], &signed, body.as_bytes(), time(AT)));
            let other = format!("{body} ");
            prop_assert!(!verify(&[secret(&text)], &signed, other.as_bytes(), time(AT)));
        }
    }
}
