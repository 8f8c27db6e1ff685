//! Trimming, deleting, purging.

use crate::id::{RoomId, Seq, UserId};
use crate::ports::StoreResult;
use crate::state::{Keep, RoomRecord, Trimmed};
use crate::time::Timestamp;

use super::look::Reader;
use super::write::{Writer, bounded};
use super::{keys, record};

impl Reader<'_> {
    /// Time and size of the events of a room from `first` on, each read when it is asked for.
    fn sizes(&self, room: &RoomRecord) -> impl Iterator<Item = StoreResult<(Timestamp, u64)>> {
        let (rows, incarnation) = (self.rows, room.epoch.incarnation);
        (room.first.get()..=room.head.get()).map(move |seq| {
            let seq = Seq::new(seq).map_err(|_| record::damaged("seq"))?;
            let event = rows.get(&keys::event(incarnation, seq))?;
            record::event_size(&event.ok_or_else(|| record::damaged("log"))?)
        })
    }
}

impl Writer<'_> {
    pub(super) fn trim(
        &mut self,
        id: &RoomId,
        keep: &Keep,
        limit: usize,
    ) -> StoreResult<Option<Trimmed>> {
        let Some(mut room) = self.look().room(id)? else { return Ok(None) };
        let before = room.clone();
        let trimmed = room.trim(keep, bounded(limit), self.look().sizes(&before))?;
        let mut seq = before.first;
        while seq < room.first {
            self.rows.remove(&keys::event(room.epoch.incarnation, seq))?;
            seq = seq.next();
        }
        if trimmed.removed > 0 {
            self.put_room(&room)?;
        }
        Ok(Some(trimmed))
    }

    pub(super) fn delete_room(&mut self, id: &RoomId) -> StoreResult<bool> {
        self.drop_draft(id)?;
        let Some(room) = self.look().room(id)? else { return Ok(false) };
        self.rows.remove(&keys::room(id))?;
        self.doom(&room)?;
        Ok(true)
    }

    /// What is under the room's incarnation is to be purged.
    pub(super) fn doom(&mut self, room: &RoomRecord) -> StoreResult<()> {
        self.put(&keys::doomed(room.epoch.incarnation), &room.id)
    }

    /// Whether there may be more.
    pub(super) fn purge(&mut self, limit: usize) -> StoreResult<bool> {
        let mut left = bounded(limit);
        let doomed = self.look().list(keys::PURGE_QUEUE, None, left, |key, id| {
            let id: RoomId = record::unpack("deleted room", id)?;
            Ok(Some((keys::last_number(key)?, id)))
        })?;
        for (incarnation, id) in doomed {
            self.purge_room(incarnation, &id, &mut left)?;
            if left == 0 {
                break;
            }
            self.rows.remove(&keys::doomed(incarnation))?;
            left -= 1;
        }
        Ok(left == 0)
    }

    fn purge_room(&mut self, incarnation: u64, id: &RoomId, left: &mut usize) -> StoreResult<()> {
        for prefix in [
            keys::events(incarnation),
            keys::all_idempotency_records(incarnation),
            keys::states(incarnation),
            keys::state_head(incarnation),
        ] {
            self.drop_rows(&prefix, left)?;
        }
        let prefix = keys::memberships(incarnation);
        let found = self.first_keys(&prefix..&keys::after_all(&prefix), *left)?;
        *left -= found.len();
        for key in found {
            let user: UserId = keys::id_at(&key, prefix.len())?;
            self.forget(incarnation, id, &user)?;
        }
        Ok(())
    }

    /// Removes what leads from a user to a room, and the user's membership.
    pub(super) fn forget(
        &mut self,
        incarnation: u64,
        id: &RoomId,
        user: &UserId,
    ) -> StoreResult<()> {
        self.rows.remove(&keys::trace(user, incarnation))?;
        self.rows.remove(&keys::room_of(user, id, incarnation))?;
        self.rows.remove(&keys::membership(incarnation, user))
    }
}
