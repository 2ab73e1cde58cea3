#![doc = include_str!("README.md")]

// Ground.
pub mod clock;
pub mod files;
pub mod keyspace;
pub mod lifecycle;
pub mod telemetry;

// Domain.
pub mod domain;

// Seams.
pub mod budget;
pub mod callback;
pub mod keys;
pub mod limiter;
pub mod memory;
pub mod provider;
pub mod queue;
pub mod subscriptions;

// Engine and entrance.
pub mod engine;
pub mod http;

// Assembly.
pub mod app;
pub mod cli;
pub mod config;
