//! What is measured of calls.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::call::calls as shots;
use crate::common::figures::{self, Cpu, Run, Window};
use crate::common::redis::RedisServer;
use crate::server::{Kind, Server};

const WARM_UP: Duration = Duration::from_secs(1);

/// All measurements.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) runs: figures::Figures<Kind>,
    /// The most bytes of memory that each server held at the end of a measurement.
    memory: BTreeMap<(usize, Kind), u64>,
}

impl Figures {
    /// Calls a server for so long, after a warm-up.
    pub(crate) fn measure(
        &mut self,
        server: &Server,
        redis: &RedisServer,
        connections: usize,
        length: Duration,
    ) -> Result<()> {
        let run = calls(server, redis, connections, Window { warm_up: WARM_UP, length })?;
        self.runs.add(server.kind(), connections, run);
        let most = self.memory.entry((connections, server.kind())).or_default();
        *most = server.resident()?.max(*most);
        Ok(())
    }

    /// The bytes of memory a server held.
    pub(crate) fn memory(&self, kind: Kind, connections: usize) -> u64 {
        self.memory.get(&(connections, kind)).copied().unwrap_or_default()
    }
}

fn calls(server: &Server, redis: &RedisServer, connections: usize, window: Window) -> Result<Run> {
    figures::measure(server.port(), shots(server, connections), window, || {
        Ok(Cpu { server: server.cpu()?, redis: redis.cpu()? })
    })
}
