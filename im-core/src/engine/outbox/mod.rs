//! What waits for one connection or one subscription of the service.
//!
//! Two queues: acks, which are never dropped and which [`super::acks`] and the commands in flight bound; and pushes,
//! bounded in bytes. Pushes of durable events obey the one rule of order ([`offer`](crate::state::offer)): a room's event is
//! enqueued only if its seq is the one after `enqueued`. When the bound is reached the durable queue is dropped, `enqueued` goes
//! back to `delivered`, and the subscriptions are catching up: [`super::catch_up`] then reads their logs at the subscriber's pace.
//!
//! Lock order: a room's lock may be held while an outbox is locked, never the other way round.
//!
//! | module | what it holds |
//! |---|---|
//! | `subscribing`, `subscriptions` | subscribing; the subscriptions, and how far each is |
//! | `enqueue` | live events of rooms, and what is read from their logs |
//! | `delivered` | what was delivered of each room, for stream positions |
//! | `inner` | what is behind the lock |

mod delivered;
mod enqueue;
mod inner;
mod subscribing;
mod subscriptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::id::UserId;
use crate::wire::Bye;

use super::acks::AckBudget;
use super::config::SlowSubscriber;
use super::outgoing::Outgoing;
use super::room::{Room, StateHold};

pub(crate) use delivered::{DeliveredPosition, DeliveredState};
use inner::Inner;
pub(crate) use subscriptions::{CatchUp, SubscriptionRef, SubscriptionStart};

/// The bounds of an outbox, and the budget that all share.
#[derive(Debug)]
pub(crate) struct OutboxBounds {
    pub(crate) bytes: usize,
    pub(crate) all_bytes: usize,
    pub(crate) signals: usize,
    pub(crate) in_flight: u32,
    pub(crate) slow_subscriber: SlowSubscriber,
    /// Bytes that wait in all outboxes.
    pub(crate) used: AtomicUsize,
    /// The budget of acks.
    pub(crate) ack_budget: Arc<AckBudget>,
}

/// What waits for one connection or one subscription of the service.
#[derive(Debug)]
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    bounds: Arc<OutboxBounds>,
    /// There is something to take.
    ready: Notify,
    /// A command was answered, or an answer was taken.
    progress: Notify,
}

/// What came of a step of catch-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CatchUpOutcome {
    /// The subscription is further on, or its cursor has changed.
    Advanced,
    /// What was read does not continue from the cursor.
    Stalled,
    /// The subscriber lost access: take it off the room's list.
    AccessLost,
}

/// Something taken out of an outbox.
#[derive(Debug)]
pub(crate) enum OutboxItem {
    Ack(Bytes),
    Push(Arc<Outgoing>),
}

/// A snapshot that has to be sent.
#[derive(Debug)]
pub(crate) struct DueSnapshot {
    pub(crate) room: Arc<Room>,
    /// Also if there is no state.
    pub(crate) even_empty: bool,
}

/// What there was to take.
#[derive(Debug, Default)]
pub(crate) struct OutboxBatch {
    pub(crate) items: Vec<OutboxItem>,
    pub(crate) bytes: usize,
    /// Of them, those of acks.
    pub(crate) ack_bytes: usize,
    /// A room whose state has to be sent whole.
    pub(crate) snapshot: Option<DueSnapshot>,
    pub(crate) disconnect: Option<Bye>,
    /// A room whose log has to be read before anything more of it can be taken.
    pub(crate) catch_up: Option<CatchUp>,
    /// A task reads for the subscriber.
    pub(crate) reading: bool,
}

/// What became of a live event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EnqueueOutcome {
    /// Enqueued, enqueued already, or to be read from the log later.
    Kept,
    /// The subscriber lost access: take it off the room's list.
    AccessLost,
}

impl Outbox {
    pub(crate) fn new(bounds: Arc<OutboxBounds>) -> Self {
        Self { inner: Mutex::default(), bounds, ready: Notify::new(), progress: Notify::new() }
    }

    /// Sets the subscriber's user, after the handshake.
    pub(crate) fn set_user(&self, user: UserId) {
        self.inner.lock().user = Some(user);
    }

    /// The subscriber's user. `None` before the handshake and for the service's own subscriptions.
    pub(crate) fn user(&self) -> Option<UserId> {
        self.inner.lock().user.clone()
    }

    // ---- commands and acks ----

    /// Waits until one more command may be taken.
    pub(crate) async fn admit(&self) {
        loop {
            {
                let mut inner = self.inner.lock();
                let acks_fit = inner.acks_fit(&self.bounds);
                if inner.closed || (acks_fit && inner.in_flight < self.bounds.in_flight) {
                    inner.in_flight += 1;
                    return;
                }
                if !acks_fit {
                    // A call hands out what it has once nothing more is carried out.
                    self.ready.notify_one();
                }
            }
            self.progress.notified().await;
        }
    }

    /// Whether the next command waits until acks were written.
    pub(crate) fn waits_for_acks(&self) -> bool {
        !self.inner.lock().acks_fit(&self.bounds)
    }

    /// Answers a command that was admitted.
    pub(crate) fn ack(&self, encoded: Bytes) {
        self.with_ready(|inner| inner.push_ack(encoded, &self.bounds));
    }

    /// A command has gone to a shard; its ack will come with [`Outbox::append_done`].
    pub(crate) fn append_started(&self) {
        self.inner.lock().appends += 1;
    }

    /// Answers a command that went to a shard.
    pub(crate) fn append_done(&self, encoded: Bytes) {
        self.with_ready(|inner| {
            inner.appends = inner.appends.saturating_sub(1);
            inner.push_ack(encoded, &self.bounds);
        });
        self.progress.notify_one();
    }

    /// Waits until every append of this connection was answered, so that what follows sees its effects.
    pub(crate) async fn appends_settled(&self) {
        while self.inner.lock().appends > 0 {
            self.progress.notified().await;
        }
    }

    // ---- the transport's side ----

    /// Takes what there is, acks first, up to about `max_bytes` but at least one item if there is any. Never waits.
    pub(crate) fn take(&self, max_bytes: usize) -> OutboxBatch {
        let mut inner = self.inner.lock();
        let mut take = OutboxBatch::default();
        let answered = inner.take_acks(&mut take, max_bytes);
        let catch_up_first = inner.catch_up_next && !inner.closed && take.items.is_empty();
        if catch_up_first {
            take.catch_up = inner.next_catch_up();
        }
        if take.catch_up.is_none() {
            inner.take_pushes(&mut take, max_bytes, &self.bounds);
        }
        let drained = inner.acks.is_empty() && inner.pushes.is_empty() && inner.state.is_empty();
        if inner.closed {
            if drained {
                take.disconnect = inner.disconnect.take();
            }
        } else if drained && take.catch_up.is_none() {
            // One at a time: what a task reads may be what the next one needs. After a failure the tick tries again.
            if !inner.catch_up_paused && !inner.reading {
                take.snapshot = inner.take_snapshot();
            }
            if take.items.is_empty() && take.snapshot.is_none() {
                take.catch_up = inner.next_catch_up();
            }
            inner.shrink();
        }
        take.reading = inner.reading;
        inner.catch_up_next = take.catch_up.is_none() && !inner.catching_up.is_empty();
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

    /// A task is about to read for the subscriber. `false` if one does already: there is one at a time.
    pub(crate) fn begin_reading(&self) -> bool {
        !std::mem::replace(&mut self.inner.lock().reading, true)
    }

    /// That task has ended. What it `held` is kept in memory until the next take.
    pub(crate) fn end_reading(&self, held: Option<StateHold>) {
        let before = {
            let mut inner = self.inner.lock();
            inner.reading = false;
            let held = held.filter(|_| !inner.closed);
            std::mem::replace(&mut inner.held, held)
        };
        drop(before);
        self.ready.notify_one();
    }

    /// What is kept in memory until what is needed of it was taken.
    pub(crate) fn take_hold(&self) -> Option<StateHold> {
        self.inner.lock().held.take()
    }

    /// Bytes are on their way that were not in the queue.
    pub(crate) fn add_unreleased(&self, bytes: usize) {
        self.inner.lock().unreleased += bytes;
    }

    /// Bytes were written and no longer count; `ack_bytes` of them were those of acks.
    pub(crate) fn release(&self, bytes: usize, ack_bytes: usize) {
        let mut inner = self.inner.lock();
        inner.unreleased = inner.unreleased.saturating_sub(bytes);
        if ack_bytes > 0 {
            inner.free_acks(ack_bytes, &self.bounds);
            drop(inner);
            self.progress.notify_one();
        }
    }

    /// The peer has taken bytes of what was taken and not released.
    pub(crate) fn write_progressed(&self) {
        self.inner.lock().stuck = 0;
    }

    /// The log could not be read: leave it until [`Outbox::wake`].
    pub(crate) fn pause_catch_up(&self, catch_up: &CatchUp) {
        let mut inner = self.inner.lock();
        // To the back, so that one log that cannot be read does not keep the others waiting.
        inner.settle_catch_up(catch_up);
        inner.catch_up_paused = true;
    }

    /// The store could not be read: leave it until [`Outbox::wake`].
    pub(crate) fn pause(&self) {
        self.inner.lock().catch_up_paused = true;
    }

    /// A tick has passed: what was left may be tried again, and a silent connection needs no queues.
    pub(crate) fn wake(&self) {
        let mut inner = self.inner.lock();
        inner.shrink_queues(0);
        if inner.is_stuck(&self.bounds) {
            inner.disconnect_unread(&self.bounds);
            drop(inner);
            self.ready.notify_one();
            self.progress.notify_one();
            return;
        }
        if inner.catch_up_paused {
            inner.catch_up_paused = false;
            drop(inner);
            self.ready.notify_one();
        }
    }

    /// Wakes the transport, so that it checks its flags.
    pub(crate) fn nudge(&self) {
        self.ready.notify_one();
    }

    /// Ends the connection once acks and statuses that wait are written. The first reason counts.
    pub(crate) fn close(&self, disconnect: Bye) {
        let mut inner = self.inner.lock();
        if !inner.closed {
            inner.end(disconnect);
            // Durable events are in the log; they are not worth waiting for.
            inner.clear_pushes(&self.bounds);
        }
        drop(inner);
        self.ready.notify_one();
        self.progress.notify_one();
    }

    /// The code with which the connection ends, if it does.
    pub(crate) fn ended(&self) -> Option<u16> {
        self.inner.lock().ended
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
        let inner = self.inner.get_mut();
        self.bounds.used.fetch_sub(inner.bytes, Ordering::Relaxed);
        self.bounds.ack_budget.remove(inner.ack_bytes);
    }
}

#[cfg(test)]
mod tests;
