//! The open connections of a service, so that shutdown can disconnect them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use im_core::engine::Connection;
use im_core::{Code, Error, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The connections of a service. Clones share one list.
#[derive(Debug, Clone, Default)]
pub struct ConnectionList(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Connections that are open; no new ones once closed.
    live: Mutex<Live>,
    last: AtomicU64,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Live {
    closed: bool,
    connections: HashMap<u64, Connection>,
}

impl ConnectionList {
    /// Adds a connection for as long as the returned entry lives.
    ///
    /// # Errors
    ///
    /// [`Code::Draining`] if the service was shut down.
    pub fn enter(&self, connection: Connection) -> Result<Entry> {
        let number = self.0.last.fetch_add(1, Ordering::Relaxed);
        let mut live = self.0.live.lock();
        if live.closed {
            return Err(Error::of(Code::Draining, "accept"));
        }
        live.connections.insert(number, connection.clone());
        Ok(Entry { list: self.clone(), number, connection })
    }

    /// Refuses new connections, closes all with [`Code::Draining`], and waits until they have
    /// ended.
    pub async fn close(&self) {
        {
            let mut live = self.0.live.lock();
            live.closed = true;
            live.connections.values().for_each(|connection| connection.close(Code::Draining));
        }
        loop {
            let emptied = self.0.emptied.notified();
            if self.0.live.lock().connections.is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

/// A connection that is on the list.
#[derive(Debug)]
pub struct Entry {
    list: ConnectionList,
    number: u64,
    connection: Connection,
}

impl Entry {
    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Dropped after the lock is released: the last clone of a connection detaches its session.
        let (_gone, empty) = {
            let mut live = self.list.0.live.lock();
            (live.connections.remove(&self.number), live.connections.is_empty())
        };
        if empty {
            self.list.0.emptied.notify_waiters();
        }
    }
}
