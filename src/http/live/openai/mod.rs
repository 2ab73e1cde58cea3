//! OpenAI's chat completions, as callers speak them.

mod read;
mod stream;
mod write;

pub(super) use read::{conversation, effort, read, tool_choice, tools};
pub(super) use stream::Chunks;
pub(super) use write::{error, whole};
