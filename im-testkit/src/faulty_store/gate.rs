//! Gates: hold calls, so that a test can order events without timers.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::{FaultPoint, Plan};

/// When a gate holds a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Before the call does anything.
    Before,
    /// After the call is done, before it returns.
    After,
}

/// Held calls. Dropping the gate releases all of them, and later ones.
pub struct Gate {
    held: Arc<Held>,
    point: FaultPoint,
    plan: Arc<Mutex<Plan>>,
}

/// The state that a gate and its held calls share.
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

    /// Waits until `calls` calls have reached this gate since it was set, released ones included.
    pub async fn reached(&self, calls: u64) {
        let mut arrived = self.held.arrived.subscribe();
        // The sender lives as long as this gate.
        let _ = arrived.wait_for(|arrived| *arrived >= calls).await;
    }

    /// Returns the number of calls that have reached this gate since it was set.
    pub fn arrived(&self) -> u64 {
        *self.held.arrived.borrow()
    }

    /// Releases `calls` calls in the order of their arrival; if fewer are held, also the next to
    /// arrive.
    pub fn release(&self, calls: usize) {
        self.held.pass.add_permits(calls);
    }

    /// Releases all calls, and later ones.
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
