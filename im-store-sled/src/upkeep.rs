//! Trimming and deleting.
//!
//! Both come in two steps, each a commit of its own: first the room's record says that something is gone, then it is
//! removed. A reader who still has the old record and misses an event looks at the record again: see `read`. So what is
//! removed need not be hidden from readers until it is kept, and a process that is killed in between leaves only what
//! nobody looks at; the next call removes it.

use im_core::RoomId;
use im_core::UserId;
use im_core::ports::StoreResult;
use im_core::state::{Keep, Membership, RoomRecord, Trimmed};

use crate::error::{damaged, reading};
use crate::keys::Key;
use crate::txn::{Sight, Txn};
use crate::{keys, parts, record};

/// Rows that one commit removes at most. A batch of so many keys is some 100 KiB; what stood under them is held until the
/// commit is kept, 4 KiB each at most.
pub(crate) const ROWS: usize = 4096;

impl Txn<'_> {
    /// The first step: the log begins later from now on.
    pub(crate) fn trim(
        &mut self,
        id: &RoomId,
        keep: &Keep,
        limit: usize,
    ) -> StoreResult<Option<Trimmed>> {
        let Some(mut room) = self.room(id)? else { return Ok(None) };
        let (incarnation, mut next) = (room.epoch.incarnation, room.first);
        let trimmed = {
            let txn = &*self;
            let head = room.head;
            let oldest = std::iter::from_fn(|| {
                let key = keys::event(incarnation, next);
                let is_there = next <= head;
                next = next.next();
                is_there.then(|| txn.event_size(&key))
            });
            room.trim(keep, limit, oldest)?
        };
        if trimmed.removed > 0 {
            self.needs_sync();
            self.put_room(room)?;
        }
        Ok(Some(trimmed))
    }

    fn event_size(&self, key: &[u8]) -> StoreResult<(im_core::Timestamp, u64)> {
        let bytes = self.record(key)?.ok_or_else(|| damaged("log: an event is missing; it"))?;
        record::event_size(&bytes)
    }

    /// The second step: removes events that stand before the first one, as the record that is kept says. Whether there
    /// may be more of them.
    pub(crate) fn drop_trimmed(&mut self, id: &RoomId) -> StoreResult<bool> {
        let Some(bytes) = self.handle.get(&keys::room(id))? else { return Ok(false) };
        let room = record::read_room(id, self.handle.generation, &bytes)?;
        let incarnation = room.epoch.incarnation;
        let before = keys::events(incarnation)..keys::event(incarnation, room.first);
        let mut left = ROWS;
        self.drop_rows(before, &mut left)?;
        Ok(left == 0)
    }

    /// The first step: the room is gone. What it held is to be purged.
    pub(crate) fn delete_room(&mut self, id: &RoomId) -> StoreResult<bool> {
        self.drop_draft(id)?;
        let Some(room) = self.room(id)? else { return Ok(false) };
        self.needs_sync();
        self.remove_room(id)?;
        self.doom(&room)?;
        Ok(true)
    }

    /// Drops an import that was not finished.
    pub(crate) fn drop_draft(&mut self, id: &RoomId) -> StoreResult<()> {
        if let Some(draft) = self.draft(id)? {
            self.needs_sync();
            self.put(keys::draft(id), None, Sight::AtOnce)?;
            self.doom(&draft)?;
        }
        Ok(())
    }

    fn doom(&mut self, room: &RoomRecord) -> StoreResult<()> {
        let key = keys::doomed(room.epoch.incarnation);
        self.put(key, Some(room.id.as_str().as_bytes().to_vec()), Sight::AtOnce)
    }

    /// The second step: removes what is left of rooms that were gone when this commit began, at most about `limit` rows.
    /// Whether there may be more.
    pub(crate) fn purge(&mut self, limit: usize) -> StoreResult<bool> {
        let mut left = limit.clamp(1, ROWS);
        for row in self.handle.db.scan_prefix(keys::PURGE_QUEUE) {
            let (key, id) = row.map_err(reading)?;
            let incarnation = keys::last_number(&key).ok_or_else(|| damaged("deleted room"))?;
            let id = std::str::from_utf8(&id).ok().and_then(|id| RoomId::new(id).ok());
            let id = id.ok_or_else(|| damaged("deleted room"))?;
            self.purge_room(incarnation, &id, &mut left)?;
            if left == 0 {
                break;
            }
            self.put(key.to_vec(), None, Sight::AtOnce)?;
            left -= 1;
        }
        self.needs_sync();
        Ok(left == 0)
    }

    fn purge_room(&mut self, incarnation: u64, id: &RoomId, left: &mut usize) -> StoreResult<()> {
        for prefix in [
            keys::events(incarnation),
            keys::all_idempotency_records(incarnation),
            keys::states(incarnation),
            keys::state_head(incarnation),
        ] {
            let end = keys::after_all(&prefix);
            self.drop_rows(prefix..end, left)?;
        }
        let prefix = keys::memberships(incarnation);
        for row in self.handle.db.scan_prefix(&prefix) {
            if *left == 0 {
                return Ok(());
            }
            *left -= 1;
            let (key, _) = row.map_err(reading)?;
            let user = std::str::from_utf8(&key[prefix.len()..]).ok();
            let user = user.and_then(|user| UserId::new(user).ok());
            let user = user.ok_or_else(|| damaged("membership"))?;
            self.forget(incarnation, id, &user)?;
            self.put(key.to_vec(), None, Sight::AtOnce)?;
        }
        Ok(())
    }

    /// Removes what leads from a user to a room of this incarnation.
    pub(crate) fn forget(
        &mut self,
        incarnation: u64,
        id: &RoomId,
        user: &UserId,
    ) -> StoreResult<()> {
        self.put(keys::trace(user, incarnation), None, Sight::AtOnce)?;
        // Another room of this id, or one under import, may have the user by now.
        for room in [self.room(id)?, self.draft(id)?].into_iter().flatten() {
            let other = room.epoch.incarnation;
            if other != incarnation
                && matches!(self.membership_in(other, user)?, Some(Membership::Member(_)))
            {
                return Ok(());
            }
        }
        self.put(keys::room_of(user, id), None, Sight::AtOnce)
    }

    /// Removes rows of this range that were there when this commit began, as many as `left` says.
    fn drop_rows(&mut self, range: std::ops::Range<Key>, left: &mut usize) -> StoreResult<()> {
        for row in self.handle.db.range(range).keys().take(*left) {
            let key = row.map_err(reading)?;
            self.set(key.to_vec(), None, None);
            *left -= 1;
        }
        Ok(())
    }

    /// A record that may be large, as this commit has it.
    pub(crate) fn record(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        let Some(first) = self.get(key)? else { return Ok(None) };
        parts::join(&first, |part| self.get(&parts::key(key, part))).map(Some)
    }
}
