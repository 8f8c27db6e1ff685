//! Where things stand. Layout 1.
//!
//! Every key begins with a byte that says what it is. Numbers are big-endian, so that the order of the bytes is the
//! order of the numbers. What belongs to a room stands under its incarnation, a number that no other room of the
//! store ever had: a page of a log is a run of neighbouring rows.
//!
//! | byte | key | value |
//! |---|---|---|
//! | 0 | | [`Meta`](super::record::Meta) |
//! | 1 | room id | room |
//! | 2 | incarnation, seq | event |
//! | 3 | incarnation, sender, message id | record of a send |
//! | 4 | incarnation, user | membership, of everybody who was ever in the room, wrote to it or was named in it |
//! | 5 | user, room id, 0, incarnation | nothing: the user is a member of it, if it is still there |
//! | 6 | incarnation, key | state update |
//! | 7 | incarnation | revision and floor of the state |
//! | 8 | session id | session, and the revision of its checkpoint |
//! | 9 | user, created, session id | nothing |
//! | 10 | session id | checkpoint |
//! | 11 | expires, session id | nothing |
//! | 12 | node | nothing: it is writing state |
//! | 13 | session id | ticket |
//! | 14 | user, incarnation | room id, and the seq before which the user's events were erased; one for each membership |
//! | 15 | room id | room under import |
//! | 16 | incarnation | room id: what is left under this incarnation is to be purged |
//!
//! A text that is not the last part of its key has its length, one byte, before it.

use crate::id::{MessageId, NodeId, RoomId, Seq, SessionId, StateKey, UserId};
use crate::ports::StoreResult;
use crate::time::Timestamp;

use super::record::damaged;

pub(super) type Key = Vec<u8>;

pub(super) const META: &[u8] = &[0];
/// All rooms.
pub(super) const ROOMS: &[u8] = &[1];
/// All sessions by expiry.
pub(super) const EXPIRIES: &[u8] = &[11];
/// All nodes that write state.
pub(super) const STATE_WRITERS: &[u8] = &[12];
/// Everything that is to be purged.
pub(super) const PURGE_QUEUE: &[u8] = &[16];

fn of(kind: u8, parts: &[&[u8]]) -> Key {
    let mut key = vec![kind];
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// A text with its length before it. Ids have at most 128 bytes.
fn short(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[len], text.as_bytes()].concat()
}

pub(super) fn room(room: &RoomId) -> Key {
    of(1, &[room.as_str().as_bytes()])
}

pub(super) fn events(incarnation: u64) -> Key {
    of(2, &[&incarnation.to_be_bytes()])
}

pub(super) fn event(incarnation: u64, seq: Seq) -> Key {
    of(2, &[&incarnation.to_be_bytes(), &seq.get().to_be_bytes()])
}

/// All records of one room's sends.
pub(super) fn all_idempotency_records(incarnation: u64) -> Key {
    of(3, &[&incarnation.to_be_bytes()])
}

/// The records of one user's sends to it.
pub(super) fn idempotency_records_of(incarnation: u64, sender: &UserId) -> Key {
    of(3, &[&incarnation.to_be_bytes(), &short(sender.as_str())])
}

pub(super) fn sent(incarnation: u64, sender: &UserId, id: &MessageId) -> Key {
    let (sender, id) = (short(sender.as_str()), id.as_str().as_bytes());
    of(3, &[&incarnation.to_be_bytes(), &sender, id])
}

pub(super) fn memberships(incarnation: u64) -> Key {
    of(4, &[&incarnation.to_be_bytes()])
}

pub(super) fn membership(incarnation: u64, user: &UserId) -> Key {
    of(4, &[&incarnation.to_be_bytes(), user.as_str().as_bytes()])
}

pub(super) fn rooms_of(user: &UserId) -> Key {
    of(5, &[&short(user.as_str())])
}

/// No id holds a zero byte: so the rooms of a user stand in the order of their ids.
pub(super) fn room_of(user: &UserId, room: &RoomId, incarnation: u64) -> Key {
    let (user, room) = (short(user.as_str()), room.as_str().as_bytes());
    of(5, &[&user, room, &[0], &incarnation.to_be_bytes()])
}

pub(super) fn states(incarnation: u64) -> Key {
    of(6, &[&incarnation.to_be_bytes()])
}

pub(super) fn state(incarnation: u64, key: &StateKey) -> Key {
    of(6, &[&incarnation.to_be_bytes(), key.as_str().as_bytes()])
}

pub(super) fn state_head(incarnation: u64) -> Key {
    of(7, &[&incarnation.to_be_bytes()])
}

pub(super) fn session(id: &SessionId) -> Key {
    of(8, &[id.as_str().as_bytes()])
}

pub(super) fn sessions_of(user: &UserId) -> Key {
    of(9, &[&short(user.as_str())])
}

pub(super) fn session_of(user: &UserId, created: Timestamp, id: &SessionId) -> Key {
    let (user, created) = (short(user.as_str()), created.as_millis().to_be_bytes());
    of(9, &[&user, &created, id.as_str().as_bytes()])
}

pub(super) fn checkpoint(id: &SessionId) -> Key {
    of(10, &[id.as_str().as_bytes()])
}

/// The sessions that expire before this stand before it.
pub(super) fn expiries_from(time: Timestamp) -> Key {
    of(11, &[&time.as_millis().to_be_bytes()])
}

pub(super) fn expiry(expires: Timestamp, id: &SessionId) -> Key {
    of(11, &[&expires.as_millis().to_be_bytes(), id.as_str().as_bytes()])
}

pub(super) fn state_writer(node: NodeId) -> Key {
    of(12, &[&node.0.to_be_bytes()])
}

pub(super) fn ticket(id: &SessionId) -> Key {
    of(13, &[id.as_str().as_bytes()])
}

pub(super) fn traces(user: &UserId) -> Key {
    of(14, &[&short(user.as_str())])
}

pub(super) fn trace(user: &UserId, incarnation: u64) -> Key {
    of(14, &[&short(user.as_str()), &incarnation.to_be_bytes()])
}

pub(super) fn draft(room: &RoomId) -> Key {
    of(15, &[room.as_str().as_bytes()])
}

pub(super) fn doomed(incarnation: u64) -> Key {
    of(16, &[&incarnation.to_be_bytes()])
}

/// The first key after all that begin with `prefix`, whose first byte is no 255.
pub(super) fn after_all(prefix: &[u8]) -> Key {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// The first key that may stand after `prefix` and the text `after`.
pub(super) fn beyond(prefix: &[u8], after: Option<&str>) -> Key {
    match after {
        // A zero, and an incarnation, may follow in the key of a room of a user.
        Some(after) => [prefix, after.as_bytes(), &[1]].concat(),
        None => prefix.to_vec(),
    }
}

/// The text that stands behind the first `skipped` bytes of a key, as an id.
pub(super) fn id_at<T>(key: &[u8], skipped: usize) -> StoreResult<T>
where
    T: for<'a> TryFrom<&'a str>,
{
    let text = key.get(skipped..).and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| T::try_from(text).ok()).ok_or_else(|| damaged("key"))
}

/// The number that a key ends in.
pub(super) fn last_number(key: &[u8]) -> StoreResult<u64> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes)).ok_or_else(|| damaged("key"))
}
