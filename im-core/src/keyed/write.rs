//! Appends, and what other writes have in common.

use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use crate::id::{Epoch, Seq, UserId};
use crate::ports::{Appended, StoreResult};
use crate::state::{Append, Membership, Plan, PlanError, RoomRecord, StateLimits, plan};
use crate::wire::Event;

use super::database::{RowsMut, Way};
use super::keys::Key;
use super::look::{ENOUGH, ON, Reader};
use super::{keys, record};

/// The most rows that one call of upkeep looks at or removes, so that a transaction is bounded.
const ROWS: usize = 10_000;

/// A caller's limit, kept within bounds.
pub(super) fn bounded(limit: usize) -> usize {
    limit.clamp(1, ROWS)
}

/// A transaction in the making.
pub(super) struct Writer<'a> {
    pub(super) rows: &'a mut dyn RowsMut,
    pub(super) generation: u64,
    pub(super) state_limits: StateLimits,
}

impl Writer<'_> {
    /// What the transaction has so far.
    pub(super) fn look(&self) -> Reader<'_> {
        Reader { rows: &*self.rows, generation: self.generation }
    }

    pub(super) fn put(&mut self, key: &[u8], fields: &impl Serialize) -> StoreResult<()> {
        self.rows.put(key, &record::pack(fields)?)
    }

    /// A row whose key says it all.
    pub(super) fn note(&mut self, key: &[u8]) -> StoreResult<()> {
        self.rows.put(key, &[])
    }

    pub(super) fn append(&mut self, append: &Append) -> StoreResult<Appended> {
        let mut meta = self.look().meta()?;
        let fresh = Epoch { generation: self.generation, incarnation: meta.incarnation + 1 };
        let commit = match plan(append, &self.look(), || fresh) {
            Ok(Plan::Commit(commit)) => *commit,
            Ok(Plan::Duplicate { epoch, record }) => {
                return Ok(Appended::Duplicate { epoch, record });
            }
            Err(PlanError::Refused(refusal)) => return Err(refusal.into()),
            Err(PlanError::Store(error)) => return Err(error),
        };
        let room = &commit.room;
        if room.epoch == fresh {
            meta.incarnation = fresh.incarnation;
            self.put(keys::META, &meta)?;
        }
        self.put_event(&commit.event)?;
        self.see(room, &commit.event.from)?;
        for (user, membership) in &commit.memberships {
            self.put_membership(room, user, *membership)?;
        }
        if let Some((id, send)) = &commit.send {
            self.put(&keys::sent(room.epoch.incarnation, &commit.event.from, id), send)?;
        }
        self.put_room(room)?;
        Ok(Appended::Committed(Arc::new(commit.event)))
    }

    pub(super) fn put_event(&mut self, event: &Event) -> StoreResult<()> {
        let key = keys::event(event.epoch.incarnation, event.seq);
        self.rows.put(&key, &record::event(event)?)
    }

    pub(super) fn put_room(&mut self, room: &RoomRecord) -> StoreResult<()> {
        self.put(&keys::room(&room.id), room)
    }

    /// The user may be found in this room from now on.
    pub(super) fn see(&mut self, room: &RoomRecord, user: &UserId) -> StoreResult<()> {
        let incarnation = room.epoch.incarnation;
        let key = keys::membership(incarnation, user);
        if self.rows.get(&key)?.is_some() {
            return Ok(());
        }
        self.put(&key, &None::<Membership>)?;
        self.put(&keys::trace(user, incarnation), &(&room.id, Seq::ZERO))
    }

    pub(super) fn put_membership(
        &mut self,
        room: &RoomRecord,
        user: &UserId,
        membership: Option<Membership>,
    ) -> StoreResult<()> {
        self.see(room, user)?;
        let incarnation = room.epoch.incarnation;
        self.put(&keys::membership(incarnation, user), &membership)?;
        let room_of = keys::room_of(user, &room.id, incarnation);
        match membership {
            Some(Membership::Member(_)) => self.note(&room_of),
            _ => self.rows.remove(&room_of),
        }
    }

    /// The first keys of a range, at most `limit`.
    pub(super) fn first_keys(&self, range: Range<&[u8]>, limit: usize) -> StoreResult<Vec<Key>> {
        let mut found: Vec<Key> = Vec::new();
        self.rows.walk(range, Way::Forwards, &mut |key, _| {
            if found.len() >= limit {
                return ENOUGH;
            }
            found.push(key.to_vec());
            ON
        })?;
        Ok(found)
    }

    /// Removes rows whose keys begin with `prefix`, as many as `left` says.
    pub(super) fn drop_rows(&mut self, prefix: &[u8], left: &mut usize) -> StoreResult<()> {
        let found = self.first_keys(prefix..&keys::after_all(prefix), *left)?;
        *left -= found.len();
        found.iter().try_for_each(|key| self.rows.remove(key))
    }
}
