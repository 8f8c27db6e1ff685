//! State updates accepted by other nodes that may not be in the store yet.
//!
//! Updates are written behind. A room loaded here in the meantime would start with the store's
//! older values, and a client that moved over from the other node would receive older values than
//! it had. So remote updates are retained for a while, also of rooms without subscribers here.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::id::{RoomId, StateKey, UserId};
use crate::wire::StateUpdate;

use super::metrics;
use super::state_writer::size;

/// Updates of other nodes in the current period and in the previous one.
#[derive(Debug)]
pub(crate) struct RemoteState {
    periods: Mutex<[Period; 2]>,
    max_keys: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Period {
    rooms: HashMap<RoomId, HashMap<StateKey, Arc<StateUpdate>>>,
    keys: usize,
    bytes: usize,
}

impl RemoteState {
    pub(crate) fn new(max_keys: usize, max_bytes: usize) -> Self {
        Self { periods: Mutex::default(), max_keys, max_bytes }
    }

    /// Retains an update for one period at least. If there are too many, the older period is
    /// dropped early: then the comparison with the store finds what is missing.
    pub(crate) fn push(&self, update: Arc<StateUpdate>) {
        let mut periods = self.periods.lock();
        let now = &periods[0];
        if now.keys >= self.max_keys || now.bytes >= self.max_bytes {
            ::metrics::counter!(metrics::REMOTE_STATE_DROPPED).increment(periods[1].keys as u64);
            periods.rotate_right(1);
            periods[0] = Period::default();
        }
        periods[0].push(update);
    }

    /// The updates of one room.
    pub(crate) fn of(&self, room: &RoomId) -> Vec<Arc<StateUpdate>> {
        let periods = self.periods.lock();
        let rooms = periods.iter().filter_map(|period| period.rooms.get(room));
        rooms.flat_map(|keys| keys.values().cloned()).collect()
    }

    /// Drops the updates of a deleted room: they must not appear in one that is created again under
    /// its id.
    pub(crate) fn drop_room(&self, room: &RoomId) {
        self.drop_matching(|update| update.room == *room);
    }

    /// Drops the updates of a user who is being erased.
    pub(crate) fn drop_user(&self, user: &UserId) {
        self.drop_matching(|update| update.from == *user);
    }

    fn drop_matching(&self, wanted: impl Fn(&StateUpdate) -> bool) {
        for period in &mut *self.periods.lock() {
            let Period { rooms, keys: count, bytes } = period;
            rooms.retain(|_, keys| {
                keys.retain(|_, update| {
                    let goes = wanted(update);
                    if goes {
                        *count -= 1;
                        *bytes -= size(update);
                    }
                    !goes
                });
                !keys.is_empty()
            });
        }
    }

    /// Starts a new period.
    pub(crate) fn turn(&self) {
        let mut periods = self.periods.lock();
        periods.rotate_right(1);
        periods[0] = Period::default();
    }
}

impl Period {
    fn push(&mut self, update: Arc<StateUpdate>) {
        let room = self.rooms.entry(update.room.clone()).or_default();
        if room.get(&update.key).is_some_and(|held| held.stamp >= update.stamp) {
            return;
        }
        self.bytes += size(&update);
        match room.insert(update.key.clone(), update) {
            Some(old) => self.bytes -= size(&old),
            None => self.keys += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::time::{Stamp, Timestamp};

    fn update(key: &str, ms: u64) -> Arc<StateUpdate> {
        let stamp = Stamp { ms: Timestamp::from_millis(ms), counter: 0, node: NodeId(1) };
        let (room, key) = (RoomId::new("tea").unwrap(), StateKey::new(key).unwrap());
        Arc::new(StateUpdate { room, key, stamp, from: UserId::new("ann").unwrap(), value: None })
    }

    fn held(remote: &RemoteState) -> Vec<(String, u64)> {
        let of = remote.of(&RoomId::new("tea").unwrap());
        let mut held: Vec<_> =
            of.iter().map(|u| (u.key.as_str().to_owned(), u.stamp.ms.as_millis())).collect();
        held.sort();
        held
    }

    /// An update is retained for one period at least and two at most.
    #[test]
    fn remote_update_expires_within_two_periods() {
        let remote = RemoteState::new(100, 1 << 20);
        for ms in [1, 3, 2] {
            remote.push(update("a", ms));
        }
        remote.turn();
        assert_eq!(held(&remote), [("a".to_owned(), 3)]);
        remote.push(update("b", 4));
        remote.turn();
        assert_eq!(held(&remote), [("b".to_owned(), 4)]);
        remote.turn();
        assert_eq!(held(&remote), []);
    }

    #[test]
    fn dropped_state_does_not_return() {
        let remote = RemoteState::new(100, 1 << 20);
        remote.push(update("a", 1));
        remote.turn();
        remote.push(update("b", 2));
        remote.drop_user(&UserId::new("bob").unwrap());
        remote.drop_room(&RoomId::new("lake").unwrap());
        assert_eq!(held(&remote).len(), 2, "others stay");
        remote.drop_user(&UserId::new("ann").unwrap());
        assert_eq!(held(&remote), []);
        remote.push(update("c", 3));
        remote.drop_room(&RoomId::new("tea").unwrap());
        assert_eq!(held(&remote), []);
    }

    #[test]
    fn remote_state_is_bounded() {
        let remote = RemoteState::new(2, 1 << 20);
        for n in 0..100 {
            remote.push(update(&format!("key{n}"), n));
        }
        let held = held(&remote);
        assert!(
            (1..=4).contains(&held.len()) && held.contains(&("key99".to_owned(), 99)),
            "{held:?}"
        );
    }
}
