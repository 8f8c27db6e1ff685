//! Reading: rooms, logs, members.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::id::{Cursor, MessageId, RoomId, Seq, UserId};
use crate::ports::{Head, LogPage, LogRange, StoreError, StoreResult};
use crate::state::{IdempotencyRecord, Membership, RoomRecord, View};
use crate::time::Stamp;
use crate::wire::{PageFrom, Role, RoomKind};

use super::database::{Rows, Step, Way};
use super::record::Meta;
use super::{keys, record};

pub(super) const ON: Step = Ok(ControlFlow::Continue(()));
pub(super) const ENOUGH: Step = Ok(ControlFlow::Break(()));

/// Rows, and the store's generation.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) rows: &'a dyn Rows,
    pub(super) generation: u64,
}

impl Reader<'_> {
    /// Shows `each` the rows whose keys begin with `prefix`, those after the text `after` if there is one.
    pub(super) fn walk(
        &self,
        prefix: &[u8],
        after: Option<&str>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> Step,
    ) -> StoreResult<()> {
        let (from, to) = (keys::beyond(prefix, after), keys::after_all(prefix));
        self.rows.walk(&from..&to, Way::Forwards, each)
    }

    /// What `read` makes of the rows whose keys begin with `prefix`; at most `limit`, not counting those that it passes
    /// over.
    pub(super) fn list<T>(
        &self,
        prefix: &[u8],
        after: Option<&str>,
        limit: usize,
        mut read: impl FnMut(&[u8], &[u8]) -> StoreResult<Option<T>>,
    ) -> StoreResult<Vec<T>> {
        let mut list = Vec::new();
        self.walk(prefix, after, &mut |key, value| {
            if list.len() >= limit {
                return ENOUGH;
            }
            list.extend(read(key, value)?);
            ON
        })?;
        Ok(list)
    }

    pub(super) fn meta(&self) -> StoreResult<Meta> {
        let meta = self.rows.get(keys::META)?.ok_or_else(|| record::damaged("beginning"))?;
        record::unpack("beginning", &meta)
    }

    pub(super) fn room(&self, id: &RoomId) -> StoreResult<Option<RoomRecord>> {
        self.record(&keys::room(id))
    }

    /// The room under import.
    pub(super) fn draft(&self, id: &RoomId) -> StoreResult<Option<RoomRecord>> {
        self.record(&keys::draft(id))
    }

    fn record(&self, key: &[u8]) -> StoreResult<Option<RoomRecord>> {
        self.rows.get(key)?.map(|bytes| self.read_record(&bytes)).transpose()
    }

    fn read_record(&self, bytes: &[u8]) -> StoreResult<RoomRecord> {
        let mut room: RoomRecord = record::unpack("room", bytes)?;
        // It may have changed since this was written, and then it has for all rooms.
        room.epoch.generation = self.generation;
        Ok(room)
    }

    pub(super) fn rooms(
        &self,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<RoomRecord>> {
        let after = after.map(RoomId::as_str);
        self.list(keys::ROOMS, after, limit, |_, room| self.read_record(room).map(Some))
    }

    pub(super) fn head(&self, id: &RoomId) -> StoreResult<Option<Head>> {
        let Some(room) = self.room(id)? else { return Ok(None) };
        let (state_revision, _) = self.state_head(room.epoch.incarnation)?;
        let cursor = Cursor { epoch: room.epoch, seq: room.head };
        Ok(Some(Head { cursor, first: room.first, state_revision, erased: room.erased }))
    }

    /// The revision of a room's state, and its floor.
    pub(super) fn state_head(&self, incarnation: u64) -> StoreResult<(u64, Option<Stamp>)> {
        let head = self.rows.get(&keys::state_head(incarnation))?;
        head.map_or(Ok((0, None)), |head| record::read_state_head(&head))
    }

    pub(super) fn page(&self, id: &RoomId, range: LogRange) -> StoreResult<Option<LogPage>> {
        let Some(room) = self.room(id)? else { return Ok(None) };
        let incarnation = room.epoch.incarnation;
        let at = |seq| keys::event(incarnation, seq);
        // There is nothing after the last seq that there is, which is its own next one.
        let (from, to, way) = match range.from {
            PageFrom::After(Seq::MAX) => (Seq::MAX, at(Seq::MAX), Way::Forwards),
            PageFrom::After(seq) => {
                let end = keys::after_all(&keys::events(incarnation));
                (seq.next().max(room.first), end, Way::Forwards)
            }
            PageFrom::Before(seq) => (room.first, at(seq.max(room.first)), Way::Backwards),
        };
        let (mut events, mut bytes) = (Vec::new(), 0_usize);
        self.rows.walk(&at(from)..&to, way, &mut |key, value| {
            if events.len() >= range.limit.max(1) {
                return ENOUGH;
            }
            let seq = Seq::new(keys::last_number(key)?).map_err(|_| record::damaged("seq"))?;
            let event = record::read_event(id, room.epoch, seq, value)?;
            bytes = bytes.saturating_add(event.content.packed().len());
            if bytes > range.max_bytes && !events.is_empty() {
                return ENOUGH;
            }
            events.push(Arc::new(event));
            ON
        })?;
        let head = Cursor { epoch: room.epoch, seq: room.head };
        Ok(Some(LogPage { head, first: room.first, events }))
    }

    pub(super) fn idempotency_record_in(
        &self,
        incarnation: u64,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>> {
        let sent = self.rows.get(&keys::sent(incarnation, sender, id))?;
        sent.map(|sent| record::unpack("record of a send", &sent)).transpose()
    }

    pub(super) fn sent(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>> {
        let Some(room) = self.room(room)? else { return Ok(None) };
        self.idempotency_record_in(room.epoch.incarnation, sender, id)
    }

    pub(super) fn membership_in(
        &self,
        incarnation: u64,
        user: &UserId,
    ) -> StoreResult<Option<Membership>> {
        match self.rows.get(&keys::membership(incarnation, user))? {
            Some(membership) => record::unpack("membership", &membership),
            None => Ok(None),
        }
    }

    pub(super) fn membership(
        &self,
        room: &RoomId,
        user: &UserId,
    ) -> StoreResult<Option<Membership>> {
        let Some(room) = self.room(room)? else { return Ok(None) };
        self.membership_in(room.epoch.incarnation, user)
    }

    /// What `read` makes of the memberships to a room.
    pub(super) fn memberships<T>(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
        read: impl Fn(Membership) -> Option<T>,
    ) -> StoreResult<Vec<(UserId, T)>> {
        let Some(room) = self.room(room)? else { return Ok(Vec::new()) };
        let prefix = keys::memberships(room.epoch.incarnation);
        self.list(&prefix, after.map(UserId::as_str), limit, |key, membership| {
            let membership: Option<Membership> = record::unpack("membership", membership)?;
            let Some(membership) = membership.and_then(&read) else { return Ok(None) };
            Ok(Some((keys::id_at(key, prefix.len())?, membership)))
        })
    }

    pub(super) fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, RoomKind, Role)>> {
        let prefix = keys::rooms_of(user);
        self.list(&prefix, after.map(RoomId::as_str), limit, |key, _| {
            let incarnation = keys::last_number(key)?;
            // A zero and the incarnation stand behind the id.
            let id: RoomId = keys::id_at(&key[..key.len() - 9], prefix.len())?;
            let room = self.room(&id)?.filter(|room| room.epoch.incarnation == incarnation);
            let Some(room) = room else { return Ok(None) };
            Ok(match self.membership_in(incarnation, user)? {
                Some(Membership::Member(role)) => Some((id, room.kind, role)),
                _ => None,
            })
        })
    }
}

impl View for Reader<'_> {
    type Error = StoreError;

    fn room(&self, room: &RoomId) -> StoreResult<Option<RoomRecord>> {
        Reader::room(self, room)
    }

    fn membership(&self, room: &RoomRecord, user: &UserId) -> StoreResult<Option<Membership>> {
        self.membership_in(room.epoch.incarnation, user)
    }

    fn another_owner(&self, room: &RoomRecord, user: &UserId) -> StoreResult<bool> {
        let prefix = keys::memberships(room.epoch.incarnation);
        let mut found = false;
        self.walk(&prefix, None, &mut |key, membership| {
            let membership: Option<Membership> = record::unpack("membership", membership)?;
            let owner = membership == Some(Membership::Member(Role::Owner));
            found = owner && keys::id_at::<UserId>(key, prefix.len())? != *user;
            if found { ENOUGH } else { ON }
        })?;
        Ok(found)
    }

    fn idempotency_record(
        &self,
        room: &RoomRecord,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>> {
        self.idempotency_record_in(room.epoch.incarnation, sender, id)
    }
}
