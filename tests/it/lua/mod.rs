//! The scripts on a real Redis: each alone, and all of the limiter's against the same sums in Rust.

mod limiter;
mod same;
