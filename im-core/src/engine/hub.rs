//! The rooms with subscribers on this node, found by id.
//!
//! Sharded, so that rooms do not wait for each other. Lock order: a shard, then a room in it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::id::RoomId;

use super::metrics;
use super::room::{Room, WindowBounds};

const SHARDS: usize = 64;

/// The rooms in memory.
#[derive(Debug)]
pub(crate) struct Hub {
    shards: Vec<Mutex<HashMap<RoomId, Arc<Room>>>>,
    hasher: RandomState,
    windows: Arc<WindowBounds>,
    evicting: Mutex<()>,
}

impl Hub {
    pub(crate) fn new(windows: WindowBounds) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            windows: Arc::new(windows),
            evicting: Mutex::default(),
        }
    }

    fn shard(&self, id: &RoomId) -> &Mutex<HashMap<RoomId, Arc<Room>>> {
        &self.shards[self.hasher.hash_one(id) as usize % SHARDS]
    }

    /// Returns the room, if it is in memory.
    pub(crate) fn get(&self, id: &RoomId) -> Option<Arc<Room>> {
        self.shard(id).lock().get(id).cloned()
    }

    /// Returns the room, adding it to memory if necessary. It may still have to be loaded.
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

    /// Retires the room from memory if it has no subscribers.
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

    /// The number of rooms in memory.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Frees memory for the windows of busy rooms when the windows are near their common bound:
    /// windows without events since the last call are emptied.
    pub(crate) fn empty_idle_windows(&self) {
        let used = || self.windows.used.load(Ordering::Relaxed);
        if used() < self.windows.all_bytes / 8 * 7 {
            return;
        }
        for room in self.rooms() {
            room.empty_idle_window();
        }
    }

    /// Evicts state of rooms if all of it together exceeds its budget, until it is well within:
    /// first the state that was not used since the last call.
    pub(crate) fn evict_state(&self) {
        let (used, most) = (|| self.state_bytes(), self.windows.state_bytes);
        if used() <= most {
            return;
        }
        let Some(_one_at_a_time) = self.evicting.try_lock() else { return };
        let enough = most / 8 * 7;
        for even_used in [false, true] {
            for shard in &self.shards {
                let rooms: Vec<Arc<Room>> = shard.lock().values().cloned().collect();
                for room in rooms {
                    if used() <= enough {
                        return;
                    }
                    if room.evict_state(even_used) > 0 {
                        ::metrics::counter!(metrics::STATE_EVICTIONS).increment(1);
                    }
                }
            }
        }
    }

    /// Bytes of state of all rooms.
    pub(crate) fn state_bytes(&self) -> usize {
        self.windows.state_used.load(Ordering::Relaxed)
    }

    /// Bytes in all windows.
    pub(crate) fn window_bytes(&self) -> usize {
        self.windows.used.load(Ordering::Relaxed)
    }

    /// All rooms in memory.
    pub(crate) fn rooms(&self) -> Vec<Arc<Room>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>())
            .collect()
    }
}
