//! The rooms of a downlink and their entries in its stream position, updated incrementally: a
//! stream position costs only the rooms that changed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::id::{RoomId, SessionId};
use crate::state::{RoomPosition, RoomTag, SessionTag, StreamPosition, SubscriptionRecord};

use super::outbox::{DeliveredPosition, DeliveredState};

/// The rooms of a downlink.
#[derive(Debug, Default)]
pub(super) struct PositionTracker {
    /// The checkpoint revision that was read last.
    pub(super) rev: u64,
    /// The number of refreshes that found changes.
    steps: u64,
    /// The checkpoint's record of each room, also of those that turned out to be denied.
    rooms: BTreeMap<RoomId, StartedRoom>,
    /// The number of rooms with each tag.
    tags: HashMap<RoomTag, u32>,
    /// Entries of the stream position, the rooms that moved most first.
    entries: BTreeMap<(Reverse<u64>, RoomTag), RoomPosition>,
    /// Rooms with an undelivered status, with the revision since which they are subscribed.
    pending_statuses: BTreeSet<(u64, RoomId)>,
    /// Rooms whose checkpoint record changed since the last refresh.
    changed: HashSet<RoomId>,
}

#[derive(Debug, Clone, Copy)]
struct StartedRoom {
    subscription: SubscriptionRecord,
    tag: RoomTag,
    /// How far the room has moved, if it has an entry in `entries`.
    moved_by: Option<u64>,
}

impl PositionTracker {
    /// Adds a room with its checkpoint record.
    pub(super) fn start_room(&mut self, room: RoomId, subscription: SubscriptionRecord) {
        self.stop_room(&room);
        let tag = RoomTag::of(&room);
        let alike = self.tags.entry(tag).or_default();
        *alike += 1;
        if *alike == 2 {
            self.recheck_tag(tag);
        }
        self.changed.insert(room.clone());
        self.rooms.insert(room, StartedRoom { subscription, tag, moved_by: None });
    }

    /// Removes a room that is no longer subscribed.
    pub(super) fn stop_room(&mut self, room: &RoomId) {
        self.remove_entry(room);
        let Some(StartedRoom { tag, .. }) = self.rooms.remove(room) else { return };
        if let Some(alike) = self.tags.get_mut(&tag) {
            *alike -= 1;
            match *alike {
                0 => drop(self.tags.remove(&tag)),
                1 => self.recheck_tag(tag),
                _ => {}
            }
        }
    }

    /// Returns whether the room has started.
    pub(super) fn has(&self, room: &RoomId) -> bool {
        self.rooms.contains_key(room)
    }

    /// The started rooms, with the checkpoint record of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RoomId, &SubscriptionRecord)> {
        self.rooms.iter().map(|(room, started)| (room, &started.subscription))
    }

    /// Refreshes the entries of changed rooms: those in `moved`, and those whose checkpoint record
    /// changed. Returns their number.
    pub(super) fn refresh(
        &mut self,
        mut moved: HashSet<RoomId>,
        delivered: impl Fn(&RoomId) -> DeliveredPosition,
    ) -> usize {
        moved.extend(self.changed.drain());
        self.steps += u64::from(!moved.is_empty());
        for room in &moved {
            self.remove_entry(room);
            self.add_entry(room, delivered(room));
        }
        moved.len()
    }

    /// The stream position as of the last refresh; `fencing_token` is that of the connection.
    pub(super) fn stream_position(
        &self,
        session: &SessionId,
        fencing_token: u64,
    ) -> StreamPosition {
        // An undelivered status is sent again to a client that resumes with this position.
        let before = |(since, _): &(u64, RoomId)| since.saturating_sub(1);
        let rev =
            self.pending_statuses.first().map_or(self.rev, |first| before(first).min(self.rev));
        let places = self.entries.values().take(StreamPosition::MAX_ROOMS).copied().collect();
        StreamPosition {
            session: SessionTag::of(session),
            fencing_token,
            step: self.steps,
            rev,
            rooms: places,
        }
    }

    fn add_entry(&mut self, room: &RoomId, delivered: DeliveredPosition) {
        let Some(started) = self.rooms.get_mut(room) else { return };
        let StartedRoom { subscription, tag, .. } = *started;
        if !delivered.status_delivered {
            self.pending_statuses.insert((subscription.since, room.clone()));
            return;
        }
        let cursor = delivered.position.map(|(cursor, _)| cursor);
        let state = match delivered.position.map_or(DeliveredState::None, |(_, state)| state) {
            DeliveredState::None => 0,
            DeliveredState::Partial => RoomPosition::PARTIAL_STATE,
            DeliveredState::All(state) => state,
        };
        let alike = self.tags.get(&tag).is_some_and(|count| *count > 1);
        if !alike && (cursor != Some(subscription.cursor) || state != 0) {
            let moved = cursor.filter(|at| at.epoch == subscription.cursor.epoch);
            let moved = moved.map_or(u64::MAX, |at| at.seq.since(subscription.cursor.seq));
            started.moved_by = Some(moved);
            self.entries.insert((Reverse(moved), tag), RoomPosition { room: tag, cursor, state });
        }
    }

    fn remove_entry(&mut self, room: &RoomId) {
        let Some(started) = self.rooms.get_mut(room) else { return };
        if let Some(moved) = started.moved_by.take() {
            self.entries.remove(&(Reverse(moved), started.tag));
        }
        self.pending_statuses.remove(&(started.subscription.since, room.clone()));
    }

    /// Rechecks the rooms with this tag, which became ambiguous or unique. That is extremely rare.
    fn recheck_tag(&mut self, tag: RoomTag) {
        let alike = self.rooms.iter().filter(|(_, started)| started.tag == tag);
        self.changed.extend(alike.map(|(room, _)| room.clone()));
    }
}

#[cfg(test)]
mod tests;
