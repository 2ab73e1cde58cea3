//! The posts a replica makes at the same time, and whose they are: nobody's receivers that never
//! answer take all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::job::Owner;

/// An owner has at most so many posts under way for each slot that is free: alone it gets three
/// quarters of the slots, the more owners want many the less each of them gets, and some are always
/// left for one that has none.
const FOR_EACH_FREE: usize = 3;

/// The slots of a replica. One loop takes them.
pub(super) struct Slots {
    count: usize,
    taken: Arc<Taken>,
}

#[derive(Default)]
struct Taken {
    by_owner: Mutex<HashMap<Owner, usize>>,
    freed: Notify,
}

/// What may be taken.
pub(super) struct Room {
    /// How many, whosever they are.
    pub(super) most: usize,
    /// Owners that have their part.
    pub(super) past: Vec<Owner>,
}

impl Room {
    /// Whether a slot that becomes free changes what may be taken.
    pub(super) const fn is_tight(&self) -> bool {
        self.most == 0 || !self.past.is_empty()
    }
}

/// An owner's slot, until it is dropped.
pub(super) struct Place {
    owner: Owner,
    taken: Arc<Taken>,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self { count, taken: Arc::default() }
    }

    /// What may be taken now.
    pub(super) fn room(&self) -> Room {
        let by_owner = self.taken.lock();
        let free = self.count.saturating_sub(by_owner.values().sum());
        // Each that is taken is one less that is free.
        let more = |own| {
            let more = (free * FOR_EACH_FREE).saturating_sub(own) / (FOR_EACH_FREE + 1);
            if own == 0 { more.max(free.min(1)) } else { more }
        };
        let mut room = Room { most: more(0), past: Vec::new() };
        for (owner, own) in by_owner.iter() {
            match more(*own) {
                0 => room.past.push(owner.clone()),
                more => room.most = room.most.min(more),
            }
        }
        room
    }

    /// Takes one of those there is room for.
    pub(super) fn take(&self, owner: Owner) -> Place {
        *self.taken.lock().entry(owner.clone()).or_default() += 1;
        Place { owner, taken: Arc::clone(&self.taken) }
    }

    /// Waits until a slot has become free since this was last asked.
    pub(super) async fn freed(&self) {
        self.taken.freed.notified().await;
    }
}

impl Taken {
    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, usize>> {
        self.by_owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_owner = self.taken.lock();
        let left = by_owner.remove(&self.owner).unwrap_or_default().saturating_sub(1);
        if left > 0 {
            by_owner.insert(self.owner.clone(), left);
        }
        drop(by_owner);
        self.taken.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all there is room for, as the loop does while only this owner wants something.
    fn fill(slots: &Slots, owner: &Owner) -> Vec<Place> {
        let mut places = Vec::new();
        loop {
            let room = slots.room();
            if room.most == 0 || room.past.contains(owner) {
                return places;
            }
            places.extend((0..room.most).map(|_| slots.take(owner.clone())));
        }
    }

    #[test]
    fn one_owner_gets_three_quarters_and_leaves_the_others_some() {
        let slots = Slots::new(64);
        let [one, two, three] = ["one", "two", "three"].map(Owner::of);
        let first = fill(&slots, &one);
        assert_eq!(first.len(), 48);
        let second = fill(&slots, &two);
        assert_eq!(second.len(), 12);
        let room = slots.room();
        assert!(room.past.contains(&one) && room.past.contains(&two) && room.is_tight());
        let third = fill(&slots, &three);
        assert_eq!(third.len(), 3);
        drop(first);
        assert_eq!(fill(&slots, &two).len() + second.len(), 45, "three of each four of 61");
    }

    #[test]
    fn few_slots_are_all_of_use_and_never_more_than_there_are() {
        for count in 1..200 {
            let slots = Slots::new(count);
            let owners: Vec<Owner> = (0..20).map(|n| Owner::of(&n.to_string())).collect();
            let places: Vec<Vec<Place>> = owners.iter().map(|one| fill(&slots, one)).collect();
            let taken: Vec<usize> = places.iter().map(Vec::len).collect();
            assert_eq!(taken[0], (count * 3 / 4).max(1), "{count}: {taken:?}");
            assert_eq!(taken.iter().sum::<usize>(), count, "{count}: {taken:?}");
            drop(places);
            assert!(slots.taken.lock().is_empty());
            assert!(!slots.room().is_tight());
        }
    }

    #[tokio::test]
    async fn a_slot_that_became_free_before_it_was_waited_for_is_noticed() {
        let slots = Slots::new(1);
        let place = slots.take(Owner::of("one"));
        assert_eq!(slots.room().most, 0);
        drop(place);
        slots.freed().await;
        assert_eq!(slots.room().most, 1);
    }
}
