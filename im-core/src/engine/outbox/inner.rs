//! The data behind an outbox's lock.

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
use super::delivered::PositionChanges;
use super::subscriptions::{CatchUp, RoomSubscription, SubscriptionTable};
use super::{DueSnapshot, OutboxBatch, OutboxBounds, OutboxItem};

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// The subscriber's user. `None` before the handshake and for the service's own subscriptions.
    pub(super) user: Option<UserId>,
    pub(super) acks: VecDeque<Bytes>,
    pub(super) pushes: VecDeque<QueuedPush>,
    /// The newest undelivered value of each state key, by subscription.
    pub(super) state: BTreeMap<(u32, StateKey), Arc<Outgoing>>,
    /// Bytes in `pushes` and `state`.
    pub(super) bytes: usize,
    /// Bytes taken and not released.
    pub(super) unreleased: usize,
    /// Bytes of acks that are queued, or taken and not released.
    pub(super) ack_bytes: usize,
    /// Ticks since acks were last taken, written in part or released, while all acks together are
    /// nearly too many.
    pub(super) stuck: u32,
    pub(super) signals: usize,
    pub(super) subscriptions: SubscriptionTable,
    /// Only where stream positions are tracked.
    pub(super) position_changes: Option<Box<PositionChanges>>,
    /// Subscriptions that are catching up, in the order of their turns.
    pub(super) catching_up: VecDeque<u32>,
    /// How many subscriptions have passed the one whose turn it is.
    pub(super) passed: u8,
    /// Whether a subscription that is catching up is first at the next take, so that busy rooms
    /// cannot delay it indefinitely.
    pub(super) catch_up_next: bool,
    /// A task is reading for the subscriber from the store.
    pub(super) reading: bool,
    /// The state that it read, in memory until the next take.
    pub(super) held: Option<StateHold>,
    /// Subscriptions whose whole state has to be sent.
    pub(super) snapshots: Vec<u32>,
    /// The store failed while a log was read: retry at the next tick.
    pub(super) catch_up_paused: bool,
    /// Commands executed whose acks were not taken.
    pub(super) in_flight: u32,
    /// Appends queued at a shard and not acknowledged.
    pub(super) appends: u32,
    /// The disconnect, until it is taken.
    pub(super) disconnect: Option<Disconnect>,
    /// Its code, retained.
    pub(super) ended: Option<u16>,
    pub(super) closed: bool,
}

#[derive(Debug)]
pub(super) struct QueuedPush {
    pub(super) subscription_id: u32,
    pub(super) seq: Seq,
    pub(super) item: Arc<Outgoing>,
}

/// Ticks after which a connection that receives none of its acks is disconnected, if all acks
/// together are nearly too many.
const STUCK_TICKS: u32 = 5;

/// Maximum subscriptions that pass one whose log has to be read from the store: at least one page
/// in nine is read, and a room waits for eight times as many pages as there are rooms before it.
const MAX_PASSES: u8 = 8;
/// Subscriptions searched for one that may pass.
const MAX_LOOKED_AT: usize = 16;

/// An id that no subscription has: for pushes outside subscriptions.
const NO_SUBSCRIPTION: u32 = u32::MAX;

impl Inner {
    /// The subscription to a room, if there is one.
    pub(super) fn subscription(&self, room: &RoomId) -> Option<&RoomSubscription> {
        self.subscriptions.get(self.subscriptions.id_of(room)?)
    }

    /// Updates a subscription after a step of catch-up: it is in sync, or waits for its next turn.
    pub(super) fn settle_catch_up(&mut self, catch_up: &CatchUp) {
        if self.catching_up.front() == Some(&catch_up.subscription_id) {
            self.passed = 0;
        }
        // The id may belong to another subscription by now.
        let Some(subscription) = self.subscriptions.find(catch_up.subscription()) else { return };
        subscription.catching_up = subscription.enqueued < subscription.high_watermark;
        let catching_up = subscription.catching_up;
        self.catching_up.retain(|subscription_id| *subscription_id != catch_up.subscription_id);
        if catching_up {
            self.catching_up.push_back(catch_up.subscription_id);
        }
    }

    pub(super) fn next_catch_up(&mut self) -> Option<CatchUp> {
        if self.catch_up_paused || self.reading {
            return None;
        }
        // It stays in the queue until it is settled, so that an interrupted read is found again.
        while let Some(subscription_id) = self.catching_up.front().copied() {
            match self.subscriptions.get(subscription_id) {
                Some(subscription) if subscription.catching_up => {
                    return Some(subscription.catch_up(subscription_id));
                }
                _ => self.catching_up.pop_front(),
            };
        }
        None
    }

    /// Returns subscriptions that may catch up before `catch_up`, those whose turn is nearest
    /// first. None once enough of them have, until it is settled itself.
    pub(super) fn may_pass(&mut self, catch_up: &CatchUp) -> Vec<CatchUp> {
        if self.passed >= MAX_PASSES {
            return Vec::new();
        }
        let others = self
            .catching_up
            .iter()
            .copied()
            .filter(|subscription_id| *subscription_id != catch_up.subscription_id);
        let candidates = others.filter_map(|subscription_id| {
            Some((subscription_id, self.subscriptions.get(subscription_id)?))
        });
        candidates
            .filter(|(_, subscription)| subscription.catching_up)
            .map(|(subscription_id, subscription)| subscription.catch_up(subscription_id))
            .take(MAX_LOOKED_AT)
            .collect()
    }

    pub(super) fn enqueue_bounded(
        &mut self,
        subscription_id: u32,
        seq: Seq,
        item: Arc<Outgoing>,
        bounds: &OutboxBounds,
    ) {
        self.enqueue(subscription_id, seq, item, bounds);
        let full = self.bytes + self.unreleased > bounds.bytes;
        if full || bounds.used.load(Ordering::Relaxed) > bounds.all_bytes {
            self.overflow(bounds);
        }
    }

    pub(super) fn enqueue(
        &mut self,
        subscription_id: u32,
        seq: Seq,
        item: Arc<Outgoing>,
        bounds: &OutboxBounds,
    ) {
        self.count(item.size, bounds);
        self.pushes.push_back(QueuedPush { subscription_id, seq, item });
    }

    pub(super) fn enqueue_unbounded(&mut self, item: Arc<Outgoing>, bounds: &OutboxBounds) {
        if let Push::Room(status) = &item.push {
            self.status_enqueued(&status.room);
        }
        self.enqueue(NO_SUBSCRIPTION, Seq::ZERO, item, bounds);
    }

    /// Drops the queue: durable events are read from the log later, state is sent as a snapshot,
    /// ephemeral messages are lost.
    pub(super) fn overflow(&mut self, bounds: &OutboxBounds) {
        metrics::counter!(super::super::metrics::OUTBOX_OVERFLOWS).increment(1);
        // Only for an overflow of this outbox, and never for the service's own subscriptions.
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

    /// Ends the connection with this disconnect.
    pub(super) fn end(&mut self, disconnect: Disconnect) {
        self.ended = Some(disconnect.code);
        self.disconnect = Some(disconnect);
        self.closed = true;
    }

    /// Drops the queue except statuses, which are few and sent only once.
    ///
    /// Every `enqueued` returns to `delivered`, so that the dropped events are read from the log
    /// again, and a page that is being read, and continues the dropped queue, is not enqueued.
    pub(super) fn clear_pushes(&mut self, bounds: &OutboxBounds) {
        let notices: VecDeque<QueuedPush> =
            self.pushes.drain(..).filter(|q| matches!(q.item.push, Push::Room(_))).collect();
        let kept = notices.iter().map(|q| q.item.size).sum::<usize>();
        self.conflate_state(bounds);
        bounds.used.fetch_sub(self.bytes, Ordering::Relaxed);
        bounds.used.fetch_add(kept, Ordering::Relaxed);
        self.bytes = kept;
        self.signals = 0;
        self.pushes = notices;
        for (subscription_id, subscription) in self.subscriptions.iter_mut() {
            if subscription.enqueued > subscription.delivered.seq {
                subscription.enqueued = subscription.delivered.seq;
                if !subscription.catching_up {
                    subscription.catching_up = true;
                    self.catching_up.push_back(subscription_id);
                }
            }
        }
    }

    pub(super) fn conflate_state(&mut self, bounds: &OutboxBounds) {
        for ((subscription_id, _), item) in std::mem::take(&mut self.state) {
            self.uncount(item.size, bounds);
            if let Some(subscription) = self.subscriptions.get_mut(subscription_id) {
                subscription.state_enqueued = 0;
            }
            self.want_snapshot(subscription_id);
        }
    }

    pub(super) fn want_snapshot(&mut self, subscription_id: u32) {
        if let Some(subscription) = self.subscriptions.get_mut(subscription_id)
            && !subscription.snapshot
        {
            subscription.snapshot = true;
            self.snapshots.push(subscription_id);
            self.note_moved(subscription_id);
        }
    }

    /// Drops the queued items of one subscription.
    pub(super) fn drop_enqueued(&mut self, subscription_id: u32, bounds: &OutboxBounds) {
        let mut freed = 0;
        self.pushes.retain(|q| {
            let keep = q.subscription_id != subscription_id;
            freed += if keep { 0 } else { q.item.size };
            keep
        });
        self.state.retain(|(of, _), item| {
            let keep = *of != subscription_id;
            freed += if keep { 0 } else { item.size };
            keep
        });
        self.uncount(freed, bounds);
        if let Some(subscription) = self.subscriptions.get_mut(subscription_id) {
            subscription.state_enqueued = 0;
        }
    }

    pub(super) fn remove_subscription(
        &mut self,
        subscription_id: u32,
        bounds: &OutboxBounds,
    ) -> Option<RoomSubscription> {
        self.note_moved(subscription_id);
        let subscription = self.subscriptions.remove(subscription_id)?;
        self.catching_up.retain(|other| *other != subscription_id);
        self.snapshots.retain(|other| *other != subscription_id);
        self.drop_enqueued(subscription_id, bounds);
        Some(subscription)
    }

    /// Ends the subscription, with the status `denied`, if its user's membership ends with this
    /// event. Returns whether it did.
    pub(super) fn end_membership(
        &mut self,
        subscription_id: u32,
        item: &Arc<Outgoing>,
        open: bool,
        bounds: &OutboxBounds,
    ) -> bool {
        let Some(user) = &self.user else { return false };
        let Some(change) = item.end_for(user) else { return false };
        if reads_on(open, change) {
            return false;
        }
        // An event of another epoch, or from before the last check, belongs to an earlier
        // membership.
        let passed = |subscription: &RoomSubscription| {
            let of_before = |event: &Event| {
                event.epoch != subscription.delivered.epoch
                    || event.seq <= subscription.authorised_at
            };
            item.as_event().is_some_and(|event| of_before(event))
        };
        match self.subscriptions.get(subscription_id) {
            Some(subscription) if !passed(subscription) => {}
            _ => return false,
        }
        let code =
            if matches!(change, MemberChange::Banned(_)) { Code::Banned } else { Code::Removed };
        self.deny(subscription_id, code, bounds);
        true
    }

    pub(super) fn deny(&mut self, subscription_id: u32, code: Code, bounds: &OutboxBounds) {
        let Some(subscription) = self.remove_subscription(subscription_id, bounds) else { return };
        let room = subscription.room.id().clone();
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

    pub(super) fn push_ack(&mut self, encoded: Bytes, bounds: &OutboxBounds) {
        self.ack_bytes += encoded.len();
        bounds.ack_budget.add(encoded.len());
        self.acks.push_back(encoded);
    }

    /// Returns whether one more command may be executed, by the bytes of acks. If the budget of all
    /// connections is spent, each has one command at a time.
    pub(super) fn acks_fit(&self, bounds: &OutboxBounds) -> bool {
        let nothing_waits = self.ack_bytes == 0 && self.in_flight == 0;
        nothing_waits || (self.ack_bytes < bounds.ack_budget.bytes && !bounds.ack_budget.is_full())
    }

    pub(super) fn free_acks(&mut self, bytes: usize, bounds: &OutboxBounds) {
        // The acks of a connection that was disconnected as unread were freed already.
        let bytes = bytes.min(self.ack_bytes);
        self.ack_bytes -= bytes;
        self.stuck = 0;
        bounds.ack_budget.remove(bytes);
    }

    /// Counts a tick. Returns whether the connection receives none of its acks while others need
    /// the budget.
    pub(super) fn is_stuck(&mut self, bounds: &OutboxBounds) -> bool {
        let waits = self.ack_bytes > 0 && bounds.ack_budget.is_tight();
        self.stuck = if waits { self.stuck + 1 } else { 0 };
        self.stuck >= STUCK_TICKS
    }

    /// Disconnects a connection that receives none of its acks. Queued acks are dropped; taken ones
    /// count until the transport releases them.
    pub(super) fn disconnect_unread(&mut self, bounds: &OutboxBounds) {
        metrics::counter!(super::super::metrics::ACKS_DISCONNECTS).increment(1);
        let waiting = self.acks.drain(..).map(|reply| reply.len()).sum();
        self.free_acks(waiting, bounds);
        self.disconnect_slow();
        self.clear_pushes(bounds);
    }

    pub(super) fn take_acks(&mut self, take: &mut OutboxBatch, max_bytes: usize) -> u32 {
        let mut answered = 0;
        while take.items.is_empty() || take.bytes < max_bytes {
            let Some(reply) = self.acks.pop_front() else { break };
            take.bytes += reply.len();
            take.ack_bytes += reply.len();
            take.items.push(OutboxItem::Ack(reply));
            answered += 1;
            self.stuck = 0;
        }
        self.in_flight = self.in_flight.saturating_sub(answered);
        answered
    }

    pub(super) fn take_pushes(
        &mut self,
        take: &mut OutboxBatch,
        max_bytes: usize,
        bounds: &OutboxBounds,
    ) {
        let before = take.bytes;
        while take.items.is_empty() || take.bytes < max_bytes {
            let Some(QueuedPush { subscription_id, seq, item }) = self.pushes.pop_front() else {
                break;
            };
            if let Some(subscription) = self.subscriptions.get_mut(subscription_id) {
                subscription.delivered.seq = seq;
                self.note_moved(subscription_id);
            }
            if let Push::Room(status) = &item.push {
                self.status_delivered(&status.room);
            }
            self.signals -= usize::from(matches!(item.push, Push::Signal(_)));
            take.bytes += item.size;
            take.items.push(OutboxItem::Push(item));
        }
        while self.pushes.is_empty() && (take.items.is_empty() || take.bytes < max_bytes) {
            let Some(((subscription_id, _), item)) = self.state.pop_first() else { break };
            if let Some(subscription) = self.subscriptions.get_mut(subscription_id) {
                subscription.state_enqueued = subscription.state_enqueued.saturating_sub(1);
                self.note_moved(subscription_id);
            }
            take.bytes += item.size;
            take.items.push(OutboxItem::Push(item));
        }
        self.uncount(take.bytes - before, bounds);
    }

    /// Returns a room whose whole state has to be sent: one at a time, so that snapshots do not
    /// accumulate before they are written.
    pub(super) fn take_snapshot(&mut self) -> Option<DueSnapshot> {
        while let Some(subscription_id) = self.snapshots.pop() {
            if let Some(subscription) = self.subscriptions.get_mut(subscription_id)
                && std::mem::take(&mut subscription.snapshot)
            {
                let due = DueSnapshot {
                    room: subscription.room.clone(),
                    even_empty: subscription.state_delivered,
                };
                self.note_moved(subscription_id);
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

    /// Frees memory once a burst is over.
    pub(super) fn shrink(&mut self) {
        self.shrink_queues(8);
    }

    /// Frees queues that are empty and have capacity for more than `most`.
    pub(super) fn shrink_queues(&mut self, most: usize) {
        if self.pushes.is_empty() && self.pushes.capacity() > most {
            self.pushes = VecDeque::new();
        }
        if self.acks.is_empty() && self.acks.capacity() > most {
            self.acks = VecDeque::new();
        }
    }
}
