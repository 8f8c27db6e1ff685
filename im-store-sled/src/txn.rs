//! One commit while it is put together.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use im_core::ports::{Appended, StoreError, StoreResult};
use im_core::state::{
    Append, Authority, Commit, IdempotencyRecord, Membership, Plan, PlanError, RoomRecord,
    StateLimits, View, plan,
};
use im_core::wire::Role;
use im_core::{Epoch, MessageId, RoomId, Seq, UserId};
use sled::IVec;

use crate::error::reading;
use crate::keys::{self, Key};
use crate::rooms::{Cached, RoomCache};
use crate::shared::Handle;
use crate::state::Draft;
use crate::{parts, record};

/// The numbers that the store keeps for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Counts commits.
    pub(crate) batch: u64,
    /// The last incarnation given out.
    pub(crate) incarnation: u64,
    pub(crate) state_generation: u64,
    /// The nodes that write state.
    pub(crate) state_writers: HashSet<u32>,
}

/// When readers see a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// When it is kept.
    Kept,
    /// As soon as it is applied: a reader does not look for it before something else is kept, or it may be lost.
    AtOnce,
}

/// What a commit must have gone through before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Handed to the operating system.
    Flush,
    /// Kept by the disk.
    Sync,
}

struct Write {
    /// What stood there, if that is to be hidden.
    before: Option<Option<IVec>>,
    now: Option<IVec>,
}

/// Writes on top of what the database holds. Nothing reaches the database before [`Txn::finish`].
pub(crate) struct Txn<'a> {
    pub(crate) handle: &'a Handle,
    pub(crate) meta: Meta,
    pub(crate) state_limits: StateLimits,
    /// State that merges have loaded, by incarnation.
    pub(crate) states: HashMap<u64, Draft>,
    cache: &'a RoomCache,
    need: Need,
    writes: HashMap<Key, Write>,
    /// What to put back when something fails half-way.
    undo: Vec<(Key, Option<Write>)>,
    /// The rooms that this commit changes; `None` for those that it deletes.
    rooms: HashMap<RoomId, Option<Cached>>,
    /// As `undo`, of `rooms`.
    undo_rooms: Vec<(RoomId, Option<Option<Cached>>)>,
}

/// A commit, ready to be applied.
pub(crate) struct Ready {
    pub(crate) batch: sled::Batch,
    /// What is in the batch.
    pub(crate) writes: Vec<(Key, Option<IVec>)>,
    pub(crate) before: BTreeMap<Key, Option<IVec>>,
    pub(crate) meta: Meta,
    pub(crate) rooms: Vec<(RoomId, Option<Cached>)>,
    pub(crate) need: Need,
}

impl<'a> Txn<'a> {
    pub(crate) fn new(
        handle: &'a Handle,
        cache: &'a RoomCache,
        meta: &Meta,
        state_limits: StateLimits,
    ) -> Self {
        let mut meta = meta.clone();
        meta.batch += 1;
        Self {
            handle,
            meta,
            state_limits,
            states: HashMap::new(),
            cache,
            need: Need::Flush,
            writes: HashMap::new(),
            undo: Vec::new(),
            rooms: HashMap::new(),
            undo_rooms: Vec::new(),
        }
    }

    /// All that was written, if anything was.
    pub(crate) fn finish(mut self, old: &Meta) -> Option<Ready> {
        if self.writes.is_empty() {
            return None;
        }
        self.set(keys::BATCH.to_vec(), Some(record::number(self.meta.batch).into()), None);
        if self.meta.incarnation != old.incarnation {
            let last = record::number(self.meta.incarnation);
            self.set(keys::INCARNATION.to_vec(), Some(last.into()), None);
        }
        let mut batch = sled::Batch::default();
        let mut before = BTreeMap::new();
        let mut writes = Vec::with_capacity(self.writes.len());
        for (key, write) in self.writes {
            writes.push((key.clone(), write.now.clone()));
            match write.now {
                Some(value) => batch.insert(key.as_slice(), value),
                None => batch.remove(key.as_slice()),
            }
            if let Some(hidden) = write.before {
                before.insert(key, hidden);
            }
        }
        let rooms = self.rooms.into_iter().collect();
        Some(Ready { batch, writes, before, meta: self.meta, rooms, need: self.need })
    }

    /// Runs `act`; if it fails, what it wrote is taken back.
    pub(crate) fn attempt<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> StoreResult<T>,
    ) -> StoreResult<T> {
        let (mark, rooms) = (self.undo.len(), self.undo_rooms.len());
        let result = act(self);
        if result.is_err() {
            for (key, write) in self.undo.drain(mark..).rev() {
                match write {
                    Some(write) => self.writes.insert(key, write),
                    None => self.writes.remove(&key),
                };
            }
            for (id, room) in self.undo_rooms.drain(rooms..).rev() {
                match room {
                    Some(room) => self.rooms.insert(id, room),
                    None => self.rooms.remove(&id),
                };
            }
        }
        result
    }

    /// This commit is answered only when it is kept by the disk.
    pub(crate) fn needs_sync(&mut self) {
        self.need = Need::Sync;
    }

    pub(crate) fn get(&self, key: &[u8]) -> StoreResult<Option<IVec>> {
        match self.writes.get(key) {
            Some(write) => Ok(write.now.clone()),
            None => self.handle.get(key),
        }
    }

    /// Puts `value` under `key`, or nothing.
    pub(crate) fn put(
        &mut self,
        key: Key,
        value: Option<Vec<u8>>,
        sight: Sight,
    ) -> StoreResult<()> {
        let before = match sight {
            // An earlier write of this commit has noted what stood there.
            Sight::Kept if self.writes.contains_key(&key) => None,
            Sight::Kept => Some(self.handle.get(&key)?),
            Sight::AtOnce => None,
        };
        self.set(key, value.map(IVec::from), before);
        Ok(())
    }

    /// Puts something where nothing stands.
    pub(crate) fn put_new(&mut self, key: Key, value: Vec<u8>) {
        self.set(key, Some(value.into()), Some(None));
    }

    pub(crate) fn set(&mut self, key: Key, now: Option<IVec>, before: Option<Option<IVec>>) {
        let before = match self.writes.get(&key) {
            Some(earlier) => earlier.before.clone(),
            None => before,
        };
        let earlier = self.writes.insert(key.clone(), Write { before, now });
        self.undo.push((key, earlier));
    }

    /// Puts a record that may be large, or nothing, in place of an earlier one.
    pub(crate) fn put_record(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        sight: Sight,
    ) -> StoreResult<()> {
        let old = match self.get(key)? {
            Some(first) => parts::open(&first)?.1,
            None => 0,
        };
        let mut count = 0;
        if let Some(value) = value {
            let (first, rest) = parts::cut(value, self.meta.batch)?;
            self.put(key.to_vec(), Some(first), sight)?;
            for part in rest {
                self.put(parts::key(key, count), Some(part.to_vec()), sight)?;
                count += 1;
            }
        } else {
            self.put(key.to_vec(), None, sight)?;
        }
        (count..old).try_for_each(|part| self.put(parts::key(key, part), None, sight))
    }

    /// Decides one append and writes what it says.
    pub(crate) fn append(&mut self, append: &Append) -> StoreResult<Appended> {
        let (generation, incarnation) = (self.handle.generation, self.meta.incarnation + 1);
        match plan(append, &*self, || Epoch { generation, incarnation }) {
            Ok(Plan::Commit(commit)) => {
                // Whoever acts on their own authority was seen when they came in.
                let seen = matches!(&append.authority, Authority::User(user) if *user == commit.event.from);
                self.attempt(|txn| {
                    if !seen {
                        txn.see(&commit.room, &commit.event.from)?;
                    }
                    txn.commit(*commit)
                })
            }
            Ok(Plan::Duplicate { epoch, record }) => Ok(Appended::Duplicate { epoch, record }),
            Err(PlanError::Refused(refusal)) => Err(refusal.into()),
            Err(PlanError::Store(error)) => Err(error),
        }
    }

    fn commit(&mut self, commit: Commit) -> StoreResult<Appended> {
        let Commit { event, room, memberships, send } = commit;
        let incarnation = room.epoch.incarnation;
        self.put_event(incarnation, &event)?;
        if let Some((id, send)) = &send {
            self.put_new(keys::sent(incarnation, &event.from, id), record::sent(send));
        }
        for (user, membership) in &memberships {
            self.put_membership(&room, user, *membership)?;
        }
        self.meta.incarnation = self.meta.incarnation.max(incarnation);
        self.put_room(room)?;
        self.needs_sync();
        Ok(Appended::Committed(Arc::new(event)))
    }

    /// Writes a room's record.
    pub(crate) fn put_room(&mut self, room: RoomRecord) -> StoreResult<()> {
        let before = match self.cached(&room.id) {
            Some(cached) => cached.map(|cached| cached.stored.clone()),
            None => self.handle.get(&keys::room(&room.id))?,
        };
        let stored = IVec::from(record::room(&room));
        self.set(keys::room(&room.id), Some(stored.clone()), Some(before));
        self.note_room(room.id.clone(), Some(Cached { room, stored }));
        Ok(())
    }

    /// Takes a room's record away.
    pub(crate) fn remove_room(&mut self, id: &RoomId) -> StoreResult<()> {
        self.put(keys::room(id), None, Sight::Kept)?;
        self.note_room(id.clone(), None);
        Ok(())
    }

    fn note_room(&mut self, id: RoomId, room: Option<Cached>) {
        let earlier = self.rooms.insert(id.clone(), room);
        self.undo_rooms.push((id, earlier));
    }

    /// Readers look for events up to the room's head only, so these need not be hidden.
    pub(crate) fn put_event(
        &mut self,
        incarnation: u64,
        event: &im_core::wire::Event,
    ) -> StoreResult<()> {
        let key = keys::event(incarnation, event.seq);
        let record = record::event(event);
        let (first, rest) = parts::cut(&record, self.meta.batch)?;
        for (part, bytes) in (0..).zip(rest) {
            self.set(parts::key(&key, part), Some(bytes.into()), None);
        }
        self.set(key, Some(first.into()), None);
        Ok(())
    }

    pub(crate) fn put_membership(
        &mut self,
        room: &RoomRecord,
        user: &UserId,
        membership: Option<Membership>,
    ) -> StoreResult<()> {
        let incarnation = room.epoch.incarnation;
        let key = keys::membership(incarnation, user);
        if self.get(&key)?.is_none() {
            let trace = record::trace(&room.id, Seq::ZERO);
            self.put(keys::trace(user, incarnation), Some(trace), Sight::AtOnce)?;
        }
        self.put(key, Some(record::membership(membership)), Sight::Kept)?;
        let member = match membership {
            Some(Membership::Member(_)) => Some(Vec::new()),
            _ => None,
        };
        self.put(keys::room_of(user, &room.id), member, Sight::Kept)
    }

    /// The user may be found in this room from now on.
    pub(crate) fn see(&mut self, room: &RoomRecord, user: &UserId) -> StoreResult<()> {
        let incarnation = room.epoch.incarnation;
        let key = keys::membership(incarnation, user);
        if self.get(&key)?.is_some() {
            return Ok(());
        }
        self.put(key, Some(record::membership(None)), Sight::Kept)?;
        let trace = record::trace(&room.id, Seq::ZERO);
        self.put(keys::trace(user, incarnation), Some(trace), Sight::AtOnce)
    }

    /// How the user stands to the room of this incarnation, as this commit leaves it.
    pub(crate) fn membership_in(
        &self,
        incarnation: u64,
        user: &UserId,
    ) -> StoreResult<Option<Membership>> {
        match self.get(&keys::membership(incarnation, user))? {
            Some(bytes) => record::read_membership(&bytes),
            None => Ok(None),
        }
    }

    /// What is known without asking the database: the room, or that it is deleted.
    fn cached(&self, id: &RoomId) -> Option<Option<&Cached>> {
        match self.rooms.get(id) {
            Some(changed) => Some(changed.as_ref()),
            None => self.cache.get(id).map(Some),
        }
    }

    /// The room as this commit leaves it.
    pub(crate) fn room(&self, id: &RoomId) -> StoreResult<Option<RoomRecord>> {
        if let Some(cached) = self.cached(id) {
            return Ok(cached.map(|cached| cached.room.clone()));
        }
        let bytes = self.handle.get(&keys::room(id))?;
        bytes.map(|bytes| record::read_room(id, self.handle.generation, &bytes)).transpose()
    }
}

impl View for Txn<'_> {
    type Error = StoreError;

    fn room(&self, room: &RoomId) -> StoreResult<Option<RoomRecord>> {
        Txn::room(self, room)
    }

    fn membership(&self, room: &RoomRecord, user: &UserId) -> StoreResult<Option<Membership>> {
        self.membership_in(room.epoch.incarnation, user)
    }

    fn another_owner(&self, room: &RoomRecord, user: &UserId) -> StoreResult<bool> {
        let prefix = keys::memberships(room.epoch.incarnation);
        let own = keys::membership(room.epoch.incarnation, user);
        let owns = |key: &[u8], membership: &[u8]| -> StoreResult<bool> {
            let owner = Some(Membership::Member(Role::Owner));
            Ok(key != own.as_slice() && record::read_membership(membership)? == owner)
        };
        for (key, write) in self.writes.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            if let Some(membership) = &write.now
                && owns(key, membership)?
            {
                return Ok(true);
            }
        }
        for row in self.handle.db.scan_prefix(&prefix) {
            let (key, membership) = row.map_err(reading)?;
            if !self.writes.contains_key(key.as_ref()) && owns(&key, &membership)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn idempotency_record(
        &self,
        room: &RoomRecord,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>> {
        let bytes = self.get(&keys::sent(room.epoch.incarnation, sender, id))?;
        bytes.map(|bytes| record::read_idempotency_record(&bytes)).transpose()
    }
}
