//! What happens to a job.

pub mod settings;
