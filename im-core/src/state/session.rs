//! Sessions, which outlive connections: owner, subscriptions and cursors.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{Cursor, DeviceId, RoomId, SessionId, UserId};
use crate::time::Timestamp;
use crate::wire::Secret;

/// A session, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its public id.
    pub id: SessionId,
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// The hash of the secret that resumes it.
    pub secret: SecretHash,
    /// When it was opened.
    pub created: Timestamp,
    /// When it expires; extended on use.
    pub expires: Timestamp,
    /// The number of attaches so far: the connection with the highest token holds the session.
    pub fencing_token: u64,
}

/// A ticket: opens and resumes one stream of a session for a client that cannot send credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The hash of its secret.
    pub secret: SecretHash,
    /// Until when it can be opened.
    pub open_until: Timestamp,
    /// Whether it was opened. Then it only resumes the stream that it opened.
    pub opened: bool,
    /// From the credentials of the requesting connection: the device, the claims packed as
    /// MessagePack, and their expiry.
    pub device: Option<DeviceId>,
    /// See `device`.
    pub claims: Bytes,
    /// See `device`.
    pub expires: Option<Timestamp>,
}

/// The fields of a session that may change during a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionHead {
    /// As in [`SessionRecord`].
    pub fencing_token: u64,
    /// The checkpoint's revision.
    pub rev: u64,
}

/// SHA-256 of a secret with 128 random bits or more. The secret is strong enough that no salt is
/// needed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Hashes a secret.
    pub fn of(secret: &Secret) -> Self {
        Self(Sha256::digest(secret.expose().as_bytes()).into())
    }

    /// Restores a hash from the result of [`SecretHash::as_bytes`].
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash itself, for storage.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns whether `secret` is the hashed one. Takes the same time wherever they differ.
    pub fn matches(&self, secret: &Secret) -> bool {
        let other = Self::of(secret);
        self.0.iter().zip(other.0).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// The subscriptions of a session, with the cursors that the client has confirmed.
///
/// Invariants: a cursor is never beyond what the client itself has sent or was assigned as a start;
/// `since` of each room is at most `rev`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// Increases with every change; a client names it as the base of its differences.
    pub rev: u64,
    /// The subscriptions.
    pub rooms: BTreeMap<RoomId, SubscriptionRecord>,
}

/// A session's subscription to a room, as its checkpoint has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// The last event that the client has.
    pub cursor: Cursor,
    /// The revision at which the subscription began, or began again. A confirmed cursor does not
    /// change it; a new `subscribe` does. So a node that serves the session knows which rooms to
    /// begin.
    pub since: u64,
}

/// The base of a change of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The stored checkpoint.
    Held,
    /// An empty one: the stored subscriptions are dropped.
    Empty,
    /// The stored checkpoint, if it has this revision. Otherwise the change is refused.
    Rev(u64),
}

/// A change of a checkpoint. Begins with `base`; then `unsubscribe`, `subscribe` and `confirm`, in
/// this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointChange {
    /// The base of the change.
    pub base: Base,
    /// Rooms to unsubscribe from.
    pub unsubscribe: Vec<RoomId>,
    /// Rooms to subscribe to, also if subscribed already, each from its cursor.
    pub subscribe: Vec<(RoomId, Cursor)>,
    /// Cursors that the client has reached. Those of rooms without a subscription are ignored.
    pub confirm: Vec<(RoomId, Cursor)>,
    /// Maximum number of subscriptions after the change. With more, the change is refused.
    pub max_rooms: usize,
}

/// The reason why a checkpoint was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchanged {
    /// There is no such session.
    NoSession,
    /// The stored revision is another one.
    Stale,
    /// The session would have too many subscriptions.
    Full,
}

impl Checkpoint {
    /// Applies a change atomically: a refused change has no effect.
    ///
    /// # Errors
    ///
    /// [`Unchanged::Stale`], [`Unchanged::Full`].
    pub fn apply(&mut self, change: &CheckpointChange) -> Result<u64, Unchanged> {
        if let Base::Rev(rev) = change.base
            && rev != self.rev
        {
            return Err(Unchanged::Stale);
        }
        let rev = self.rev + 1;
        let mut rooms = match change.base {
            Base::Empty => BTreeMap::new(),
            Base::Held | Base::Rev(_) => self.rooms.clone(),
        };
        for room in &change.unsubscribe {
            rooms.remove(room);
        }
        for (room, cursor) in &change.subscribe {
            rooms.insert(room.clone(), SubscriptionRecord { cursor: *cursor, since: rev });
        }
        if !change.subscribe.is_empty() && rooms.len() > change.max_rooms {
            return Err(Unchanged::Full);
        }
        for (room, cursor) in &change.confirm {
            if let Some(subscription) = rooms.get_mut(room) {
                subscription.cursor = *cursor;
            }
        }
        *self = Self { rev, rooms };
        Ok(rev)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, Seq};

    fn at(seq: u64) -> Cursor {
        Cursor { epoch: Epoch { generation: 1, incarnation: 1 }, seq: Seq::new(seq).unwrap() }
    }

    fn room(name: &str) -> RoomId {
        RoomId::new(name).unwrap()
    }

    fn change(base: Base, subscribe: &[(&str, u64)], confirm: &[(&str, u64)]) -> CheckpointChange {
        let cursors = |list: &[(&str, u64)]| list.iter().map(|(r, s)| (room(r), at(*s))).collect();
        CheckpointChange {
            base,
            unsubscribe: Vec::new(),
            subscribe: cursors(subscribe),
            confirm: cursors(confirm),
            max_rooms: 2,
        }
    }

    #[test]
    fn resubscribing_moves_since_confirming_does_not() {
        let mut held = Checkpoint::default();
        assert_eq!(held.apply(&change(Base::Held, &[("a", 1), ("b", 2)], &[])), Ok(1));
        assert_eq!(held.apply(&change(Base::Held, &[], &[("a", 5), ("c", 9)])), Ok(2));
        assert_eq!(held.apply(&change(Base::Held, &[("b", 7)], &[])), Ok(3));
        let rooms: Vec<_> =
            held.rooms.iter().map(|(r, f)| (r.as_str(), f.cursor, f.since)).collect();
        assert_eq!(rooms, [("a", at(5), 1), ("b", at(7), 3)]);
    }

    #[test]
    fn a_refused_change_changes_nothing() {
        let mut held = Checkpoint::default();
        held.apply(&change(Base::Held, &[("a", 1), ("b", 2)], &[])).unwrap();
        let before = held.clone();
        assert_eq!(held.apply(&change(Base::Rev(0), &[], &[])), Err(Unchanged::Stale));
        assert_eq!(held.apply(&change(Base::Held, &[("c", 1)], &[("a", 9)])), Err(Unchanged::Full));
        assert_eq!(held, before);
        let swap = CheckpointChange {
            unsubscribe: vec![room("a")],
            ..change(Base::Rev(1), &[("c", 1)], &[])
        };
        assert_eq!(held.apply(&swap), Ok(2));
        assert_eq!(held.rooms.keys().map(RoomId::as_str).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(held.apply(&change(Base::Empty, &[("d", 1)], &[])), Ok(3));
        assert_eq!(held.rooms.len(), 1);
    }
}
