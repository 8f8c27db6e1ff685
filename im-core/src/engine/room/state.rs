//! The keyed state of a room: the newest value of each key, cached within a budget.
//!
//! All rooms share the budget. Beyond it the state of rooms where it was not used recently is
//! evicted: it is in the store, or among the updates that wait for the store in
//! [`StateWriter`](super::super::state_writer::StateWriter). The digest of evicted state is
//! retained for comparison with subscribers. Code that needs the entries holds them
//! ([`Room::hold_state`]), and reads them again if they were evicted ([`Core::hold_state`]). If the
//! entries read differ from the evicted ones, every subscriber receives the whole state.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::id::{RoomId, StateKey, UserId};
use crate::ports::StateSnapshot;
use crate::state::{Merge, RoomPosition, StateLimits, StateMap};
use crate::wire::{Push, Snapshot, StateUpdate};

use super::super::core::Core;
use super::super::metrics;
use super::super::outgoing::Outgoing;
use super::{Inner, Room, WindowBounds};

/// The state of a room.
#[derive(Debug, Default)]
pub(super) struct RoomState {
    /// Empty while it is evicted.
    map: StateMap,
    /// The store's revision at the last merge.
    revision: u64,
    /// The generation sent to subscribers; `None` until it is known.
    pub(super) generation: Option<u64>,
    /// The digest of the evicted state, while it is evicted.
    evicted: Option<u64>,
    /// The number of evictions: entries read before the last one are stale.
    evictions: u64,
    /// The number of holds.
    holds: u32,
    /// It was used since the last check for evictable state.
    touched: bool,
    /// Bytes that count against the budget.
    counted: usize,
}

/// Keeps a room's state in memory until it is dropped.
#[derive(Debug)]
pub(crate) struct StateHold(Arc<Room>);

impl Drop for StateHold {
    fn drop(&mut self) {
        self.0.inner.lock().state.holds -= 1;
    }
}

impl RoomState {
    /// Counts the current bytes.
    fn count(&mut self, bounds: &WindowBounds) {
        let now = self.map.held();
        bounds.state_used.fetch_add(now, Ordering::Relaxed);
        bounds.state_used.fetch_sub(std::mem::replace(&mut self.counted, now), Ordering::Relaxed);
    }

    /// Clears the state: there is none, or none any more.
    pub(super) fn clear(&mut self, bounds: &WindowBounds) {
        self.map = StateMap::default();
        self.revision = 0;
        self.evicted = None;
        self.evictions += 1;
        self.count(bounds);
    }

    fn digest(&self) -> u64 {
        self.evicted.unwrap_or_else(|| self.map.digest())
    }
}

impl Room {
    /// Holds the state in memory; `None` if it was evicted.
    pub(crate) fn hold_state(self: &Arc<Self>) -> Option<StateHold> {
        let mut inner = self.inner.lock();
        if inner.state.evicted.is_some() {
            return None;
        }
        inner.state.holds += 1;
        inner.state.touched = true;
        Some(StateHold(self.clone()))
    }

    /// The number of evictions, for [`Room::restore_state`].
    pub(crate) fn state_evictions(&self) -> u64 {
        self.inner.lock().state.evictions
    }

    /// Restores evicted state, as read while [`Room::state_evictions`] returned `evictions`;
    /// entries read before the last eviction are stale and are discarded.
    pub(crate) fn restore_state(
        &self,
        stored: StateSnapshot,
        evictions: u64,
        limits: &StateLimits,
    ) {
        let mut inner = self.inner.lock();
        let state = &mut inner.state;
        if state.evictions != evictions {
            return;
        }
        let Some(digest) = state.evicted.take() else { return };
        for update in stored.entries {
            state.map.merge_from_peer(update, limits);
        }
        state.map.raise_purged_stamp(stored.purged_stamp);
        state.revision = stored.revision;
        state.touched = true;
        state.count(&self.windows);
        if state.map.digest() != digest {
            // Which of the keys are new to the subscribers is not known any more.
            let subscribers = inner.subscribers.iter().flatten();
            subscribers.for_each(|subscriber| {
                subscriber.outbox.require_snapshot_of(subscriber.subscription(self))
            });
        }
    }

    /// Evicts the state unless it is held or empty. State used since the last call is evicted only
    /// with `even_used`. Returns the bytes freed.
    pub(crate) fn evict_state(&self, even_used: bool) -> usize {
        let mut inner = self.inner.lock();
        let is_loaded = inner.log.is_some();
        let state = &mut inner.state;
        let in_use = std::mem::take(&mut state.touched) && !even_used;
        if in_use || !is_loaded || state.holds > 0 || state.map.is_empty() {
            return 0;
        }
        let freed = state.counted;
        state.evicted = Some(state.map.digest());
        state.evictions += 1;
        state.map = StateMap::default();
        state.count(&self.windows);
        freed
    }

    /// Returns whether the state was evicted and not read again.
    pub(crate) fn is_state_evicted(&self) -> bool {
        self.inner.lock().state.evicted.is_some()
    }

    /// Merges an update and fans it out if it is the newest. `None` if the state was evicted.
    pub(crate) fn merge(&self, update: Arc<StateUpdate>, limits: &StateLimits) -> Option<Merge> {
        let mut inner = self.inner.lock();
        if inner.state.evicted.is_some() {
            return None;
        }
        let merged = inner.state.map.merge(update.clone(), limits);
        if merged == Merge::Applied {
            inner.state.touched = true;
            inner.state.count(&self.windows);
            inner.fan_out_state(self, update);
        }
        Some(merged)
    }

    /// The newest update to a key, as held here.
    pub(crate) fn state_of(&self, key: &StateKey) -> Option<Arc<StateUpdate>> {
        self.inner.lock().state.map.get(key).cloned()
    }

    /// The keys with values of this user.
    pub(crate) fn state_keys_of(&self, user: &UserId) -> Vec<StateKey> {
        let inner = self.inner.lock();
        let own = inner.state.map.iter().filter(|held| held.from == *user && held.value.is_some());
        own.map(|held| held.key.clone()).collect()
    }

    /// The store's revision at the last merge.
    pub(crate) fn state_revision(&self) -> u64 {
        self.inner.lock().state.revision
    }

    /// Merges the store's state, and fans out the updates that are newer than the cached ones. Does
    /// nothing if the state was evicted.
    pub(crate) fn merge_stored(&self, stored: StateSnapshot, limits: &StateLimits) {
        self.inner.lock().merge_stored(self, stored, limits);
    }

    /// Digest of the state that was enqueued for all subscribers, for stream positions: see
    /// [`RoomPosition::state`].
    pub(crate) fn state_digest(&self) -> u32 {
        self.inner.lock().state_digest()
    }

    /// Sets the generation of state: every subscriber receives the whole state. Atomic, so that no
    /// subscriber is assumed to have state of a generation that it did not receive.
    pub(crate) fn set_state_generation(&self, generation: u64) {
        let mut inner = self.inner.lock();
        inner.state.generation = Some(generation);
        let subscribers = inner.subscribers.iter().flatten();
        subscribers.for_each(|subscriber| {
            subscriber.outbox.require_snapshot_of(subscriber.subscription(self))
        });
    }

    /// Returns all state, in chunks of at most about `chunk_bytes`. If there is none, one empty
    /// chunk or nothing. `None` if the state was evicted.
    pub(crate) fn snapshot(
        &self,
        chunk_bytes: usize,
        even_empty: bool,
    ) -> Option<Vec<Arc<Outgoing>>> {
        let mut inner = self.inner.lock();
        if inner.state.evicted.is_some() {
            return None;
        }
        inner.state.touched = true;
        // A room with subscribers was loaded.
        let generation = inner.state.generation.unwrap_or_default();
        let entries: Vec<Arc<StateUpdate>> = inner.state.map.iter().cloned().collect();
        drop(inner);
        let chunks = chunks_of(entries, chunk_bytes, even_empty);
        let last = chunks.len().saturating_sub(1);
        let chunk = |(at, entries)| {
            let snapshot = Snapshot { room: self.id.clone(), generation, entries, more: at < last };
            Outgoing::new(Push::Snapshot(snapshot))
        };
        Some(chunks.into_iter().enumerate().map(chunk).collect())
    }
}

fn chunks_of(
    entries: Vec<Arc<StateUpdate>>,
    chunk_bytes: usize,
    even_empty: bool,
) -> Vec<Vec<Arc<StateUpdate>>> {
    let mut chunks: Vec<Vec<Arc<StateUpdate>>> = Vec::new();
    let mut room_left = 0_usize;
    for entry in entries {
        let size = 128 + entry.value.as_ref().map_or(0, |value| value.packed().len());
        if chunks.is_empty() || size > room_left {
            chunks.push(Vec::new());
            room_left = chunk_bytes;
        }
        room_left = room_left.saturating_sub(size);
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(entry);
        }
    }
    if chunks.is_empty() && even_empty {
        chunks.push(Vec::new());
    }
    chunks
}

impl Inner {
    pub(super) fn state_digest(&self) -> u32 {
        match self.state.digest() {
            0 => 0,
            digest => RoomPosition::digest_of(digest, self.state.generation.unwrap_or_default()),
        }
    }

    pub(super) fn merge_stored(
        &mut self,
        room: &Room,
        stored: StateSnapshot,
        limits: &StateLimits,
    ) {
        if self.state.evicted.is_some() {
            return;
        }
        for update in stored.entries {
            if self.state.map.merge_from_peer(update.clone(), limits) == Merge::Applied {
                self.fan_out_state(room, update);
            }
        }
        self.state.map.raise_purged_stamp(stored.purged_stamp);
        self.state.revision = stored.revision;
        self.state.count(&room.windows);
    }

    fn fan_out_state(&self, room: &Room, update: Arc<StateUpdate>) {
        let item = Outgoing::new(Push::State(update.clone()));
        let subscribers = self.subscribers.iter().flatten();
        subscribers.for_each(|subscriber| {
            subscriber.outbox.state(subscriber.subscription(room), &update.key, &item)
        });
    }
}

impl Core {
    /// Updates of a room's state on their way to the store. Call this before the store is read: an
    /// update that is written in between is then found there.
    pub(crate) fn pending_state(&self, room: &RoomId) -> Vec<Arc<StateUpdate>> {
        let mut pending = self.state_writer.pending(room);
        pending.extend(self.remote_state.of(room));
        pending
    }

    /// Reads a room's state from the store, unless it has none, and adds the pending updates.
    pub(crate) async fn stored_state(
        &self,
        room: &RoomId,
        pending: Vec<Arc<StateUpdate>>,
        has_none: bool,
    ) -> Result<StateSnapshot> {
        let mut state = match has_none {
            true => StateSnapshot::default(),
            false => self.store.state(room).await?,
        };
        let floor = state.purged_stamp;
        // A pending update may be of a key whose tombstone the store has purged since: only one
        // newer than that is added.
        state.entries.extend(pending.into_iter().filter(|update| floor < Some(update.stamp)));
        Ok(state)
    }

    /// Holds the room's state in memory, and reads it from the store if it was evicted.
    pub(crate) async fn hold_state(&self, room: &Arc<Room>) -> Result<StateHold> {
        loop {
            if let Some(hold) = room.hold_state() {
                self.hub.evict_state();
                return Ok(hold);
            }
            let evictions = room.state_evictions();
            let pending = self.pending_state(room.id());
            let stored = self.stored_state(room.id(), pending, false).await?;
            room.restore_state(stored, evictions, &self.config.state);
            ::metrics::counter!(metrics::STATE_READS).increment(1);
        }
    }

    /// Merges an update that another node accepted, or that was accepted before the room was
    /// retired and loaded again.
    pub(crate) fn merge_remote(self: &Arc<Self>, room: Arc<Room>, update: Arc<StateUpdate>) {
        if room.merge(update.clone(), &self.config.state).is_some() {
            return self.hub.evict_state();
        }
        let core = self.clone();
        self.tasks.spawn(async move {
            match core.hold_state(&room).await {
                Ok(_held) => drop(room.merge(update, &core.config.state)),
                // Once the store has the update, the comparison finds the difference.
                Err(error) => tracing::warn!(%error, "evicted state could not be read again"),
            }
        });
    }
}
