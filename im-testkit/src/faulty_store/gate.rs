//! Holding calls, so that a test can order things without waiting for time to pass.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::{FaultPoint, Plan};

/// When a gate holds a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Before anything is done.
    Before,
    /// When it is done, before the answer is given.
    After,
}

/// Calls that are held. Dropping it lets all of them through, and those to come.
pub struct Gate {
    held: Arc<Held>,
    point: FaultPoint,
    plan: Arc<Mutex<Plan>>,
}

/// What a gate and the calls that it holds share.
pub(super) struct Held {
    pass: Semaphore,
    arrived: watch::Sender<u64>,
}

impl Default for Held {
    fn default() -> Self {
        Self { pass: Semaphore::new(0), arrived: watch::Sender::new(0) }
    }
}

impl Held {
    pub(super) async fn wait(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        // A closed semaphore is an open gate.
        if let Ok(permit) = self.pass.acquire().await {
            permit.forget();
        }
    }
}

impl Gate {
    pub(super) fn new(held: Arc<Held>, point: FaultPoint, plan: Arc<Mutex<Plan>>) -> Self {
        Self { held, point, plan }
    }

    /// Waits until `calls` have come to this gate since it was set, those that were let through included.
    pub async fn reached(&self, calls: u64) {
        let mut arrived = self.held.arrived.subscribe();
        // The sender lives as long as this gate.
        let _ = arrived.wait_for(|arrived| *arrived >= calls).await;
    }

    /// How many calls have come to this gate since it was set.
    pub fn arrived(&self) -> u64 {
        *self.held.arrived.borrow()
    }

    /// Lets `calls` through, in the order in which they came; where fewer are held, the next to come.
    pub fn release(&self, calls: usize) {
        self.held.pass.add_permits(calls);
    }

    /// Lets all through, and those to come.
    pub fn open(self) {}
}

impl Drop for Gate {
    fn drop(&mut self) {
        let gates = &mut self.plan.lock().gates;
        if gates.get(&self.point).is_some_and(|held| Arc::ptr_eq(held, &self.held)) {
            gates.remove(&self.point);
        }
        self.held.pass.close();
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("place", &self.point)
            .field("arrived", &self.arrived())
            .finish()
    }
}
