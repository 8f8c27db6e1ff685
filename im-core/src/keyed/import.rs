//! Rooms under import.

use std::collections::HashSet;

use crate::id::{Epoch, RoomId};
use crate::ports::StoreResult;
use crate::state::{ImportedPart, ImportedRoom, Membership, Refusal, RoomRecord};

use super::keys;
use super::look::Reader;
use super::write::Writer;

impl Reader<'_> {
    /// The draft that has this epoch, where there is no room yet.
    fn open_draft(&self, id: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord> {
        if self.room(id)?.is_some() {
            return Err(Refusal::Exists.into());
        }
        let draft = self.draft(id)?.filter(|draft| draft.epoch == epoch);
        draft.ok_or_else(|| Refusal::NoSuchRoom.into())
    }
}

impl Writer<'_> {
    pub(super) fn begin_import(&mut self, new: &ImportedRoom) -> StoreResult<Epoch> {
        if self.look().room(&new.id)?.is_some() {
            return Err(Refusal::Exists.into());
        }
        self.drop_draft(&new.id)?;
        let mut meta = self.look().meta()?;
        meta.incarnation += 1;
        self.put(keys::META, &meta)?;
        let epoch = Epoch { generation: self.generation, incarnation: meta.incarnation };
        self.put(&keys::draft(&new.id), &new.begin(epoch))?;
        Ok(epoch)
    }

    pub(super) fn import(
        &mut self,
        id: &RoomId,
        epoch: Epoch,
        part: ImportedPart,
    ) -> StoreResult<()> {
        let mut room = self.look().open_draft(id, epoch)?;
        // All of it is checked before anything is written.
        let mut users = HashSet::new();
        for (user, membership) in &part.memberships {
            if user.is_erased() {
                return Err(Refusal::Reserved.into());
            }
            let held = self.look().membership_in(epoch.incarnation, user)?;
            if held.is_some() || !users.insert(user) {
                return Err(Refusal::NotNext.into());
            }
            room.members += u32::from(matches!(membership, Membership::Member(_)));
        }
        let (mut events, mut sends) = (Vec::new(), HashSet::new());
        for event in part.events {
            let (event, send) = room.import(event)?;
            if let Some((id, _)) = &send {
                let held = self.look().idempotency_record_in(epoch.incarnation, &event.from, id)?;
                if held.is_some() || !sends.insert((event.from.clone(), id.clone())) {
                    return Err(Refusal::NotNext.into());
                }
            }
            events.push((event, send));
        }
        for (user, membership) in &part.memberships {
            self.put_membership(&room, user, Some(*membership))?;
        }
        for (event, send) in &events {
            self.see(&room, &event.from)?;
            for change in event.member_changes() {
                self.see(&room, change.user())?;
            }
            if let Some((id, send)) = send {
                self.put(&keys::sent(epoch.incarnation, &event.from, id), send)?;
            }
            self.put_event(event)?;
        }
        self.put(&keys::draft(id), &room)
    }

    pub(super) fn finish_import(&mut self, id: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord> {
        let room = self.look().open_draft(id, epoch)?;
        self.rows.remove(&keys::draft(id))?;
        self.put_room(&room)?;
        Ok(room)
    }

    pub(super) fn drop_draft(&mut self, id: &RoomId) -> StoreResult<()> {
        let Some(draft) = self.look().draft(id)? else { return Ok(()) };
        self.rows.remove(&keys::draft(id))?;
        self.doom(&draft)
    }
}
