//! State on its way to the store: the newest update of each key, written behind with a bounded
//! delay.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::id::{RoomId, StateKey, UserId};
use crate::ports::Store;
use crate::wire::StateUpdate;

/// Keys in one store call.
const KEYS_AT_ONCE: usize = 1024;

/// Updates that wait to be written.
///
/// Invariant: each key with its newest update.
#[derive(Debug)]
pub(crate) struct StateWriter {
    pending: Mutex<Pending>,
    max_keys: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Pending {
    updates: BTreeMap<(RoomId, StateKey), Arc<StateUpdate>>,
    /// Bytes of the updates, by [`size`].
    bytes: usize,
}

impl StateWriter {
    pub(crate) fn new(max_keys: usize, max_bytes: usize) -> Self {
        Self { pending: Mutex::default(), max_keys, max_bytes }
    }

    /// Returns whether more updates may wait. A single update may then exceed the bounds.
    pub(crate) fn has_room(&self) -> bool {
        let pending = self.pending.lock();
        pending.updates.len() < self.max_keys && pending.bytes < self.max_bytes
    }

    /// Queues an update, unless a newer one waits.
    pub(crate) fn push(&self, update: Arc<StateUpdate>) {
        let mut pending = self.pending.lock();
        let key = (update.room.clone(), update.key.clone());
        if pending.updates.get(&key).is_none_or(|held| held.stamp < update.stamp) {
            pending.bytes += size(&update);
            if let Some(old) = pending.updates.insert(key, update) {
                pending.bytes -= size(&old);
            }
        }
    }

    /// The waiting updates of one room.
    pub(crate) fn pending(&self, room: &RoomId) -> Vec<Arc<StateUpdate>> {
        let pending = self.pending.lock();
        let from_room = pending
            .updates
            .iter()
            .skip_while(|((of, _), _)| of < room)
            .take_while(|((of, _), _)| of == room);
        from_room.map(|(_, update)| update.clone()).collect()
    }

    /// Drops the waiting updates of a deleted room.
    pub(crate) fn drop_room(&self, room: &RoomId) {
        self.drop_matching(|(of, _), _| of == room);
    }

    /// Drops the waiting updates of a user.
    pub(crate) fn drop_user(&self, user: &UserId) {
        self.drop_matching(|_, update| update.from == *user);
    }

    fn drop_matching(&self, wanted: impl Fn(&(RoomId, StateKey), &StateUpdate) -> bool) {
        let mut pending = self.pending.lock();
        let mut freed = 0;
        pending.updates.retain(|key, update| {
            let keep = !wanted(key, update);
            freed += if keep { 0 } else { size(update) };
            keep
        });
        pending.bytes -= freed;
    }

    /// Writes the waiting updates. Those that the store does not accept stay; returns `false` if
    /// there are any.
    pub(crate) async fn flush(&self, store: &Arc<dyn Store>) -> bool {
        let waiting: Vec<Arc<StateUpdate>> =
            self.pending.lock().updates.values().cloned().collect();
        for batch in waiting.chunks(KEYS_AT_ONCE) {
            if let Err(error) = store.merge_state(batch.to_vec()).await {
                tracing::warn!(%error, keys = batch.len(), "state could not be written; the next round retries");
                return false;
            }
            self.written(batch);
        }
        self.pending.lock().updates.is_empty()
    }

    fn written(&self, batch: &[Arc<StateUpdate>]) {
        let mut pending = self.pending.lock();
        for update in batch {
            let key = (update.room.clone(), update.key.clone());
            if pending.updates.get(&key).is_some_and(|held| held.stamp == update.stamp) {
                pending.updates.remove(&key);
                pending.bytes -= size(update);
            }
        }
    }
}

pub(super) fn size(update: &StateUpdate) -> usize {
    let value = update.value.as_ref().map_or(0, |value| value.packed().len());
    update.room.as_str().len() + update.key.as_str().len() + value
}
