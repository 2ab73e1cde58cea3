//! One suite for each seam, run on every implementation of it.

mod budget;
mod keys;
pub(crate) mod limiter;
mod memory;
mod queue;
mod speeds;
mod subscriptions;
