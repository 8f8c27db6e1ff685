//! Where a reader stands, for those who say it in a mark after each batch: see [`crate::state::Mark`].
//!
//! What is kept here is in which rooms that has changed, so that a mark costs what was handed over since the last one,
//! however many rooms are followed. Whatever changes a [`Standpoint`] calls [`Inner::stir`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::id::{Cursor, RoomId};

use super::Outbox;
use super::inner::Inner;
use super::subs::Sub;

/// Where a reader stands in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standpoint {
    /// How the room answers has been handed over, as far as it was said.
    pub(crate) told: bool,
    /// The last event handed over, and what the reader has of the room's state; `None` if it does not follow the room.
    pub(crate) place: Option<(Cursor, HeldState)>,
}

/// What a reader has of a room's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeldState {
    /// Nothing.
    None,
    /// Something, and more is on its way.
    Some,
    /// All of it: see [`RoomPosition::state`](crate::state::Place::state).
    All(u32),
}

/// What is kept for a reader with marks.
#[derive(Debug, Default)]
pub(super) struct Marked {
    /// Rooms in which the reader may stand elsewhere than at the last mark. Bounded by the rooms that are followed, or were
    /// since then.
    moved: HashSet<RoomId>,
    /// How many notices of a room wait.
    untold: HashMap<RoomId, usize>,
}

impl Outbox {
    /// The reader has marks. Said before it follows anything.
    pub(crate) fn track_positions(&self) {
        self.inner.lock().marked = Some(Box::default());
    }

    /// The rooms in which the reader may stand elsewhere than when this was asked last.
    pub(crate) fn moved(&self) -> HashSet<RoomId> {
        let mut inner = self.inner.lock();
        inner.marked.as_mut().map(|marked| std::mem::take(&mut marked.moved)).unwrap_or_default()
    }

    /// Where the reader stands in the room.
    pub(crate) fn standpoint(&self, id: &RoomId) -> Standpoint {
        // What the room has is read between two looks. By then the room has given all of it to this outbox, and what waits in
        // here is seen by the second: so it is never ahead of what was handed over.
        let room = self.inner.lock().subscription(id).map(|sub| sub.room.clone());
        let held = room.as_ref().map_or(0, |room| room.state_digest());
        let inner = self.inner.lock();
        let told = !inner.marked.as_ref().is_some_and(|marked| marked.untold.contains_key(id));
        // Where it was taken off and followed anew between the looks, that may be of a room that was let go.
        let same = |sub: &&Sub| room.as_ref().is_some_and(|room| Arc::ptr_eq(&sub.room, room));
        let sub = inner.subscription(id).filter(same);
        let place = sub.map(|sub| {
            // What came after the end was not taken any more.
            let level = !inner.closed && !sub.snapshot && sub.waiting == 0;
            let state = match held {
                0 if level => HeldState::None,
                all if level => HeldState::All(all),
                _ if sub.state_delivered => HeldState::Some,
                _ => HeldState::None,
            };
            (sub.handed, state)
        });
        Standpoint { told, place }
    }
}

impl Inner {
    /// The reader may stand elsewhere in the room of this slot.
    pub(super) fn stir(&mut self, slot: u32) {
        if let Some(marked) = &mut self.marked
            && let Some(sub) = self.subs.get(slot)
            && !marked.moved.contains(sub.room.id())
        {
            marked.moved.insert(sub.room.id().clone());
        }
    }

    /// A notice of this room waits.
    pub(super) fn untold(&mut self, room: &RoomId) {
        if let Some(marked) = &mut self.marked {
            *marked.untold.entry(room.clone()).or_default() += 1;
            marked.moved.insert(room.clone());
        }
    }

    /// A notice of this room was handed over.
    pub(super) fn told(&mut self, room: &RoomId) {
        let Some(marked) = &mut self.marked else { return };
        if let Some(waiting) = marked.untold.get_mut(room) {
            *waiting -= 1;
            if *waiting == 0 {
                marked.untold.remove(room);
            }
        }
        marked.moved.insert(room.clone());
    }
}
