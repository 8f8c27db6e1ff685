//! Where a reader stands, for those who say it in a mark after each batch: see [`crate::state::Mark`].
//!
//! What is kept here is in which rooms that has changed, so that a mark costs what was handed over since the last one,
//! however many rooms are followed. Whatever changes a [`DeliveredPosition`] calls [`Inner::note_moved`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::id::{Cursor, RoomId};

use super::Outbox;
use super::inner::Inner;
use super::subscriptions::RoomSubscription;

/// Where a reader stands in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeliveredPosition {
    /// How the room answers has been handed over, as far as it was said.
    pub(crate) status_delivered: bool,
    /// The last event handed over, and what the reader has of the room's state; `None` if it does not follow the room.
    pub(crate) position: Option<(Cursor, DeliveredState)>,
}

/// What a reader has of a room's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveredState {
    /// Nothing.
    None,
    /// Something, and more is on its way.
    Partial,
    /// All of it: see [`Place::state`](crate::state::Place::state).
    All(u32),
}

/// What is kept for a reader with marks.
#[derive(Debug, Default)]
pub(super) struct PositionChanges {
    /// Rooms in which the reader may stand elsewhere than at the last mark. Bounded by the rooms that are followed, or were
    /// since then.
    moved: HashSet<RoomId>,
    /// How many notices of a room wait.
    pending_statuses: HashMap<RoomId, usize>,
}

impl Outbox {
    /// The reader has marks. Said before it follows anything.
    pub(crate) fn track_positions(&self) {
        self.inner.lock().position_changes = Some(Box::default());
    }

    /// The rooms in which the reader may stand elsewhere than when this was asked last.
    pub(crate) fn moved(&self) -> HashSet<RoomId> {
        let mut inner = self.inner.lock();
        inner
            .position_changes
            .as_mut()
            .map(|changes| std::mem::take(&mut changes.moved))
            .unwrap_or_default()
    }

    /// Where the reader stands in the room.
    pub(crate) fn delivered_position(&self, id: &RoomId) -> DeliveredPosition {
        // What the room has is read between two looks. By then the room has given all of it to this outbox, and what waits in
        // here is seen by the second: so it is never ahead of what was handed over.
        let room = self.inner.lock().subscription(id).map(|subscription| subscription.room.clone());
        let held = room.as_ref().map_or(0, |room| room.state_digest());
        let inner = self.inner.lock();
        let status_delivered = !inner
            .position_changes
            .as_ref()
            .is_some_and(|changes| changes.pending_statuses.contains_key(id));
        // Where it was taken off and followed anew between the looks, that may be of a room that was let go.
        let same = |subscription: &&RoomSubscription| {
            room.as_ref().is_some_and(|room| Arc::ptr_eq(&subscription.room, room))
        };
        let subscription = inner.subscription(id).filter(same);
        let position = subscription.map(|subscription| {
            // What came after the end was not taken any more.
            let in_sync =
                !inner.closed && !subscription.snapshot && subscription.state_enqueued == 0;
            let state = match held {
                0 if in_sync => DeliveredState::None,
                all if in_sync => DeliveredState::All(all),
                _ if subscription.state_delivered => DeliveredState::Partial,
                _ => DeliveredState::None,
            };
            (subscription.delivered, state)
        });
        DeliveredPosition { status_delivered, position }
    }
}

impl Inner {
    /// The reader may stand elsewhere in the room of this slot.
    pub(super) fn note_moved(&mut self, subscription_id: u32) {
        if let Some(position_changes) = &mut self.position_changes
            && let Some(subscription) = self.subscriptions.get(subscription_id)
            && !position_changes.moved.contains(subscription.room.id())
        {
            position_changes.moved.insert(subscription.room.id().clone());
        }
    }

    /// A notice of this room waits.
    pub(super) fn status_enqueued(&mut self, room: &RoomId) {
        if let Some(position_changes) = &mut self.position_changes {
            *position_changes.pending_statuses.entry(room.clone()).or_default() += 1;
            position_changes.moved.insert(room.clone());
        }
    }

    /// A notice of this room was handed over.
    pub(super) fn status_delivered(&mut self, room: &RoomId) {
        let Some(position_changes) = &mut self.position_changes else { return };
        if let Some(waiting) = position_changes.pending_statuses.get_mut(room) {
            *waiting -= 1;
            if *waiting == 0 {
                position_changes.pending_statuses.remove(room);
            }
        }
        position_changes.moved.insert(room.clone());
    }
}
