//! Between the domain's types and what stands in Redis.

use std::time::Duration;

use redis::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::{Event, Item, Lease, LeaseToken, QueueError};
use crate::domain::id::{EventId, JobId, SubscriptionId, digest16};
use crate::domain::job::{CachedPrefix, Group, Job, Share};

/// What the lease script tells of one item: id, epoch, losses, tries, replays, progress, text
/// and result.
pub(super) type Held = (String, u64, u32, u32, u32, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// A lease out of what the script told.
pub(super) fn lease(held: Held) -> Result<Lease, QueueError> {
    let (id, epoch, losses, tries, replays, progress, text, result) = held;
    let result = result.map(|result| read(&id, &result)).transpose()?.map(Box::new);
    let item = if let Some(event) = EventId::parse(&id) {
        let damaged = || QueueError::Broken(format!("{id} tells of no job"));
        let event = event_of(event, &text).ok_or_else(damaged)?;
        Item::Event(Box::new(event), result.ok_or_else(damaged)?)
    } else if id.starts_with("grp_") {
        Item::Group(Box::new(read::<Group>(&id, &text)?))
    } else {
        Item::Job(Box::new(read::<Job>(&id, &text)?), result)
    };
    let progress = (!progress.is_empty()).then(|| progress.into());
    Ok(Lease { token: LeaseToken { id, epoch }, item, losses, tries, replays, progress })
}

/// An event out of its text, `<job>/<subscription>`.
fn event_of(id: EventId, text: &[u8]) -> Option<Event> {
    let (job, subscription) = std::str::from_utf8(text).ok()?.split_once('/')?;
    let (job, subscription) = (JobId::parse(job)?, SubscriptionId::parse(subscription)?);
    Some(Event { id, job, subscription })
}

/// Reads stored JSON; `what` names it in the error.
pub(super) fn read<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, QueueError> {
    serde_json::from_slice(text)
        .map_err(|fault| QueueError::Broken(format!("{what} cannot be read: {fault}")))
}

/// Writes JSON to be stored.
pub(super) fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, QueueError> {
    serde_json::to_vec(value)
        .map_err(|fault| QueueError::Broken(format!("cannot be written as JSON: {fault}")))
}

/// The name of a caller's index: callers' text never becomes part of a key.
pub(super) fn index(caller: &str) -> String {
    digest16(&[caller])
}

/// What a job asks beyond being run, as the push script takes it.
pub(super) fn asked(job: &Job) -> String {
    let most = job.share.and_then(|share| share.max_queued).map(|most| most.to_string());
    match (job.deliver_by, job.share, &job.prefix) {
        (None, None, None) => String::new(),
        (by, of, prefix) => format!(
            "{}/{}/{}/{}",
            by.map(|by| by.timestamp_millis().max(0).to_string()).unwrap_or_default(),
            most.unwrap_or_default(),
            of.map(|of| share(&of)).unwrap_or_default(),
            prefix.as_ref().map_or("", CachedPrefix::digest)
        ),
    }
}

/// What a job's prompt begins with, as it is kept: `digest:ms`.
pub(super) fn prefix(job: &Job) -> String {
    let prefix = job.prefix.as_ref();
    prefix.map(|at| format!("{}:{}", at.digest(), at.warm_ms())).unwrap_or_default()
}

/// A flow's share of a line as it is kept: `weight:max_running`.
pub(super) fn share(share: &Share) -> String {
    let most = share.max_running.map(|most| most.to_string()).unwrap_or_default();
    format!("{}:{most}", share.weight)
}

/// The figure at this place of what a script told.
pub(super) fn figure(told: &[Value], place: usize) -> u64 {
    match told.get(place) {
        Some(Value::Int(figure)) => u64::try_from(*figure).unwrap_or_default(),
        _ => 0,
    }
}

/// Whole milliseconds, as scripts take them.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(MOST_MILLIS)
}

/// A thousand years: what Lua's numbers and Redis' expiry take without overflow.
const MOST_MILLIS: u64 = 1_000 * 366 * 86_400_000;
