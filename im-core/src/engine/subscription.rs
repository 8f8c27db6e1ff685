//! A subscription to a room from within the process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::id::Cursor;
use crate::wire::{Push, Status};

use super::Engine;
use super::catch_up::{self, Available};
use super::outbox::{Outbox, OutboxItem};

/// A subscription to a room: every event after its first cursor, in order, once; and ephemeral
/// messages and state.
#[derive(Debug)]
pub struct Subscription {
    engine: Engine,
    outbox: Arc<Outbox>,
    status: Status,
    from: Cursor,
    taken: VecDeque<Push>,
    /// When a read that failed is retried.
    ticks: Interval,
}

/// Maximum bytes of one take.
const TAKE: usize = 64 * 1024;

impl Subscription {
    pub(super) fn new(engine: Engine, outbox: Arc<Outbox>, status: Status, from: Cursor) -> Self {
        let tick = engine.core().config.tick.max(Duration::from_millis(1));
        let mut ticks = interval_at(Instant::now() + tick, tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { engine, outbox, status, from, taken: VecDeque::new(), ticks }
    }

    /// The status of the requested cursor, and the cursor after which the events start.
    pub fn start(&self) -> (Status, Cursor) {
        (self.status, self.from)
    }

    /// Returns the next push. A slow subscription catches up from the log and loses no event.
    /// `None` once the engine has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<Push> {
        let core = self.engine.core().clone();
        loop {
            if let Some(push) = self.taken.pop_front() {
                return Some(push);
            }
            if let Available::Taken(take) = catch_up::take_available(&core, &self.outbox, TAKE) {
                self.outbox.release(take.bytes, 0);
                let pushes = take.items.into_iter().filter_map(|item| match item {
                    OutboxItem::Push(push) => Some(push.push.clone()),
                    OutboxItem::Ack(_) => None,
                });
                self.taken.extend(pushes);
                continue;
            }
            tokio::select! {
                biased;
                () = self.outbox.ready() => {}
                () = core.stopped.cancelled() => return None,
                // A failed read of the log is retried at the tick and not before, however much
                // happens meanwhile.
                _ = self.ticks.tick() => self.outbox.wake(),
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for subscription in self.outbox.unsubscribe_all() {
            subscription.room.remove_subscriber(subscription.subscriber_id, &self.outbox);
            self.engine.core().hub.retire_if_idle(&subscription.room);
        }
    }
}
