//! The queues of one connection or one subscription of the service.
//!
//! Two queues: acks, which are never dropped and which [`super::acks`] and the commands in flight
//! bound; and pushes, bounded in bytes. Pushes of durable events obey the one rule of order
//! ([`arrival`](crate::state::arrival)): a room's event is enqueued only if its seq is
//! `enqueued` + 1. When the bound is reached the durable queue is dropped, `enqueued` returns to
//! `delivered`, and the subscriptions are catching up: [`super::catch_up`] then reads their logs at
//! the subscriber's pace.
//!
//! Lock order: a room's lock may be held while an outbox is locked, never the other way round.
//!
//! | module | what it holds |
//! |---|---|
//! | `subscribing`, `subscriptions` | subscribing; the subscriptions, and how far each is |
//! | `enqueue` | live events of rooms, and events read from their logs |
//! | `delivered` | what was delivered of each room, for stream positions |
//! | `inner` | the data behind the lock |

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
use crate::wire::Disconnect;

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
    /// Bytes enqueued in all outboxes.
    pub(crate) used: AtomicUsize,
    /// The budget of acks.
    pub(crate) ack_budget: Arc<AckBudget>,
}

/// The queues of one connection or one subscription of the service.
#[derive(Debug)]
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    bounds: Arc<OutboxBounds>,
    /// Notified when there is something to take.
    ready: Notify,
    /// Notified when a command was acknowledged, or an ack was taken.
    progress: Notify,
}

/// The outcome of a step of catch-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CatchUpOutcome {
    /// The subscription advanced, or its cursor has changed.
    Advanced,
    /// The events read do not continue from the cursor.
    Stalled,
    /// The subscriber lost access: remove it from the room's list.
    AccessLost,
}

/// An item taken from an outbox.
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

/// The result of a take.
#[derive(Debug, Default)]
pub(crate) struct OutboxBatch {
    pub(crate) items: Vec<OutboxItem>,
    pub(crate) bytes: usize,
    /// The part of `bytes` that belongs to acks.
    pub(crate) ack_bytes: usize,
    /// A room whose whole state has to be sent.
    pub(crate) snapshot: Option<DueSnapshot>,
    pub(crate) disconnect: Option<Disconnect>,
    /// A room whose log has to be read before more of it can be taken.
    pub(crate) catch_up: Option<CatchUp>,
    /// A task is reading for the subscriber.
    pub(crate) reading: bool,
}

/// The outcome for a live event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EnqueueOutcome {
    /// Enqueued, enqueued already, or to be read from the log later.
    Kept,
    /// The subscriber lost access: remove it from the room's list.
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

    /// Waits until one more command may be executed.
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
                    // A call returns the acks that it has once no further command is executed.
                    self.ready.notify_one();
                }
            }
            self.progress.notified().await;
        }
    }

    /// Returns whether the next command waits until acks were written.
    pub(crate) fn waits_for_acks(&self) -> bool {
        !self.inner.lock().acks_fit(&self.bounds)
    }

    /// Enqueues the ack of an admitted command.
    pub(crate) fn ack(&self, encoded: Bytes) {
        self.with_ready(|inner| inner.push_ack(encoded, &self.bounds));
    }

    /// Counts a command that was sent to a shard; its ack arrives with [`Outbox::append_done`].
    pub(crate) fn append_started(&self) {
        self.inner.lock().appends += 1;
    }

    /// Enqueues the ack of a command that was sent to a shard.
    pub(crate) fn append_done(&self, encoded: Bytes) {
        self.with_ready(|inner| {
            inner.appends = inner.appends.saturating_sub(1);
            inner.push_ack(encoded, &self.bounds);
        });
        self.progress.notify_one();
    }

    /// Waits until every append of this connection was acknowledged, so that the next command sees
    /// its effects.
    pub(crate) async fn appends_settled(&self) {
        while self.inner.lock().appends > 0 {
            self.progress.notified().await;
        }
    }

    // ---- the transport's side ----

    /// Takes what is enqueued, acks first, up to about `max_bytes` but at least one item if there
    /// is any. Never waits.
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
            // One at a time: a read in progress may be for the next one. After a failure the tick
            // retries.
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

    /// Marks that a task reads for the subscriber. Returns `false` if one does already: there is
    /// one at a time.
    pub(crate) fn begin_reading(&self) -> bool {
        !std::mem::replace(&mut self.inner.lock().reading, true)
    }

    /// Marks the end of that task. The state that it `held` stays in memory until the next take.
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

    /// Returns the hold that keeps state in memory until the take.
    pub(crate) fn take_hold(&self) -> Option<StateHold> {
        self.inner.lock().held.take()
    }

    /// Counts bytes to be written that were not in the queue.
    pub(crate) fn add_unreleased(&self, bytes: usize) {
        self.inner.lock().unreleased += bytes;
    }

    /// Releases written bytes; `ack_bytes` of them belonged to acks.
    pub(crate) fn release(&self, bytes: usize, ack_bytes: usize) {
        let mut inner = self.inner.lock();
        inner.unreleased = inner.unreleased.saturating_sub(bytes);
        if ack_bytes > 0 {
            inner.free_acks(ack_bytes, &self.bounds);
            drop(inner);
            self.progress.notify_one();
        }
    }

    /// Records that the peer received bytes of an unreleased batch.
    pub(crate) fn write_progressed(&self) {
        self.inner.lock().stuck = 0;
    }

    /// Pauses catch-up until [`Outbox::wake`], since the log could not be read.
    pub(crate) fn pause_catch_up(&self, catch_up: &CatchUp) {
        let mut inner = self.inner.lock();
        // To the back, so that one unreadable log does not block the others.
        inner.settle_catch_up(catch_up);
        inner.catch_up_paused = true;
    }

    /// Pauses reads until [`Outbox::wake`], since the store could not be read.
    pub(crate) fn pause(&self) {
        self.inner.lock().catch_up_paused = true;
    }

    /// Handles a tick: retries paused reads, disconnects a stuck connection, and frees the queues
    /// of a silent one.
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

    /// Ends the connection once queued acks and statuses are written. The first reason counts.
    pub(crate) fn close(&self, disconnect: Disconnect) {
        let mut inner = self.inner.lock();
        if !inner.closed {
            inner.end(disconnect);
            // Durable events are in the log; the end does not wait for them.
            inner.clear_pushes(&self.bounds);
        }
        drop(inner);
        self.ready.notify_one();
        self.progress.notify_one();
    }

    /// The code of the disconnect, if the connection ends.
    pub(crate) fn ended(&self) -> Option<u16> {
        self.inner.lock().ended
    }

    /// Returns whether the connection has ended or is ending.
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
