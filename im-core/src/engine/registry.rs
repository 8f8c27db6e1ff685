//! The connections of this node: all of them, and those of each user.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard};

use crate::id::{SessionId, UserId};

use super::connection::Conn;
use super::metrics;

/// The connections of this node.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    /// Notified when the last connection was removed.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    all: HashMap<u64, Arc<Conn>>,
    users: HashMap<UserId, Vec<Arc<Conn>>>,
    /// Calls in progress.
    calls: HashMap<UserId, usize>,
    /// The lock that serialises a user's commands about many rooms. Exists only while one is
    /// executed or waits.
    user_locks: HashMap<UserId, Arc<AsyncMutex<()>>>,
    /// Connections by network.
    networks: HashMap<IpAddr, usize>,
    /// Connections before their handshake, by network.
    handshakes: HashMap<IpAddr, usize>,
    next: u64,
}

/// A call in progress; it counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    registry: Arc<Registry>,
    user: UserId,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.registry.end_call(&self.user);
    }
}

/// A user's turn; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct UserTurn {
    registry: Arc<Registry>,
    user: UserId,
    held: Option<OwnedMutexGuard<()>>,
}

impl Drop for UserTurn {
    fn drop(&mut self) {
        let mut inner = self.registry.inner.lock();
        self.held.take();
        // Waiting turns hold a reference as well.
        if inner
            .user_locks
            .get(&self.user)
            .is_some_and(|user_locks| Arc::strong_count(user_locks) == 1)
        {
            inner.user_locks.remove(&self.user);
        }
    }
}

/// The reason why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionRefused {
    /// The maximum was reached.
    TooMany,
    /// A newer connection is attached to the session already.
    Superseded,
}

/// Maximum numbers of connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) all: usize,
    /// From one network, as long as they live.
    pub(crate) of_address: usize,
    /// From one network, before their handshake.
    pub(crate) handshakes_of_address: usize,
}

/// The network of an address, which counts as one: for IPv6 the /64, since a holder of one address
/// mostly has all 2^64 of it (RFC 6177).
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

impl Registry {
    /// Registers a new connection, made by `make` from its number.
    pub(crate) fn open(
        &self,
        address: Option<IpAddr>,
        most: Most,
        make: impl FnOnce(u64) -> Conn,
    ) -> Result<Arc<Conn>, ConnectionRefused> {
        let mut inner = self.inner.lock();
        if inner.all.len() >= most.all {
            return Err(ConnectionRefused::TooMany);
        }
        if let Some(network) = address.map(network_of) {
            let of = |counts: &HashMap<IpAddr, usize>| counts.get(&network).copied().unwrap_or(0);
            if of(&inner.networks) >= most.of_address
                || of(&inner.handshakes) >= most.handshakes_of_address
            {
                return Err(ConnectionRefused::TooMany);
            }
            *inner.networks.entry(network).or_default() += 1;
            *inner.handshakes.entry(network).or_default() += 1;
        }
        inner.next += 1;
        let number = inner.next;
        let conn = Arc::new(make(number));
        inner.all.insert(number, conn.clone());
        ::metrics::gauge!(metrics::CONNECTIONS).set(inner.all.len() as f64);
        Ok(conn)
    }

    /// Registers a connection under its user after the handshake. Returns an older connection of
    /// the same session, which it replaces.
    pub(crate) fn identify(
        &self,
        conn: &Arc<Conn>,
        max: usize,
    ) -> Result<Option<Arc<Conn>>, ConnectionRefused> {
        let Some(session) = conn.session() else { return Ok(None) };
        let mut inner = self.inner.lock();
        let conns = inner.users.entry(session.user.clone()).or_default();
        let same = |other: &Arc<Conn>| other.session().is_some_and(|held| held.id == session.id);
        let replaced = match conns.iter().position(same) {
            Some(at) if conns[at].fencing_token() > session.fencing_token => {
                return Err(ConnectionRefused::Superseded);
            }
            Some(at) => Some(conns.swap_remove(at)),
            None => None,
        };
        if conns.len() >= max {
            return Err(ConnectionRefused::TooMany);
        }
        conns.push(conn.clone());
        inner.end_handshake(conn);
        Ok(replaced)
    }

    /// Returns whether the user is below `max` connections, not counting those of `session`.
    pub(crate) fn has_room_for(
        &self,
        user: &UserId,
        session: Option<&SessionId>,
        max: usize,
    ) -> bool {
        let inner = self.inner.lock();
        let conns = inner.users.get(user).into_iter().flatten();
        let others = conns.filter(|conn| conn.session().map(|held| &held.id) != session);
        others.count() < max
    }

    /// Removes a connection from its network's handshakes.
    pub(crate) fn greet(&self, conn: &Conn) {
        self.inner.lock().end_handshake(conn);
    }

    /// Registers a call of this user, unless `max` are in progress.
    pub(crate) fn begin_call(self: &Arc<Self>, user: &UserId, max: usize) -> Option<Call> {
        let mut inner = self.inner.lock();
        let calls = inner.calls.entry(user.clone()).or_default();
        if *calls >= max {
            return None;
        }
        *calls += 1;
        Some(Call { registry: self.clone(), user: user.clone() })
    }

    /// Waits for this user's turn at work that is serialised per user. At most the user's
    /// connections and calls wait here.
    pub(crate) async fn lock_user(self: &Arc<Self>, user: &UserId) -> UserTurn {
        let user_locks = self.inner.lock().user_locks.entry(user.clone()).or_default().clone();
        // Created before the wait, so that the entry is removed also if the waiting future is
        // dropped.
        let mut turn = UserTurn { registry: self.clone(), user: user.clone(), held: None };
        turn.held = Some(user_locks.lock_owned().await);
        turn
    }

    fn end_call(&self, user: &UserId) {
        let mut inner = self.inner.lock();
        if let Some(calls) = inner.calls.get_mut(user) {
            *calls -= 1;
            if *calls == 0 {
                inner.calls.remove(user);
            }
        }
    }

    /// Removes a connection.
    pub(crate) fn close(&self, conn: &Arc<Conn>) {
        let mut inner = self.inner.lock();
        if inner.all.remove(&conn.number).is_none() {
            return;
        }
        ::metrics::gauge!(metrics::CONNECTIONS).set(inner.all.len() as f64);
        if inner.all.is_empty() {
            self.emptied.notify_waiters();
        }
        inner.end_handshake(conn);
        if let Some(network) = conn.address.map(network_of) {
            one_less(&mut inner.networks, &network);
        }
        let Some(session) = conn.session() else { return };
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

    /// Waits until there are no connections.
    pub(crate) async fn emptied(&self) {
        let emptied = self.emptied.notified();
        if self.len() > 0 {
            emptied.await;
        }
    }

    /// The number of connections.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().all.len()
    }
}

impl Inner {
    fn end_handshake(&mut self, conn: &Conn) {
        let Some(network) = conn.address.map(network_of) else { return };
        if conn.greeted.swap(true, Ordering::Relaxed) {
            return;
        }
        one_less(&mut self.handshakes, &network);
    }
}

fn one_less(counts: &mut HashMap<IpAddr, usize>, network: &IpAddr) {
    if let Some(count) = counts.get_mut(network) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_share_bounds() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3::4"), network("2001:db8:1:2:ffff::1"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.7"), network("192.0.2.7"));
        assert_ne!(network("192.0.2.7"), network("192.0.2.8"));
    }
}
