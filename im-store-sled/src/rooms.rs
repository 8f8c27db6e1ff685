//! The rooms that were written to lately.

use std::collections::HashMap;

use im_core::RoomId;
use im_core::state::RoomRecord;
use sled::IVec;

/// A room and its record as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Cached {
    pub(crate) room: RoomRecord,
    pub(crate) stored: IVec,
}

/// How many rooms are held: up to twice this, at some 300 bytes each.
const HALF: usize = 4096;

/// A bounded cache of rooms, so that an append to a busy room does not read and decode its record.
///
/// Two halves stand in for the order of use: when the young half is full it becomes the old one, and what was not
/// written to since then is gone.
#[derive(Debug, Default)]
pub(crate) struct RoomCache {
    young: HashMap<RoomId, Cached>,
    old: HashMap<RoomId, Cached>,
}

impl RoomCache {
    pub(crate) fn get(&self, id: &RoomId) -> Option<&Cached> {
        self.young.get(id).or_else(|| self.old.get(id))
    }

    pub(crate) fn put(&mut self, cached: Cached) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(cached.room.id.clone(), cached);
    }

    pub(crate) fn remove(&mut self, id: &RoomId) {
        self.young.remove(id);
        self.old.remove(id);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
