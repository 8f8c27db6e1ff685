//! Writes of latest-wins state.

use std::collections::HashMap;
use std::sync::Arc;

use im_core::id::new_generation;
use im_core::ports::StoreResult;
use im_core::state::{Merge, RoomRecord, StateMap};
use im_core::wire::StateUpdate;
use im_core::{NodeId, RoomId, Stamp, StateKey, UserId};

use crate::error::reading;
use crate::txn::{Sight, Txn};
use crate::{keys, parts, record};

/// A room's state while a commit changes it.
#[derive(Clone)]
pub(crate) struct Draft {
    map: StateMap,
    revision: u64,
    /// What is written of it already; without a stamp what has to be written anew.
    written: HashMap<StateKey, Option<Stamp>>,
}

impl Txn<'_> {
    /// Merges updates. They are applied but not synced: a power loss may take them, and the generation of the state
    /// then changes.
    pub(crate) fn merge_state(&mut self, updates: Vec<Arc<StateUpdate>>) -> StoreResult<()> {
        let mut by_room: HashMap<RoomId, Vec<Arc<StateUpdate>>> = HashMap::new();
        for update in updates {
            by_room.entry(update.room.clone()).or_default().push(update);
        }
        let mut drafts = HashMap::new();
        for (room, updates) in by_room {
            if let Some(room) = self.room(&room)? {
                drafts.insert(room.epoch.incarnation, self.merge_room(&room, updates)?);
            }
        }
        // Only now: had something failed, what was written would have been taken back.
        self.states.extend(drafts);
        Ok(())
    }

    fn merge_room(
        &mut self,
        room: &RoomRecord,
        updates: Vec<Arc<StateUpdate>>,
    ) -> StoreResult<Draft> {
        let incarnation = room.epoch.incarnation;
        let mut draft = match self.states.get(&incarnation) {
            Some(draft) => draft.clone(),
            None => self.load_state(room)?,
        };
        let before = draft.revision;
        let mut authors = Vec::new();
        for update in updates {
            let from = update.from.clone();
            if draft.map.merge(update, &self.state_limits) == Merge::Applied {
                draft.revision += 1;
                if authors.last() != Some(&from) {
                    authors.push(from);
                }
            }
        }
        for from in authors {
            self.see(room, &from)?;
        }
        if draft.revision != before {
            self.write_state(incarnation, &mut draft)?;
        }
        Ok(draft)
    }

    /// Unsets what the user has set in a room. Gives the draft, to be kept once nothing can fail any more.
    pub(crate) fn erase_state(
        &mut self,
        room: &RoomRecord,
        user: &UserId,
    ) -> StoreResult<Option<Draft>> {
        let incarnation = room.epoch.incarnation;
        let mut draft = match self.states.get(&incarnation) {
            Some(draft) => draft.clone(),
            None => self.load_state(room)?,
        };
        let own = |map: &StateMap| -> Vec<StateKey> {
            map.iter().filter(|entry| entry.from == *user).map(|entry| entry.key.clone()).collect()
        };
        let keys = own(&draft.map);
        if keys.is_empty() {
            return Ok(None);
        }
        draft.revision += draft.map.erase(user, &self.state_limits) as u64;
        // Their stamps are as before: written anew all the same.
        keys.iter().for_each(|key| {
            draft.written.insert(key.clone(), None);
        });
        self.write_state(incarnation, &mut draft)?;
        Ok(Some(draft))
    }

    fn load_state(&self, room: &RoomRecord) -> StoreResult<Draft> {
        let incarnation = room.epoch.incarnation;
        let mut entries = Vec::new();
        for row in self.handle.db.scan_prefix(keys::states(incarnation)) {
            let (key, first) = row.map_err(reading)?;
            if key.len() == keys::state_len(&key) {
                let bytes = parts::join(&first, |part| self.handle.get(&parts::key(&key, part)))?;
                entries.push(Arc::new(record::read_state(&room.id, &bytes)?));
            }
        }
        let head = self.get(&keys::state_head(incarnation))?;
        let (revision, floor) = match head {
            Some(bytes) => record::read_state_head(&bytes)?,
            None => (0, None),
        };
        let written = entries.iter().map(|entry| (entry.key.clone(), Some(entry.stamp))).collect();
        Ok(Draft { map: StateMap::restore(entries, floor), revision, written })
    }

    fn write_state(&mut self, incarnation: u64, draft: &mut Draft) -> StoreResult<()> {
        for entry in draft.map.iter() {
            if draft.written.insert(entry.key.clone(), Some(entry.stamp)) != Some(Some(entry.stamp))
            {
                let key = keys::state(incarnation, &entry.key);
                self.put_record(&key, Some(&record::state(entry)), Sight::AtOnce)?;
            }
        }
        let gone: Vec<StateKey> =
            draft.written.keys().filter(|key| draft.map.get(key).is_none()).cloned().collect();
        for key in gone {
            self.put_record(&keys::state(incarnation, &key), None, Sight::AtOnce)?;
            draft.written.remove(&key);
        }
        let head = record::state_head(draft.revision, draft.map.purged_stamp());
        self.put(keys::state_head(incarnation), Some(head), Sight::AtOnce)
    }

    pub(crate) fn begin_state(&mut self, node: NodeId) -> StoreResult<u64> {
        self.needs_sync();
        self.put(keys::state_writer(node), Some(Vec::new()), Sight::AtOnce)?;
        let mut generation = self.meta.state_generation;
        if !self.meta.state_writers.is_empty() {
            generation = new_generation();
            let bytes = record::number(generation);
            self.put(keys::STATE_GENERATION.to_vec(), Some(bytes), Sight::AtOnce)?;
        }
        self.meta.state_generation = generation;
        self.meta.state_writers.insert(node.0);
        Ok(generation)
    }

    pub(crate) fn end_state(&mut self, node: NodeId) -> StoreResult<()> {
        self.needs_sync();
        self.put(keys::state_writer(node), None, Sight::AtOnce)?;
        self.meta.state_writers.remove(&node.0);
        Ok(())
    }
}
