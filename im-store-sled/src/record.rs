//! The records: what stands under the keys.

use std::collections::BTreeMap;

use bytes::Bytes;
use im_core::ports::StoreResult;
use im_core::state::{
    Checkpoint, ContentHash, IdempotencyRecord, Membership, RoomRecord, SessionRecord,
    SubscriptionRecord, Ticket,
};
use im_core::wire::{Content, Event, Role, RoomKind, StateUpdate};
use im_core::{
    Cursor, DeviceId, Epoch, EventKind, MessageId, NodeId, RoomId, Seq, SessionId, Stamp, StateKey,
    Timestamp, UserId,
};

use crate::bytes::{In, Out};

const KINDS: [RoomKind; 4] =
    [RoomKind::Direct, RoomKind::Group, RoomKind::Channel, RoomKind::Inbox];
const ROLES: [Role; 4] = [Role::Reader, Role::Member, Role::Moderator, Role::Owner];
const BANNED: u8 = 255;
/// No membership: the user was in the room, wrote to it or was named in it.
const SEEN: u8 = 254;
/// How long the record of a room was in layout 1, which ended after the members.
pub(crate) const ROOM_LEN_1: usize = 39;

fn place<T: PartialEq>(all: &[T], one: &T) -> u8 {
    // Both lists name all that there is and are short.
    all.iter().position(|each| each == one).and_then(|at| u8::try_from(at).ok()).unwrap_or(BANNED)
}

/// The store's generation is not written: it may change, and then changes for all rooms.
pub(crate) fn room(record: &RoomRecord) -> Vec<u8> {
    Out::new(56)
        .u8(place(&KINDS, &record.kind))
        .u8(u8::from(record.open))
        .u64(record.epoch.incarnation)
        .u64(record.head.get())
        .u64(record.first.get())
        .time(record.created)
        .u32(record.members)
        .u64(record.bytes)
        .u64(record.erased)
        .end()
}

/// Brings the record of a room from layout 1 to 2.
pub(crate) fn room_from_1(old: &[u8], bytes: u64) -> Vec<u8> {
    [old, &bytes.to_be_bytes(), &0_u64.to_be_bytes()].concat()
}

pub(crate) fn read_room(id: &RoomId, generation: u64, bytes: &[u8]) -> StoreResult<RoomRecord> {
    let mut input = In::new(bytes, "room")?;
    let kind = input.u8()?;
    Ok(RoomRecord {
        id: id.clone(),
        kind: input.meant(KINDS.get(usize::from(kind)).copied())?,
        open: input.u8()? != 0,
        epoch: Epoch { generation, incarnation: input.u64()? },
        head: input.seq()?,
        first: input.seq()?,
        created: input.time()?,
        members: input.u32()?,
        bytes: input.u64()?,
        erased: input.u64()?,
    })
}

pub(crate) fn event(event: &Event) -> Vec<u8> {
    let content = event.content.packed();
    Out::new(64 + content.len())
        .time(event.at)
        .text(event.from.as_str())
        .text(event.kind.as_str())
        .text(event.id.as_ref().map_or("", MessageId::as_str))
        .rest(content)
}

pub(crate) fn read_event(
    room: &RoomId,
    epoch: Epoch,
    seq: Seq,
    bytes: &[u8],
) -> StoreResult<Event> {
    let mut input = In::new(bytes, "event")?;
    let at = input.time()?;
    let (from, kind, id) = (input.text()?, input.text()?, input.text()?);
    let id = if id.is_empty() { None } else { Some(input.made(MessageId::new(id))?) };
    let (from, kind) = (input.made(UserId::new(from))?, input.made(EventKind::new(kind))?);
    Ok(Event { room: room.clone(), epoch, seq, from, at, kind, id, content: content(input)? })
}

/// When an event was accepted, and how many bytes its content has, without a look at the content.
pub(crate) fn event_size(bytes: &[u8]) -> StoreResult<(Timestamp, u64)> {
    let mut input = In::new(bytes, "event")?;
    let at = input.time()?;
    for _sender_kind_and_id in 0..3 {
        input.text()?;
    }
    Ok((at, input.rest().len() as u64))
}

fn content(input: In<'_>) -> StoreResult<Content> {
    Content::from_packed(Bytes::copy_from_slice(input.rest()))
        .map_err(|_| crate::error::damaged("content"))
}

pub(crate) fn sent(record: &IdempotencyRecord) -> Vec<u8> {
    Out::new(48).u64(record.seq.get()).time(record.at).rest(&record.hash.0)
}

pub(crate) fn read_idempotency_record(bytes: &[u8]) -> StoreResult<IdempotencyRecord> {
    let mut input = In::new(bytes, "record of a send")?;
    Ok(IdempotencyRecord {
        seq: input.seq()?,
        at: input.time()?,
        hash: ContentHash(input.array()?),
    })
}

/// A membership; `None` for a user who has none and was in the room, wrote to it or was named in it.
pub(crate) fn membership(membership: Option<Membership>) -> Vec<u8> {
    let byte = match membership {
        Some(Membership::Member(role)) => place(&ROLES, &role),
        Some(Membership::Banned) => BANNED,
        None => SEEN,
    };
    Out::new(1).u8(byte).end()
}

pub(crate) fn read_membership(bytes: &[u8]) -> StoreResult<Option<Membership>> {
    let mut input = In::new(bytes, "membership")?;
    match input.u8()? {
        BANNED => Ok(Some(Membership::Banned)),
        SEEN => Ok(None),
        role => {
            let role = input.meant(ROLES.get(usize::from(role)).copied())?;
            Ok(Some(Membership::Member(role)))
        }
    }
}

/// Where a user may be found, and what stands before which event was erased.
pub(crate) fn trace(room: &RoomId, next: Seq) -> Vec<u8> {
    Out::new(16 + room.as_str().len()).u64(next.get()).text(room.as_str()).end()
}

pub(crate) fn read_trace(bytes: &[u8]) -> StoreResult<(RoomId, Seq)> {
    let mut input = In::new(bytes, "trace")?;
    let (next, room) = (input.seq()?, input.text()?);
    Ok((input.made(RoomId::new(room))?, next))
}

fn put_stamp(out: Out, stamp: Stamp) -> Out {
    out.time(stamp.ms).u32(stamp.counter).u32(stamp.node.0)
}

fn read_stamp(input: &mut In<'_>) -> StoreResult<Stamp> {
    Ok(Stamp { ms: input.time()?, counter: input.u32()?, node: NodeId(input.u32()?) })
}

pub(crate) fn state(update: &StateUpdate) -> Vec<u8> {
    let value = update.value.as_ref();
    put_stamp(Out::new(64 + value.map_or(0, |v| v.packed().len())), update.stamp)
        .text(update.key.as_str())
        .text(update.from.as_str())
        .u8(u8::from(value.is_some()))
        .rest(value.map_or(&[], |value| value.packed()))
}

pub(crate) fn read_state(room: &RoomId, bytes: &[u8]) -> StoreResult<StateUpdate> {
    let mut input = In::new(bytes, "state update")?;
    let stamp = read_stamp(&mut input)?;
    let (key, from) = (input.text()?, input.text()?);
    let (key, from) = (input.made(StateKey::new(key))?, input.made(UserId::new(from))?);
    let value = if input.u8()? == 0 { None } else { Some(content(input)?) };
    Ok(StateUpdate { room: room.clone(), key, stamp, from, value })
}

/// The revision of a room's state, and the stamp below which unknown keys are refused.
pub(crate) fn state_head(revision: u64, floor: Option<Stamp>) -> Vec<u8> {
    let out = Out::new(25).u64(revision).u8(u8::from(floor.is_some()));
    match floor {
        Some(floor) => put_stamp(out, floor).end(),
        None => out.end(),
    }
}

pub(crate) fn read_state_head(bytes: &[u8]) -> StoreResult<(u64, Option<Stamp>)> {
    let mut input = In::new(bytes, "state revision")?;
    let revision = input.u64()?;
    let floor = if input.u8()? == 0 { None } else { Some(read_stamp(&mut input)?) };
    Ok((revision, floor))
}

pub(crate) fn session(record: &SessionRecord) -> Vec<u8> {
    // A hash of 32 bytes is an array of 32 small integers: encoding it cannot fail.
    let secret = rmp_serde::to_vec(&record.secret).unwrap_or_default();
    Out::new(200)
        .text(record.user.as_str())
        .text(record.device.as_str())
        .time(record.created)
        .time(record.expires)
        .u64(record.fencing_token)
        .rest(&secret)
}

pub(crate) fn read_session(id: &SessionId, bytes: &[u8]) -> StoreResult<SessionRecord> {
    let mut input = In::new(bytes, "session")?;
    let (user, device) = (input.text()?, input.text()?);
    let (user, device) = (input.made(UserId::new(user))?, input.made(DeviceId::new(device))?);
    let (created, expires) = (input.time()?, input.time()?);
    let attached = input.u64()?;
    let secret =
        rmp_serde::from_slice(input.rest()).map_err(|_| crate::error::damaged("session"))?;
    Ok(SessionRecord {
        id: id.clone(),
        user,
        device,
        secret,
        created,
        expires,
        fencing_token: attached,
    })
}

pub(crate) fn ticket(ticket: &Ticket) -> Vec<u8> {
    let secret = rmp_serde::to_vec(&ticket.secret).unwrap_or_default();
    let head = Out::new(100 + ticket.claims.len())
        .time(ticket.open_until)
        .u8(u8::from(ticket.opened))
        .text(ticket.device.as_ref().map_or("", DeviceId::as_str))
        .u8(u8::from(ticket.expires.is_some()))
        .time(ticket.expires.unwrap_or_default())
        .u32(u32::try_from(secret.len()).unwrap_or_default());
    [head.rest(&secret), ticket.claims.to_vec()].concat()
}

pub(crate) fn read_ticket(bytes: &[u8]) -> StoreResult<Ticket> {
    let mut input = In::new(bytes, "ticket")?;
    let (open_until, opened, device) = (input.time()?, input.u8()? != 0, input.text()?);
    let device = if device.is_empty() { None } else { Some(input.made(DeviceId::new(device))?) };
    let (has_expiry, expires, len) = (input.u8()? != 0, input.time()?, input.u32()?);
    let (secret, claims) = input.rest().split_at_checked(len as usize).unwrap_or_default();
    let secret = rmp_serde::from_slice(secret).map_err(|_| crate::error::damaged("ticket"))?;
    let claims = Bytes::copy_from_slice(claims);
    let expires = has_expiry.then_some(expires);
    Ok(Ticket { secret, open_until, opened, device, claims, expires })
}

pub(crate) fn checkpoint(checkpoint: &Checkpoint) -> Vec<u8> {
    let rooms = &checkpoint.rooms;
    let count = u32::try_from(rooms.len()).unwrap_or(u32::MAX);
    let mut out = Out::new(12 + rooms.len() * 64).u64(checkpoint.rev).u32(count);
    for (room, SubscriptionRecord { cursor, since }) in rooms {
        let Epoch { generation, incarnation } = cursor.epoch;
        out = out.text(room.as_str()).u64(generation).u64(incarnation).u64(cursor.seq.get());
        out = out.u64(*since);
    }
    out.end()
}

pub(crate) fn read_checkpoint(bytes: &[u8]) -> StoreResult<Checkpoint> {
    let mut input = In::new(bytes, "checkpoint")?;
    let (rev, count) = (input.u64()?, input.u32()?);
    let mut rooms = BTreeMap::new();
    for _ in 0..count {
        let room = input.text()?;
        let room = input.made(RoomId::new(room))?;
        let epoch = Epoch { generation: input.u64()?, incarnation: input.u64()? };
        let cursor = Cursor { epoch, seq: input.seq()? };
        rooms.insert(room, SubscriptionRecord { cursor, since: input.u64()? });
    }
    Ok(Checkpoint { rev, rooms })
}

/// A plain number.
pub(crate) fn number(n: u64) -> Vec<u8> {
    Out::new(8).u64(n).end()
}

pub(crate) fn read_number(bytes: &[u8]) -> StoreResult<u64> {
    In::new(bytes, "number")?.u64()
}
