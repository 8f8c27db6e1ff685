//! The subscriptions of an outbox, and the progress of each.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::{Cursor, RoomId, Seq};

use super::super::room::Room;

/// A subscription to a room.
///
/// Invariant: `delivered` ≤ `enqueued` ≤ `high_watermark`; the events in the queue are exactly
/// those in (`delivered`, `enqueued`].
#[derive(Debug)]
pub(crate) struct RoomSubscription {
    pub(crate) room: Arc<Room>,
    /// Index in the room's list of subscribers.
    pub(crate) subscriber_id: usize,
    /// The last event delivered.
    pub(super) delivered: Cursor,
    /// The last event in the queue.
    pub(super) enqueued: Seq,
    /// The highest seq known to exist.
    pub(super) high_watermark: Seq,
    /// The last event that the room has applied: not a hint, it can be read.
    pub(super) applied: Seq,
    pub(super) catching_up: bool,
    /// The whole state has to be sent, rather than single keys.
    pub(super) snapshot: bool,
    /// Number of queued state keys.
    pub(super) state_enqueued: usize,
    /// State was delivered: a snapshot is sent also if there is none any more.
    pub(super) state_delivered: bool,
    /// The room's head before access was last checked: later ends of membership count.
    pub(super) authorised_at: Seq,
    /// The number of events in the log changed by erasures, as the room knows it.
    pub(super) erased: u64,
}

/// The start of a subscription.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubscriptionStart {
    /// The last event that the subscriber has. At most `authorised_at`.
    pub(crate) cursor: Cursor,
    /// The room's head, as read from the store before access was checked.
    pub(crate) authorised_at: Seq,
    /// Digest of the room's state that the subscriber has, if it has any: see
    /// [`RoomPosition::state`](crate::state::RoomPosition::state).
    pub(crate) state_digest: Option<u32>,
}

/// Identifies one subscription on both sides: the room's list and the outbox's table.
///
/// Ids are reused: either may belong to another subscription by now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubscriptionRef<'a> {
    pub(crate) room: &'a Room,
    /// Index in the room's list of subscribers.
    pub(crate) subscriber_id: usize,
    pub(crate) subscription_id: u32,
}

/// A subscription that is catching up, with the part of its log to read.
#[derive(Debug)]
pub(crate) struct CatchUp {
    pub(crate) subscription_id: u32,
    pub(crate) room: Arc<Room>,
    /// Index in the room's list of subscribers.
    pub(crate) subscriber_id: usize,
    pub(crate) after: Cursor,
    /// The room's count of erasures before the read: a page read with another count is read again.
    pub(crate) erased: u64,
}

impl CatchUp {
    pub(crate) fn subscription(&self) -> SubscriptionRef<'_> {
        SubscriptionRef {
            room: &self.room,
            subscriber_id: self.subscriber_id,
            subscription_id: self.subscription_id,
        }
    }
}

impl RoomSubscription {
    /// The last event that was delivered.
    pub(crate) fn delivered(&self) -> Cursor {
        self.delivered
    }

    pub(super) fn catch_up(&self, subscription_id: u32) -> CatchUp {
        let after = Cursor { epoch: self.delivered.epoch, seq: self.enqueued };
        let (room, subscriber_id, erased) = (self.room.clone(), self.subscriber_id, self.erased);
        CatchUp { subscription_id, room, subscriber_id, after, erased }
    }
}

/// The subscriptions of an outbox, by their id and by room.
///
/// Invariant: the index, where there is one, holds every subscribed room, with the id of its
/// subscription.
#[derive(Debug, Default)]
pub(super) struct SubscriptionTable {
    entries: Vec<Option<RoomSubscription>>,
    /// Only for outboxes with many subscriptions: most have a few, which are searched one by one.
    index: Option<Box<Index>>,
}

/// Ids by room. A type of its own, so that its box, which keeps outboxes without an index small, is
/// plainly intended.
#[derive(Debug)]
struct Index(HashMap<RoomId, u32>);

/// The number of entries beyond which there is an index.
const INDEXED: usize = 16;

impl SubscriptionTable {
    pub(super) fn get(&self, subscription_id: u32) -> Option<&RoomSubscription> {
        self.entries.get(subscription_id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, subscription_id: u32) -> Option<&mut RoomSubscription> {
        self.entries.get_mut(subscription_id as usize)?.as_mut()
    }

    /// Returns the referenced subscription, unless its ids were reused.
    pub(super) fn find(&mut self, of: SubscriptionRef<'_>) -> Option<&mut RoomSubscription> {
        let is_it = |subscription: &RoomSubscription| {
            std::ptr::eq(&*subscription.room, of.room)
                && subscription.subscriber_id == of.subscriber_id
        };
        self.get_mut(of.subscription_id).filter(|subscription| is_it(subscription))
    }

    pub(super) fn id_of(&self, room: &RoomId) -> Option<u32> {
        if let Some(index) = &self.index {
            return index.0.get(room).copied();
        }
        let is_it = |subscription: &Option<RoomSubscription>| {
            subscription.as_ref().is_some_and(|subscription| subscription.room.id() == room)
        };
        // Bounded by the rooms that a session may subscribe to.
        self.entries.iter().position(is_it).map(|at| at as u32)
    }

    /// Adds a subscription and returns its id.
    pub(super) fn insert(&mut self, subscription: RoomSubscription) -> u32 {
        let room = subscription.room.id().clone();
        let subscription_id = match self.entries.iter().position(Option::is_none) {
            Some(free) => {
                self.entries[free] = Some(subscription);
                free
            }
            None => {
                // One by one at first, since most outboxes have one subscription only.
                if self.entries.len() < 4 {
                    self.entries.reserve_exact(1);
                }
                self.entries.push(Some(subscription));
                self.entries.len() - 1
            }
        } as u32;
        match &mut self.index {
            Some(index) => {
                index.0.insert(room, subscription_id);
            }
            None if self.entries.len() > INDEXED => {
                let entries = self.iter().map(|(subscription_id, subscription)| {
                    (subscription.room.id().clone(), subscription_id)
                });
                self.index = Some(Box::new(Index(entries.collect())));
            }
            None => {}
        }
        subscription_id
    }

    pub(super) fn remove(&mut self, subscription_id: u32) -> Option<RoomSubscription> {
        let subscription = self.entries.get_mut(subscription_id as usize)?.take()?;
        if let Some(index) = &mut self.index {
            index.0.remove(subscription.room.id());
        }
        Some(subscription)
    }

    pub(super) fn remove_all(&mut self) -> Vec<RoomSubscription> {
        self.index = None;
        std::mem::take(&mut self.entries).into_iter().flatten().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &RoomSubscription)> {
        self.entries.iter().enumerate().filter_map(|(subscription_id, subscription)| {
            Some((subscription_id as u32, subscription.as_ref()?))
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut RoomSubscription)> {
        self.entries.iter_mut().enumerate().filter_map(|(subscription_id, subscription)| {
            Some((subscription_id as u32, subscription.as_mut()?))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }
}
