//! The product, tested with real parts: a real Redis, the real binary, real HTTP.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so and fails"
)]

mod architecture;
mod contract;
mod queue_embedded;
mod queue_redis;
mod support;
