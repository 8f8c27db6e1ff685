//! The rooms that somebody on this node follows, found by id.
//!
//! Sharded, so that rooms do not wait for each other. Lock order: a shard, then a room in it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::id::RoomId;

use super::room::{Room, WindowBounds};

const SHARDS: usize = 64;

/// The rooms in memory.
#[derive(Debug)]
pub(crate) struct Hub {
    shards: Vec<Mutex<HashMap<RoomId, Arc<Room>>>>,
    hasher: RandomState,
    windows: Arc<WindowBounds>,
}

impl Hub {
    pub(crate) fn new(windows: WindowBounds) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            windows: Arc::new(windows),
        }
    }

    fn shard(&self, id: &RoomId) -> &Mutex<HashMap<RoomId, Arc<Room>>> {
        &self.shards[self.hasher.hash_one(id) as usize % SHARDS]
    }

    /// The room, if it is in memory.
    pub(crate) fn get(&self, id: &RoomId) -> Option<Arc<Room>> {
        self.shard(id).lock().get(id).cloned()
    }

    /// The room, put into memory if need be. It may still have to be loaded.
    pub(crate) fn get_or_insert(&self, id: &RoomId) -> Arc<Room> {
        let mut shard = self.shard(id).lock();
        match shard.get(id) {
            Some(room) => room.clone(),
            None => {
                let room = Arc::new(Room::new(id.clone(), self.windows.clone()));
                shard.insert(id.clone(), room.clone());
                room
            }
        }
    }

    /// Takes the room out of memory if nobody reads it.
    pub(crate) fn retire_if_idle(&self, room: &Arc<Room>) {
        let mut shard = self.shard(room.id()).lock();
        if shard.get(room.id()).is_some_and(|held| Arc::ptr_eq(held, room)) && room.retire_if_idle()
        {
            shard.remove(room.id());
            if shard.is_empty() {
                shard.shrink_to_fit();
            }
        }
    }

    /// How many rooms are in memory.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// All rooms in memory.
    pub(crate) fn rooms(&self) -> Vec<Arc<Room>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>())
            .collect()
    }
}
