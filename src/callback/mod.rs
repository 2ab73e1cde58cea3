//! Posting a result to its callback: signed, guarded, with a deadline over everything.

pub mod guard;
pub mod http;
pub mod settings;
pub mod sign;
