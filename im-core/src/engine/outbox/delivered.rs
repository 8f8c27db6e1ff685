//! What was delivered of each room, for connections that report a stream position after each batch:
//! see [`crate::state::StreamPosition`].
//!
//! The set of rooms with changes is maintained, so that a stream position costs what was delivered
//! since the last one, however many rooms are subscribed. Every change of a [`DeliveredPosition`]
//! calls [`Inner::note_moved`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::id::{Cursor, RoomId};

use super::Outbox;
use super::inner::Inner;
use super::subscriptions::RoomSubscription;

/// What was delivered of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeliveredPosition {
    /// Every status of the room that was enqueued has been delivered.
    pub(crate) status_delivered: bool,
    /// The last event delivered, and what was delivered of the room's state; `None` if the room is
    /// not subscribed.
    pub(crate) position: Option<(Cursor, DeliveredState)>,
}

/// What was delivered of a room's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveredState {
    /// Nothing.
    None,
    /// Some of it, and more is queued.
    Partial,
    /// All of it: see [`RoomPosition::state`](crate::state::RoomPosition::state).
    All(u32),
}

/// The rooms in which delivered positions have changed since the last stream position.
#[derive(Debug, Default)]
pub(super) struct PositionChanges {
    /// Rooms whose delivered position may differ from the last stream position. Bounded by the
    /// rooms that are subscribed, or were since then.
    moved: HashSet<RoomId>,
    /// The number of queued statuses of each room.
    pending_statuses: HashMap<RoomId, usize>,
}

impl Outbox {
    /// Starts tracking delivered positions. Call it before the first subscription.
    pub(crate) fn track_positions(&self) {
        self.inner.lock().position_changes = Some(Box::default());
    }

    /// The rooms whose delivered position may have changed since the last call.
    pub(crate) fn moved(&self) -> HashSet<RoomId> {
        let mut inner = self.inner.lock();
        inner
            .position_changes
            .as_mut()
            .map(|changes| std::mem::take(&mut changes.moved))
            .unwrap_or_default()
    }

    /// What was delivered of the room.
    pub(crate) fn delivered_position(&self, id: &RoomId) -> DeliveredPosition {
        // The room's digest is read between two locks of this outbox. By then the room has enqueued
        // all of that state here, and the second lock sees what is still queued: so the digest is
        // never ahead of what was delivered.
        let room = self.inner.lock().subscription(id).map(|subscription| subscription.room.clone());
        let held = room.as_ref().map_or(0, |room| room.state_digest());
        let inner = self.inner.lock();
        let status_delivered = !inner
            .position_changes
            .as_ref()
            .is_some_and(|changes| changes.pending_statuses.contains_key(id));
        // If the room was unsubscribed and subscribed again in between, the digest may be of a
        // retired room.
        let same = |subscription: &&RoomSubscription| {
            room.as_ref().is_some_and(|room| Arc::ptr_eq(&subscription.room, room))
        };
        let subscription = inner.subscription(id).filter(same);
        let position = subscription.map(|subscription| {
            // Items that arrived after the end were not enqueued any more.
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
    /// Records that the delivered position of this subscription may have changed.
    pub(super) fn note_moved(&mut self, subscription_id: u32) {
        if let Some(position_changes) = &mut self.position_changes
            && let Some(subscription) = self.subscriptions.get(subscription_id)
            && !position_changes.moved.contains(subscription.room.id())
        {
            position_changes.moved.insert(subscription.room.id().clone());
        }
    }

    /// Counts a queued status of this room.
    pub(super) fn status_enqueued(&mut self, room: &RoomId) {
        if let Some(position_changes) = &mut self.position_changes {
            *position_changes.pending_statuses.entry(room.clone()).or_default() += 1;
            position_changes.moved.insert(room.clone());
        }
    }

    /// Counts a delivered status of this room.
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
