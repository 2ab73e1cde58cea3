//! The budgets of one process: counted in memory, and what was used up kept in a file, so that a
//! restart forgets nothing of it. What was set aside ends with the process.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::file::{self, Row, Writer, Written};
use super::{
    Ask, Budget, BudgetError, Counted, Hold, LATE, Level, REMEMBERED, Reserved, Standing, windows,
};
use crate::clock::SharedClock;
use crate::domain::allowance::{Money, Period, Window};

/// Counts for one process.
pub struct LocalBudget {
    clock: SharedClock,
    state: Mutex<State>,
    writer: Option<Writer>,
}

#[derive(Default)]
struct State {
    accounts: HashMap<String, Account>,
    /// So many are kept before those that matter no longer are cleared away.
    crowd: usize,
}

/// One caller's.
#[derive(Default)]
struct Account {
    periods: BTreeMap<String, Tally>,
    holds: HashMap<String, Open>,
}

/// What was used up in a period.
#[derive(Clone, Copy, Debug)]
struct Tally {
    spent: Money,
    held: Money,
    calls: u64,
    ends_at: DateTime<Utc>,
}

/// Money set aside; none any more when it came free by itself.
struct Open {
    cost: Money,
    until: DateTime<Utc>,
    periods: [String; 2],
}

impl LocalBudget {
    /// Counts in memory alone.
    pub fn in_memory(clock: SharedClock) -> Self {
        Self { clock, state: Mutex::default(), writer: None }
    }

    /// Goes on from what the file in this folder tells.
    pub fn open(folder: &Path, clock: SharedClock) -> Result<Self, BudgetError> {
        let (writer, rows) = file::open(folder)?;
        let (mut state, mut over) = (State::default(), Vec::new());
        for (name, (spent, calls)) in rows {
            let read = name.rsplit_once(' ').and_then(|(caller, period)| {
                let ends_at = end_of(period).filter(|ends_at| !is_over(*ends_at, clock.now()))?;
                Some((caller.to_owned(), period.to_owned(), ends_at))
            });
            let Some((caller, period, ends_at)) = read else {
                over.push((name, None));
                continue;
            };
            let tally = Tally { spent: Money(spent), held: Money(0), calls, ends_at };
            state.accounts.entry(caller).or_default().periods.insert(period, tally);
        }
        if !over.is_empty() {
            drop(writer.write(over));
        }
        Ok(Self { clock, state: Mutex::new(state), writer: Some(writer) })
    }

    /// Changes a caller's account, and waits until what is to be kept is on disk.
    async fn change<T>(
        &self,
        caller: &str,
        change: impl FnOnce(&mut Account, &Change<'_>) -> (T, Vec<String>),
    ) -> Result<T, BudgetError> {
        let (done, written) = {
            let mut state = self.lock();
            let now = self.clock.now();
            let mut forgotten = state.clear(now);
            let account = state.accounts.entry(caller.to_owned()).or_default();
            account.free(now);
            let [day, month] = windows(now);
            let (done, kept) = change(account, &Change { now, day: &day, month: &month });
            let row = |period: String| {
                let tally = account.periods.get(&period)?;
                Some((key(caller, &period), Some((tally.spent.0, tally.calls))))
            };
            forgotten.extend(kept.into_iter().filter_map(row));
            // Sent while nobody else may change it: the file sees changes in their order.
            (done, self.write(forgotten))
        };
        if let Some(written) = written {
            let told = written.await.map_err(|fault| BudgetError::Broken(fault.to_string()))?;
            told.map_err(|fault| BudgetError::Unavailable(fault.to_string()))?;
        }
        Ok(done)
    }

    fn write(&self, rows: Vec<Row>) -> Option<Written> {
        let writer = self.writer.as_ref().filter(|_| !rows.is_empty())?;
        Some(writer.write(rows))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When and where a change is made.
struct Change<'a> {
    now: DateTime<Utc>,
    day: &'a Window,
    month: &'a Window,
}

#[async_trait]
impl Budget for LocalBudget {
    async fn reserve(&self, ask: &Ask) -> Result<Reserved, BudgetError> {
        let reserve =
            |account: &mut Account, at: &Change<'_>| (account.reserve(ask, at), Vec::new());
        self.change(&ask.caller, reserve).await
    }

    async fn settle(&self, hold: &Hold, spent: Option<Money>) -> Result<(), BudgetError> {
        let spent = spent.unwrap_or(hold.cost);
        let settle = |account: &mut Account, _: &Change<'_>| {
            let kept = account.settle(&hold.id, spent);
            ((), if spent == Money(0) { Vec::new() } else { kept })
        };
        self.change(&hold.caller, settle).await
    }

    async fn count(
        &self,
        caller: &str,
        calls: u64,
        most: Option<u64>,
    ) -> Result<Counted, BudgetError> {
        let count = |account: &mut Account, at: &Change<'_>| {
            let tally = account.tally(at.day);
            let counted = tally.calls.saturating_add(calls);
            let granted = most.is_none_or(|most| counted <= most);
            if granted {
                tally.calls = counted;
            }
            let kept = if granted && calls > 0 { vec![at.day.name.clone()] } else { Vec::new() };
            (Counted { granted, standing: account.standing(at) }, kept)
        };
        self.change(caller, count).await
    }

    async fn uncount(&self, caller: &str, calls: u64) -> Result<(), BudgetError> {
        let uncount = |account: &mut Account, at: &Change<'_>| {
            let tally = account.tally(at.day);
            tally.calls = tally.calls.saturating_sub(calls);
            ((), vec![at.day.name.clone()])
        };
        self.change(caller, uncount).await
    }

    async fn standing(&self, caller: &str) -> Result<Standing, BudgetError> {
        self.change(caller, |account, at| (account.standing(at), Vec::new())).await
    }
}

impl Account {
    fn tally(&mut self, window: &Window) -> &mut Tally {
        let new = || Tally { spent: Money(0), held: Money(0), calls: 0, ends_at: window.ends_at };
        self.periods.entry(window.name.clone()).or_insert_with(new)
    }

    fn standing(&mut self, at: &Change<'_>) -> Standing {
        let level =
            |tally: Tally| Level { spent: tally.spent, held: tally.held, resets_at: tally.ends_at };
        let (day, month) = (*self.tally(at.day), *self.tally(at.month));
        Standing { day: level(day), month: level(month), calls: day.calls }
    }

    fn reserve(&mut self, ask: &Ask, at: &Change<'_>) -> Reserved {
        let periods = [(Period::Day, at.day, ask.day), (Period::Month, at.month, ask.month)];
        for (period, window, most) in periods {
            let tally = self.tally(window);
            let used = tally.spent.plus(tally.held).plus(ask.cost);
            if most.is_some_and(|most| used > most) {
                return Reserved::Refused(period, self.standing(at));
            }
        }
        for (_, window, _) in periods {
            let tally = self.tally(window);
            tally.held = tally.held.plus(ask.cost);
        }
        let names = [at.day.name.clone(), at.month.name.clone()];
        let open = Open { cost: ask.cost, until: at.now + ask.term, periods: names };
        self.holds.insert(ask.id.clone(), open);
        let Ask { id, caller, cost, .. } = ask.clone();
        Reserved::Granted(Hold { id, caller, cost }, self.standing(at))
    }

    /// Answers the periods in which something was spent.
    fn settle(&mut self, id: &str, spent: Money) -> Vec<String> {
        let Some(open) = self.holds.remove(id) else {
            return Vec::new();
        };
        self.release(&open);
        for period in &open.periods {
            if let Some(tally) = self.periods.get_mut(period) {
                tally.spent = tally.spent.plus(spent);
            }
        }
        open.periods.into()
    }

    fn release(&mut self, open: &Open) {
        for period in &open.periods {
            if let Some(tally) = self.periods.get_mut(period) {
                tally.held = tally.held.less(open.cost);
            }
        }
    }

    /// Frees what was set aside for too long. Its name is kept for a while, for a late settling.
    fn free(&mut self, now: DateTime<Utc>) {
        if self.holds.values().all(|open| open.until > now) {
            return;
        }
        let mut holds = std::mem::take(&mut self.holds);
        holds.retain(|_, open| {
            if open.until > now {
                return true;
            }
            self.release(open);
            let was_held = open.cost > Money(0);
            (open.cost, open.until) = (Money(0), now + LATE);
            was_held
        });
        self.holds = holds;
    }
}

impl State {
    /// Clears away periods that are long over, when much has come together: their rows.
    fn clear(&mut self, now: DateTime<Utc>) -> Vec<Row> {
        if self.accounts.len() < self.crowd {
            return Vec::new();
        }
        let mut forgotten = Vec::new();
        self.accounts.retain(|caller, account| {
            account.periods.retain(|period, tally| {
                let over = is_over(tally.ends_at, now);
                if over {
                    forgotten.push((key(caller, period), None));
                }
                !over
            });
            !(account.periods.is_empty() && account.holds.is_empty())
        });
        self.crowd = 2 * self.accounts.len().max(32);
        forgotten
    }
}

/// Whether nothing settled late can still count in it.
fn is_over(ends_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    let passed: Duration = (now - ends_at).to_std().unwrap_or_default();
    passed >= REMEMBERED
}

/// When a period of this name ends.
fn end_of(period: &str) -> Option<DateTime<Utc>> {
    let (kind, day) = match period.len() {
        8 => (Period::Day, period.to_owned()),
        6 => (Period::Month, format!("{period}01")),
        _ => return None,
    };
    let day = chrono::NaiveDate::parse_from_str(&day, "%Y%m%d").ok()?;
    Some(kind.window(day.and_time(chrono::NaiveTime::MIN).and_utc()).ends_at)
}

fn key(caller: &str, period: &str) -> String {
    format!("{caller} {period}")
}
