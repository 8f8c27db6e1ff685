//! Latest-wins state: of two updates to a key the one with the greater stamp wins, in any order of
//! arrival.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::id::{StateKey, UserId};
use crate::time::Stamp;
use crate::wire::StateUpdate;

/// Bounds of a room's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateLimits {
    /// Keys with a value. 256 by default.
    pub max_keys: usize,
    /// Bytes of all values, packed. 64 KiB by default; the worst case in memory is about twice that
    /// for each room that has subscribers.
    pub max_bytes: usize,
    /// Maximum number of tombstones. 256 by default.
    pub max_tombstones: usize,
}

impl Default for StateLimits {
    fn default() -> Self {
        Self { max_keys: 256, max_bytes: 64 * 1024, max_tombstones: 256 }
    }
}

/// The outcome of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// The update is the newest and was applied.
    Applied,
    /// The stored entry is as new or newer: the update was discarded.
    Stale,
    /// The update would exceed a limit and was refused.
    Full,
}

/// Bytes of an entry beside its key and value: the update, ids of room and user, reference counts,
/// its share of the tree.
const ENTRY_OVERHEAD: usize = 384;

/// The state of one room.
///
/// Invariants: for each key, the entry is the update with the greatest stamp seen. At most
/// `max_tombstones` keys have no value. An update to a key without an entry is applied only if it
/// is newer than every purged tombstone.
#[derive(Debug, Clone, Default)]
pub struct StateMap {
    entries: BTreeMap<StateKey, Arc<StateUpdate>>,
    tombstones: usize,
    bytes: usize,
    /// The greatest stamp of a purged tombstone.
    purged_stamp: Option<Stamp>,
    /// All entries' [`fingerprint`]s, combined by exclusive or.
    digest: u64,
}

impl StateMap {
    /// Restores a map from the results of [`StateMap::iter`] and [`StateMap::purged_stamp`].
    pub fn restore(
        entries: impl IntoIterator<Item = Arc<StateUpdate>>,
        purged_stamp: Option<Stamp>,
    ) -> Self {
        let mut map = Self { purged_stamp, ..Self::default() };
        for update in entries {
            map.bytes += size(&update);
            map.digest ^= fingerprint(&update);
            map.tombstones += usize::from(update.value.is_none());
            if let Some(other) = map.entries.insert(update.key.clone(), update) {
                map.bytes -= size(&other);
                map.digest ^= fingerprint(&other);
                map.tombstones -= usize::from(other.value.is_none());
            }
        }
        map
    }

    /// The greatest stamp of a purged tombstone: updates to keys without an entry must be newer.
    pub fn purged_stamp(&self) -> Option<Stamp> {
        self.purged_stamp
    }

    /// Merges an update.
    pub fn merge(&mut self, update: Arc<StateUpdate>, limits: &StateLimits) -> Merge {
        let purged_stamp = self.purged_stamp;
        self.merge_above(update, purged_stamp, limits)
    }

    /// Merges an update that another map holds.
    ///
    /// The purged stamp of the other map must be no higher than the one that
    /// [`StateMap::raise_purged_stamp`] receives afterwards. The other map did not purge the
    /// update, so this map's purged stamp does not exclude it.
    pub fn merge_from_peer(&mut self, update: Arc<StateUpdate>, limits: &StateLimits) -> Merge {
        self.merge_above(update, None, limits)
    }

    /// Records that another map has purged tombstones with stamps up to `purged_stamp`.
    pub fn raise_purged_stamp(&mut self, purged_stamp: Option<Stamp>) {
        self.purged_stamp = self.purged_stamp.max(purged_stamp);
    }

    fn merge_above(
        &mut self,
        update: Arc<StateUpdate>,
        purged_stamp: Option<Stamp>,
        limits: &StateLimits,
    ) -> Merge {
        let held = self.entries.get(&update.key);
        let newest = held.map(|held| held.stamp).or(purged_stamp);
        // An erasure keeps the stamp of its entry, and the erased version wins.
        let erases = held.is_some_and(|held| update.erases(held));
        if newest.is_some_and(|newest| update.stamp <= newest) && !erases {
            return Merge::Stale;
        }
        let (old_size, old_live) =
            held.map_or((0, None), |held| (size(held), Some(held.value.is_some())));
        let bytes = self.bytes - old_size + size(&update);
        let live = update.value.is_some();
        let keys = self.entries.len() - self.tombstones;
        let new_key = live && old_live != Some(true);
        if live && (bytes > limits.max_bytes || (new_key && keys >= limits.max_keys)) {
            return Merge::Full;
        }
        self.bytes = bytes;
        self.tombstones -= usize::from(old_live == Some(false));
        self.tombstones += usize::from(!live);
        self.digest ^= fingerprint(&update);
        if let Some(old) = self.entries.insert(update.key.clone(), update) {
            self.digest ^= fingerprint(&old);
        }
        self.drop_tombstones(limits.max_tombstones);
        Merge::Applied
    }

    /// Replaces the values that `user` wrote with tombstones, each under its own stamp: see
    /// [`StateUpdate::without`]. Returns the number of keys.
    pub fn erase(&mut self, user: &UserId, limits: &StateLimits) -> usize {
        let erased: Vec<StateUpdate> =
            self.entries.values().filter_map(|held| held.without(user)).collect();
        let count = erased.len();
        for update in erased {
            // Key and stamp stay, and with them the digest.
            if let Some(held) = self.entries.get_mut(&update.key) {
                self.bytes = self.bytes - size(held) + size(&update);
                self.tombstones += usize::from(held.value.is_some());
                *held = Arc::new(update);
            }
        }
        self.drop_tombstones(limits.max_tombstones);
        count
    }

    fn drop_tombstones(&mut self, max: usize) {
        while self.tombstones > max {
            let dead = self.entries.values().filter(|e| e.value.is_none());
            let Some(oldest) = dead.min_by_key(|e| e.stamp).cloned() else { return };
            self.entries.remove(&oldest.key);
            self.bytes -= size(&oldest);
            self.digest ^= fingerprint(&oldest);
            self.tombstones -= 1;
            self.purged_stamp = self.purged_stamp.max(Some(oldest.stamp));
        }
    }

    /// A digest: equal for maps with the same keys and stamps, almost certainly different for
    /// others.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// All entries, tombstones included, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<StateUpdate>> {
        self.entries.values()
    }

    /// The newest update to `key`.
    pub fn get(&self, key: &StateKey) -> Option<&Arc<StateUpdate>> {
        self.entries.get(key)
    }

    /// Approximate bytes in memory: keys, values, and the overhead of each entry.
    pub fn held(&self) -> usize {
        self.bytes + self.entries.len() * ENTRY_OVERHEAD
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A fingerprint of key and stamp, equal on every node.
fn fingerprint(update: &StateUpdate) -> u64 {
    let mut hash = Sha256::new();
    hash.update(update.stamp.ms.as_millis().to_be_bytes());
    hash.update(update.stamp.counter.to_be_bytes());
    hash.update(update.stamp.node.0.to_be_bytes());
    hash.update(update.key.as_str().as_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

impl StateUpdate {
    /// Returns whether this is the result of erasing `held`.
    fn erases(&self, held: &Self) -> bool {
        self.stamp == held.stamp && self.from.is_erased() && !held.from.is_erased()
    }
}

fn size(update: &StateUpdate) -> usize {
    update.key.as_str().len() + update.value.as_ref().map_or(0, |value| value.packed().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{NodeId, RoomId};
    use crate::time::Timestamp;
    use crate::wire::{Content, Limits};
    use proptest::prelude::*;

    fn update(key: u8, ms: u64, node: u32, live: bool) -> Arc<StateUpdate> {
        let content = Content::text(&format!("{ms}/{node}"), &Limits::default()).unwrap();
        Arc::new(StateUpdate {
            room: RoomId::new("r").unwrap(),
            key: StateKey::new(format!("k{key}")).unwrap(),
            stamp: Stamp { ms: Timestamp::from_millis(ms), counter: 0, node: NodeId(node) },
            from: UserId::new("u").unwrap(),
            value: live.then_some(content),
        })
    }

    proptest! {
        /// Any order of the same updates ends in the same state.
        #[test]
        fn merge_is_independent_of_order(
            updates in proptest::collection::vec((0u8..4, 0u64..9, 0u32..3), 0..40),
            seed in any::<u64>(),
        ) {
            let limits = StateLimits::default();
            let all: Vec<_> = updates.iter().map(|(k, ms, n)| update(*k, *ms, *n, (ms + u64::from(*n)) % 3 != 0)).collect();
            let mut shuffled = all.clone();
            let mut random = seed;
            for at in (1..shuffled.len()).rev() {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                shuffled.swap(at, (random >> 33) as usize % (at + 1));
            }
            let merged = |list: &[Arc<StateUpdate>]| {
                let mut map = StateMap::default();
                for update in list {
                    map.merge(update.clone(), &limits);
                }
                (map.iter().cloned().collect::<Vec<_>>(), map.digest())
            };
            prop_assert_eq!(merged(&all), merged(&shuffled));
        }
    }

    #[test]
    fn dropped_tombstone_still_blocks_older_updates() {
        let limits = StateLimits { max_tombstones: 1, ..StateLimits::default() };
        let mut map = StateMap::default();
        assert_eq!(map.merge(update(1, 10, 0, false), &limits), Merge::Applied);
        assert_eq!(map.merge(update(2, 11, 0, false), &limits), Merge::Applied);
        assert_eq!(map.iter().count(), 1);
        assert_eq!(map.merge(update(1, 9, 0, true), &limits), Merge::Stale);
        let mut restored = StateMap::restore(map.iter().cloned(), map.purged_stamp());
        assert_eq!(restored.merge(update(1, 9, 0, true), &limits), Merge::Stale);
        assert_eq!(restored.merge(update(1, 12, 0, true), &limits), Merge::Applied);
        assert_eq!(restored.merge(update(2, 12, 0, false), &limits), Merge::Applied);
        assert_eq!(
            (restored.iter().count(), restored.bytes),
            (2, size(&update(1, 12, 0, true)) + 2)
        );
        assert_eq!(map.merge(update(1, 12, 0, true), &limits), Merge::Applied);
    }

    /// Entries of the store are merged, and those older than its purged version stay out.
    #[test]
    fn stored_state_merges_without_purged_keys() {
        let limits = StateLimits { max_tombstones: 0, ..StateLimits::default() };
        let mut map = StateMap::default();
        assert_eq!(map.merge(update(1, 10, 0, false), &limits), Merge::Applied);
        assert_eq!(map.merge(update(2, 5, 0, true), &limits), Merge::Stale);
        assert_eq!(map.merge_from_peer(update(2, 5, 0, true), &limits), Merge::Applied);
        let mut other = StateMap::default();
        other.raise_purged_stamp(map.purged_stamp());
        assert_eq!(other.merge(update(3, 10, 0, true), &limits), Merge::Stale);
        assert_eq!(other.merge(update(3, 11, 0, true), &limits), Merge::Applied);
    }

    /// A full map refuses new keys and accepts newer values.
    #[test]
    fn full_map_refuses_new_keys_only() {
        let limits = StateLimits { max_keys: 1, ..StateLimits::default() };
        let mut map = StateMap::default();
        assert_eq!(map.merge(update(1, 1, 0, true), &limits), Merge::Applied);
        assert_eq!(map.merge(update(2, 2, 0, true), &limits), Merge::Full);
        assert_eq!(map.merge(update(1, 2, 0, true), &limits), Merge::Applied);
        assert_eq!(map.merge(update(1, 2, 0, true), &limits), Merge::Stale);
    }
}
