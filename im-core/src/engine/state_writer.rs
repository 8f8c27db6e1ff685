//! State on its way to the store: the newest of each key, written behind with a bounded delay.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::id::{RoomId, StateKey};
use crate::ports::Store;
use crate::wire::StateUpdate;

/// Updates that wait to be written.
///
/// Invariant: at most `max` keys, each with its newest update.
#[derive(Debug)]
pub(crate) struct StateWriter {
    pending: Mutex<BTreeMap<(RoomId, StateKey), Arc<StateUpdate>>>,
    max: usize,
}

impl StateWriter {
    pub(crate) fn new(max: usize) -> Self {
        Self { pending: Mutex::default(), max }
    }

    /// Whether another key may wait.
    pub(crate) fn has_room(&self) -> bool {
        self.pending.lock().len() < self.max
    }

    /// Queues an update, unless a newer one waits.
    pub(crate) fn push(&self, update: Arc<StateUpdate>) {
        let mut pending = self.pending.lock();
        let key = (update.room.clone(), update.key.clone());
        if pending.get(&key).is_none_or(|held| held.stamp < update.stamp) {
            pending.insert(key, update);
        }
    }

    /// What waits of one room.
    pub(crate) fn pending(&self, room: &RoomId) -> Vec<Arc<StateUpdate>> {
        let pending = self.pending.lock();
        let from_room = pending
            .iter()
            .skip_while(|((of, _), _)| of < room)
            .take_while(|((of, _), _)| of == room);
        from_room.map(|(_, update)| update.clone()).collect()
    }

    /// Writes what waits. What the store does not take waits on; `false` says that there is some.
    pub(crate) async fn flush(&self, store: &Arc<dyn Store>) -> bool {
        let batch: Vec<Arc<StateUpdate>> = self.pending.lock().values().cloned().collect();
        if batch.is_empty() {
            return true;
        }
        if let Err(error) = store.merge_state(batch.clone()).await {
            tracing::warn!(%error, keys = batch.len(), "state could not be written; it is tried again");
            return false;
        }
        let mut pending = self.pending.lock();
        for written in batch {
            let key = (written.room.clone(), written.key.clone());
            if pending.get(&key).is_some_and(|held| held.stamp == written.stamp) {
                pending.remove(&key);
            }
        }
        pending.is_empty()
    }
}
