//! Latest-wins state: of two updates to a key, the one with the greater stamp stays, in whatever order they come.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::id::{StateKey, UserId};
use crate::time::Stamp;
use crate::wire::StateUpdate;

/// How much state a room may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateLimits {
    /// Keys with a value. 256 by default.
    pub max_keys: usize,
    /// Bytes of all values, packed. 64 KiB by default; the worst case in memory is about twice that for each room
    /// that has readers.
    pub max_bytes: usize,
    /// Keys that were unset and are remembered as such. 256 by default.
    pub max_tombstones: usize,
}

impl Default for StateLimits {
    fn default() -> Self {
        Self { max_keys: 256, max_bytes: 64 * 1024, max_tombstones: 256 }
    }
}

/// What became of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// It is the newest: it was taken.
    Applied,
    /// Something as new or newer is held: it was discarded.
    Stale,
    /// It would break a limit: it was refused.
    Full,
}

/// Bytes of an entry beside its key and value: the update, names of room and user, counts of shared parts, its share of the
/// tree.
const ENTRY_OVERHEAD: usize = 384;

/// The state of one room.
///
/// Invariants: for each key the update with the greatest stamp seen; at most `max_tombstones` keys without a value,
/// and an update to a key that is not held is taken only if it is newer than every tombstone that was dropped.
#[derive(Debug, Clone, Default)]
pub struct StateMap {
    entries: BTreeMap<StateKey, Arc<StateUpdate>>,
    tombstones: usize,
    bytes: usize,
    /// The greatest stamp of a tombstone that was dropped.
    purged_stamp: Option<Stamp>,
    /// All entries' [`fingerprint`]s, combined by exclusive or.
    digest: u64,
}

impl StateMap {
    /// Makes a map again of what was kept of it: what [`StateMap::iter`] and [`StateMap::purged_stamp`] gave.
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

    /// The greatest stamp of a key that was unset and forgotten: updates to keys that are not held must be newer.
    pub fn purged_stamp(&self) -> Option<Stamp> {
        self.purged_stamp
    }

    /// Merges an update.
    pub fn merge(&mut self, update: Arc<StateUpdate>, limits: &StateLimits) -> Merge {
        let purged_stamp = self.purged_stamp;
        self.merge_above(update, purged_stamp, limits)
    }

    /// Merges an update that another map, whose purged stamp is no higher than what [`StateMap::raise_purged_stamp`] is told after it,
    /// holds: it was not forgotten there, so this map's purged stamp does not keep it out.
    pub fn merge_from_peer(&mut self, update: Arc<StateUpdate>, limits: &StateLimits) -> Merge {
        self.merge_above(update, None, limits)
    }

    /// Another map has forgotten keys with stamps up to `purged_stamp`.
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
        // What was erased has kept its stamp, and is the one that stays.
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

    /// Unsets what `user` has set, each under its own stamp: see [`StateUpdate::without`]. Says how many keys that were.
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

    /// A number that is the same for maps that hold the same keys with the same stamps, and as good as never for others.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Everything that is held, tombstones included, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<StateUpdate>> {
        self.entries.values()
    }

    /// The newest update to `key`.
    pub fn get(&self, key: &StateKey) -> Option<&Arc<StateUpdate>> {
        self.entries.get(key)
    }

    /// Bytes that it takes in memory, about: keys, values, and what each entry costs beside them.
    pub fn held(&self) -> usize {
        self.bytes + self.entries.len() * ENTRY_OVERHEAD
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The same for the same key and stamp, on every node.
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
    /// Whether it is what an erasure has made of `held`.
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
