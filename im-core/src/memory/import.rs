//! Rooms under import in memory.

use std::collections::HashSet;
use std::sync::Arc;

use crate::id::{Epoch, RoomId};
use crate::ports::StoreResult;
use crate::state::{ImportedPart, ImportedRoom, Membership, Refusal, RoomRecord};

use super::rooms::{Room, Rooms, index};

impl Rooms {
    pub(super) fn begin_import(&mut self, new: &ImportedRoom) -> StoreResult<Epoch> {
        if self.rooms.contains_key(&new.id) {
            return Err(Refusal::Exists.into());
        }
        let epoch = self.fresh();
        self.incarnations = epoch.incarnation;
        let draft = Room::new(new.begin(epoch));
        self.doomed.extend(self.drafts.insert(new.id.clone(), draft));
        Ok(epoch)
    }

    pub(super) fn import(
        &mut self,
        id: &RoomId,
        epoch: Epoch,
        part: ImportedPart,
    ) -> StoreResult<()> {
        let draft = self.draft(id, epoch)?;
        // All of it is checked before anything is changed.
        let mut record = draft.record.clone();
        let mut users = HashSet::new();
        for (user, membership) in &part.memberships {
            if user.is_erased() {
                return Err(Refusal::Reserved.into());
            }
            if draft.memberships.contains_key(user) || !users.insert(user) {
                return Err(Refusal::NotNext.into());
            }
            record.members += u32::from(matches!(membership, Membership::Member(_)));
        }
        let mut sends = HashSet::new();
        let mut commits = Vec::with_capacity(part.events.len());
        for event in part.events {
            let (event, send) = record.import(event)?;
            if let Some((id, _)) = &send {
                let key = (event.from.clone(), id.clone());
                if draft.sent.contains_key(&key) || !sends.insert(key) {
                    return Err(Refusal::NotNext.into());
                }
            }
            commits.push((Arc::new(event), send));
        }
        let Some(draft) = self.drafts.get_mut(id) else { return Ok(()) };
        draft.record = record;
        for (user, membership) in part.memberships {
            index(&mut self.of_user, &user, id, Some(membership));
            draft.see(&mut self.traces, &user);
            draft.memberships.insert(user, membership);
        }
        for (event, send) in commits {
            draft.see(&mut self.traces, &event.from);
            for change in event.member_changes() {
                draft.see(&mut self.traces, change.user());
            }
            if let Some((id, record)) = send {
                draft.sent.insert((event.from.clone(), id), record);
            }
            draft.events.push_back(event);
        }
        Ok(())
    }

    pub(super) fn finish_import(&mut self, id: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord> {
        let record = self.draft(id, epoch)?.record.clone();
        if let Some(room) = self.drafts.remove(id) {
            self.names.insert(id.clone());
            self.rooms.insert(id.clone(), room);
        }
        Ok(record)
    }

    fn draft(&self, id: &RoomId, epoch: Epoch) -> Result<&Room, Refusal> {
        if self.rooms.contains_key(id) {
            return Err(Refusal::Exists);
        }
        let draft = self.drafts.get(id).filter(|draft| draft.record.epoch == epoch);
        draft.ok_or(Refusal::NoSuchRoom)
    }
}
