//! A room's latest-wins state as the server has sent it.

use std::sync::Arc;

use im_core::state::{Merge, StateLimits, StateMap};
use im_core::wire::{Snapshot, StateUpdate};

/// The state of one room, and a snapshot that is still arriving.
#[derive(Debug, Default)]
pub(crate) struct RoomState {
    generation: Option<u64>,
    held: StateMap,
    arriving: Option<(u64, StateMap)>,
}

/// Servers bound their state; these bounds only keep a faulty server from filling the memory.
fn limits() -> StateLimits {
    let mut limits = StateLimits::default();
    limits.max_keys = 65_536;
    limits.max_bytes = 16 << 20;
    limits.max_tombstones = 1024;
    limits
}

impl RoomState {
    /// Applies an update. Returns it if it is newer than the held value.
    pub(crate) fn update(&mut self, update: Arc<StateUpdate>) -> Option<Arc<StateUpdate>> {
        if let Some((_, arriving)) = &mut self.arriving {
            arriving.merge(update.clone(), &limits());
        }
        (self.held.merge(update.clone(), &limits()) == Merge::Applied).then_some(update)
    }

    /// Sets the generation of the server's state. Returns whether values of another generation were
    /// dropped.
    pub(crate) fn generation(&mut self, generation: u64) -> bool {
        if self.generation.is_none_or(|held| held == generation) {
            return false;
        }
        let had_some = self.held.iter().any(|entry| entry.value.is_some());
        *self = Self { generation: Some(generation), ..Self::default() };
        had_some
    }

    /// Adds a part of a snapshot. With the last part, returns all keys that have a value.
    ///
    /// Within one generation the newer of two values wins, whether it comes from an update or the
    /// snapshot. Another generation replaces all held values: updates may have been lost, and
    /// stamps assigned twice.
    pub(crate) fn snapshot(&mut self, part: Snapshot) -> Option<Vec<Arc<StateUpdate>>> {
        let mut map = match self.arriving.take() {
            Some((generation, map)) if generation == part.generation => map,
            _ => StateMap::default(),
        };
        for entry in part.entries {
            map.merge(entry, &limits());
        }
        if part.more {
            self.arriving = Some((part.generation, map));
            return None;
        }
        if self.generation == Some(part.generation) {
            let newer: Vec<_> =
                self.held.iter().filter(|held| map.get(&held.key).is_some()).cloned().collect();
            for held in newer {
                map.merge(held, &limits());
            }
        }
        self.generation = Some(part.generation);
        self.held = map;
        Some(self.held.iter().filter(|entry| entry.value.is_some()).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use im_core::wire::{Content, Limits};
    use im_core::{NodeId, RoomId, Stamp, StateKey, Timestamp, UserId};

    fn update(key: &str, ms: u64) -> Arc<StateUpdate> {
        Arc::new(StateUpdate {
            room: RoomId::new("r").unwrap(),
            key: StateKey::new(key).unwrap(),
            stamp: Stamp { ms: Timestamp::from_millis(ms), counter: 0, node: NodeId(1) },
            from: UserId::new("u").unwrap(),
            value: Some(Content::text(&ms.to_string(), &Limits::default()).unwrap()),
        })
    }

    fn snapshot(generation: u64, entries: Vec<Arc<StateUpdate>>, more: bool) -> Snapshot {
        Snapshot { room: RoomId::new("r").unwrap(), generation, entries, more }
    }

    fn stamps(entries: &[Arc<StateUpdate>]) -> Vec<(String, u64)> {
        entries.iter().map(|e| (e.key.to_string(), e.stamp.ms.as_millis())).collect()
    }

    #[test]
    fn stale_updates_are_dropped() {
        let mut state = RoomState::default();
        assert!(state.update(update("a", 5)).is_some());
        assert!(state.update(update("a", 5)).is_none());
        assert!(state.update(update("a", 4)).is_none());
        assert!(state.update(update("b", 1)).is_some());
    }

    /// A snapshot of the same generation merges, and one of another generation replaces.
    #[test]
    fn snapshot_merges_within_same_generation() {
        let mut state = RoomState::default();
        state.snapshot(snapshot(1, vec![update("a", 5), update("gone", 1)], false));
        state.update(update("a", 9));
        let all = state.snapshot(snapshot(1, vec![update("a", 7), update("b", 2)], false)).unwrap();
        assert_eq!(stamps(&all), [("a".into(), 9), ("b".into(), 2)]);
        let all = state.snapshot(snapshot(2, vec![update("a", 3)], false)).unwrap();
        assert_eq!(stamps(&all), [("a".into(), 3)]);
        assert!(state.update(update("a", 4)).is_some());
    }

    #[test]
    fn new_generation_drops_state_without_snapshot() {
        let mut state = RoomState::default();
        assert!(!state.generation(1));
        state.snapshot(snapshot(1, vec![update("a", 5)], false));
        assert!(!state.generation(1));
        assert!(state.generation(2));
        assert!(state.update(update("a", 1)).is_some());
    }

    /// Chunks form one snapshot together with the updates that arrive between them.
    #[test]
    fn snapshot_chunks_merge_with_updates() {
        let mut state = RoomState::default();
        assert!(state.snapshot(snapshot(1, vec![update("a", 1)], true)).is_none());
        assert!(state.update(update("a", 2)).is_some());
        let all = state.snapshot(snapshot(1, vec![update("b", 1)], false)).unwrap();
        assert_eq!(stamps(&all), [("a".into(), 2), ("b".into(), 1)]);
    }
}
