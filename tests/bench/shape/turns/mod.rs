//! Point 6: what a turn costs on Redis: beside `redis-benchmark` with the very same script, beside
//! many waiting workflows, and in commands for each job.

mod beside;
mod commands;
mod monitor;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;
use spillway::domain::job::Lane;
use spillway::domain::limits::{Cost, LimitSettings, Pool};
use spillway::keyspace::{Keyspace, Timeouts};
use spillway::limiter::{Ask, Limiter, Turn};

use crate::Bench;
use crate::common::redis::RedisServer;

const PART: &str = "turns";

/// Runs the part.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    beside::run(bench).await?;
    waiting::run(bench).await?;
    commands::run(bench).await
}

/// A corner of a Redis.
async fn keyspace(redis: &RedisServer, prefix: &str) -> Result<Keyspace> {
    let five = Duration::from_secs(5);
    let timeouts = Timeouts { connect: five, response: five };
    Ok(Keyspace::open(&redis.url(), prefix, timeouts).await?)
}

/// An org's limits on every axis that never bind: each ask is granted at once.
fn pool() -> Result<Arc<Pool>> {
    let plenty = "6000000000000/min";
    let limits = json!({
        "requests": plenty, "input_tokens": plenty, "output_tokens": plenty, "concurrency": 4_000_000_000_u32,
    });
    Ok(Arc::new(serde_json::from_value::<LimitSettings>(limits)?.pool("bench")))
}

/// What the service asks for a job of ordinary size.
fn ask(pool: &Arc<Pool>, id: String) -> Ask {
    Ask {
        id,
        pools: vec![Arc::clone(pool)],
        gates: ["step/main/tiny-1", "account/main", "org/main/tiny-1"].map(str::to_owned).to_vec(),
        cost: Cost::call(500, 200),
        horizon: Duration::from_millis(20),
        lane: Lane::Standard,
        shares: [0.0, 0.2, 0.05],
        comes_back: true,
        term: Duration::from_secs(1),
    }
}

/// Takes a turn that there is at once.
async fn take(limiter: &impl Limiter, ask: &Ask) -> Result<()> {
    match limiter.take(ask).await? {
        Turn::Granted { .. } => Ok(()),
        Turn::NotBefore { by, .. } => bail!("a turn was not granted: {by:?}"),
    }
}
