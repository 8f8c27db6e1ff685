//! Following a room from within the process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::id::Cursor;
use crate::wire::{Push, Status};

use super::Engine;
use super::catch_up::{self, Now};
use super::outbox::{Outbox, Taken};

/// A room as it goes on: every event after the cursor it began at, in order, once; and signals and state.
#[derive(Debug)]
pub struct Follower {
    engine: Engine,
    outbox: Arc<Outbox>,
    status: Status,
    from: Cursor,
    taken: VecDeque<Push>,
    /// When a read that failed is repeated.
    ticks: Interval,
}

/// Bytes taken at once.
const TAKE: usize = 64 * 1024;

impl Follower {
    pub(super) fn new(engine: Engine, outbox: Arc<Outbox>, status: Status, from: Cursor) -> Self {
        let tick = engine.core().config.tick.max(Duration::from_millis(1));
        let mut ticks = interval_at(Instant::now() + tick, tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { engine, outbox, status, from, taken: VecDeque::new(), ticks }
    }

    /// How the room answered the cursor that was asked for, and where it really begins.
    pub fn begun(&self) -> (Status, Cursor) {
        (self.status, self.from)
    }

    /// The next thing that happens. A follower that is slow is fed from the log and loses no event. `None` once the
    /// engine has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<Push> {
        let core = self.engine.core().clone();
        loop {
            if let Some(push) = self.taken.pop_front() {
                return Some(push);
            }
            if let Now::Take(take) = catch_up::take_now(&core, &self.outbox, TAKE) {
                self.outbox.release(take.bytes, 0);
                let pushes = take.items.into_iter().filter_map(|item| match item {
                    Taken::Push(push) => Some(push.push.clone()),
                    Taken::Reply(_) => None,
                });
                self.taken.extend(pushes);
                continue;
            }
            tokio::select! {
                biased;
                () = self.outbox.ready() => {}
                () = core.stopped.cancelled() => return None,
                // A log that could not be read is tried again, and only then: however much happens meanwhile.
                _ = self.ticks.tick() => self.outbox.wake(),
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        for sub in self.outbox.unsubscribe_all() {
            sub.room.remove_subscriber(sub.reader, &self.outbox);
            self.engine.core().hub.retire_if_idle(&sub.room);
        }
    }
}
