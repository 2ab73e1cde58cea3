//! The contract of the `Queue` seam.

mod callbacks;
mod deadlines;
mod dedup;
mod ending;
mod events;
mod fairness;
mod groups;
mod leasing;
mod listing;
mod model;
mod pushing;
mod replaying;
mod shares;
mod store;
mod sweeping;
mod together;
mod values;

pub(super) use store::job as plain_job;
