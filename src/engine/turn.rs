//! Turns: asking for one, and what becomes of it.

use std::time::Duration;

use super::Engine;
use super::catalog::Target;
use crate::domain::job::Lane;
use crate::domain::limits::Cost;
use crate::limiter::{Ask, LimiterError, Turn};
use crate::telemetry::metrics;

/// How far ahead a turn may be reserved: long enough to spare a second question, short enough
/// that somebody urgent waits for one background departure at the most.
const HORIZON: Duration = Duration::from_millis(20);

impl Engine {
    /// Asks for a turn at this target. The answer's `ask` must be settled once it was granted.
    pub(super) async fn turn(
        &self,
        target: &Target,
        lane: Lane,
        cost: Cost,
        term: Duration,
    ) -> Result<(Ask, Turn), LimiterError> {
        let ask = Ask {
            id: self.turn_id(),
            pools: target.pools.clone(),
            gates: target.gates.to_vec(),
            cost,
            horizon: HORIZON,
            urgent: lane == Lane::Interactive,
            term,
        };
        let turn = self.limiter.take(&ask).await?;
        metrics::turn(matches!(turn, Turn::Granted { .. }));
        Ok((ask, turn))
    }

    /// Settles a turn. A charge that cannot be settled stays as it was made, on the safe side.
    pub(super) async fn settle_turn(&self, ask: &Ask, used: Option<Cost>) {
        if let Err(fault) = self.limiter.settle(ask, used).await {
            metrics::store_error("settle_turn");
            tracing::warn!(%fault, "a turn could not be settled");
        }
        self.freed.notify_one();
    }

    /// Shuts gates for a while, for all replicas.
    pub(super) async fn shut(&self, gates: &[&str], time: Duration, reason: &str) {
        for gate in gates {
            metrics::held(gate);
            tracing::info!(gate, seconds = time.as_secs_f64(), reason, "shut");
            if let Err(fault) = self.limiter.shut(gate, time, reason).await {
                metrics::store_error("shut");
                tracing::warn!(%fault, gate, "a gate could not be shut");
            }
        }
    }
}
