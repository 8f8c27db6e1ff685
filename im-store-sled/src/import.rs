//! Rooms under import.

use im_core::ports::StoreResult;
use im_core::state::{ImportedPart, ImportedRoom, Membership, Refusal, RoomRecord};
use im_core::{Epoch, RoomId};

use crate::txn::{Sight, Txn};
use crate::{keys, record};

impl Txn<'_> {
    /// The room under import, as this commit leaves it.
    pub(crate) fn draft(&self, id: &RoomId) -> StoreResult<Option<RoomRecord>> {
        let bytes = self.get(&keys::draft(id))?;
        bytes.map(|bytes| record::read_room(id, self.handle.generation, &bytes)).transpose()
    }

    /// Nobody but the writer looks at a draft.
    pub(crate) fn put_draft(&mut self, draft: &RoomRecord) -> StoreResult<()> {
        self.put(keys::draft(&draft.id), Some(record::room(draft)), Sight::AtOnce)
    }

    /// The draft that has this epoch, where there is no room yet.
    fn open_draft(&self, id: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord> {
        if self.room(id)?.is_some() {
            return Err(Refusal::Exists.into());
        }
        let draft = self.draft(id)?.filter(|draft| draft.epoch == epoch);
        draft.ok_or_else(|| Refusal::NoSuchRoom.into())
    }

    pub(crate) fn begin_import(&mut self, new: &ImportedRoom) -> StoreResult<Epoch> {
        if self.room(&new.id)?.is_some() {
            return Err(Refusal::Exists.into());
        }
        self.needs_sync();
        self.drop_draft(&new.id)?;
        // One that fails after this leaves a number unused.
        self.meta.incarnation += 1;
        let (generation, incarnation) = (self.handle.generation, self.meta.incarnation);
        let epoch = Epoch { generation, incarnation };
        self.put_draft(&new.begin(epoch))?;
        Ok(epoch)
    }

    pub(crate) fn import(
        &mut self,
        id: &RoomId,
        epoch: Epoch,
        part: ImportedPart,
    ) -> StoreResult<()> {
        let mut draft = self.open_draft(id, epoch)?;
        self.needs_sync();
        for (user, membership) in part.memberships {
            if user.is_erased() {
                return Err(Refusal::Reserved.into());
            }
            if self.membership_in(epoch.incarnation, &user)?.is_some() {
                return Err(Refusal::NotNext.into());
            }
            draft.members += u32::from(matches!(membership, Membership::Member(_)));
            self.put_membership(&draft, &user, Some(membership))?;
        }
        for event in part.events {
            let (event, send) = draft.import(event)?;
            if let Some((id, send)) = &send {
                let key = keys::sent(epoch.incarnation, &event.from, id);
                if self.get(&key)?.is_some() {
                    return Err(Refusal::NotNext.into());
                }
                self.put_new(key, record::sent(send));
            }
            self.see(&draft, &event.from)?;
            for change in event.member_changes() {
                self.see(&draft, change.user())?;
            }
            self.put_event(epoch.incarnation, &event)?;
        }
        self.put_draft(&draft)
    }

    pub(crate) fn finish_import(&mut self, id: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord> {
        let draft = self.open_draft(id, epoch)?;
        self.needs_sync();
        self.put(keys::draft(id), None, Sight::AtOnce)?;
        self.put_room(draft.clone())?;
        Ok(draft)
    }
}
