//! Answers from a script.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a scripted provider does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {}
