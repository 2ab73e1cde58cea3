//! API keys as text: how they are made, and how a presented one is recognised.

use chrono::{DateTime, Utc};
use rand::CryptoRng;
use rand::distr::{Alphanumeric, SampleString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::KeyRecord;
use crate::domain::id::hex;

/// What every key begins with, so that scanners for leaked secrets can find it.
const PREFIX: &str = "sw_";
const ID: usize = 8;
/// Letters and digits: about 190 bits, so that a plain hash of the key is safe to store.
const SECRET: usize = 32;

/// A new key for this caller: its text, which is shown once and kept nowhere, and its record.
pub fn generate(
    caller: &str,
    now: DateTime<Utc>,
    random: &mut impl CryptoRng,
) -> (String, KeyRecord) {
    let id = Alphanumeric.sample_string(random, ID);
    let secret = Alphanumeric.sample_string(random, SECRET);
    let key = format!("{PREFIX}{id}_{secret}");
    let digest = digest_of(&key);
    (key, KeyRecord { id, caller: caller.to_owned(), digest, created_at: now })
}

/// The record of a key that the operator wrote into the settings, the `number`th there.
pub fn configured(number: usize, caller: &str, key: &str) -> KeyRecord {
    KeyRecord {
        id: format!("config-{number}"),
        caller: caller.to_owned(),
        digest: digest_of(key),
        created_at: DateTime::UNIX_EPOCH,
    }
}

/// SHA-256 of the whole key, in hexadecimal.
pub fn digest_of(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

/// Whether this is the record's key. Takes as long for a wrong key as for the right one.
pub fn matches(record: &KeyRecord, presented: &str) -> bool {
    same(record, &digest_of(presented)).into()
}

/// The record of a presented key. It is compared with every record, so that the time it takes tells
/// nothing of which one it is like.
pub fn find<'a>(
    records: impl IntoIterator<Item = &'a KeyRecord>,
    presented: &str,
) -> Option<&'a KeyRecord> {
    let digest = digest_of(presented);
    records.into_iter().fold(
        None,
        |found, record| {
            if same(record, &digest).into() { Some(record) } else { found }
        },
    )
}

fn same(record: &KeyRecord, digest: &str) -> Choice {
    record.digest.as_bytes().ct_eq(digest.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn time() -> DateTime<Utc> {
        DateTime::from_timestamp(1_760_000_000, 0).unwrap()
    }

    #[test]
    fn a_key_has_a_part_to_show_and_a_part_to_hide() {
        let (key, record) = generate("acme", time(), &mut StdRng::seed_from_u64(1));
        let parts: Vec<&str> = key.split('_').collect();
        assert_eq!(parts.len(), 3, "{key}");
        assert_eq!((parts[0], parts[1]), ("sw", record.id.as_str()));
        assert_eq!((parts[1].len(), parts[2].len()), (8, 32));
        assert!(parts[2].bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!((record.caller.as_str(), record.created_at), ("acme", time()));
        assert!(!serde_json::to_string(&record).unwrap().contains(parts[2]));
    }

    #[test]
    fn keys_do_not_repeat() {
        let mut random = rand::rng();
        let keys: HashSet<String> =
            (0..1_000).map(|_| generate("a", time(), &mut random).0).collect();
        assert_eq!(keys.len(), 1_000);
    }

    #[test]
    fn the_digest_is_plain_sha_256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest_of("abc"), expected);
    }

    #[test]
    fn a_key_is_found_among_made_and_configured_ones() {
        let mut random = StdRng::seed_from_u64(2);
        let (first, one) = generate("a", time(), &mut random);
        let (second, two) = generate("b", time(), &mut random);
        let three = configured(1, "default", "plain key of the operator");
        let records = [one.clone(), two.clone(), three.clone()];
        assert_eq!(find(&records, &first), Some(&one));
        assert_eq!(find(&records, &second), Some(&two));
        assert_eq!(find(&records, "plain key of the operator"), Some(&three));
        for wrong in ["", "sw_", &one.id, &one.digest, &first.to_lowercase(), &format!("{first} ")]
        {
            assert_eq!(find(&records, wrong), None, "{wrong}");
        }
        assert_eq!(find(&[], &first), None);
        assert!(matches(&one, &first) && !matches(&one, &second));
        let broken = KeyRecord { digest: String::new(), ..one };
        assert!(!matches(&broken, ""));
    }
}
