//! What readers ask for.

use std::sync::Arc;

use im_core::ports::{Head, LogPage, LogRange, StateSnapshot, StoreResult};
use im_core::state::{
    Checkpoint, IdempotencyRecord, Membership, RoomRecord, SessionHead, SessionRecord, Ticket,
};
use im_core::wire::{Event, PageFrom, Role, RoomKind};
use im_core::{Cursor, MessageId, RoomId, Seq, SessionId, UserId};
use sled::IVec;

use crate::error::{damaged, reading};
use crate::shared::{Flow, Reader};
use crate::{keys, parts, record};

/// One read.
type Row = (IVec, IVec);

impl Reader<'_> {
    pub(crate) fn room(&self, id: &RoomId) -> StoreResult<Option<RoomRecord>> {
        let bytes = self.get(&keys::room(id))?;
        bytes.map(|bytes| record::read_room(id, self.handle.generation, &bytes)).transpose()
    }

    /// An event that is missing may have been trimmed, or its room deleted, since the record was read.
    pub(crate) fn page(&self, id: &RoomId, range: LogRange) -> StoreResult<Option<LogPage>> {
        let mut found = self.room(id)?;
        loop {
            let Some(room) = found else { return Ok(None) };
            if let Some(events) = self.events(&room, range)? {
                let head = Cursor { epoch: room.epoch, seq: room.head };
                return Ok(Some(LogPage { head, first: room.first, events }));
            }
            found = self.room(id)?;
            if found.as_ref().is_some_and(|now| (now.epoch, now.first) == (room.epoch, room.first))
            {
                return Err(damaged("log: an event is missing; the log"));
            }
        }
    }

    /// Events beyond the head are not looked at, and those before the first are removed once that is kept: this needs no
    /// care for what is hidden. `None` if an event is missing.
    fn events(&self, room: &RoomRecord, range: LogRange) -> StoreResult<Option<Vec<Arc<Event>>>> {
        let (low, high) = match range.from {
            PageFrom::After(seq) => (room.first.max(seq.next()), room.head),
            PageFrom::Before(seq) => (room.first, room.head.min(seq.prev())),
        };
        if low > high || range.from == PageFrom::After(Seq::MAX) {
            return Ok(Some(Vec::new()));
        }
        let incarnation = room.epoch.incarnation;
        let upper = parts::key(&keys::event(incarnation, high), u16::MAX);
        let rows = self.handle.db.range(keys::event(incarnation, low)..=upper);
        match range.from {
            PageFrom::After(_) => self.take_events(room, rows, low, high, range),
            PageFrom::Before(_) => self.take_events(room, rows.rev(), high, low, range),
        }
    }

    /// Takes the events from `from` to `to`, in that direction, as many as fit.
    fn take_events(
        &self,
        room: &RoomRecord,
        rows: impl Iterator<Item = sled::Result<Row>>,
        from: Seq,
        to: Seq,
        range: LogRange,
    ) -> StoreResult<Option<Vec<Arc<Event>>>> {
        let step = |seq: Seq| if from <= to { seq.next() } else { seq.prev() };
        let (mut next, mut bytes) = (from, 0_usize);
        let mut events = Vec::new();
        for row in rows {
            let (key, first) = row.map_err(reading)?;
            if key.len() != keys::EVENT_LEN {
                continue;
            }
            let Some(event) = self.event(room, &key, first)?.filter(|event| event.seq == next)
            else {
                return Ok(None);
            };
            bytes = bytes.saturating_add(event.content.packed().len());
            if bytes > range.max_bytes && !events.is_empty() {
                return Ok(Some(events));
            }
            events.push(Arc::new(event));
            if next == to || events.len() >= range.limit.max(1) {
                return Ok(Some(events));
            }
            next = step(next);
        }
        Ok(None)
    }

    /// `None` if it was removed meanwhile.
    fn event(&self, room: &RoomRecord, key: &[u8], mut first: IVec) -> StoreResult<Option<Event>> {
        let seq = keys::last_number(key).and_then(|seq| Seq::new(seq).ok());
        let seq = seq.ok_or_else(|| damaged("event"))?;
        loop {
            let bytes = parts::join(&first, |part| self.handle.get(&parts::key(key, part)));
            let event =
                bytes.and_then(|bytes| record::read_event(&room.id, room.epoch, seq, &bytes));
            if event.is_ok() && parts::open(&first)?.1 == 0 {
                return event.map(Some);
            }
            // What is in parts may have been erased meanwhile, or trimmed.
            match self.handle.get(key)? {
                None => return Ok(None),
                Some(now) if now == first => return event.map(Some),
                Some(now) => first = now,
            }
        }
    }

    pub(crate) fn head(&self, id: &RoomId) -> StoreResult<Option<Head>> {
        let Some(room) = self.room(id)? else { return Ok(None) };
        let state = self.get(&keys::state_head(room.epoch.incarnation))?;
        let state_revision = match state {
            Some(bytes) => record::read_state_head(&bytes)?.0,
            None => 0,
        };
        let cursor = Cursor { epoch: room.epoch, seq: room.head };
        Ok(Some(Head { cursor, first: room.first, state_revision, erased: room.erased }))
    }

    pub(crate) fn sent(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>> {
        let Some(room) = self.room(room)? else { return Ok(None) };
        let bytes = self.get(&keys::sent(room.epoch.incarnation, sender, id))?;
        bytes.map(|bytes| record::read_idempotency_record(&bytes)).transpose()
    }

    pub(crate) fn membership(
        &self,
        room: &RoomId,
        user: &UserId,
    ) -> StoreResult<Option<Membership>> {
        let Some(room) = self.room(room)? else { return Ok(None) };
        self.membership_in(&room, user)
    }

    fn membership_in(&self, room: &RoomRecord, user: &UserId) -> StoreResult<Option<Membership>> {
        match self.get(&keys::membership(room.epoch.incarnation, user))? {
            Some(bytes) => record::read_membership(&bytes),
            None => Ok(None),
        }
    }

    pub(crate) fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Role)>> {
        self.people(room, after, limit, |membership| match membership {
            Membership::Member(role) => Some(role),
            Membership::Banned => None,
        })
    }

    pub(crate) fn memberships(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Membership)>> {
        self.people(room, after, limit, Some)
    }

    /// Those who stand to the room in a way that is asked for.
    fn people<T>(
        &self,
        id: &RoomId,
        after: Option<&UserId>,
        limit: usize,
        asked: impl Fn(Membership) -> Option<T>,
    ) -> StoreResult<Vec<(UserId, T)>> {
        let mut people = Vec::new();
        let Some(room) = self.room(id)? else { return Ok(people) };
        if limit == 0 {
            return Ok(people);
        }
        let incarnation = room.epoch.incarnation;
        let prefix = keys::memberships(incarnation);
        let after = after.map(|user| keys::membership(incarnation, user));
        self.scan(&prefix, after, |key, value| {
            if let Some(asked) = record::read_membership(value)?.and_then(&asked) {
                let user = text(key, prefix.len()).and_then(|text| UserId::new(text).ok());
                people.push((user.ok_or_else(|| damaged("member"))?, asked));
            }
            Ok(enough(people.len() >= limit))
        })?;
        // If the room was deleted meanwhile, some may have been purged already.
        match self.room(id)? {
            Some(now) if now.epoch == room.epoch => Ok(people),
            _ => Ok(Vec::new()),
        }
    }

    pub(crate) fn rooms(
        &self,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<RoomRecord>> {
        let mut rooms = Vec::new();
        if limit > 0 {
            self.scan(keys::ROOMS, after.map(keys::room), |key, value| {
                let id = text(key, 1).and_then(|text| RoomId::new(text).ok());
                let id = id.ok_or_else(|| damaged("room"))?;
                rooms.push(record::read_room(&id, self.handle.generation, value)?);
                Ok(enough(rooms.len() >= limit))
            })?;
        }
        Ok(rooms)
    }

    pub(crate) fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, RoomKind, Role)>> {
        let mut rooms = Vec::new();
        if limit == 0 {
            return Ok(rooms);
        }
        let prefix = keys::rooms_of(user);
        let after = after.map(|room| keys::room_of(user, room));
        self.scan(&prefix, after, |key, _| {
            let id = text(key, prefix.len()).and_then(|text| RoomId::new(text).ok());
            let id = id.ok_or_else(|| damaged("membership"))?;
            // It may be of a room that was deleted, or is not imported yet: the room itself has the last word.
            if let Some(room) = self.room(&id)?
                && let Some(Membership::Member(role)) = self.membership_in(&room, user)?
            {
                rooms.push((id, room.kind, role));
            }
            Ok(enough(rooms.len() >= limit))
        })?;
        Ok(rooms)
    }

    pub(crate) fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>> {
        let bytes = self.get(&keys::session(id))?;
        bytes.map(|bytes| record::read_session(id, &bytes)).transpose()
    }

    pub(crate) fn sessions_of(
        &self,
        user: &UserId,
        limit: usize,
    ) -> StoreResult<Vec<SessionRecord>> {
        let prefix = keys::sessions_of(user);
        let mut found = Vec::new();
        if limit > 0 {
            self.scan(&prefix, None, |key, _| {
                let id = text(key, prefix.len() + 8).and_then(|text| SessionId::new(text).ok());
                // One that was swept meanwhile is left out.
                let record = self.session(&id.ok_or_else(|| damaged("session"))?)?;
                found.extend(record);
                Ok(enough(found.len() >= limit))
            })?;
        }
        Ok(found)
    }

    pub(crate) fn session_head(&self, id: &SessionId) -> StoreResult<Option<SessionHead>> {
        let Some(session) = self.session(id)? else { return Ok(None) };
        // The revision stands at the beginning, in the first part.
        let rev = match self.get(&keys::checkpoint(id))? {
            Some(first) => record::read_number(parts::open(&first)?.0)?,
            None => 0,
        };
        Ok(Some(SessionHead { fencing_token: session.fencing_token, rev }))
    }

    pub(crate) fn ticket(&self, id: &SessionId) -> StoreResult<Option<Ticket>> {
        self.record(&keys::ticket(id))?.map(|bytes| record::read_ticket(&bytes)).transpose()
    }

    pub(crate) fn checkpoint(&self, id: &SessionId) -> StoreResult<Checkpoint> {
        match self.record(&keys::checkpoint(id))? {
            Some(bytes) => record::read_checkpoint(&bytes),
            None => Ok(Checkpoint::default()),
        }
    }

    pub(crate) fn state_generation(&self) -> StoreResult<u64> {
        match self.get(keys::STATE_GENERATION)? {
            Some(bytes) => record::read_number(&bytes),
            // It is written when the store is opened.
            None => Err(damaged("state generation")),
        }
    }

    pub(crate) fn state(&self, id: &RoomId) -> StoreResult<StateSnapshot> {
        let Some(room) = self.room(id)? else { return Ok(StateSnapshot::default()) };
        let incarnation = room.epoch.incarnation;
        loop {
            let before = self.get(&keys::state_head(incarnation))?;
            let mut entries = Vec::new();
            self.scan(&keys::states(incarnation), None, |key, first| {
                if key.len() == keys::state_len(key) {
                    let bytes = parts::join(first, |part| self.get(&parts::key(key, part)));
                    entries.push(bytes.and_then(|bytes| record::read_state(id, &bytes)));
                }
                Ok(Flow::More)
            })?;
            // One view: if a merge came between, read again.
            if self.get(&keys::state_head(incarnation))? == before {
                let mut entries: Vec<_> = entries
                    .into_iter()
                    .map(|entry| entry.map(Arc::new))
                    .collect::<Result<_, _>>()?;
                entries.sort_by(|a, b| a.key.cmp(&b.key));
                let head = before.map(|bytes| record::read_state_head(&bytes)).transpose()?;
                let (revision, floor) = head.unwrap_or_default();
                return Ok(StateSnapshot { revision, entries, purged_stamp: floor });
            }
        }
    }
}

/// The text that a key ends in.
fn text(key: &[u8], from: usize) -> Option<&str> {
    std::str::from_utf8(key.get(from..)?).ok()
}

fn enough(yes: bool) -> Flow {
    if yes { Flow::Enough } else { Flow::More }
}
