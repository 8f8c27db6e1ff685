//! What the callers know of each other's luck with the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Whether the database is there, as far as anybody knows.
#[derive(Default)]
pub(crate) struct Health {
    /// Whether somebody has waited for the database in vain: set by all, so that others need not.
    away: AtomicBool,
    /// Until when a caller is looking whether it is back.
    probing: Mutex<Option<Instant>>,
    /// Reads that have a connection.
    pub(crate) reading: AtomicU32,
    /// When the embedder has appended last in a transaction of their own, which may be open still.
    outside: Mutex<Option<Instant>>,
}

impl Health {
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// The embedder appends in a transaction of their own.
    pub(crate) fn appends_outside(&self) {
        *self.outside.lock() = Some(Instant::now());
    }

    /// How long ago they did so last.
    pub(crate) fn appended_outside(&self) -> Option<Duration> {
        self.outside.lock().map(|at| at.elapsed())
    }

    /// Leave to look whether the database is back; `None` if another caller has it. One that keeps it for longer than `most`,
    /// since nobody polls it, is overtaken.
    pub(crate) fn probe(self: &Arc<Self>, most: Duration) -> Option<Probe> {
        let now = Instant::now();
        let mut probing = self.probing.lock();
        if probing.is_some_and(|until| now < until) {
            return None;
        }
        *probing = Some(now + most);
        Some(Probe(Arc::clone(self)))
    }
}

/// Leave to look whether the database is back. Given back when it is dropped.
pub(crate) struct Probe(Arc<Health>);

impl Drop for Probe {
    fn drop(&mut self) {
        *self.0.probing.lock() = None;
    }
}
