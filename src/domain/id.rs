//! Identifiers. They sort by the time they were made and name the cell their keys live in.

use std::fmt;
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ulid::{Generator, Ulid};

/// The cell all ids are made in today. It is part of the id so that a later split into several
/// cells (Redis Cluster slots) needs no lookup.
const CELL: &str = "0";

/// Names one job: `job_0_01J…`. Sorts by creation time.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct JobId(String);

/// Names one group of jobs: `grp_0_01J…`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct GroupId(String);

/// Names one event that a subscription is told: `evt_0_01J…`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct EventId(String);

/// Names one subscription: `sub_0_01J…`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct SubscriptionId(String);

macro_rules! id {
    ($name:ident, $prefix:literal) => {
        impl $name {
            /// Reads an id as callers write it; `None` when it cannot be one of ours.
            pub fn parse(text: &str) -> Option<Self> {
                let rest = text.strip_prefix($prefix)?.strip_prefix(CELL)?.strip_prefix('_')?;
                let canonical = rest.len() == 26 && Ulid::from_string(rest).is_ok();
                (canonical && rest.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()))
                    .then(|| Self(text.to_owned()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(JobId, "job_");
id!(GroupId, "grp_");
id!(EventId, "evt_");
id!(SubscriptionId, "sub_");

/// Makes ids that never repeat and never go backwards within one process.
#[derive(Default)]
pub struct IdSource(Mutex<Generator>);

impl IdSource {
    /// A new job id for a job accepted at `now`.
    pub fn job(&self, now: DateTime<Utc>) -> JobId {
        JobId(format!("job_{CELL}_{}", self.next(now)))
    }

    /// A new group id for a group accepted at `now`.
    pub fn group(&self, now: DateTime<Utc>) -> GroupId {
        GroupId(format!("grp_{CELL}_{}", self.next(now)))
    }

    /// A new event id for a job that ended at `now`.
    pub fn event(&self, now: DateTime<Utc>) -> EventId {
        EventId(format!("evt_{CELL}_{}", self.next(now)))
    }

    /// A new subscription id for a subscription made at `now`.
    pub fn subscription(&self, now: DateTime<Utc>) -> SubscriptionId {
        SubscriptionId(format!("sub_{CELL}_{}", self.next(now)))
    }

    /// A new id with no prefix: for turns and other internal names.
    pub fn plain(&self, now: DateTime<Utc>) -> String {
        self.next(now).to_string()
    }

    fn next(&self, now: DateTime<Utc>) -> Ulid {
        let mut generator = match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        // The random part can overflow only after 2^80 ids in one millisecond.
        generator
            .generate_from_datetime(now.into())
            .unwrap_or_else(|_| Ulid::from_datetime(now.into()))
    }
}

/// A short stable name for text that must not appear in a store's key: `sha256`, first 16 hex digits.
pub fn digest16(parts: &[&str]) -> String {
    hex(digest(parts).split_at(8).0)
}

/// SHA-256 over the parts, each closed by a zero byte so that `ab|c` and `a|bc` differ.
pub fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().into()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            let digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
            text.push(char::from(digit));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_are_read_back() {
        let ids = IdSource::default();
        let now = DateTime::from_timestamp_millis(1_760_000_000_000).unwrap();
        let first = ids.job(now);
        let second = ids.job(now);
        let third = ids.job(now + chrono::Duration::milliseconds(1));
        assert!(first < second && second < third, "{first} {second} {third}");
        assert_eq!(JobId::parse(first.as_str()), Some(first.clone()));
        for bad in ["", "job_0_", "job_0_xyz", "grp_0_01J", "job_1_01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
            assert_eq!(JobId::parse(bad), None, "{bad}");
        }
        assert_eq!(JobId::parse(&first.as_str().to_lowercase()), None);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(digest16(&["ab", "c"]), digest16(&["a", "bc"]));
        assert_eq!(hex(&[0, 171, 255]), "00abff");
    }
}
