//! What rooms put in, and what is read from their logs for a reader who lags.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::code::Code;
use crate::id::{Cursor, Epoch, Seq, StateKey};
use crate::ports::Head;
use crate::state::{Arrival, arrival};
use crate::wire::{Push, RoomStatus, Status};

use super::super::outgoing::Outgoing;
use super::super::room::Room;
use super::inner::Inner;
use super::subs::{Lag, Seat, Sub};
use super::{Fed, Offered, Outbox, OutboxBounds};

impl Outbox {
    /// A room offers an event to a reader.
    pub(crate) fn offer(&self, seat: Seat<'_>, item: &Arc<Outgoing>, open: bool) -> Offered {
        let Some(event) = item.as_event() else { return Offered::Kept };
        let mut inner = self.inner.lock();
        let slot = seat.slot;
        if inner.closed {
            return Offered::Kept;
        }
        if item.ends_any()
            && inner.subs.at(seat).is_some()
            && inner.end_membership(slot, item, open, &self.bounds)
        {
            drop(inner);
            self.ready.notify_one();
            return Offered::Gone;
        }
        let Some(sub) = inner.subs.at(seat) else { return Offered::Kept };
        if sub.handed.epoch != event.epoch {
            // Either the reader has come to a new life before its room, or it reads the log first.
            return Offered::Kept;
        }
        sub.known = sub.known.max(event.seq);
        sub.offered = sub.offered.max(event.seq);
        if sub.lagging {
            return Offered::Kept;
        }
        match arrival(sub.queued, event.seq) {
            Arrival::Seen => return Offered::Kept,
            Arrival::Next => {
                sub.queued = event.seq;
                inner.queue(slot, event.seq, item.clone(), &self.bounds);
            }
            Arrival::Gap => {
                sub.lagging = true;
                inner.lagging.push_back(slot);
            }
        }
        drop(inner);
        self.ready.notify_one();
        Offered::Kept
    }

    /// Lagging rooms that may be fed before this one, whose log has to be read from the store. None once it has waited enough.
    pub(crate) fn may_pass(&self, lag: &Lag) -> Vec<Lag> {
        self.inner.lock().may_pass(lag)
    }

    /// A room was fed before the one whose turn it is.
    pub(crate) fn passed(&self) {
        self.inner.lock().passed += 1;
    }

    /// Events read from the log, in their order, from just after the lag's cursor.
    pub(crate) fn feed(&self, lag: &Lag, items: &[Arc<Outgoing>], open: bool) -> Fed {
        let mut inner = self.inner.lock();
        if inner.closed {
            // The connection ended while the log was read: the subscriber reads on from its cursor when it returns.
            return Fed::On;
        }
        if inner.subs.at(lag.seat()).is_some_and(|sub| sub.erased != lag.erased) {
            // What was read may hold what has been erased since: read it again.
            inner.settle(lag);
            return Fed::On;
        }
        let mut fed = Fed::Stuck;
        for item in items {
            let Some(event) = item.as_event() else { continue };
            if inner.subs.at(lag.seat()).is_none() {
                return Fed::On;
            }
            if item.ends_any() && inner.end_membership(lag.slot, item, open, &self.bounds) {
                return Fed::Gone;
            }
            let Some(sub) = inner.subs.at(lag.seat()) else { return Fed::On };
            if event.epoch != sub.handed.epoch {
                // The room began another life while the log was read.
                fed = Fed::On;
                break;
            }
            match arrival(sub.queued, event.seq) {
                Arrival::Seen => fed = Fed::On,
                Arrival::Gap => {
                    if sub.queued < lag.after.seq {
                        // The queue was dropped while the log was read: read again, from where the reader is now.
                        fed = Fed::On;
                    }
                    break;
                }
                Arrival::Next => {
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
    pub(crate) fn caught_up_to(&self, lag: &Lag, head: Seq) {
        let mut inner = self.inner.lock();
        if let Some(sub) = inner.subs.at(lag.seat()) {
            // What was heard of and is not there was a hint that did not hold; but what the room has applied since the
            // log was looked at was offered to a reader who lagged, and has to be read.
            sub.known = sub.queued.max(head).max(sub.offered);
        }
        inner.settle(lag);
    }

    /// The reader, whose right to read was checked after `head` was read, goes on from another place; it is told so. Not if
    /// it has begun another life of the room since the lag was looked at: then it was told already.
    pub(crate) fn jump(&self, lag: &Lag, status: Status, to: Cursor, head: Seq) {
        let mut inner = self.inner.lock();
        match inner.subs.at(lag.seat()) {
            Some(sub) if sub.handed.epoch == lag.after.epoch => {
                inner.jump(lag, status, to, head, &self.bounds);
            }
            _ => inner.settle(lag),
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// The same, for a reader who may not lag: its room, which stood in the life `from`, goes on from another place. Whoever
    /// is further than where the log begins now, or has come to the new life before its room, stays where it is.
    pub(crate) fn restart(
        &self,
        seat: Seat<'_>,
        from: Epoch,
        status: Status,
        to: Cursor,
        head: Head,
    ) {
        let mut inner = self.inner.lock();
        let Some(sub) = inner.subs.at(seat) else { return };
        sub.erased = head.erased;
        let head = head.cursor.seq;
        let lag = sub.lag(seat.slot);
        let is_further = match status {
            Status::Gap => sub.handed.seq >= to.seq,
            _ => from != to.epoch,
        };
        if sub.handed.epoch == to.epoch && is_further {
            sub.known = sub.known.max(head);
            sub.authorised = sub.authorised.max(head);
            sub.offered = sub.offered.max(to.seq);
            inner.settle(&lag);
            if from != to.epoch {
                // What it was given is that of the old life.
                inner.want_snapshot(seat.slot);
            }
        } else {
            inner.jump(&lag, status, to, head, &self.bounds);
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// So many events of the log were changed by erasures: what waits of this room is dropped, and read from the log again.
    pub(crate) fn read_again(&self, seat: Seat<'_>, erased: u64) {
        let mut inner = self.inner.lock();
        let slot = seat.slot;
        let Some(sub) = inner.subs.at(seat) else { return };
        sub.queued = sub.handed.seq;
        sub.erased = erased;
        let lag = sub.lag(slot);
        inner.stir(slot);
        inner.drop_enqueued(slot, &self.bounds);
        inner.want_snapshot(slot);
        inner.settle(&lag);
        drop(inner);
        self.ready.notify_one();
    }

    /// The reader may not read the room any more; it is told so. `false` if it does not by now.
    pub(crate) fn deny(&self, seat: Seat<'_>, code: Code) -> bool {
        self.deny_if(seat, code, |_| true)
    }

    /// The same, if it reads this life of the room.
    pub(crate) fn deny_in(&self, seat: Seat<'_>, epoch: Epoch, code: Code) -> bool {
        self.deny_if(seat, code, |sub| sub.handed.epoch == epoch)
    }

    fn deny_if(&self, seat: Seat<'_>, code: Code, wanted: impl FnOnce(&Sub) -> bool) -> bool {
        let mut inner = self.inner.lock();
        let is_it = inner.subs.at(seat).is_some_and(|sub| wanted(sub));
        if is_it {
            inner.deny(seat.slot, code, &self.bounds);
        }
        drop(inner);
        self.ready.notify_one();
        is_it
    }

    /// The room's whole state has to be sent still: it could not be taken now.
    pub(crate) fn require_snapshot(&self, room: &Room) {
        let mut inner = self.inner.lock();
        if let Some(slot) = inner.subs.id_of(room.id()) {
            inner.want_snapshot(slot);
        }
    }

    /// The reader was handed state of this room.
    pub(crate) fn state_delivered(&self, room: &Room) {
        let mut inner = self.inner.lock();
        if let Some(slot) = inner.subs.id_of(room.id())
            && let Some(sub) = inner.subs.get_mut(slot)
        {
            sub.state_delivered = true;
            inner.stir(slot);
        }
    }

    /// Tells the reader how a room answers from now on.
    pub(crate) fn notice(&self, status: RoomStatus) {
        self.inner.lock().enqueue_unbounded(Outgoing::new(Push::Room(status)), &self.bounds);
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
        inner.enqueue_unbounded(item, &self.bounds);
        drop(inner);
        self.ready.notify_one();
    }

    /// A state key has a newer value: it takes the place of the one that waits.
    pub(crate) fn state(&self, seat: Seat<'_>, key: &StateKey, item: &Arc<Outgoing>) {
        let mut inner = self.inner.lock();
        let slot = seat.slot;
        if inner.closed {
            return;
        }
        match inner.subs.at(seat) {
            // The snapshot that is still to be sent will have it.
            Some(sub) if sub.snapshot => return,
            Some(_) => {}
            None => return,
        }
        inner.count(item.size, &self.bounds);
        let old = inner.state.insert((slot, key.clone()), item.clone());
        if let Some(sub) = inner.subs.get_mut(slot) {
            sub.state_delivered = true;
            sub.waiting += usize::from(old.is_none());
        }
        inner.stir(slot);
        if let Some(old) = old {
            inner.uncount(old.size, &self.bounds);
        }
        if inner.bytes + inner.unreleased > self.bounds.bytes {
            inner.conflate_state(&self.bounds);
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// The whole state of a room has to be sent anew.
    pub(crate) fn renew_state(&self, seat: Seat<'_>) {
        self.with_ready(|inner| {
            if inner.subs.at(seat).is_some() {
                inner.want_snapshot(seat.slot);
            }
        });
    }
}

impl Inner {
    /// The reader goes on from `to`, and is told so.
    fn jump(&mut self, lag: &Lag, status: Status, to: Cursor, head: Seq, bounds: &OutboxBounds) {
        let Some(sub) = self.subs.at(lag.seat()) else { return };
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
        self.stir(lag.slot);
        self.drop_enqueued(lag.slot, bounds);
        self.enqueue_unbounded(Outgoing::new(Push::Room(status)), bounds);
        self.want_snapshot(lag.slot);
        self.settle(lag);
    }
}
