//! What follows when a job ends.

use std::time::Duration;

use bytes::Bytes;

use crate::domain::id::{EventId, GroupId, JobId, SubscriptionId};
use crate::domain::job::Flow;
use crate::domain::result::Status;

/// A job's end: its result, and the callback that follows in the same step.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The result, as it will be told; kept byte for byte.
    pub result: Bytes,
    /// Its status.
    pub status: Status,
    /// The callback that follows, if any.
    pub delivery: Option<Delivery>,
    /// The events that subscriptions are to be told. Each is an item of its own in the line of
    /// callbacks, until it was taken or is given up.
    pub events: Vec<EventDelivery>,
    /// The callback of the job's group, in case this job is the last of it to end.
    pub group: Option<GroupDelivery>,
    /// How long the job is kept once nothing is left to do, its callback and its events taken or
    /// given up; for the last job of a group, also the group.
    pub keep: Duration,
}

/// A callback to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its host's share of the line.
    pub flow: Flow,
    /// Not before this long from now.
    pub after: Duration,
}

/// What follows when the last job of a group has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDelivery {
    /// The group.
    pub id: GroupId,
    /// Its callback; `None` when its caller polls.
    pub delivery: Option<Delivery>,
}

/// An event to be told to a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDelivery {
    /// The event; never stored twice, for a job ends once.
    pub id: EventId,
    /// Who is to be told.
    pub subscription: SubscriptionId,
    /// When, and whose share of the line it uses.
    pub delivery: Delivery,
}

/// An event in somebody's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The event.
    pub id: EventId,
    /// The job that ended. When it is run again, what was not told of its former end is dropped.
    pub job: JobId,
    /// Who is to be told.
    pub subscription: SubscriptionId,
}
