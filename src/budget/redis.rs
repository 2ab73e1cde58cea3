//! The budgets replicas share: Lua scripts on Redis, one round trip each.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `b:<caller>:<period>` | hash | of a day or month: `s` spent, `h` held, `c` calls |
//! | `bh:<caller>` | hash | reservations: `cost:day:month`; a cost of 0 came free by itself |
//! | `bt:<caller>` | sorted set | the same, by when they come free |
//!
//! Callers appear as digests. Money is whole billionths of a dollar, times are milliseconds. Every key
//! expires: a period a week after its end, reservations once the latest can be settled no more.

use std::time::Duration;

use ::redis::{FromRedisValue, ScriptInvocation};
use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    Ask, Budget, BudgetError, Counted, Hold, LATE, Level, REMEMBERED, Reserved, Standing, windows,
};
use crate::clock::SharedClock;
use crate::domain::allowance::{Money, Period, Window};
use crate::domain::id::digest16;
use crate::keyspace::{Keyspace, KeyspaceError, Script, script};

macro_rules! source {
    ($first:literal, $file:literal) => {
        concat!($first, "\n", include_str!("lua/common.lua"), include_str!($file))
    };
}

/// Grows the store, so it is refused when that is full.
const RESERVE: &str = source!("#!lua", "lua/reserve.lua");
/// Frees more than it takes.
const SETTLE: &str = source!("#!lua flags=allow-oom", "lua/settle.lua");
/// Small; and calls that were not made must come back.
const COUNT: &str = source!("#!lua flags=allow-oom", "lua/count.lua");

/// Counts for all replicas together.
pub struct RedisBudget {
    keyspace: Keyspace,
    clock: SharedClock,
    reserve: Script,
    settle: Script,
    count: Script,
}

/// What a script tells of a standing: spent, held and calls of the day, spent and held of the month.
type Told = (u64, u64, u64, u64, u64);

impl RedisBudget {
    /// Counts in this keyspace.
    pub fn new(keyspace: Keyspace, clock: SharedClock) -> Self {
        let (reserve, settle, count) = (script(RESERVE), script(SETTLE), script(COUNT));
        Self { keyspace, clock, reserve, settle, count }
    }

    fn keys(&self, caller: &str) -> [String; 3] {
        let digest = digest16(&[caller]);
        [format!("b:{digest}:"), format!("bh:{digest}"), format!("bt:{digest}")]
            .map(|name| self.keyspace.key(&name))
    }

    async fn run<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<T, BudgetError> {
        Ok(self.keyspace.run(invocation).await?)
    }

    /// Counts calls, or takes them back.
    async fn add(
        &self,
        caller: &str,
        calls: i64,
        most: Option<u64>,
    ) -> Result<Counted, BudgetError> {
        let now = self.clock.now();
        let [day, month] = windows(now);
        let mut call = self.count.prepare_invoke();
        call.key(&self.keys(caller)[..]).arg(now.timestamp_millis()).arg(millis(LATE));
        call.arg(&day.name).arg(&month.name).arg(kept(&day, now)).arg(calls).arg(or_nothing(most));
        let (granted, told): (u8, Told) = self.run(&call).await?;
        Ok(Counted { granted: granted == 1, standing: standing(told, &day, &month) })
    }
}

#[async_trait]
impl Budget for RedisBudget {
    async fn reserve(&self, ask: &Ask) -> Result<Reserved, BudgetError> {
        let now = self.clock.now();
        let [day, month] = windows(now);
        let mut call = self.reserve.prepare_invoke();
        call.key(&self.keys(&ask.caller)[..]).arg(now.timestamp_millis()).arg(millis(LATE));
        call.arg(&day.name).arg(&month.name).arg(kept(&day, now)).arg(kept(&month, now));
        call.arg(&ask.id).arg(ask.cost.0);
        call.arg(or_nothing(ask.day.map(|most| most.0)));
        call.arg(or_nothing(ask.month.map(|most| most.0)));
        call.arg(now.timestamp_millis() + millis(ask.term)).arg(millis(ask.term + 2 * LATE));
        let (by, told): (u8, Told) = self.run(&call).await?;
        let standing = standing(told, &day, &month);
        match by {
            0 => {
                let Ask { id, caller, cost, .. } = ask.clone();
                Ok(Reserved::Granted(Hold { id, caller, cost }, standing))
            }
            1 => Ok(Reserved::Refused(Period::Day, standing)),
            2 => Ok(Reserved::Refused(Period::Month, standing)),
            other => Err(BudgetError::Broken(format!("reserve answers {other}"))),
        }
    }

    async fn settle(&self, hold: &Hold, spent: Option<Money>) -> Result<(), BudgetError> {
        let mut call = self.settle.prepare_invoke();
        call.key(&self.keys(&hold.caller)[..]).arg(&hold.id).arg(spent.unwrap_or(hold.cost).0);
        let _known: u8 = self.run(&call).await?;
        Ok(())
    }

    async fn count(
        &self,
        caller: &str,
        calls: u64,
        most: Option<u64>,
    ) -> Result<Counted, BudgetError> {
        self.add(caller, i64::try_from(calls).unwrap_or(i64::MAX), most).await
    }

    async fn uncount(&self, caller: &str, calls: u64) -> Result<(), BudgetError> {
        let calls = i64::try_from(calls).unwrap_or(i64::MAX);
        self.add(caller, -calls, None).await.map(drop)
    }

    async fn standing(&self, caller: &str) -> Result<Standing, BudgetError> {
        Ok(self.add(caller, 0, None).await?.standing)
    }
}

fn standing(told: Told, day: &Window, month: &Window) -> Standing {
    let (spent, held, calls, month_spent, month_held) = told;
    let level = |spent, held, window: &Window| Level {
        spent: Money(spent),
        held: Money(held),
        resets_at: window.ends_at,
    };
    Standing { day: level(spent, held, day), month: level(month_spent, month_held, month), calls }
}

fn or_nothing(most: Option<u64>) -> String {
    most.map_or_else(String::new, |most| most.to_string())
}

/// For how long a period is kept.
fn kept(window: &Window, now: DateTime<Utc>) -> i64 {
    (window.ends_at - now).num_milliseconds().saturating_add(millis(REMEMBERED))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4)
}

impl From<KeyspaceError> for BudgetError {
    fn from(fault: KeyspaceError) -> Self {
        match fault {
            KeyspaceError::Unreachable(_) | KeyspaceError::OutOfMemory => {
                Self::Unavailable(fault.to_string())
            }
            KeyspaceError::Refused(_) => Self::Broken(fault.to_string()),
        }
    }
}
