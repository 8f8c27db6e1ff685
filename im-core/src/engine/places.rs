//! The rooms that a downlink has begun, and what its mark says of each: kept up as the reader moves, so that a mark looks
//! only at the rooms in which something has changed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::id::{RoomId, SessionId};
use crate::state::{RoomPosition, RoomTag, SessionTag, StreamPosition, SubscriptionRecord};

use super::outbox::{HeldState, Standpoint};

/// The rooms of a downlink.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The checkpoint's revision that was looked at last.
    pub(super) rev: u64,
    /// How often something had been handed out when it was looked.
    steps: u64,
    /// What the checkpoint said of each room, also of those that turned out to be denied.
    rooms: BTreeMap<RoomId, Begun>,
    /// How many rooms have each tag.
    tags: HashMap<RoomTag, u32>,
    /// What a mark has to say, the rooms that moved most first.
    said: BTreeMap<(Reverse<u64>, RoomTag), RoomPosition>,
    /// Rooms of which the reader has still to be told something, with the revision since which they are followed.
    untold: BTreeSet<(u64, RoomId)>,
    /// Rooms of which the checkpoint says something else than at the last mark.
    changed: HashSet<RoomId>,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    followed: SubscriptionRecord,
    tag: RoomTag,
    /// How far the room has moved, if `said` has it.
    said: Option<u64>,
}

impl Places {
    /// The room has begun, as the checkpoint says.
    pub(super) fn begin(&mut self, room: RoomId, followed: SubscriptionRecord) {
        self.end(&room);
        let tag = RoomTag::of(&room);
        let alike = self.tags.entry(tag).or_default();
        *alike += 1;
        if *alike == 2 {
            self.look_again_at(tag);
        }
        self.changed.insert(room.clone());
        self.rooms.insert(room, Begun { followed, tag, said: None });
    }

    /// The room is not followed any more.
    pub(super) fn end(&mut self, room: &RoomId) {
        self.unsay(room);
        let Some(Begun { tag, .. }) = self.rooms.remove(room) else { return };
        if let Some(alike) = self.tags.get_mut(&tag) {
            *alike -= 1;
            match *alike {
                0 => drop(self.tags.remove(&tag)),
                1 => self.look_again_at(tag),
                _ => {}
            }
        }
    }

    /// Whether the room has begun.
    pub(super) fn has(&self, room: &RoomId) -> bool {
        self.rooms.contains_key(room)
    }

    /// The rooms that have begun, with what the checkpoint said of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RoomId, &SubscriptionRecord)> {
        self.rooms.iter().map(|(room, begun)| (room, &begun.followed))
    }

    /// Looks at the rooms where something has changed: those in `moved`, and those of which the checkpoint says something
    /// else. Gives how many there were.
    pub(super) fn look(
        &mut self,
        mut moved: HashSet<RoomId>,
        stand: impl Fn(&RoomId) -> Standpoint,
    ) -> usize {
        moved.extend(self.changed.drain());
        self.steps += u64::from(!moved.is_empty());
        for room in &moved {
            self.unsay(room);
            self.say(room, stand(room));
        }
        moved.len()
    }

    /// The mark, as of the last look, given by the connection that took the session as the `turn`-th.
    pub(super) fn mark(&self, session: &SessionId, turn: u64) -> StreamPosition {
        // What waits to be said is said again to whoever comes back with the mark.
        let before = |(since, _): &(u64, RoomId)| since.saturating_sub(1);
        let rev = self.untold.first().map_or(self.rev, |first| before(first).min(self.rev));
        let places = self.said.values().take(StreamPosition::MAX_ROOMS).copied().collect();
        StreamPosition {
            session: SessionTag::of(session),
            fencing_token: turn,
            step: self.steps,
            rev,
            rooms: places,
        }
    }

    fn say(&mut self, room: &RoomId, stand: Standpoint) {
        let Some(begun) = self.rooms.get_mut(room) else { return };
        let Begun { followed, tag, .. } = *begun;
        if !stand.told {
            self.untold.insert((followed.since, room.clone()));
            return;
        }
        let cursor = stand.place.map(|(cursor, _)| cursor);
        let state = match stand.place.map_or(HeldState::None, |(_, state)| state) {
            HeldState::None => 0,
            HeldState::Some => RoomPosition::PARTIAL_STATE,
            HeldState::All(state) => state,
        };
        let alike = self.tags.get(&tag).is_some_and(|count| *count > 1);
        if !alike && (cursor != Some(followed.cursor) || state != 0) {
            let moved = cursor.filter(|at| at.epoch == followed.cursor.epoch);
            let moved = moved.map_or(u64::MAX, |at| at.seq.since(followed.cursor.seq));
            begun.said = Some(moved);
            self.said.insert((Reverse(moved), tag), RoomPosition { room: tag, cursor, state });
        }
    }

    fn unsay(&mut self, room: &RoomId) {
        let Some(begun) = self.rooms.get_mut(room) else { return };
        if let Some(moved) = begun.said.take() {
            self.said.remove(&(Reverse(moved), begun.tag));
        }
        self.untold.remove(&(begun.followed.since, room.clone()));
    }

    /// Rooms with this tag have become alike, or are not any more. That is as good as never.
    fn look_again_at(&mut self, tag: RoomTag) {
        let alike = self.rooms.iter().filter(|(_, begun)| begun.tag == tag);
        self.changed.extend(alike.map(|(room, _)| room.clone()));
    }
}

#[cfg(test)]
mod tests;
