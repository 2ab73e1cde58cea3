//! The contract of the `Queue` seam.

mod callbacks;
mod deadlines;
mod dedup;
mod ending;
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
