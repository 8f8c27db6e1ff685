//! The rooms of a downlink, and what its stream position says of each: kept up to date, so that a stream position costs only the
//! rooms in which something has changed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::id::{RoomId, SessionId};
use crate::state::{Followed, Mark, Place, RoomTag, SessionTag};

use super::outbox::{DeliveredPosition, DeliveredState};

/// The rooms of a downlink.
#[derive(Debug, Default)]
pub(super) struct PositionTracker {
    /// The checkpoint's revision that was looked at last.
    pub(super) rev: u64,
    /// How many refreshes found something delivered.
    steps: u64,
    /// What the checkpoint said of each room, also of those that turned out to be denied.
    rooms: BTreeMap<RoomId, StartedRoom>,
    /// How many rooms have each tag.
    tags: HashMap<RoomTag, u32>,
    /// Entries of the stream position, the rooms that moved most first.
    entries: BTreeMap<(Reverse<u64>, RoomTag), Place>,
    /// Rooms with a status that was not delivered yet, with the revision since which they are subscribed.
    pending_statuses: BTreeSet<(u64, RoomId)>,
    /// Rooms of which the checkpoint says something else than at the last refresh.
    changed: HashSet<RoomId>,
}

#[derive(Debug, Clone, Copy)]
struct StartedRoom {
    subscription: Followed,
    tag: RoomTag,
    /// How far the room has moved, if `entries` has it.
    moved_by: Option<u64>,
}

impl PositionTracker {
    /// The room has started, as the checkpoint says.
    pub(super) fn start_room(&mut self, room: RoomId, subscription: Followed) {
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

    /// The room is not subscribed any more.
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

    /// Whether the room has started.
    pub(super) fn has(&self, room: &RoomId) -> bool {
        self.rooms.contains_key(room)
    }

    /// The rooms that have started, with what the checkpoint said of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RoomId, &Followed)> {
        self.rooms.iter().map(|(room, started)| (room, &started.subscription))
    }

    /// Refreshes the entries of rooms where something has changed: those in `moved`, and those of which the checkpoint says something
    /// else. Returns how many there were.
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

    /// The stream position, as of the last refresh; `fencing_token` is that of the connection.
    pub(super) fn stream_position(&self, session: &SessionId, fencing_token: u64) -> Mark {
        // A status that was not delivered is sent again to a client that returns with this position.
        let before = |(since, _): &(u64, RoomId)| since.saturating_sub(1);
        let rev =
            self.pending_statuses.first().map_or(self.rev, |first| before(first).min(self.rev));
        let places = self.entries.values().take(Mark::MAX_ROOMS).copied().collect();
        Mark {
            session: SessionTag::of(session),
            turn: fencing_token,
            step: self.steps,
            rev,
            places,
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
            DeliveredState::Partial => Place::SOME_STATE,
            DeliveredState::All(state) => state,
        };
        let alike = self.tags.get(&tag).is_some_and(|count| *count > 1);
        if !alike && (cursor != Some(subscription.cursor) || state != 0) {
            let moved = cursor.filter(|at| at.epoch == subscription.cursor.epoch);
            let moved = moved.map_or(u64::MAX, |at| at.seq.since(subscription.cursor.seq));
            started.moved_by = Some(moved);
            self.entries.insert((Reverse(moved), tag), Place { room: tag, cursor, state });
        }
    }

    fn remove_entry(&mut self, room: &RoomId) {
        let Some(started) = self.rooms.get_mut(room) else { return };
        if let Some(moved) = started.moved_by.take() {
            self.entries.remove(&(Reverse(moved), started.tag));
        }
        self.pending_statuses.remove(&(started.subscription.since, room.clone()));
    }

    /// Rooms with this tag have become alike, or are not any more. That is as good as never.
    fn recheck_tag(&mut self, tag: RoomTag) {
        let alike = self.rooms.iter().filter(|(_, started)| started.tag == tag);
        self.changed.extend(alike.map(|(room, _)| room.clone()));
    }
}

#[cfg(test)]
mod tests;
