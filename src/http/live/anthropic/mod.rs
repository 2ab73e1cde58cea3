//! Anthropic's Messages, as callers speak them.

mod read;
mod stream;
mod write;

pub(super) use read::read;
pub(super) use stream::Events;
pub(super) use write::{error, whole};
