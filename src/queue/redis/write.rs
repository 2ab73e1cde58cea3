//! The steps that change something: each one script, read from here.

use std::collections::HashMap;
use std::time::Duration;

use redis::{FromRedisValue, ScriptInvocation};

use super::super::{
    AWAY, Ahead, Batch, Delivery, Ended, Ending, GRACE, Lease, LeaseToken, MOST_AHEAD, MOST_ALIKE,
    MOST_LOSSES, MOST_PAST, NEAR, Pushed, Queue, QueueError, Replay, Replayed, Settled, Swept,
    Verdict,
};
use super::scripts::call;
use super::{RedisQueue, codec};
use crate::domain::id::{GroupId, JobId};
use crate::domain::job::{Flow, Job, Line, Owner, Share};
use crate::domain::result::{DeliveryAttempt, Status};
use crate::queue::KEPT_ATTEMPTS;

/// The most items one run of a script touches: Redis does nothing else meanwhile.
const MOST_AT_ONCE: usize = 1_024;

impl RedisQueue {
    pub(super) async fn store(&self, batch: Batch) -> Result<Pushed, QueueError> {
        let Some(first) = batch.jobs.first().map(|job| job.id.as_str()) else {
            let ahead = Ahead::default();
            return Ok(Pushed::Stored { ahead, durability: self.durability() });
        };
        let shares: Vec<_> = if batch.jobs.iter().any(|job| job.share.is_some()) {
            batch.jobs.iter().map(|job| (job.workflow.clone(), job.share)).collect()
        } else {
            Vec::new()
        };
        let id = batch.group.as_ref().map_or(first, |group| group.id.as_str()).to_owned();
        let line_name = batch.jobs.first().map(|job| job.line().name()).unwrap_or_default();
        let first = format!("j:{first}");
        let dedup = batch.dedup.as_ref().map(|dedup| format!("i:{}", dedup.key));
        let told = self.pushes.push(batch).await?;
        match told.first() {
            Some(redis::Value::Int(0)) => {
                let id = told.into_iter().nth(1).and_then(|id| String::from_redis_value(id).ok());
                let id = id.unwrap_or_default();
                // The answer before may have been that it had not come far enough.
                self.confirm(dedup.as_ref().unwrap_or(&first), &id).await?;
                return Ok(Pushed::Repeated { id });
            }
            Some(redis::Value::Int(1)) => {}
            Some(redis::Value::Int(-2)) => return too_many(&shares, &told),
            _ => return Ok(Pushed::KeyReused),
        }
        let [line, own, flows] = [1, 2, 3].map(|place| codec::figure(&told, place));
        let ahead = Ahead { line, own, flows };
        // Where others wait already, nobody is idle for want of a job. Lines that a group's further
        // jobs were the first in are hinted by Redis.
        if own == 0 && flows <= 1 {
            self.hints.tell(&line_name);
        }
        self.confirm(&first, &id).await?;
        Ok(Pushed::Stored { ahead, durability: self.durability() })
    }

    /// Waits until what wrote this key, for this job or group, has come as far as the operator asks.
    pub(super) async fn confirm(&self, key: &str, id: &str) -> Result<(), QueueError> {
        match &self.fence {
            Some(fence) => fence.pass(key, id).await,
            None => Ok(()),
        }
    }

    pub(super) async fn hand_out(
        &self,
        line: &Line,
        max: usize,
        term: Duration,
        past: &[Owner],
    ) -> Result<Vec<Lease>, QueueError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let mut lease = call(&self.scripts.lease, &self.keyspace);
        lease.arg(line.name()).arg(max.min(MOST_AT_ONCE)).arg(codec::millis(term));
        lease.arg(codec::millis(NEAR)).arg(MOST_AHEAD).arg(MOST_ALIKE);
        let past: Vec<&str> = past.iter().map(Owner::as_str).collect();
        lease.arg(past.join(" ")).arg(MOST_PAST);
        let held: Vec<codec::Held> = self.keyspace.run(&lease).await?;
        // One that cannot be read is left to its lease: the others are none the worse for it.
        let readable = held.into_iter().filter_map(|held| {
            codec::lease(held)
                .inspect_err(|fault| tracing::error!(%fault, "a stored item is damaged"))
                .ok()
        });
        Ok(readable.collect())
    }

    pub(super) async fn keep(
        &self,
        leases: &[LeaseToken],
        term: Duration,
    ) -> Result<Vec<LeaseToken>, QueueError> {
        let mut lost = Vec::new();
        for leases in leases.chunks(MOST_AT_ONCE) {
            let mut renew = call(&self.scripts.renew, &self.keyspace);
            renew.arg(codec::millis(term));
            for lease in leases {
                renew.arg(&lease.id).arg(lease.epoch);
            }
            let places: Vec<usize> = self.keyspace.run(&renew).await?;
            lost.extend(places.into_iter().filter_map(|place| leases.get(place).cloned()));
        }
        Ok(lost)
    }

    pub(super) async fn conclude(
        &self,
        lease: &LeaseToken,
        verdict: Verdict,
    ) -> Result<Settled, QueueError> {
        let mut noted = None;
        let (name, after, log) = match verdict {
            Verdict::Finish(ending) => {
                let held = Held { epoch: Some(lease.epoch), waits: None };
                let code = self.ended(&lease.id, &held, &ending).await?;
                return Ok(settled(code));
            }
            Verdict::Back { after, progress } => {
                noted = progress;
                ("back", after, None)
            }
            Verdict::Redeliver { after, log } => ("redeliver", after, Some(log)),
            Verdict::Delivered { log } => ("delivered", Duration::ZERO, Some(log)),
            Verdict::Undeliverable { log } => ("undeliverable", Duration::ZERO, Some(log)),
        };
        let log = log.as_ref().map(codec::write::<DeliveryAttempt>).transpose()?;
        let mut settle = call(&self.scripts.settle, &self.keyspace);
        settle.arg(&lease.id).arg(lease.epoch).arg(name).arg(codec::millis(after));
        settle.arg(log.unwrap_or_default()).arg(KEPT_ATTEMPTS);
        settle.arg(noted.as_deref().unwrap_or_default());
        Ok(settled(self.keyspace.run(&settle).await?))
    }

    pub(super) async fn finish(&self, id: &JobId, ending: &Ending) -> Result<Ended, QueueError> {
        let job = self.job(id).await?;
        let waits = job.map(|job| (job.line(), job.flow(), codec::prefix(&job)));
        let code = self.ended(id.as_str(), &Held { epoch: None, waits }, ending).await?;
        Ok(match code {
            1 => Ended::Now,
            0 => Ended::Before,
            _ => Ended::Unknown,
        })
    }

    /// Runs the script that ends a job.
    async fn ended(&self, id: &str, held: &Held, ending: &Ending) -> Result<i64, QueueError> {
        let mut finish = call(&self.scripts.finish, &self.keyspace);
        finish.arg(id).arg(held.epoch.map(|epoch| epoch.to_string()).unwrap_or_default());
        match &held.waits {
            Some((line, flow, _)) => finish.arg(line.name()).arg(flow.as_str()),
            None => finish.arg("").arg(""),
        };
        finish.arg(&ending.result[..]).arg(codec::millis(ending.keep));
        add_delivery(&mut finish, ending.delivery.as_ref());
        finish.arg(ending.group.as_ref().map_or("", |group| group.id.as_str()));
        add_delivery(&mut finish, ending.group.as_ref().and_then(|group| group.delivery.as_ref()));
        finish.arg(held.waits.as_ref().map_or("", |(_, _, prefix)| prefix));
        finish.arg(u8::from(ending.status == Status::Succeeded));
        for event in &ending.events {
            finish.arg(event.id.as_str()).arg(event.subscription.as_str());
            add_delivery(&mut finish, Some(&event.delivery));
        }
        Ok(self.keyspace.run(&finish).await?)
    }

    pub(super) async fn bring_back(
        &self,
        id: &JobId,
        what: &Replay,
    ) -> Result<Replayed, QueueError> {
        let Some(job) = self.job(id).await? else {
            return Ok(Replayed::Unknown);
        };
        let mut replay = call(&self.scripts.replay, &self.keyspace);
        replay.arg(id.as_str());
        match what {
            Replay::Run => {
                replay.arg("run").arg(job.line().name()).arg(job.flow().as_str()).arg(0);
            }
            Replay::Post(delivery) => {
                replay.arg("post").arg(Line::Deliver.name());
                add_delivery(&mut replay, Some(delivery));
            }
        }
        replay.arg(job.deliver_by.map(|by| by.timestamp_millis().to_string()).unwrap_or_default());
        replay.arg(job.group.as_ref().map_or("", GroupId::as_str));
        replay.arg(job.share.map(|share| codec::share(&share)).unwrap_or_default());
        replay.arg(codec::prefix(&job));
        let code: i64 = self.keyspace.run(&replay).await?;
        Ok(if code == 1 { Replayed::Done } else { Replayed::NotEnded })
    }

    pub(super) async fn bring_group_back(&self, id: &GroupId) -> Result<bool, QueueError> {
        let mut replay = call(&self.scripts.replay, &self.keyspace);
        replay.arg(id.as_str()).arg("post").arg(Line::Deliver.name());
        replay.arg("").arg(0).arg("").arg("").arg("").arg("");
        let code: i64 = self.keyspace.run(&replay).await?;
        Ok(code == 1)
    }

    pub(super) async fn tidy(&self, max: usize) -> Result<Swept, QueueError> {
        let mut sweep = call(&self.scripts.sweep, &self.keyspace);
        sweep.arg(max.min(MOST_AT_ONCE)).arg(MOST_LOSSES);
        sweep.arg(codec::millis(AWAY)).arg(codec::millis(GRACE));
        let (due, freed, lost, expired, over): (_, _, Vec<String>, Vec<String>, Vec<String>) =
            self.keyspace.run(&sweep).await?;
        let purged = self.purge(over).await?;
        let swept = Swept { due, freed, lost: ids(&lost), expired: ids(&expired), purged };
        Ok(swept)
    }

    /// Removes what is kept no longer. A job stands in its caller's index, so it is read first.
    async fn purge(&self, mut over: Vec<String>) -> Result<usize, QueueError> {
        if over.is_empty() {
            return Ok(0);
        }
        // Groups go first: their jobs wait for them.
        over.sort();
        let jobs = self.jobs(&ids(&over)).await?;
        let index: HashMap<_, _> =
            jobs.iter().map(|job| (job.id.as_str(), index_of(job))).collect();
        let mut purge = call(&self.scripts.purge, &self.keyspace);
        for id in &over {
            purge.arg(id).arg(index.get(id.as_str()).map_or("", String::as_str));
        }
        Ok(self.keyspace.run(&purge).await?)
    }
}

/// Which job was one too many for its workflow.
fn too_many(
    jobs: &[(Option<String>, Option<Share>)],
    told: &[redis::Value],
) -> Result<Pushed, QueueError> {
    let [place, open] = [1, 2].map(|place| codec::figure(told, place));
    let job = usize::try_from(place).ok().and_then(|place| jobs.get(place));
    let unknown =
        || QueueError::Broken("the push script refused a job it was not given".to_owned());
    let (workflow, share) = job.ok_or_else(unknown)?;
    Ok(Pushed::workflow_full(workflow.as_deref(), *share, open))
}

/// Who ends a job: the holder of a lease, or somebody who knows where it waits.
struct Held {
    epoch: Option<u64>,
    waits: Option<(Line, Flow, String)>,
}

fn add_delivery(call: &mut ScriptInvocation<'_>, delivery: Option<&Delivery>) {
    match delivery {
        Some(delivery) => call.arg(delivery.flow.as_str()).arg(codec::millis(delivery.after)),
        None => call.arg("").arg(0),
    };
}

/// The name of the index a job stands in.
pub(super) fn index_of(job: &Job) -> String {
    codec::index(&job.caller)
}

fn settled(code: i64) -> Settled {
    if code == 1 { Settled::Done } else { Settled::Stale }
}

fn ids(texts: &[String]) -> Vec<JobId> {
    texts.iter().filter_map(|text| JobId::parse(text)).collect()
}
