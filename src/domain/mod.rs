//! What Spillway thinks in: jobs, tasks, routes, buckets. Pure: no I/O, no async, no clock.

pub mod allowance;
pub mod bucket;
pub mod choice;
pub mod completion;
pub mod content;
pub mod id;
pub mod job;
pub mod lenient;
pub mod limits;
pub mod prefix;
pub mod price;
pub mod prompt;
pub mod result;
pub mod retry;
pub mod route;
pub mod schema;
pub mod secret;
pub mod share;
pub mod speed;
pub mod task;
pub mod told;
pub mod units;
pub mod walk;
