//! What outlives a connection: who the session belongs to, and what it follows from where.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{Cursor, DeviceId, RoomId, SessionId, UserId};
use crate::time::Timestamp;
use crate::wire::Secret;

/// A session, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its public id.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// The hash of the secret that resumes it.
    pub secret: SecretHash,
    /// Since when.
    pub created: Timestamp,
    /// Until when it can be resumed; moved on whenever it is used.
    pub expires: Timestamp,
    /// How many connections have taken the session so far: the one with the greatest number holds it.
    pub fencing_token: u64,
}

/// A ticket: opens one stream of a session for a client that can show no credentials, and takes it up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The hash of its secret.
    pub secret: SecretHash,
    /// Until when it must have been opened.
    pub open_until: Timestamp,
    /// Whether it was. From then on it only takes up what it opened.
    pub opened: bool,
    /// What the credentials said of whoever asked for it: the device, the claims packed as MessagePack, and when they
    /// expire.
    pub device: Option<DeviceId>,
    /// See `device`.
    pub claims: Bytes,
    /// See `device`.
    pub expires: Option<Timestamp>,
}

/// What may have changed of a session while somebody is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionHead {
    /// As in [`SessionRecord`].
    pub fencing_token: u64,
    /// The checkpoint's revision.
    pub rev: u64,
}

/// SHA-256 of a secret with 128 random bits or more. Its strength is the secret's own; no salt is needed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Hashes a secret.
    pub fn of(secret: &Secret) -> Self {
        Self(Sha256::digest(secret.expose().as_bytes()).into())
    }

    /// Takes what [`SecretHash::as_bytes`] once gave, as a store returns it.
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash itself, for a store to keep.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `secret` is the one that was hashed. Takes the same time wherever they differ.
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

/// What a session follows, and from where, as far as the client has confirmed.
///
/// Invariants: a cursor is never beyond what the client itself has named or been given as a start; `since` of each room
/// is at most `rev`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// Counts up with every change; a client names it to say what its differences are against.
    pub rev: u64,
    /// The subscriptions.
    pub rooms: BTreeMap<RoomId, SubscriptionRecord>,
}

/// A session's subscription to a room, as its checkpoint has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// The last event that the client has.
    pub cursor: Cursor,
    /// The revision at which following began, or began anew: a confirmed cursor moves on without it, a new `subscribe` moves
    /// it. So whoever serves the session knows which rooms to begin.
    pub since: u64,
}

/// What a change of a checkpoint starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Whatever is held.
    Held,
    /// Nothing: what is held is dropped.
    Empty,
    /// What is held, if it has this revision. Otherwise the change is refused.
    Rev(u64),
}

/// A change of a checkpoint. Begins with `base`; then `unsubscribe`, `subscribe` and `confirm`, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointChange {
    /// What it starts from.
    pub base: Base,
    /// Rooms to unsubscribe from.
    pub unsubscribe: Vec<RoomId>,
    /// Rooms to subscribe to, also if subscribed already, each from its cursor.
    pub subscribe: Vec<(RoomId, Cursor)>,
    /// Cursors that the client has come to. Those of rooms that are not followed are passed over.
    pub confirm: Vec<(RoomId, Cursor)>,
    /// Rooms that may be followed in the end. Otherwise the change is refused.
    pub max_rooms: usize,
}

/// Why a checkpoint was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchanged {
    /// There is no such session.
    NoSession,
    /// The revision held is another one.
    Stale,
    /// It would follow too many rooms.
    Full,
}

impl Checkpoint {
    /// Applies a change. Nothing is changed if it is refused.
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
