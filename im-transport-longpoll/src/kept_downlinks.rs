//! Downlinks between two polls of their sessions.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use im_core::SessionId;
use im_core::engine::{BatchId, Connection};
use im_http::Entry;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Downlinks that are kept.
const KEPT: &str = "im_poll_downlinks_kept";
/// Downlinks that were not kept because of the bound.
const NOT_KEPT: &str = "im_poll_downlinks_not_kept_total";

/// Interval of sweeps: the longest time that an ended downlink stays in the table.
const SWEEP: Duration = Duration::from_secs(1);

/// A session's downlink, with its delivered and unconfirmed batches.
#[derive(Debug)]
pub(crate) struct Downlink {
    pub(crate) entry: Entry,
    /// The stream position that was delivered last.
    pub(crate) position: String,
    /// Delivered and not confirmed yet.
    pub(crate) unconfirmed: Vec<BatchId>,
}

impl Downlink {
    pub(crate) fn connection(&self) -> &Connection {
        self.entry.connection()
    }
}

/// The table of kept downlinks of a service.
#[derive(Debug)]
pub(crate) struct KeptDownlinks {
    linger: Duration,
    max: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    downlinks: HashMap<SessionId, (Instant, Downlink)>,
    /// After shutdown no downlink is kept.
    closed: bool,
    sweeper: Option<AbortHandle>,
}

impl KeptDownlinks {
    pub(crate) fn new(linger: Duration, max: usize) -> Arc<Self> {
        Arc::new(Self { linger, max, table: Mutex::default() })
    }

    /// Returns the connection of the session's downlink if `position` was its last delivered one.
    /// The downlink stays in the table.
    pub(crate) fn find(&self, session: &SessionId, position: &str) -> Option<Connection> {
        let table = self.table.lock();
        let (_, downlink) = table.downlinks.get(session)?;
        (downlink.position == position).then(|| downlink.connection().clone())
    }

    /// Removes and returns the session's downlink, under the same condition.
    pub(crate) fn take(&self, session: &SessionId, position: &str) -> Option<Downlink> {
        let mut table = self.table.lock();
        let (_, downlink) = table.downlinks.get(session)?;
        if downlink.position != position {
            return None;
        }
        let (_, downlink) = table.downlinks.remove(session)?;
        table.count();
        Some(downlink)
    }

    /// Keeps a downlink for `linger`, replacing an older one of the session.
    pub(crate) fn keep(self: &Arc<Self>, session: SessionId, downlink: Downlink) {
        // Dropped after the lock is released: the last clone of a connection detaches its session.
        let mut _falls_out = None;
        let mut table = self.table.lock();
        if table.closed || self.linger.is_zero() || downlink.connection().is_closed() {
            _falls_out = Some(downlink);
            return drop(table);
        }
        if table.downlinks.len() >= self.max && !table.downlinks.contains_key(&session) {
            metrics::counter!(NOT_KEPT).increment(1);
            _falls_out = Some(downlink);
            return drop(table);
        }
        let until = Instant::now() + self.linger;
        _falls_out = table.downlinks.insert(session, (until, downlink)).map(|(_, older)| older);
        if table.sweeper.is_none() {
            let sweeping = tokio::spawn(sweep(Arc::downgrade(self)));
            table.sweeper = Some(sweeping.abort_handle());
        }
        table.count();
        drop(table);
    }

    /// Drops all downlinks and keeps no further ones.
    pub(crate) fn close(&self) {
        let mut table = self.table.lock();
        table.closed = true;
        let _all = std::mem::take(&mut table.downlinks);
        table.count();
        drop(table);
    }

    /// Drops ended and expired downlinks. Returns whether any is left.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut table = self.table.lock();
        let gone = table
            .downlinks
            .extract_if(|_, (until, downlink)| *until <= now || downlink.connection().is_closed());
        let _gone: Vec<_> = gone.collect();
        let left = !table.downlinks.is_empty();
        if !left {
            table.sweeper = None;
        }
        table.count();
        drop(table);
        left
    }
}

impl Table {
    fn count(&self) {
        metrics::gauge!(KEPT).set(self.downlinks.len() as f64);
    }
}

impl Drop for KeptDownlinks {
    fn drop(&mut self) {
        if let Some(sweeper) = self.table.get_mut().sweeper.take() {
            sweeper.abort();
        }
    }
}

async fn sweep(downlinks: Weak<KeptDownlinks>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if !downlinks.upgrade().is_some_and(|downlinks| downlinks.sweep()) {
            return;
        }
    }
}
