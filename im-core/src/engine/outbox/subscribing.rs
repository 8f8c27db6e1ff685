//! Which rooms a reader follows, and from where.

use std::sync::Arc;

use crate::id::{Cursor, RoomId, Seq};

use super::super::room::Room;
use super::Outbox;
use super::subscriptions::{Seat, Start, Sub};

impl Outbox {
    /// Follows `room` from `start`. The caller holds the room's lock and puts the reader, whose slot this returns, on its
    /// list at `reader`; `head` is what the room has applied, and `erased` what it knows of erasures. Where that is of another
    /// life than the one that was looked up, one of the two is behind: the reader takes nothing before its log was read.
    ///
    /// With `level`, the reader has the room's state already. `None` if the connection has ended.
    pub(crate) fn follow(
        &self,
        room: Arc<Room>,
        reader: usize,
        start: Start,
        head: Cursor,
        erased: u64,
        level: bool,
    ) -> Option<u32> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return None;
        }
        let from = start.from;
        let (offered, least) = match head.epoch == from.epoch {
            true => (head.seq, head.seq),
            false => (Seq::ZERO, from.seq.next()),
        };
        let known = least.max(start.authorised);
        let lagging = from.seq < known;
        let sub = Sub {
            room,
            reader,
            handed: from,
            queued: from.seq,
            known,
            offered,
            lagging,
            snapshot: false,
            waiting: 0,
            state_delivered: start.state.is_some(),
            authorised: start.authorised,
            erased,
        };
        let slot = inner.subs.insert(sub);
        inner.stir(slot);
        if !level {
            inner.want_snapshot(slot);
        }
        if lagging {
            inner.lagging.push_back(slot);
        }
        drop(inner);
        self.ready.notify_one();
        Some(slot)
    }

    /// Stops following. Gives back the sub, so that the room's list can be put right.
    pub(crate) fn unfollow(&self, room: &RoomId) -> Option<Sub> {
        let mut inner = self.inner.lock();
        let slot = inner.subs.id_of(room)?;
        inner.remove_subscription(slot, &self.bounds)
    }

    /// Whether this very reader still follows the room.
    pub(crate) fn follows(&self, seat: Seat<'_>) -> bool {
        self.inner.lock().subs.at(seat).is_some()
    }

    /// Stops following everything.
    pub(crate) fn unsubscribe_all(&self) -> Vec<Sub> {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let subs = inner.subs.remove_all();
        inner.lagging.clear();
        inner.clear_pushes(&self.bounds);
        let held = inner.held.take();
        drop(inner);
        drop(held);
        self.progress.notify_one();
        subs
    }

    /// How many rooms would be followed with `more`.
    pub(crate) fn count_with(&self, more: &[RoomId]) -> usize {
        let inner = self.inner.lock();
        inner.subs.len() + more.iter().filter(|room| inner.subs.id_of(room).is_none()).count()
    }

    /// Those of the cursors, which the client says it has come to, that can be believed: not of rooms that are not
    /// followed, of other epochs, or beyond what was handed over.
    pub(crate) fn retain_delivered(
        &self,
        mut cursors: Vec<(RoomId, Cursor)>,
    ) -> Vec<(RoomId, Cursor)> {
        let inner = self.inner.lock();
        cursors.retain(|(room, cursor)| {
            let sub = inner.subs.id_of(room).and_then(|slot| inner.subs.get(slot));
            sub.is_some_and(|sub| cursor.epoch == sub.handed.epoch && cursor.seq <= sub.handed.seq)
        });
        cursors
    }
}
