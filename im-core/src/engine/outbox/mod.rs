//! What waits for one reader.
//!
//! Two lanes: replies, which are never dropped and whose number the commands in flight bound; and pushes, bounded in
//! bytes. Pushes of durable events obey the one rule of reading ([`offer`]): a room's event goes in only if it is the
//! next after the room's `queued` position. When the bound is reached the durable queue is dropped, positions go back to
//! what was handed over, and the rooms are marked as lagging: [`super::feed`] then reads their logs at the reader's pace.
//!
//! Lock order: a room's lock may be held while an outbox is locked, never the other way round.

mod inner;
mod subs;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::code::Code;
use crate::id::{Cursor, Epoch, RoomId, Seq, StateKey, UserId};
use crate::state::{Offer, offer};
use crate::wire::{Bye, Push, RoomStatus, Status};

use super::config::SlowReader;
use super::outgoing::Outgoing;
use super::room::Room;

use inner::Inner;
pub(crate) use subs::{Lag, MarkedState, Start, Sub};

/// The bounds of an outbox, and the budget that all share.
#[derive(Debug)]
pub(crate) struct OutboxBounds {
    pub(crate) bytes: usize,
    pub(crate) all_bytes: usize,
    pub(crate) signals: usize,
    pub(crate) in_flight: u32,
    pub(crate) slow_reader: SlowReader,
    /// Bytes that wait in all outboxes.
    pub(crate) used: AtomicUsize,
}

/// What waits for one reader.
#[derive(Debug)]
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    bounds: Arc<OutboxBounds>,
    /// There is something to take.
    ready: Notify,
    /// A command was answered, or an answer was taken.
    progress: Notify,
}

/// What came of feeding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fed {
    /// The reader is further on.
    On,
    /// What was read does not go on from where the reader is.
    Stuck,
    /// The reader may not read on: take it off the room's list.
    Gone,
}

/// Something taken out of an outbox.
#[derive(Debug)]
pub(crate) enum Taken {
    Reply(Bytes),
    Push(Arc<Outgoing>),
}

/// A snapshot that has to be sent.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) room: Arc<Room>,
    /// Also if there is no state.
    pub(crate) even_empty: bool,
}

/// Where a reader stands in a room that it follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standpoint {
    /// The last event handed over.
    pub(crate) cursor: Cursor,
    pub(crate) state: HeldState,
    /// How the room answers has been handed over, as far as it was said.
    pub(crate) told: bool,
}

/// What a reader has of a room's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeldState {
    /// Nothing.
    None,
    /// Something, and more is on its way.
    Some,
    /// All of it: its digest.
    All(u64),
}

/// What there was to take.
#[derive(Debug, Default)]
pub(crate) struct Take {
    pub(crate) items: Vec<Taken>,
    pub(crate) bytes: usize,
    /// A room whose state has to be sent whole.
    pub(crate) snapshot: Option<Due>,
    pub(crate) bye: Option<Bye>,
    /// A room whose log has to be read before anything more of it can be taken.
    pub(crate) lag: Option<Lag>,
}

/// What became of an event that a room offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// Taken, known already, or to be read from the log later.
    Kept,
    /// The reader may not read on: take it off the list.
    Gone,
}

impl Outbox {
    pub(crate) fn new(bounds: Arc<OutboxBounds>) -> Self {
        Self { inner: Mutex::default(), bounds, ready: Notify::new(), progress: Notify::new() }
    }

    /// Says who reads, after the handshake.
    pub(crate) fn set_user(&self, user: UserId) {
        self.inner.lock().user = Some(user);
    }

    /// Who reads. `None` before the handshake and for the service's own followers.
    pub(crate) fn user(&self) -> Option<UserId> {
        self.inner.lock().user.clone()
    }

    // ---- commands and replies ----

    /// Waits until one more command may be taken.
    pub(crate) async fn admit(&self) {
        loop {
            {
                let mut inner = self.inner.lock();
                if inner.in_flight < self.bounds.in_flight || inner.closed {
                    inner.in_flight += 1;
                    return;
                }
            }
            self.progress.notified().await;
        }
    }

    /// Answers a command that was admitted.
    pub(crate) fn reply(&self, encoded: Bytes) {
        self.with_ready(|inner| inner.replies.push_back(encoded));
    }

    /// A command has gone to a lane; its reply will come with [`Outbox::append_done`].
    pub(crate) fn append_begun(&self) {
        self.inner.lock().appends += 1;
    }

    /// Answers a command that went to a lane.
    pub(crate) fn append_done(&self, encoded: Bytes) {
        self.with_ready(|inner| {
            inner.appends = inner.appends.saturating_sub(1);
            inner.replies.push_back(encoded);
        });
        self.progress.notify_one();
    }

    /// Waits until every append of this connection was answered, so that what follows sees its effects.
    pub(crate) async fn appends_settled(&self) {
        while self.inner.lock().appends > 0 {
            self.progress.notified().await;
        }
    }

    // ---- following rooms ----

    /// Follows `room` from `start`. The caller holds the room's lock and puts the reader, whose slot this returns, on its
    /// list at `reader`; `head` is what the room has applied.
    ///
    /// With `level`, the reader has the room's state already. `None` if the connection has ended.
    pub(crate) fn follow(
        &self,
        room: Arc<Room>,
        reader: usize,
        start: Start,
        head: Seq,
        level: bool,
    ) -> Option<u32> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return None;
        }
        let (from, known) = (start.from, head.max(start.authorised));
        let lagging = from.seq < known;
        let sub = Sub {
            room,
            reader,
            handed: from,
            queued: from.seq,
            known,
            offered: head,
            lagging,
            snapshot: false,
            had_state: start.state.is_some(),
            authorised: start.authorised,
        };
        let slot = inner.subs.insert(sub);
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
        let slot = inner.subs.slot_of(room)?;
        inner.remove_sub(slot, &self.bounds)
    }

    /// Stops following everything.
    pub(crate) fn unfollow_all(&self) -> Vec<Sub> {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let subs = inner.subs.remove_all();
        inner.lagging.clear();
        inner.clear_pushes(&self.bounds);
        drop(inner);
        self.progress.notify_one();
        subs
    }

    /// Where the reader stands in every room that it follows, and the other rooms of which it has still to be told
    /// something.
    pub(crate) fn standpoints(&self) -> (HashMap<RoomId, Standpoint>, HashSet<RoomId>) {
        let inner = self.inner.lock();
        let waiting: HashSet<u32> = inner.state.keys().map(|(slot, _)| *slot).collect();
        let mut untold: HashSet<RoomId> = inner
            .pushes
            .iter()
            .filter_map(|queued| match &queued.item.push {
                Push::Room(status) => Some(status.room.clone()),
                _ => None,
            })
            .collect();
        let of = |(slot, sub): (u32, &Sub)| {
            // What came after the end was not taken any more. The room sets its digest after it has handed on: what is
            // read here is never ahead of what was handed over.
            let level = !inner.closed && !sub.snapshot && !waiting.contains(&slot);
            let state = match sub.room.state_digest() {
                0 if level => HeldState::None,
                digest if level => HeldState::All(digest),
                _ if sub.had_state => HeldState::Some,
                _ => HeldState::None,
            };
            let told = !untold.contains(sub.room.id());
            (sub.room.id().clone(), Standpoint { cursor: sub.handed, state, told })
        };
        let stand: HashMap<RoomId, Standpoint> = inner.subs.iter().map(of).collect();
        untold.retain(|room| !stand.contains_key(room));
        (stand, untold)
    }

    /// How many rooms would be followed with `more`.
    pub(crate) fn followed_with(&self, more: &[RoomId]) -> usize {
        let inner = self.inner.lock();
        inner.subs.len() + more.iter().filter(|room| inner.subs.slot_of(room).is_none()).count()
    }

    /// Those of the cursors, which the client says it has come to, that can be believed: not of rooms that are not
    /// followed, of other epochs, or beyond what was handed over.
    pub(crate) fn handed_over(&self, mut cursors: Vec<(RoomId, Cursor)>) -> Vec<(RoomId, Cursor)> {
        let inner = self.inner.lock();
        cursors.retain(|(room, cursor)| {
            let sub = inner.subs.slot_of(room).and_then(|slot| inner.subs.get(slot));
            sub.is_some_and(|sub| cursor.epoch == sub.handed.epoch && cursor.seq <= sub.handed.seq)
        });
        cursors
    }

    // ---- what rooms put in ----

    /// A room offers an event to the reader in `slot`.
    pub(crate) fn offer(&self, slot: u32, item: &Arc<Outgoing>, open: bool) -> Offered {
        let Some(event) = item.as_event() else { return Offered::Kept };
        let mut inner = self.inner.lock();
        if inner.closed {
            return Offered::Kept;
        }
        if item.ends_any() && inner.end_membership(slot, item, open, &self.bounds) {
            drop(inner);
            self.ready.notify_one();
            return Offered::Gone;
        }
        let Some(sub) = inner.subs.get_mut(slot) else { return Offered::Kept };
        sub.known = sub.known.max(event.seq);
        sub.offered = sub.offered.max(event.seq);
        if sub.lagging {
            return Offered::Kept;
        }
        match offer(sub.queued, event.seq) {
            Offer::Old => return Offered::Kept,
            Offer::Take => {
                sub.queued = event.seq;
                inner.queue(slot, event.seq, item.clone(), &self.bounds);
            }
            Offer::Hole => {
                sub.lagging = true;
                inner.lagging.push_back(slot);
            }
        }
        drop(inner);
        self.ready.notify_one();
        Offered::Kept
    }

    /// Events read from the log, in their order, from just after the lag's cursor.
    pub(crate) fn feed(&self, lag: &Lag, items: &[Arc<Outgoing>], open: bool) -> Fed {
        let mut inner = self.inner.lock();
        let mut fed = Fed::Stuck;
        for item in items {
            let Some(event) = item.as_event() else { continue };
            if inner.subs.same(lag).is_none() {
                return Fed::On;
            }
            if item.ends_any() && inner.end_membership(lag.slot, item, open, &self.bounds) {
                return Fed::Gone;
            }
            let Some(sub) = inner.subs.same(lag) else { return Fed::On };
            if event.epoch != sub.handed.epoch {
                // The room began another life while the log was read.
                fed = Fed::On;
                break;
            }
            match offer(sub.queued, event.seq) {
                Offer::Old => fed = Fed::On,
                Offer::Hole => {
                    if sub.queued < lag.after.seq {
                        // The queue was dropped while the log was read: read again, from where the reader is now.
                        fed = Fed::On;
                    }
                    break;
                }
                Offer::Take => {
                    sub.queued = event.seq;
                    sub.known = sub.known.max(event.seq);
                    inner.enqueue(lag.slot, event.seq, item.clone(), &self.bounds);
                    fed = Fed::On;
                    let all_full = self.bounds.used.load(Ordering::Relaxed) > self.bounds.all_bytes;
                    if all_full || inner.bytes >= self.bounds.bytes {
                        break;
                    }
                }
            }
        }
        inner.settle(lag);
        fed
    }

    /// Nothing of this log lay beyond the lag's cursor when it was looked at, and it ended at `head`.
    pub(crate) fn fed_up_to_head(&self, lag: &Lag, head: Seq) {
        let mut inner = self.inner.lock();
        if let Some(sub) = inner.subs.same(lag) {
            // What was heard of and is not there was a hint that did not hold; but what the room has applied since the
            // log was looked at was offered to a reader who lagged, and has to be read.
            sub.known = sub.queued.max(head).max(sub.offered);
        }
        inner.settle(lag);
    }

    /// The reader, whose right to read was checked after `head` was read, goes on from another place; it is told so.
    pub(crate) fn jump(&self, lag: &Lag, status: Status, to: Cursor, head: Seq) {
        let mut inner = self.inner.lock();
        let Some(sub) = inner.subs.same(lag) else { return };
        let room = sub.room.id().clone();
        sub.handed = to;
        sub.queued = to.seq;
        if status == Status::Reset {
            sub.offered = to.seq;
            sub.authorised = head;
        }
        sub.authorised = sub.authorised.max(head);
        sub.known = head.max(to.seq).max(sub.offered);
        let status = RoomStatus { room, status, cursor: Some(to), head, code: None };
        inner.drop_queued(lag.slot, &self.bounds);
        inner.push_unbounded(Outgoing::new(Push::Room(status)), &self.bounds);
        inner.want_snapshot(lag.slot);
        inner.settle(lag);
        drop(inner);
        self.ready.notify_one();
    }

    /// The same, for a reader who may not lag, and who may be further than where the log begins now.
    pub(crate) fn restart(&self, slot: u32, status: Status, to: Cursor, head: Seq) {
        let lag = {
            let inner = self.inner.lock();
            let Some(sub) = inner.subs.get(slot) else { return };
            let is_further = sub.handed.epoch == to.epoch && sub.handed.seq >= to.seq;
            if status == Status::Gap && is_further {
                return;
            }
            sub.lag(slot)
        };
        self.jump(&lag, status, to, head);
    }

    /// What waits of this room is dropped, and read from the log again.
    pub(crate) fn read_again(&self, slot: u32) {
        let mut inner = self.inner.lock();
        let Some(sub) = inner.subs.get_mut(slot) else { return };
        sub.queued = sub.handed.seq;
        let lag = sub.lag(slot);
        inner.drop_queued(slot, &self.bounds);
        inner.want_snapshot(slot);
        inner.settle(&lag);
        drop(inner);
        self.ready.notify_one();
    }

    /// The reader may not read the room any more; it is told so. `false` if the slot is another room's by now.
    pub(crate) fn deny(&self, slot: u32, room: &Room, code: Code) -> bool {
        self.deny_if(slot, room, code, |_| true)
    }

    /// The same, if it reads this life of the room.
    pub(crate) fn deny_in(&self, slot: u32, room: &Room, epoch: Epoch, code: Code) -> bool {
        self.deny_if(slot, room, code, |sub| sub.handed.epoch == epoch)
    }

    fn deny_if(
        &self,
        slot: u32,
        room: &Room,
        code: Code,
        wanted: impl FnOnce(&Sub) -> bool,
    ) -> bool {
        let mut inner = self.inner.lock();
        let is_it =
            inner.subs.get(slot).is_some_and(|sub| std::ptr::eq(&*sub.room, room) && wanted(sub));
        if is_it {
            inner.deny(slot, code, &self.bounds);
        }
        drop(inner);
        self.ready.notify_one();
        is_it
    }

    /// The reader was handed state of this room.
    pub(crate) fn state_handed(&self, room: &Room) {
        let mut inner = self.inner.lock();
        if let Some(slot) = inner.subs.slot_of(room.id())
            && let Some(sub) = inner.subs.get_mut(slot)
        {
            sub.had_state = true;
        }
    }

    /// Tells the reader how a room answers from now on.
    pub(crate) fn notice(&self, status: RoomStatus) {
        self.inner.lock().push_unbounded(Outgoing::new(Push::Room(status)), &self.bounds);
        self.ready.notify_one();
    }

    /// A signal for the reader. The oldest one goes when there are too many.
    pub(crate) fn signal(&self, item: Arc<Outgoing>) {
        let mut inner = self.inner.lock();
        if inner.closed || inner.bytes + inner.unreleased + item.size > self.bounds.bytes {
            return;
        }
        if inner.signals >= self.bounds.signals {
            let Some(at) = inner.pushes.iter().position(|q| matches!(q.item.push, Push::Signal(_)))
            else {
                return;
            };
            if let Some(old) = inner.pushes.remove(at) {
                inner.uncount(old.item.size, &self.bounds);
                inner.signals -= 1;
            }
        }
        inner.signals += 1;
        inner.push_unbounded(item, &self.bounds);
        drop(inner);
        self.ready.notify_one();
    }

    /// A state key has a newer value: it takes the place of the one that waits.
    pub(crate) fn state(&self, slot: u32, key: &StateKey, item: &Arc<Outgoing>) {
        let mut inner = self.inner.lock();
        match inner.subs.get(slot) {
            // The snapshot that is still to be sent will have it.
            Some(sub) if sub.snapshot => return,
            Some(_) if !inner.closed => {}
            _ => return,
        }
        if let Some(sub) = inner.subs.get_mut(slot) {
            sub.had_state = true;
        }
        inner.count(item.size, &self.bounds);
        if let Some(old) = inner.state.insert((slot, key.clone()), item.clone()) {
            inner.uncount(old.size, &self.bounds);
        }
        if inner.bytes + inner.unreleased > self.bounds.bytes {
            inner.conflate_state(&self.bounds);
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// The whole state of a room has to be sent anew.
    pub(crate) fn renew_state(&self, slot: u32) {
        self.with_ready(|inner| inner.want_snapshot(slot));
    }

    // ---- the reader's side ----

    /// Takes what there is, replies first, up to about `max_bytes` but at least one item if there is any. Never waits.
    pub(crate) fn take(&self, max_bytes: usize) -> Take {
        let mut inner = self.inner.lock();
        let mut take = Take::default();
        let answered = inner.take_replies(&mut take, max_bytes);
        let feed = inner.feed_next && !inner.closed && take.items.is_empty();
        if feed {
            take.lag = inner.next_lag();
        }
        if take.lag.is_none() {
            inner.take_pushes(&mut take, max_bytes, &self.bounds);
        }
        let drained = inner.replies.is_empty() && inner.pushes.is_empty() && inner.state.is_empty();
        if inner.closed {
            if drained {
                take.bye = inner.bye.take();
            }
        } else if drained && take.lag.is_none() {
            take.snapshot = inner.take_snapshot();
            if take.items.is_empty() && take.snapshot.is_none() {
                take.lag = inner.next_lag();
            }
            inner.shrink();
        }
        inner.feed_next = take.lag.is_none() && !inner.lagging.is_empty();
        inner.unreleased += take.bytes;
        drop(inner);
        if answered > 0 {
            self.progress.notify_one();
        }
        take
    }

    /// Waits until there may be something to take.
    pub(crate) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Bytes are on their way that were not in the queue.
    pub(crate) fn hand_over(&self, bytes: usize) {
        self.inner.lock().unreleased += bytes;
    }

    /// Bytes were written and no longer count.
    pub(crate) fn release(&self, bytes: usize) {
        let mut inner = self.inner.lock();
        inner.unreleased = inner.unreleased.saturating_sub(bytes);
    }

    /// The log could not be read: leave it until [`Outbox::wake`].
    pub(crate) fn pause_feed(&self, lag: &Lag) {
        let mut inner = self.inner.lock();
        // To the back, so that one log that cannot be read does not keep the others waiting.
        inner.settle(lag);
        inner.feed_paused = true;
    }

    /// A tick has passed: what was left may be tried again, and a silent connection needs no queues.
    pub(crate) fn wake(&self) {
        let mut inner = self.inner.lock();
        inner.give_back(0);
        if inner.feed_paused {
            inner.feed_paused = false;
            drop(inner);
            self.ready.notify_one();
        }
    }

    /// Wakes the reader, so that it looks at its flags.
    pub(crate) fn nudge(&self) {
        self.ready.notify_one();
    }

    /// Ends the connection once what waits is written, replies and the like. The first reason stands.
    pub(crate) fn close(&self, bye: Bye) {
        let mut inner = self.inner.lock();
        if inner.bye.is_none() && !inner.closed {
            inner.bye = Some(bye);
            inner.closed = true;
            // Durable events are in the log; they are not worth waiting for.
            inner.clear_pushes(&self.bounds);
        }
        drop(inner);
        self.ready.notify_one();
        self.progress.notify_one();
    }

    /// Whether the connection is to end.
    pub(crate) fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    fn with_ready(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner.lock());
        self.ready.notify_one();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.bounds.used.fetch_sub(self.inner.get_mut().bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
