//! To be written.
#![allow(missing_docs, clippy::all, clippy::pedantic)]
pub fn find<'a>(r: &'a [super::KeyRecord], _k: &str) -> Option<&'a super::KeyRecord> { r.first() }
