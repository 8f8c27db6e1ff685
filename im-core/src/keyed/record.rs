//! What stands under the keys: fields as MessagePack, one after the other, and behind them the content, if there is one,
//! as it was packed.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::{
    Cursor, DeviceId, Epoch, EventKind, MessageId, NodeId, RoomId, Seq, StateKey, UserId,
};
use crate::ports::{StoreError, StoreErrorKind, StoreResult};
use crate::state::{SecretHash, SubscriptionRecord, Ticket};
use crate::time::{Stamp, Timestamp};
use crate::wire::{Content, Event, StateUpdate};

/// What the store keeps of itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) layout: u32,
    pub(super) generation: u64,
    /// The last incarnation given out.
    pub(super) incarnation: u64,
    pub(super) state_generation: u64,
}

pub(super) fn damaged(what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, format!("a {what} in the store makes no sense"))
}

pub(super) fn pack(fields: &impl Serialize) -> StoreResult<Vec<u8>> {
    rmp_serde::to_vec(fields).map_err(|e| damaged("record").because(e))
}

fn pack_with(fields: &impl Serialize, rest: &[u8]) -> StoreResult<Vec<u8>> {
    let mut record = pack(fields)?;
    record.extend_from_slice(rest);
    Ok(record)
}

/// The fields, and what stands behind them.
fn unpack_with<'a, T: DeserializeOwned>(
    what: &str,
    mut record: &'a [u8],
) -> StoreResult<(T, &'a [u8])> {
    let fields = rmp_serde::from_read(&mut record).map_err(|error| damaged(what).because(error))?;
    Ok((fields, record))
}

pub(super) fn unpack<T: DeserializeOwned>(what: &str, record: &[u8]) -> StoreResult<T> {
    match unpack_with(what, record)? {
        (fields, []) => Ok(fields),
        _ => Err(damaged(what)),
    }
}

fn content(bytes: &[u8]) -> StoreResult<Content> {
    Content::from_packed(Bytes::copy_from_slice(bytes)).map_err(|e| damaged("content").because(e))
}

pub(super) fn event(event: &Event) -> StoreResult<Vec<u8>> {
    pack_with(&(event.at, &event.from, &event.kind, &event.id), event.content.packed())
}

pub(super) fn read_event(
    room: &RoomId,
    epoch: Epoch,
    seq: Seq,
    record: &[u8],
) -> StoreResult<Event> {
    type Fields = (Timestamp, UserId, EventKind, Option<MessageId>);
    let ((at, from, kind, id), rest): (Fields, _) = unpack_with("event", record)?;
    Ok(Event { room: room.clone(), epoch, seq, from, at, kind, id, content: content(rest)? })
}

/// When an event was accepted, and how many bytes its content has.
pub(super) fn event_size(record: &[u8]) -> StoreResult<(Timestamp, u64)> {
    type Fields = (Timestamp, String, String, Option<String>);
    let ((at, ..), rest): (Fields, _) = unpack_with("event", record)?;
    Ok((at, rest.len() as u64))
}

type StampFields = (Timestamp, u32, u32);

fn stamp(stamp: Stamp) -> StampFields {
    (stamp.ms, stamp.counter, stamp.node.0)
}

fn read_stamp((ms, counter, node): StampFields) -> Stamp {
    Stamp { ms, counter, node: NodeId(node) }
}

pub(super) fn state(update: &StateUpdate) -> StoreResult<Vec<u8>> {
    let value = update.value.as_ref();
    let fields = (stamp(update.stamp), &update.from, value.is_some());
    pack_with(&fields, value.map_or(&[], |value| value.packed()))
}

pub(super) fn read_state(room: &RoomId, key: StateKey, record: &[u8]) -> StoreResult<StateUpdate> {
    type Fields = (StampFields, UserId, bool);
    let ((stamp, from, is_set), rest): (Fields, _) = unpack_with("state update", record)?;
    let value = if is_set { Some(content(rest)?) } else { None };
    Ok(StateUpdate { room: room.clone(), key, stamp: read_stamp(stamp), from, value })
}

/// The revision of a room's state, and the stamp below which unknown keys are refused.
pub(super) fn state_head(revision: u64, floor: Option<Stamp>) -> StoreResult<Vec<u8>> {
    pack(&(revision, floor.map(stamp)))
}

pub(super) fn read_state_head(record: &[u8]) -> StoreResult<(u64, Option<Stamp>)> {
    let (revision, floor): (u64, Option<StampFields>) = unpack("state revision", record)?;
    Ok((revision, floor.map(read_stamp)))
}

type RoomFields = (RoomId, Epoch, Seq, u64);

pub(super) fn followed<'a>(
    rooms: impl IntoIterator<Item = (&'a RoomId, &'a SubscriptionRecord)>,
) -> StoreResult<Vec<u8>> {
    let fields = |(room, subscription): (&'a RoomId, &'a SubscriptionRecord)| {
        (room, subscription.cursor.epoch, subscription.cursor.seq, subscription.since)
    };
    pack(&rooms.into_iter().map(fields).collect::<Vec<_>>())
}

pub(super) fn read_subscription<T>(record: &[u8]) -> StoreResult<T>
where
    T: FromIterator<(RoomId, SubscriptionRecord)>,
{
    let rooms: Vec<RoomFields> = unpack("checkpoint", record)?;
    let subscription = |(room, epoch, seq, since)| {
        (room, SubscriptionRecord { cursor: Cursor { epoch, seq }, since })
    };
    Ok(rooms.into_iter().map(subscription).collect())
}

pub(super) fn ticket(ticket: &Ticket) -> StoreResult<Vec<u8>> {
    let Ticket { secret, open_until, opened, device, claims, expires } = ticket;
    pack_with(&(secret, open_until, opened, device, expires), claims)
}

pub(super) fn read_ticket(record: &[u8]) -> StoreResult<Ticket> {
    type Fields = (SecretHash, Timestamp, bool, Option<DeviceId>, Option<Timestamp>);
    let (fields, claims): (Fields, _) = unpack_with("ticket", record)?;
    let (secret, open_until, opened, device, expires) = fields;
    let claims = Bytes::copy_from_slice(claims);
    Ok(Ticket { secret, open_until, opened, device, claims, expires })
}
