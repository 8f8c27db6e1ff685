//! Latest-wins state.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::{NodeId, RoomId, StateKey, UserId, new_generation};
use crate::ports::{StateSnapshot, StoreResult};
use crate::state::{Merge, RoomRecord, StateMap};
use crate::wire::StateUpdate;

use super::look::Reader;
use super::write::Writer;
use super::{keys, record};

/// A room's state while it is changed.
struct Draft {
    map: StateMap,
    revision: u64,
    /// What stands in the rows.
    written: BTreeMap<StateKey, Arc<StateUpdate>>,
}

impl Reader<'_> {
    pub(super) fn state(&self, room: &RoomId) -> StoreResult<StateSnapshot> {
        match self.room(room)? {
            Some(room) => self.state_of(&room),
            None => Ok(StateSnapshot::default()),
        }
    }

    fn state_of(&self, room: &RoomRecord) -> StoreResult<StateSnapshot> {
        let incarnation = room.epoch.incarnation;
        let (revision, floor) = self.state_head(incarnation)?;
        let prefix = keys::states(incarnation);
        let entries = self.list(&prefix, None, usize::MAX, |key, value| {
            let update = record::read_state(&room.id, keys::id_at(key, prefix.len())?, value)?;
            Ok(Some(Arc::new(update)))
        })?;
        Ok(StateSnapshot { revision, entries, purged_stamp: floor })
    }

    fn state_draft(&self, room: &RoomRecord) -> StoreResult<Draft> {
        let StateSnapshot { revision, entries, purged_stamp: floor } = self.state_of(room)?;
        let written = entries.iter().map(|entry| (entry.key.clone(), Arc::clone(entry))).collect();
        Ok(Draft { map: StateMap::restore(entries, floor), revision, written })
    }
}

impl Writer<'_> {
    pub(super) fn merge_state(&mut self, updates: &[Arc<StateUpdate>]) -> StoreResult<()> {
        let mut by_room: BTreeMap<&RoomId, Vec<&Arc<StateUpdate>>> = BTreeMap::new();
        for update in updates {
            by_room.entry(&update.room).or_default().push(update);
        }
        for (room, updates) in by_room {
            let Some(room) = self.look().room(room)? else { continue };
            let mut draft = self.look().state_draft(&room)?;
            for update in updates {
                if draft.map.merge(Arc::clone(update), &self.state_limits) == Merge::Applied {
                    draft.revision += 1;
                    self.see(&room, &update.from)?;
                }
            }
            self.put_state(&room, &draft)?;
        }
        Ok(())
    }

    /// Unsets what the user has set in a room.
    pub(super) fn erase_state(&mut self, room: &RoomRecord, user: &UserId) -> StoreResult<()> {
        let mut draft = self.look().state_draft(room)?;
        draft.revision += draft.map.erase(user, &self.state_limits) as u64;
        self.put_state(room, &draft)
    }

    /// Writes what is not in the rows yet, and removes what no longer belongs there.
    fn put_state(&mut self, room: &RoomRecord, draft: &Draft) -> StoreResult<()> {
        let incarnation = room.epoch.incarnation;
        for entry in draft.map.iter() {
            let written = draft.written.get(&entry.key);
            if written.is_none_or(|written| !Arc::ptr_eq(written, entry)) {
                self.rows.put(&keys::state(incarnation, &entry.key), &record::state(entry)?)?;
            }
        }
        for key in draft.written.keys().filter(|key| draft.map.get(key).is_none()) {
            self.rows.remove(&keys::state(incarnation, key))?;
        }
        let (revision, floor) = self.look().state_head(incarnation)?;
        if (revision, floor) == (draft.revision, draft.map.purged_stamp()) {
            return Ok(());
        }
        let head = record::state_head(draft.revision, draft.map.purged_stamp())?;
        self.rows.put(&keys::state_head(incarnation), &head)
    }

    pub(super) fn begin_state(&mut self, node: NodeId) -> StoreResult<u64> {
        let mut meta = self.look().meta()?;
        let writers = keys::STATE_WRITERS;
        if !self.first_keys(writers..&keys::after_all(writers), 1)?.is_empty() {
            meta.state_generation = new_generation();
            self.put(keys::META, &meta)?;
        }
        self.note(&keys::state_writer(node))?;
        Ok(meta.state_generation)
    }

    pub(super) fn end_state(&mut self, node: NodeId) -> StoreResult<()> {
        self.rows.remove(&keys::state_writer(node))
    }
}
