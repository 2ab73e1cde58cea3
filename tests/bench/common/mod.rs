//! What the benchmarks share: processes and servers that they start themselves.

use std::net::TcpListener;

use anyhow::Result;

pub(crate) mod figures;
pub(crate) mod load;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod report;
pub(crate) mod times;

/// A port nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
