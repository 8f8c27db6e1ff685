//! The connections of this node: all of them, and those of each user.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::id::{SessionId, UserId};

use super::connection::Conn;
use super::metrics;

/// The connections of this node.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    /// The last connection has gone.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    all: HashMap<u64, Arc<Conn>>,
    users: HashMap<UserId, Vec<Arc<Conn>>>,
    /// Connections of an address that have not said who they are.
    handshakes: HashMap<IpAddr, usize>,
    next: u64,
}

/// Why a connection was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crowded;

impl Registry {
    /// Takes a new connection, made by `make` from its number.
    pub(crate) fn open(
        &self,
        address: Option<IpAddr>,
        max: usize,
        max_handshakes: usize,
        make: impl FnOnce(u64) -> Conn,
    ) -> Result<Arc<Conn>, Crowded> {
        let mut inner = self.inner.lock();
        if inner.all.len() >= max {
            return Err(Crowded);
        }
        if let Some(address) = address {
            let open = inner.handshakes.entry(address).or_default();
            if *open >= max_handshakes {
                return Err(Crowded);
            }
            *open += 1;
        }
        inner.next += 1;
        let number = inner.next;
        let conn = Arc::new(make(number));
        inner.all.insert(number, conn.clone());
        ::metrics::gauge!(metrics::CONNECTIONS).set(inner.all.len() as f64);
        Ok(conn)
    }

    /// The connection has said who it is. Gives back an older connection of the same session, which it replaces.
    pub(crate) fn identify(
        &self,
        conn: &Arc<Conn>,
        user: &UserId,
        session: &SessionId,
        max: usize,
    ) -> Result<Option<Arc<Conn>>, Crowded> {
        let mut inner = self.inner.lock();
        let conns = inner.users.entry(user.clone()).or_default();
        let older =
            conns.iter().position(|other| other.session().is_some_and(|s| s.id == *session));
        let replaced = older.map(|at| conns.swap_remove(at));
        if conns.len() >= max {
            return Err(Crowded);
        }
        conns.push(conn.clone());
        inner.end_handshake(conn.address);
        Ok(replaced)
    }

    /// The connection is gone.
    pub(crate) fn close(&self, conn: &Arc<Conn>) {
        let mut inner = self.inner.lock();
        if inner.all.remove(&conn.number).is_none() {
            return;
        }
        ::metrics::gauge!(metrics::CONNECTIONS).set(inner.all.len() as f64);
        if inner.all.is_empty() {
            self.emptied.notify_waiters();
        }
        let Some(session) = conn.session() else { return inner.end_handshake(conn.address) };
        if let Some(conns) = inner.users.get_mut(&session.user) {
            conns.retain(|other| !Arc::ptr_eq(other, conn));
            if conns.is_empty() {
                inner.users.remove(&session.user);
            }
        }
    }

    /// The user's connections on this node.
    pub(crate) fn of_user(&self, user: &UserId) -> Vec<Arc<Conn>> {
        self.inner.lock().users.get(user).cloned().unwrap_or_default()
    }

    /// All connections.
    pub(crate) fn all(&self) -> Vec<Arc<Conn>> {
        self.inner.lock().all.values().cloned().collect()
    }

    /// Waits until there are none.
    pub(crate) async fn emptied(&self) {
        let emptied = self.emptied.notified();
        if self.len() > 0 {
            emptied.await;
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().all.len()
    }
}

impl Inner {
    fn end_handshake(&mut self, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        if let Some(open) = self.handshakes.get_mut(&address) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.handshakes.remove(&address);
            }
        }
    }
}
