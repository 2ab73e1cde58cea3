//! How the outside talks to us.

pub mod settings;
