//! Where things stand in the one tree. Layout 2.
//!
//! Every key begins with a byte that says what it is. Numbers are big-endian, so that the order of the bytes is the
//! order of the numbers. What belongs to a room stands under its incarnation, a number that no other room of the
//! store ever had: a page of a log is a run of neighbouring keys.
//!
//! | byte | key | value |
//! |---|---|---|
//! | 0 | 0 | number of the last commit |
//! | 0 | 1 | the last incarnation given out |
//! | 0 | 2 | generation of state |
//! | 1 | room id | room |
//! | 2 | incarnation, seq | event |
//! | 3 | incarnation, sender, message id | record of a send |
//! | 4 | incarnation, user | membership, of everybody who was ever in the room, wrote to it or was named in it |
//! | 5 | user, room id | of no meaning: the user may be a member of it |
//! | 6 | incarnation, key | state update |
//! | 7 | incarnation | revision and floor of the state |
//! | 8 | session id | session |
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

use im_core::{MessageId, NodeId, RoomId, Seq, SessionId, StateKey, Timestamp, UserId};

pub(crate) type Key = Vec<u8>;

pub(crate) const BATCH: &[u8] = &[0, 0];
pub(crate) const INCARNATION: &[u8] = &[0, 1];
pub(crate) const STATE_GENERATION: &[u8] = &[0, 2];
const ROOM: u8 = 1;
const EVENT: u8 = 2;
const SENT: u8 = 3;
const MEMBERSHIP: u8 = 4;
const ROOM_OF: u8 = 5;
const STATE: u8 = 6;
const STATE_HEAD: u8 = 7;
const SESSION: u8 = 8;
const SESSION_OF: u8 = 9;
const CHECKPOINT: u8 = 10;
const EXPIRY: u8 = 11;
const STATE_WRITER: u8 = 12;
const TICKET: u8 = 13;

const TRACE: u8 = 14;
const DRAFT: u8 = 15;
const DOOMED: u8 = 16;

/// Everything that is to be purged.
pub(crate) const PURGE_QUEUE: &[u8] = &[DOOMED];
/// All rooms.
pub(crate) const ROOMS: &[u8] = &[ROOM];
/// All nodes that write state.
pub(crate) const STATE_WRITERS: &[u8] = &[STATE_WRITER];
/// All sessions by expiry.
pub(crate) const EXPIRIES: &[u8] = &[EXPIRY];

fn of(kind: u8, parts: &[&[u8]]) -> Key {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(kind);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// The length of an id, which has at most 128 bytes.
fn len(text: &str) -> [u8; 1] {
    [u8::try_from(text.len()).unwrap_or(u8::MAX)]
}

pub(crate) fn room(room: &RoomId) -> Key {
    of(ROOM, &[room.as_str().as_bytes()])
}

pub(crate) fn event(incarnation: u64, seq: Seq) -> Key {
    of(EVENT, &[&incarnation.to_be_bytes(), &seq.get().to_be_bytes()])
}

/// How long the key of an event is; those of its further parts are longer.
pub(crate) const EVENT_LEN: usize = 17;

pub(crate) fn sent(incarnation: u64, sender: &UserId, id: &MessageId) -> Key {
    let sender = sender.as_str();
    of(SENT, &[&incarnation.to_be_bytes(), &len(sender), sender.as_bytes(), id.as_str().as_bytes()])
}

/// All records of one room's sends.
pub(crate) fn all_idempotency_records(incarnation: u64) -> Key {
    of(SENT, &[&incarnation.to_be_bytes()])
}

/// The records of one user's sends to it.
pub(crate) fn idempotency_records_of(incarnation: u64, sender: &UserId) -> Key {
    let sender = sender.as_str();
    of(SENT, &[&incarnation.to_be_bytes(), &len(sender), sender.as_bytes()])
}

/// All events of one room, with their parts.
pub(crate) fn events(incarnation: u64) -> Key {
    of(EVENT, &[&incarnation.to_be_bytes()])
}

pub(crate) fn traces(user: &UserId) -> Key {
    of(TRACE, &[&len(user.as_str()), user.as_str().as_bytes()])
}

pub(crate) fn trace(user: &UserId, incarnation: u64) -> Key {
    of(TRACE, &[&len(user.as_str()), user.as_str().as_bytes(), &incarnation.to_be_bytes()])
}

pub(crate) fn draft(room: &RoomId) -> Key {
    of(DRAFT, &[room.as_str().as_bytes()])
}

pub(crate) fn doomed(incarnation: u64) -> Key {
    of(DOOMED, &[&incarnation.to_be_bytes()])
}

/// The number that a key ends in.
pub(crate) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

pub(crate) fn memberships(incarnation: u64) -> Key {
    of(MEMBERSHIP, &[&incarnation.to_be_bytes()])
}

pub(crate) fn membership(incarnation: u64, user: &UserId) -> Key {
    of(MEMBERSHIP, &[&incarnation.to_be_bytes(), user.as_str().as_bytes()])
}

pub(crate) fn rooms_of(user: &UserId) -> Key {
    of(ROOM_OF, &[&len(user.as_str()), user.as_str().as_bytes()])
}

pub(crate) fn room_of(user: &UserId, room: &RoomId) -> Key {
    of(ROOM_OF, &[&len(user.as_str()), user.as_str().as_bytes(), room.as_str().as_bytes()])
}

pub(crate) fn states(incarnation: u64) -> Key {
    of(STATE, &[&incarnation.to_be_bytes()])
}

/// State keys are of any length, so that theirs must stand before them: further parts follow.
pub(crate) fn state(incarnation: u64, key: &StateKey) -> Key {
    of(STATE, &[&incarnation.to_be_bytes(), &len(key.as_str()), key.as_str().as_bytes()])
}

/// How long the key of a state update is that begins like `key`.
pub(crate) fn state_len(key: &[u8]) -> usize {
    key.get(9).map_or(usize::MAX, |len| 10 + usize::from(*len))
}

pub(crate) fn state_head(incarnation: u64) -> Key {
    of(STATE_HEAD, &[&incarnation.to_be_bytes()])
}

pub(crate) fn ticket(id: &SessionId) -> Key {
    of(TICKET, &[id.as_str().as_bytes()])
}

pub(crate) fn session(id: &SessionId) -> Key {
    of(SESSION, &[id.as_str().as_bytes()])
}

pub(crate) fn sessions_of(user: &UserId) -> Key {
    of(SESSION_OF, &[&len(user.as_str()), user.as_str().as_bytes()])
}

pub(crate) fn session_of(user: &UserId, created: Timestamp, id: &SessionId) -> Key {
    let mut key = sessions_of(user);
    key.extend_from_slice(&created.as_millis().to_be_bytes());
    key.extend_from_slice(id.as_str().as_bytes());
    key
}

pub(crate) fn checkpoint(id: &SessionId) -> Key {
    of(CHECKPOINT, &[&len(id.as_str()), id.as_str().as_bytes()])
}

pub(crate) fn expiry(expires: Timestamp, id: &SessionId) -> Key {
    of(EXPIRY, &[&expires.as_millis().to_be_bytes(), id.as_str().as_bytes()])
}

/// The sessions that expire before this stand before it.
pub(crate) fn expiries_until(now: Timestamp) -> Key {
    of(EXPIRY, &[&now.as_millis().to_be_bytes()])
}

pub(crate) fn state_writer(node: NodeId) -> Key {
    of(STATE_WRITER, &[&node.0.to_be_bytes()])
}

/// The first key after all that begin with `prefix`.
pub(crate) fn after_all(prefix: &[u8]) -> Key {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}
