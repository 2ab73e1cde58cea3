//! To be written.
#![allow(missing_docs, clippy::all, clippy::pedantic)]
pub enum Verdict { Taken, Again, Gone }
pub struct Reply { pub verdict: Verdict, pub log: crate::domain::result::DeliveryAttempt, pub retry_after: Option<std::time::Duration> }
pub struct Poster; impl Poster { pub async fn post(&self, _c: &crate::domain::job::Callback, _id: &str, _n: u32, _b: bytes::Bytes) -> Reply { loop {} } }
pub fn envelope(_k: &str, _at: chrono::DateTime<chrono::Utc>, _d: &[u8]) -> bytes::Bytes { bytes::Bytes::new() }
pub fn check_headers(_h: &std::collections::BTreeMap<String,String>) -> Result<(), String> { Ok(()) }
