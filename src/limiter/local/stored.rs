//! What is known of one pool. `limiter/lua/take.lua` and `settle.lua` do the same.

use std::collections::HashMap;

use super::super::figures::{
    LATE, ROUNDING, charges, corrections, micros, minds_refusals, told_left,
};
use super::super::{
    Ask, BucketLevel, CONCURRENCY_PAUSE, End, FARTHEST, GRACE, LEARNED_FOR, LONGEST_MARK,
    MOST_OWED, Obstacle, PoolLevel, REFUSED_FOR,
};
use crate::domain::bucket::{Level, Quota, UNKNOWN_LOW};
use crate::domain::job::Lane;
use crate::domain::limits::{Bucket, Period, Pool};
use crate::domain::share::Share;

/// What is known of a pool.
#[derive(Default)]
pub(super) struct Stored {
    levels: HashMap<&'static str, Level>,
    /// By how much each limit is corrected, and until when that is remembered.
    learned: HashMap<&'static str, f64>,
    share: Option<Share>,
    /// The moments since which the buckets' lowest levels are known.
    epochs: [f64; 2],
    /// What each lane is owed, in µs of the pool's time.
    owed: [f64; 3],
    /// Turns not settled, and until when each holds its place.
    turns: HashMap<String, f64>,
    /// Asks that wait.
    marks: HashMap<String, Mark>,
    /// From when on all of this is as if it had never been.
    idle_at: f64,
}

/// An ask that waits.
struct Mark {
    /// Until when others keep back for it.
    until: f64,
    class: u8,
    lane: Lane,
}

/// What an ask finds at a pool.
pub(super) struct Seen {
    buckets: Vec<SeenBucket>,
    /// The longest wait from which the pool could not recover if another departed now.
    pub(super) reach: f64,
    class: u8,
    /// How much of the pool's time the call takes.
    time: f64,
    /// How long those take who wait here and go before the next ask like this one.
    row: f64,
}

struct SeenBucket {
    key: &'static str,
    quota: Quota,
    level: Level,
    cost: f64,
    wait: f64,
    /// How far ahead a turn may be taken.
    ahead: f64,
}

/// How much of the time that those before it take an ask waits: some ask less, or not at all.
const ROW: f64 = 0.9;

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
const fn counted(number: usize) -> f64 {
    number as f64
}

/// The least that any call takes of a pool's time.
const LEAST_TIME: f64 = 1e3;

impl Stored {
    pub(super) const fn matters_until(&self) -> f64 {
        self.idle_at
    }

    /// Finds what stands in the way at this pool.
    pub(super) fn look(&self, pool: &Pool, ask: &Ask, now: f64, longest: &mut Longest) -> Seen {
        let pause = micros(CONCURRENCY_PAUSE);
        let (mut reach, mut time, mut buckets) = (pause, LEAST_TIME, Vec::new());
        let share = Share::now(self.share, now);
        for (bucket, cost) in pool.buckets.iter().zip(charges(pool, &ask.cost)) {
            if cost > 0.0 {
                let quota = bucket.quota_at(self.learned_of(bucket), share);
                let urgent = ask.lane == Lane::Interactive;
                let quota = if urgent { quota.roomier() } else { quota };
                let level = quota.drained(self.level_of(bucket), now);
                let wait = quota.wait(level, cost);
                let recovery = quota.recovery(level, cost);
                let ahead = match quota.resets {
                    // What is taken ahead would count before the reset and leave after it.
                    Some(_) => 0.0,
                    None => micros(ask.horizon).max(recovery.min(micros(FARTHEST))),
                };
                longest.departs = longest.departs.max(wait);
                // One more departure moves no reset.
                let fills = if quota.resets.is_some() { 0.0 } else { wait.max(recovery) };
                reach = reach.max(fills);
                if bucket.per == Period::Minute {
                    time = time.max(cost / quota.rate);
                }
                buckets.push(SeenBucket { key: bucket.key(), quota, level, cost, wait, ahead });
            }
        }
        if pool.concurrency.is_some_and(|places| self.running_beside(&ask.id, now) >= places) {
            longest.longer(pause, Obstacle::Concurrency, &pool.id);
        }
        let lane = ask.lane.index();
        let owed = self.owed.get(lane).is_some_and(|owed| *owed >= time);
        let class = if owed { 0 } else { 1 + u8::try_from(lane).unwrap_or(u8::MAX) };
        let others = || self.marks.iter().filter(|(id, mark)| **id != ask.id && mark.until > now);
        let more_urgent = others().filter(|(_, mark)| mark.class < class);
        let until = more_urgent.map(|(_, mark)| mark.until).fold(now, f64::max);
        longest.longer(until - now, Obstacle::Ahead, &pool.id);
        // Whoever waits here already comes first: to ask again before would be in vain.
        let own = self.marks.get(&ask.id).filter(|mark| mark.until > now);
        let own = own.map_or(f64::INFINITY, |mark| mark.until);
        let like_it = || others().filter(|(_, mark)| mark.class <= class);
        let behind = like_it().filter(|(_, mark)| mark.until <= own).count();
        let slot = time * ROW;
        for bucket in &buckets {
            let wait = bucket.wait - bucket.ahead;
            if wait > ROUNDING {
                longest.longer(wait + counted(behind) * slot, Obstacle::Bucket, &pool.id);
            }
        }
        // Who waits behind others here keeps its place in the row.
        let reach = reach.max(until - now) + counted(behind) * slot;
        Seen { buckets, reach, class, time, row: counted(like_it().count()) * slot }
    }

    /// Remembers that an ask waits, so that others keep back.
    pub(super) fn mark(&mut self, ask: &Ask, seen: &Seen, now: f64, wait: f64) {
        let until = now + wait.min(micros(LONGEST_MARK)) + micros(GRACE);
        self.marks.retain(|_, mark| mark.until > now);
        self.marks.insert(ask.id.clone(), Mark { until, class: seen.class, lane: ask.lane });
        self.keep(until);
    }

    /// Charges a call that departs after `wait`. Answers when another like it could be taken.
    pub(super) fn charge(&mut self, ask: &Ask, seen: &Seen, now: f64, wait: f64) -> f64 {
        let mut next = 0.0f64;
        for SeenBucket { key, quota, level, cost, ahead, .. } in &seen.buckets {
            let after = quota.reserved(*level, *cost, wait);
            next = next.max(quota.wait(after, *cost) - ahead);
            self.levels.insert(key, after);
            self.keep(quota.forgotten_at(after));
        }
        self.marks.remove(&ask.id);
        self.owe(ask, seen.time, now);
        let late = micros(LATE);
        let until = now + wait + micros(ask.term);
        self.turns.retain(|_, until| *until + late >= now);
        self.turns.insert(ask.id.clone(), until);
        self.keep(until + late);
        next + seen.row
    }

    /// Lanes that wait are owed their share of what others take.
    fn owe(&mut self, ask: &Ask, time: f64, now: f64) {
        for ((lane, owed), share) in Lane::ALL.into_iter().zip(&mut self.owed).zip(ask.shares) {
            let waits = |mark: &Mark| mark.lane == lane && mark.until > now;
            if lane == ask.lane {
                *owed = (*owed - (1.0 - share) * time).max(0.0);
            } else if self.marks.values().any(waits) {
                *owed = (*owed + share * time).min(micros(MOST_OWED));
            }
        }
    }

    pub(super) fn settle(&mut self, pool: &Pool, ask: &Ask, end: &End, now: f64) {
        // Only the first settling finds the turn.
        let until = self.turns.remove(&ask.id);
        if until.is_none_or(|until| until + micros(LATE) < now) {
            return;
        }
        let (since, age) = (micros(end.since), micros(end.age));
        let taken = now - since;
        let refused = end.refused && minds_refusals(pool);
        if let Some(share) = Share::refused(self.share, now, now - age).filter(|_| refused) {
            self.share = Some(share);
            self.keep(now + micros(REFUSED_FOR));
        }
        let share = Share::now(self.share, now);
        let more = corrections(pool, &ask.cost, end.used.as_ref());
        let left = told_left(pool, &end.told);
        for ((bucket, more), left) in pool.buckets.iter().zip(more).zip(left) {
            if more == 0.0 && left.is_none() {
                continue;
            }
            let quota = bucket.quota_at(self.learned_of(bucket), share);
            let mut level = quota.drained(self.level_of(bucket), now);
            if more > 0.0 {
                level = quota.charged(level, more);
            } else if more < 0.0 {
                level = quota.refunded(level, -more, self.low_since(level, taken));
            }
            if let Some(left) = left {
                // What leaked out since the provider looked is there again.
                let leaked = if bucket.per == Period::Minute { quota.rate * age } else { 0.0 };
                level = quota.left(level, left + leaked);
            }
            self.levels.insert(bucket.key(), level);
            self.keep(quota.forgotten_at(level));
        }
        self.begin_epoch(now, since);
    }

    /// The lowest level of a bucket since a moment or before it, as far as known.
    fn low_since(&self, level: Level, moment: f64) -> f64 {
        let [older, newer] = self.epochs;
        let [low_older, low_newer] = level.low;
        if moment < level.began {
            0.0
        } else if moment >= newer {
            low_newer
        } else if moment >= older {
            low_older
        } else {
            0.0
        }
    }

    /// Lowest levels are known from a new moment on, once calls are younger than the one before.
    fn begin_epoch(&mut self, now: f64, since: f64) {
        let [_, newer] = self.epochs;
        if now - newer >= 2.0 * since {
            self.epochs = [newer, now];
            for level in self.levels.values_mut() {
                let [_, low] = level.low;
                level.low = [low, UNKNOWN_LOW];
            }
        }
    }

    pub(super) fn learn(&mut self, bucket: &Bucket, factor: f64, now: f64) {
        if (factor - 1.0).abs() < f64::EPSILON {
            self.learned.remove(bucket.key());
        } else {
            self.learned.insert(bucket.key(), factor);
            self.keep(now + micros(LEARNED_FOR));
        }
    }

    pub(super) fn level(&self, pool: &Pool, now: f64) -> PoolLevel {
        let share = Share::now(self.share, now);
        let bucket_level = |bucket: &Bucket| {
            let learned = self.learned_of(bucket);
            let quota = bucket.quota_at(learned, share);
            let level = quota.drained(self.level_of(bucket), now);
            let quota = quota.opened(level);
            BucketLevel { units: level.units, rate: quota.rate, burst: quota.burst, learned }
        };
        let waiting = Lane::ALL.map(|lane| {
            let waits = |mark: &&Mark| mark.lane == lane && mark.until > now;
            u32::try_from(self.marks.values().filter(waits).count()).unwrap_or(u32::MAX)
        });
        PoolLevel {
            id: pool.id.clone(),
            buckets: pool.buckets.iter().map(bucket_level).collect(),
            share,
            running: self.running(now),
            waiting,
        }
    }

    fn learned_of(&self, bucket: &Bucket) -> f64 {
        self.learned.get(bucket.key()).copied().unwrap_or(1.0)
    }

    fn level_of(&self, bucket: &Bucket) -> Level {
        self.levels.get(bucket.key()).copied().unwrap_or_default()
    }

    fn running(&self, now: f64) -> u32 {
        let running = self.turns.values().filter(|until| **until > now).count();
        u32::try_from(running).unwrap_or(u32::MAX)
    }

    fn running_beside(&self, id: &str, now: f64) -> u32 {
        let own = self.turns.get(id).is_some_and(|until| *until > now);
        self.running(now) - u32::from(own)
    }

    fn keep(&mut self, until: f64) {
        self.idle_at = self.idle_at.max(until);
    }
}

/// The longest wait found so far and its obstacle.
#[derive(Default)]
pub(super) struct Longest {
    pub(super) wait: f64,
    pub(super) by: Option<Obstacle>,
    /// When a call that nothing keeps back departs.
    pub(super) departs: f64,
}

impl Longest {
    pub(super) fn longer(&mut self, wait: f64, by: fn(String) -> Obstacle, name: &str) {
        if wait > self.wait.max(ROUNDING) {
            self.wait = wait;
            self.by = Some(by(name.to_owned()));
        }
    }
}
