//! Which command decides about a room: the last call, however late the answers to others arrive.
//!
//! A server carries out commands in the order in which they were written, but replies may come in
//! another order, and an answer may be in flight when the application has changed its mind. So each
//! room remembers the last command that asked for it, until all commands written before that one
//! are answered.

use std::collections::BTreeMap;

use im_core::{CommandId, RoomId};

/// The origin and kind of the last request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The application, to subscribe.
    Subscribe,
    /// The application, to unsubscribe.
    Unsubscribe,
    /// The client itself: to resume, or to repair a gap.
    Own,
}

#[derive(Debug)]
struct Entry {
    by: CommandId,
    kind: Kind,
    /// The write number of the command, once it is answered.
    closed: Option<u64>,
    /// The write number of the last command about this room whose answer counted.
    seen: u64,
    /// The write number of the last call of the application about this room that was carried out.
    done: u64,
}

/// The last request about each room, while an older answer may still come.
#[derive(Debug, Default)]
pub(super) struct PendingRequests {
    rooms: BTreeMap<RoomId, Entry>,
    has_closed: bool,
}

impl PendingRequests {
    /// Records a call of the application: it overtakes all earlier requests about this room.
    pub(super) fn call(&mut self, room: &RoomId, by: CommandId, kind: Kind) {
        let before = self.rooms.get(room).map(|entry| entry.seen.max(entry.closed.unwrap_or(0)));
        let seen = before.unwrap_or(0);
        let done = self.rooms.get(room).map_or(0, |entry| entry.done);
        self.rooms.insert(room.clone(), Entry { by, kind, closed: None, seen, done });
    }

    /// Records that a call of the application about this room was carried out.
    pub(super) fn done(&mut self, room: &RoomId, order: u64) {
        if let Some(entry) = self.rooms.get_mut(room) {
            entry.done = entry.done.max(order);
        }
    }

    /// Whether a later call of the application than the one at `order` was carried out.
    pub(super) fn is_undone(&self, room: &RoomId, order: u64) -> bool {
        self.rooms.get(room).is_some_and(|entry| entry.done > order)
    }

    /// Records a request of the client itself. An unanswered call of the application takes
    /// precedence: it is carried out later.
    pub(super) fn ask(&mut self, room: &RoomId, by: CommandId) {
        if !self.is_called(room) {
            self.call(room, by, Kind::Own);
        }
    }

    /// As [`PendingRequests::ask`], if there is no other request for the room.
    pub(super) fn ask_too(&mut self, room: &RoomId, by: CommandId) {
        if !self.is_open(room) {
            self.call(room, by, Kind::Own);
        }
    }

    /// Whether an answer about this room is awaited.
    fn is_open(&self, room: &RoomId) -> bool {
        self.rooms.get(room).is_some_and(|entry| entry.closed.is_none())
    }

    /// Whether a request of the client itself about this room is unanswered.
    pub(super) fn is_own(&self, room: &RoomId) -> bool {
        self.is_open(room) && !self.is_called(room)
    }

    /// Whether a call of the application about this room is unanswered.
    pub(super) fn is_called(&self, room: &RoomId) -> bool {
        self.is_open(room) && self.rooms.get(room).is_some_and(|entry| entry.kind != Kind::Own)
    }

    /// Whether another command than `by` has asked for this room, and its answer may have come.
    pub(super) fn is_asked_by_another(&self, room: &RoomId, by: CommandId) -> bool {
        self.rooms.get(room).is_some_and(|entry| entry.by != by)
    }

    /// Whether the answer to `by` still counts for this room. `order` is the write number of that
    /// command.
    pub(super) fn counts(&mut self, room: &RoomId, by: CommandId, order: u64) -> bool {
        let Some(entry) = self.rooms.get_mut(room) else { return true };
        // Until a later subscribe is answered, the last command before it decides about the room.
        let waits = entry.kind == Kind::Subscribe && entry.closed.is_none() && order > entry.seen;
        if waits && entry.by != by {
            entry.seen = order;
        }
        entry.by == by || waits
    }

    /// Returns the rooms that the command asked for and that no answer was about.
    pub(super) fn open(&self, by: CommandId) -> Vec<RoomId> {
        let open = self.rooms.iter().filter(|(_, entry)| entry.by == by && entry.closed.is_none());
        open.map(|(room, _)| room.clone()).collect()
    }

    /// Records that the command's answer contained the room.
    pub(super) fn close(&mut self, room: &RoomId, by: CommandId, order: u64) {
        if let Some(entry) = self.rooms.get_mut(room).filter(|entry| entry.by == by) {
            entry.closed = Some(order);
            self.has_closed = true;
        }
    }

    /// Drops requests that were closed before all unanswered commands, of which `oldest` is the
    /// first that was written.
    pub(super) fn release(&mut self, oldest: impl FnOnce() -> Option<u64>) {
        if !std::mem::take(&mut self.has_closed) {
            return;
        }
        let oldest = oldest().unwrap_or(u64::MAX);
        self.rooms.retain(|_, entry| entry.closed.is_none_or(|order| order > oldest));
        self.has_closed = self.rooms.values().any(|entry| entry.closed.is_some());
    }

    /// Handles the end of the connection: no more answers come. The application's calls are retried
    /// on the next one.
    pub(super) fn cut(&mut self, is_pending: impl Fn(CommandId) -> bool) {
        self.rooms.retain(|_, entry| {
            entry.closed.is_none() && entry.kind != Kind::Own && is_pending(entry.by)
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }
}
