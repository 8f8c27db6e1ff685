//! From the engine's values to columns and back.

use im_core::state::{ContentHash, IdempotencyRecord, Membership, RoomRecord, SecretHash};
use im_core::wire::{Content, Encoding, Event, Limits, Role, RoomKind, StateUpdate, Value, encode};
use im_core::{
    Epoch, EventKind, MessageId, NodeId, RoomId, Seq, Stamp, StateKey, Timestamp, UserId,
};

use crate::dialect::Dialect;
use crate::error::{Fault, Outcome};
use crate::link::Columns;

/// The columns of a room, in the order in which [`room`] reads them.
pub(crate) const ROOM: &str = "t.room, t.id, t.kind, t.access, t.generation, t.head_seq, t.first_seq, t.bytes, t.created_at, t.members, t.erased";

pub(crate) fn room<D: Dialect>(row: &mut Columns<'_, D>) -> Outcome<RoomRecord> {
    let (incarnation, id) = (row.int()?, row.text()?);
    let (kind, access) = (row.text()?, row.text()?);
    Ok(RoomRecord {
        id: made("room", RoomId::new(id))?,
        kind: named("kind", &KINDS, &kind)?,
        open: access == OPEN,
        epoch: Epoch { generation: row.int()?, incarnation },
        head: made("seq", Seq::new(row.int()?))?,
        first: made("seq", Seq::new(row.int()?))?,
        bytes: row.int()?,
        created: Timestamp::from_millis(row.int()?),
        members: u32::try_from(row.int()?).map_err(|_| Fault::Damaged("room"))?,
        erased: row.int()?,
    })
}

const OPEN: &str = "open";

pub(crate) fn access(open: bool) -> &'static str {
    if open { OPEN } else { "closed" }
}

const KINDS: [(&str, RoomKind); 4] = [
    ("direct", RoomKind::Direct),
    ("group", RoomKind::Group),
    ("channel", RoomKind::Channel),
    ("own", RoomKind::Inbox),
];

/// Queries name the last two.
const MEMBERSHIPS: [(&str, Option<Membership>); 6] = [
    ("owner", Some(Membership::Member(Role::Owner))),
    ("moderator", Some(Membership::Member(Role::Moderator))),
    ("member", Some(Membership::Member(Role::Member))),
    ("reader", Some(Membership::Member(Role::Reader))),
    ("banned", Some(Membership::Banned)),
    ("none", None),
];

fn named<T: Copy>(what: &'static str, names: &[(&str, T)], name: &str) -> Outcome<T> {
    let found = names.iter().find(|(held, _)| *held == name);
    found.map(|(_, value)| *value).ok_or(Fault::Damaged(what))
}

fn name<T: PartialEq>(names: &'static [(&'static str, T)], value: &T) -> &'static str {
    // Every value is in its list.
    names.iter().find(|(_, held)| held == value).map_or("", |(name, _)| name)
}

pub(crate) fn kind(kind: RoomKind) -> &'static str {
    name(&KINDS, &kind)
}

pub(crate) fn read_kind(name: &str) -> Outcome<RoomKind> {
    named("kind", &KINDS, name)
}

pub(crate) fn membership(membership: Option<Membership>) -> &'static str {
    name(&MEMBERSHIPS, &membership)
}

pub(crate) fn read_membership(name: &str) -> Outcome<Option<Membership>> {
    named("membership", &MEMBERSHIPS, name)
}

pub(crate) fn read_role(name: &str) -> Outcome<Role> {
    match read_membership(name)? {
        Some(Membership::Member(role)) => Ok(role),
        Some(Membership::Banned) | None => Err(Fault::Damaged("membership")),
    }
}

/// An id that was checked when it was written.
pub(crate) fn made<T, E>(what: &'static str, id: Result<T, E>) -> Outcome<T> {
    id.map_err(|_| Fault::Damaged(what))
}

/// The columns of a message, in the order in which [`event`] reads them.
pub(crate) const MESSAGE: &str = "m.seq, m.sender, m.sent_at, m.kind, m.message_id, m.content";

/// A message; nothing where an outer join found none.
pub(crate) fn event<D: Dialect>(
    row: &mut Columns<'_, D>,
    room: &RoomId,
    epoch: Epoch,
) -> Outcome<Option<Event>> {
    let Some(seq) = row.opt_int()? else { return Ok(None) };
    let (from, at) = (row.text()?, row.int()?);
    let (kind, id) = (row.text()?, row.opt_text()?);
    Ok(Some(Event {
        room: room.clone(),
        epoch,
        seq: made("seq", Seq::new(seq))?,
        from: made("sender", UserId::new(from))?,
        at: Timestamp::from_millis(at),
        kind: made("kind", EventKind::new(kind))?,
        id: id.map(|id| made("message id", MessageId::new(id))).transpose()?,
        content: read_content(&row.text()?)?,
    }))
}

/// A content as JSON text: what stands in it can be read and searched by whoever looks at the table. It carries every value
/// that MessagePack does, with bytes and keys that begin with `$` in the disguise that the protocol gives them.
pub(crate) fn content(content: &Content) -> Outcome<String> {
    let text = encode(&content.value(), Encoding::Json);
    String::from_utf8(text.into()).map_err(|_| Fault::Damaged("content"))
}

pub(crate) fn read_content(text: &str) -> Outcome<Content> {
    let value: Value = serde_json::from_str(text).map_err(|_| Fault::Damaged("content"))?;
    // Whatever limits it was sent under were looked at then.
    let mut limits = Limits::default();
    (limits.max_depth, limits.max_values) = (usize::MAX, usize::MAX);
    limits.max_content_bytes = usize::MAX;
    Content::new(&value, &limits).map_err(|_| Fault::Damaged("content"))
}

/// The columns of a receipt, in the order in which [`receipt`] reads them.
pub(crate) const RECEIPT: &str = "t.seq, t.sent_at, t.content_hash";

pub(crate) fn receipt<D: Dialect>(row: &mut Columns<'_, D>) -> Outcome<IdempotencyRecord> {
    Ok(IdempotencyRecord {
        seq: made("seq", Seq::new(row.int()?))?,
        at: Timestamp::from_millis(row.int()?),
        hash: ContentHash(hash(row)?),
    })
}

pub(crate) fn secret<D: Dialect>(row: &mut Columns<'_, D>) -> Outcome<SecretHash> {
    hash(row).map(SecretHash::from_bytes)
}

fn hash<D: Dialect>(row: &mut Columns<'_, D>) -> Outcome<[u8; 32]> {
    <[u8; 32]>::try_from(row.bytes()?).map_err(|_| Fault::Damaged("hash"))
}

/// The columns of an update of state, in the order in which [`update`] reads them.
pub(crate) const STATE: &str =
    "t.name, t.stamp_ms, t.stamp_counter, t.stamp_node, t.sender, t.value";

/// An update; nothing where an outer join found none.
pub(crate) fn update<D: Dialect>(
    row: &mut Columns<'_, D>,
    room: &RoomId,
) -> Outcome<Option<StateUpdate>> {
    let Some(key) = row.opt_text()? else { return Ok(None) };
    let stamp = stamp(row)?.ok_or(Fault::Damaged("stamp"))?;
    let (from, value) = (row.text()?, row.opt_text()?);
    Ok(Some(StateUpdate {
        room: room.clone(),
        key: made("state key", StateKey::new(key))?,
        stamp,
        from: made("sender", UserId::new(from))?,
        value: value.map(|value| read_content(&value)).transpose()?,
    }))
}

/// Three columns, or none of them.
pub(crate) fn stamp<D: Dialect>(row: &mut Columns<'_, D>) -> Outcome<Option<Stamp>> {
    let (ms, counter, node) = (row.opt_int()?, row.opt_int()?, row.opt_int()?);
    let (Some(ms), Some(counter), Some(node)) = (ms, counter, node) else { return Ok(None) };
    let small = |n: u64| u32::try_from(n).map_err(|_| Fault::Damaged("stamp"));
    let stamp = Stamp {
        ms: Timestamp::from_millis(ms),
        counter: small(counter)?,
        node: NodeId(small(node)?),
    };
    Ok(Some(stamp))
}
