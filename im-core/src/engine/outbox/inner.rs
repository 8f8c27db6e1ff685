//! What is behind an outbox's lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::code::Code;
use crate::id::{RoomId, Seq, StateKey, UserId};
use crate::wire::{Disconnect, Event, MemberChange, Push, RoomStatus, Status};

use super::super::config::SlowSubscriber;
use super::super::outgoing::{Outgoing, reads_on};
use super::super::room::StateHold;
use super::standpoint::Marked;
use super::subs::{Lag, Sub, Subs};
use super::{Due, OutboxBounds, Take, Taken};

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// Who reads. `None` before the handshake and for the service's own followers.
    pub(super) user: Option<UserId>,
    pub(super) replies: VecDeque<Bytes>,
    pub(super) pushes: VecDeque<Queued>,
    /// The newest of each state key that the reader has not taken yet.
    pub(super) state: BTreeMap<(u32, StateKey), Arc<Outgoing>>,
    /// Bytes in `pushes` and `state`.
    pub(super) bytes: usize,
    /// Bytes that were handed over and not released.
    pub(super) unreleased: usize,
    /// Bytes of acks that wait or were handed over and not released.
    pub(super) acks: usize,
    /// Ticks since acks were taken, written in part or released last, while all acks together are nearly too many.
    pub(super) stuck: u32,
    pub(super) signals: usize,
    pub(super) subs: Subs,
    /// Only for readers with marks.
    pub(super) marked: Option<Box<Marked>>,
    /// Slots whose log has to be read, in turn.
    pub(super) lagging: VecDeque<u32>,
    /// How many rooms passed the one whose turn it is.
    pub(super) passed: u8,
    /// Whether a lagging room comes first at the next take, so that busy rooms cannot keep it waiting.
    pub(super) catch_up_next: bool,
    /// A task reads what the subscriber needs from the store.
    pub(super) reading: bool,
    /// State that it has read, in memory until the next take.
    pub(super) held: Option<StateHold>,
    /// Slots whose whole state has to be sent.
    pub(super) snapshots: Vec<u32>,
    /// The store failed while a log was read: try again at the next tick.
    pub(super) catch_up_paused: bool,
    /// Commands taken whose replies were not handed over.
    pub(super) in_flight: u32,
    /// Appends handed to a lane and not answered.
    pub(super) appends: u32,
    /// Why it ends, until that is handed over.
    pub(super) bye: Option<Disconnect>,
    /// The code of that, to the end.
    pub(super) ended: Option<u16>,
    pub(super) closed: bool,
}

#[derive(Debug)]
pub(super) struct Queued {
    pub(super) slot: u32,
    pub(super) seq: Seq,
    pub(super) item: Arc<Outgoing>,
}

/// Ticks after which a connection that takes none of its acks is ended, if all acks together are nearly too many.
const STUCK_TICKS: u32 = 5;

/// Rooms that pass a lagging one whose log has to be read from the store: one page in nine is read at least, and a room waits
/// for eight times as many pages as there are rooms before it.
const MAX_PASSES: u8 = 8;
/// Lagging rooms that are looked at for one that may pass.
const MAX_LOOKED_AT: usize = 16;

/// No room's slot: pushes that belong to no room that is followed.
const NO_SUBSCRIPTION: u32 = u32::MAX;

impl Inner {
    /// The room as it is followed, if it is.
    pub(super) fn subscription(&self, room: &RoomId) -> Option<&Sub> {
        self.subs.get(self.subs.id_of(room)?)
    }

    /// After feeding: is the room level, or does it wait for its next turn?
    pub(super) fn settle(&mut self, lag: &Lag) {
        if self.lagging.front() == Some(&lag.slot) {
            self.passed = 0;
        }
        // The slot may be another room's by now.
        let Some(sub) = self.subs.at(lag.seat()) else { return };
        sub.lagging = sub.queued < sub.known;
        let lagging = sub.lagging;
        self.lagging.retain(|slot| *slot != lag.slot);
        if lagging {
            self.lagging.push_back(lag.slot);
        }
    }

    pub(super) fn next_catch_up(&mut self) -> Option<Lag> {
        if self.catch_up_paused || self.reading {
            return None;
        }
        // It stays in the queue until it is settled, so that a reader who is interrupted while reading finds it again.
        while let Some(slot) = self.lagging.front().copied() {
            match self.subs.get(slot) {
                Some(sub) if sub.lagging => return Some(sub.lag(slot)),
                _ => self.lagging.pop_front(),
            };
        }
        None
    }

    /// Lagging rooms that may be fed before `lag`, the nearest ones in turn. None once enough of them have been, until it is
    /// settled itself.
    pub(super) fn may_pass(&mut self, lag: &Lag) -> Vec<Lag> {
        if self.passed >= MAX_PASSES {
            return Vec::new();
        }
        let others = self.lagging.iter().copied().filter(|slot| *slot != lag.slot);
        let lags = others.filter_map(|slot| Some((slot, self.subs.get(slot)?)));
        lags.filter(|(_, sub)| sub.lagging)
            .map(|(slot, sub)| sub.lag(slot))
            .take(MAX_LOOKED_AT)
            .collect()
    }

    pub(super) fn queue(
        &mut self,
        slot: u32,
        seq: Seq,
        item: Arc<Outgoing>,
        bounds: &OutboxBounds,
    ) {
        self.enqueue(slot, seq, item, bounds);
        let full = self.bytes + self.unreleased > bounds.bytes;
        if full || bounds.used.load(Ordering::Relaxed) > bounds.all_bytes {
            self.overflow(bounds);
        }
    }

    pub(super) fn enqueue(
        &mut self,
        slot: u32,
        seq: Seq,
        item: Arc<Outgoing>,
        bounds: &OutboxBounds,
    ) {
        self.count(item.size, bounds);
        self.pushes.push_back(Queued { slot, seq, item });
    }

    pub(super) fn enqueue_unbounded(&mut self, item: Arc<Outgoing>, bounds: &OutboxBounds) {
        if let Push::Room(status) = &item.push {
            self.untold(&status.room);
        }
        self.enqueue(NO_SUBSCRIPTION, Seq::ZERO, item, bounds);
    }

    /// The queue is dropped; durable events will come from the log, state as a snapshot, signals not at all.
    pub(super) fn overflow(&mut self, bounds: &OutboxBounds) {
        metrics::counter!(super::super::metrics::OUTBOX_OVERFLOWS).increment(1);
        // Only for what it lets pile up itself, and never the service's own followers.
        let full = self.bytes + self.unreleased > bounds.bytes;
        let disconnect_unread =
            bounds.slow_subscriber == SlowSubscriber::Disconnect && full && self.user.is_some();
        if disconnect_unread {
            self.disconnect_slow();
        }
        self.clear_pushes(bounds);
    }

    fn disconnect_slow(&mut self) {
        if !self.closed {
            let code = Code::SlowSubscriber;
            let message = code.meaning().into();
            self.end(Disconnect { code: code.number(), message, retry_after: None });
        }
    }

    /// The connection ends for this reason.
    pub(super) fn end(&mut self, bye: Disconnect) {
        self.ended = Some(bye.code);
        self.bye = Some(bye);
        self.closed = true;
    }

    /// Drops the queue except notices, which are few and said once only.
    ///
    /// Every cursor goes back to what was delivered, so that the events dropped here are read from the log again and a page
    /// that is being read now, and continues the dropped queue, is not taken.
    pub(super) fn clear_pushes(&mut self, bounds: &OutboxBounds) {
        let notices: VecDeque<Queued> =
            self.pushes.drain(..).filter(|q| matches!(q.item.push, Push::Room(_))).collect();
        let kept = notices.iter().map(|q| q.item.size).sum::<usize>();
        self.conflate_state(bounds);
        bounds.used.fetch_sub(self.bytes, Ordering::Relaxed);
        bounds.used.fetch_add(kept, Ordering::Relaxed);
        self.bytes = kept;
        self.signals = 0;
        self.pushes = notices;
        for (slot, sub) in self.subs.iter_mut() {
            if sub.queued > sub.handed.seq {
                sub.queued = sub.handed.seq;
                if !sub.lagging {
                    sub.lagging = true;
                    self.lagging.push_back(slot);
                }
            }
        }
    }

    pub(super) fn conflate_state(&mut self, bounds: &OutboxBounds) {
        for ((slot, _), item) in std::mem::take(&mut self.state) {
            self.uncount(item.size, bounds);
            if let Some(sub) = self.subs.get_mut(slot) {
                sub.waiting = 0;
            }
            self.want_snapshot(slot);
        }
    }

    pub(super) fn want_snapshot(&mut self, slot: u32) {
        if let Some(sub) = self.subs.get_mut(slot)
            && !sub.snapshot
        {
            sub.snapshot = true;
            self.snapshots.push(slot);
            self.stir(slot);
        }
    }

    /// Drops what waits of one room.
    pub(super) fn drop_enqueued(&mut self, slot: u32, bounds: &OutboxBounds) {
        let mut freed = 0;
        self.pushes.retain(|q| {
            let keep = q.slot != slot;
            freed += if keep { 0 } else { q.item.size };
            keep
        });
        self.state.retain(|(of, _), item| {
            let keep = *of != slot;
            freed += if keep { 0 } else { item.size };
            keep
        });
        self.uncount(freed, bounds);
        if let Some(sub) = self.subs.get_mut(slot) {
            sub.waiting = 0;
        }
    }

    pub(super) fn remove_subscription(&mut self, slot: u32, bounds: &OutboxBounds) -> Option<Sub> {
        self.stir(slot);
        let sub = self.subs.remove(slot)?;
        self.lagging.retain(|other| *other != slot);
        self.snapshots.retain(|other| *other != slot);
        self.drop_enqueued(slot, bounds);
        Some(sub)
    }

    /// If the reader's membership ends with this event: purge, tell, stop. Says whether it did.
    pub(super) fn end_membership(
        &mut self,
        slot: u32,
        item: &Arc<Outgoing>,
        open: bool,
        bounds: &OutboxBounds,
    ) -> bool {
        let Some(user) = &self.user else { return false };
        let Some(change) = item.end_for(user) else { return false };
        if reads_on(open, change) {
            return false;
        }
        // An event of another life, or from before the last check, speaks of an earlier stay.
        let passed = |sub: &Sub| {
            let of_before =
                |event: &Event| event.epoch != sub.handed.epoch || event.seq <= sub.authorised;
            item.as_event().is_some_and(|event| of_before(event))
        };
        match self.subs.get(slot) {
            Some(sub) if !passed(sub) => {}
            _ => return false,
        }
        let code =
            if matches!(change, MemberChange::Banned(_)) { Code::Banned } else { Code::Removed };
        self.deny(slot, code, bounds);
        true
    }

    pub(super) fn deny(&mut self, slot: u32, code: Code, bounds: &OutboxBounds) {
        let Some(sub) = self.remove_subscription(slot, bounds) else { return };
        let room = sub.room.id().clone();
        let status = RoomStatus {
            room,
            status: Status::Denied,
            cursor: None,
            head: Seq::ZERO,
            code: Some(code.number()),
        };
        self.enqueue_unbounded(Outgoing::new(Push::Room(status)), bounds);
    }

    // ---- acks ----

    pub(super) fn push_reply(&mut self, encoded: Bytes, bounds: &OutboxBounds) {
        self.acks += encoded.len();
        bounds.acks.add(encoded.len());
        self.replies.push_back(encoded);
    }

    /// Whether one more command may be carried out, by the bytes of acks. Where the budget of all connections is spent, each
    /// has one command at a time.
    pub(super) fn acks_fit(&self, bounds: &OutboxBounds) -> bool {
        let nothing_waits = self.acks == 0 && self.in_flight == 0;
        nothing_waits || (self.acks < bounds.acks.bytes && !bounds.acks.is_full())
    }

    pub(super) fn free_acks(&mut self, bytes: usize, bounds: &OutboxBounds) {
        // Those of a connection that was cut off were freed already.
        let bytes = bytes.min(self.acks);
        self.acks -= bytes;
        self.stuck = 0;
        bounds.acks.remove(bytes);
    }

    /// A tick has passed: whether the connection takes none of its acks while others want the room that they have.
    pub(super) fn is_stuck(&mut self, bounds: &OutboxBounds) -> bool {
        let waits = self.acks > 0 && bounds.acks.is_tight();
        self.stuck = if waits { self.stuck + 1 } else { 0 };
        self.stuck >= STUCK_TICKS
    }

    /// Ends a connection that takes none of its acks. Those that wait are dropped; those that were handed over are held until
    /// the transport lets go of them, and go on counting.
    pub(super) fn disconnect_unread(&mut self, bounds: &OutboxBounds) {
        metrics::counter!(super::super::metrics::ACKS_DISCONNECTS).increment(1);
        let waiting = self.replies.drain(..).map(|reply| reply.len()).sum();
        self.free_acks(waiting, bounds);
        self.disconnect_slow();
        self.clear_pushes(bounds);
    }

    pub(super) fn take_replies(&mut self, take: &mut Take, max_bytes: usize) -> u32 {
        let mut answered = 0;
        while take.items.is_empty() || take.bytes < max_bytes {
            let Some(reply) = self.replies.pop_front() else { break };
            take.bytes += reply.len();
            take.acks += reply.len();
            take.items.push(Taken::Reply(reply));
            answered += 1;
            self.stuck = 0;
        }
        self.in_flight = self.in_flight.saturating_sub(answered);
        answered
    }

    pub(super) fn take_pushes(&mut self, take: &mut Take, max_bytes: usize, bounds: &OutboxBounds) {
        let before = take.bytes;
        while take.items.is_empty() || take.bytes < max_bytes {
            let Some(Queued { slot, seq, item }) = self.pushes.pop_front() else { break };
            if let Some(sub) = self.subs.get_mut(slot) {
                sub.handed.seq = seq;
                self.stir(slot);
            }
            if let Push::Room(status) = &item.push {
                self.told(&status.room);
            }
            self.signals -= usize::from(matches!(item.push, Push::Signal(_)));
            take.bytes += item.size;
            take.items.push(Taken::Push(item));
        }
        while self.pushes.is_empty() && (take.items.is_empty() || take.bytes < max_bytes) {
            let Some(((slot, _), item)) = self.state.pop_first() else { break };
            if let Some(sub) = self.subs.get_mut(slot) {
                sub.waiting = sub.waiting.saturating_sub(1);
                self.stir(slot);
            }
            take.bytes += item.size;
            take.items.push(Taken::Push(item));
        }
        self.uncount(take.bytes - before, bounds);
    }

    /// A room whose whole state has to be sent: one at a time, so that they do not pile up on their way out.
    pub(super) fn take_snapshot(&mut self) -> Option<Due> {
        while let Some(slot) = self.snapshots.pop() {
            if let Some(sub) = self.subs.get_mut(slot)
                && std::mem::take(&mut sub.snapshot)
            {
                let due = Due { room: sub.room.clone(), even_empty: sub.state_delivered };
                self.stir(slot);
                return Some(due);
            }
        }
        None
    }

    pub(super) fn count(&mut self, bytes: usize, bounds: &OutboxBounds) {
        self.bytes += bytes;
        bounds.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn uncount(&mut self, bytes: usize, bounds: &OutboxBounds) {
        self.bytes = self.bytes.saturating_sub(bytes);
        bounds.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives memory back once a burst is over.
    pub(super) fn shrink(&mut self) {
        self.give_back(8);
    }

    /// Gives back queues that are empty and have room for more than `most`.
    pub(super) fn give_back(&mut self, most: usize) {
        if self.pushes.is_empty() && self.pushes.capacity() > most {
            self.pushes = VecDeque::new();
        }
        if self.replies.is_empty() && self.replies.capacity() > most {
            self.replies = VecDeque::new();
        }
    }
}
