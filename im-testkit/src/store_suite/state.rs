//! Keyed state: the newest version wins.

use std::sync::Arc;

use futures::future::join_all;
use im_core::ports::Store;
use im_core::wire::StateUpdate;
use im_core::{NodeId, RoomId, Stamp, StateKey};

use super::StoreFactory;
use super::fixture::*;

fn stamp(ms: u64, counter: u32, node: u32) -> Stamp {
    Stamp { ms: at(ms), counter, node: NodeId(node) }
}

/// An update that puts a key, or removes it if there is no value.
fn update(room: &RoomId, key: &str, stamp: Stamp, value: Option<&str>) -> Arc<StateUpdate> {
    Arc::new(StateUpdate {
        room: room.clone(),
        key: StateKey::new(key).unwrap(),
        stamp,
        from: user("ann"),
        value: value.map(|value| packed(&text(value))),
    })
}

async fn merge(store: &Arc<dyn Store>, updates: &[&Arc<StateUpdate>]) {
    let updates = updates.iter().map(|update| Arc::clone(update)).collect();
    store.merge_state(updates).await.unwrap();
}

/// Returns the entries and the revision.
async fn held(store: &Arc<dyn Store>, room: &RoomId) -> (Vec<Arc<StateUpdate>>, u64) {
    let snapshot = store.state(room).await.unwrap();
    let heads = store.heads(std::slice::from_ref(room)).await.unwrap();
    let told = heads[0].map_or(0, |head| head.state_revision);
    assert_eq!(told, snapshot.revision, "head and snapshot have the same revision");
    (snapshot.entries, snapshot.revision)
}

/// The greatest stamp wins, in any order of arrival, merged together or one by one.
pub async fn greatest_stamp_wins_in_any_order<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    // In ascending order.
    let stamps =
        [stamp(9, 7, 7), stamp(10, 0, 0), stamp(10, 0, 1), stamp(10, 1, 0), stamp(300, 0, 0)];
    let orders = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1], [3, 1, 4, 0, 2]];
    for (n, order) in orders.into_iter().enumerate() {
        for together in [false, true] {
            let room = open_group(&store, &format!("r{n}{together}"), &ann).await;
            let updates = order.map(|n| update(&room, "k", stamps[n], Some(&n.to_string())));
            if together {
                merge(&store, &updates.each_ref()).await;
            } else {
                for update in &updates {
                    merge(&store, &[update]).await;
                }
            }
            let newest = update(&room, "k", stamps[4], Some("4"));
            assert_eq!(held(&store, &room).await.0, [newest], "{order:?} {together}");
        }
    }
}

/// An update with an equal stamp is discarded.
pub async fn an_equal_stamp_is_discarded<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    let first = update(&room, "k", stamp(5, 0, 1), Some("first"));
    merge(&store, &[&first]).await;
    merge(&store, &[&update(&room, "k", stamp(5, 0, 1), Some("second"))]).await;
    merge(&store, &[&update(&room, "k", stamp(5, 0, 1), None)]).await;
    assert_eq!(held(&store, &room).await, (vec![first], 1));
}

/// A removed key stays as a tombstone that refuses older values; a newer value replaces it.
pub async fn removed_key_is_tombstone<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    let gone = update(&room, "k", stamp(10, 0, 1), None);
    merge(&store, &[&update(&room, "k", stamp(5, 0, 1), Some("a")), &gone]).await;
    merge(&store, &[&update(&room, "k", stamp(9, 0, 1), Some("older"))]).await;
    assert_eq!(held(&store, &room).await.0, [gone]);
    let never_set = update(&room, "other", stamp(3, 0, 1), None);
    let back = update(&room, "k", stamp(11, 0, 1), Some("back"));
    merge(&store, &[&never_set, &back]).await;
    assert_eq!(held(&store, &room).await.0, [back, never_set]);
}

/// The revision increases with changes only, not with discarded updates or events.
pub async fn the_revision_counts_changes_alone<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    assert_eq!(held(&store, &room).await, (Vec::new(), 0));
    let steps = [
        (update(&room, "a", stamp(5, 0, 1), Some("x")), true),
        (update(&room, "a", stamp(4, 0, 1), Some("y")), false),
        (update(&room, "b", stamp(1, 0, 1), Some("z")), true),
        (update(&room, "a", stamp(5, 0, 1), None), false),
        (update(&room, "a", stamp(6, 0, 1), None), true),
        (update(&room, "a", stamp(6, 0, 1), Some("x")), false),
    ];
    let mut revision = 0;
    for (update, changes) in steps {
        merge(&store, &[&update]).await;
        let (_, now) = held(&store, &room).await;
        assert_eq!(now > revision, changes, "{update:?}");
        assert!(now >= revision);
        revision = now;
    }
    commit(&store, post(&room, &ann, "x")).await;
    assert_eq!(held(&store, &room).await.1, revision, "an event does not change the state");
    store.merge_state(Vec::new()).await.unwrap();
    assert_eq!(held(&store, &room).await.1, revision);
}

/// State of a missing room is discarded; the rest of the batch is merged.
pub async fn state_needs_a_room<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let known = open_group(&store, "known", &ann).await;
    let lost = update(&room("later"), "k", stamp(5, 0, 1), Some("lost"));
    let kept = update(&known, "k", stamp(5, 0, 1), Some("kept"));
    merge(&store, &[&lost, &kept]).await;
    assert_eq!(held(&store, &known).await.0, [kept], "the other updates are merged");
    assert_eq!(held(&store, &room("later")).await, (Vec::new(), 0));
    let later = open_group(&store, "later", &ann).await;
    assert_eq!(held(&store, &later).await, (Vec::new(), 0));
}

/// Rooms and keys that are prefixes of each other share no entries.
pub async fn rooms_and_keys_are_apart<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    // Concatenated, several of these pairs give the same text.
    let pairs = [("a", "bc"), ("ab", "c"), ("a", "b"), ("ab", "B"), ("a", "é"), ("a", "🦀")];
    let mut updates = Vec::new();
    for (name, key) in pairs {
        if store.room(&room(name)).await.unwrap().is_none() {
            open_group(&store, name, &ann).await;
        }
        updates.push(update(&room(name), key, stamp(5, 0, 1), Some(&format!("{name}/{key}"))));
    }
    merge(&store, &updates.iter().collect::<Vec<_>>()).await;
    for name in ["a", "ab"] {
        let own = updates.iter().filter(|update| update.room == room(name));
        let mut expected: Vec<_> = own.cloned().collect();
        expected.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(held(&store, &room(name)).await.0, expected, "entries in key order");
    }
}

/// Concurrent merges of one key keep the newest version.
pub async fn concurrent_merges_keep_the_newest<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    let writers = (0..6).map(|node| {
        let (store, room) = (Arc::clone(&store), room.clone());
        tokio::spawn(async move {
            for ms in 0..25 {
                let value = format!("{node}/{ms}");
                merge(&store, &[&update(&room, "k", stamp(ms, 0, node), Some(&value))]).await;
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let newest = update(&room, "k", stamp(24, 0, 5), Some("5/24"));
    assert_eq!(held(&store, &room).await.0, [newest]);
}

/// Removes more keys than any store keeps tombstones for. Returns the entries, and an update of a
/// key whose tombstone was purged.
async fn few_tombstones(
    store: &Arc<dyn Store>,
    room: &RoomId,
) -> (Vec<Arc<StateUpdate>>, Arc<StateUpdate>) {
    let dead: Vec<_> =
        (0..400).map(|n| update(room, &format!("k{n}"), stamp(100 + n, 0, 1), None)).collect();
    for some in dead.chunks(50) {
        merge(store, &some.iter().collect::<Vec<_>>()).await;
    }
    let (entries, _) = held(store, room).await;
    assert!(entries.len() < 400, "tombstones are bounded");
    let oldest = entries.iter().map(|entry| entry.stamp).min().unwrap();
    let forgotten = oldest.ms.as_millis() - 101;
    (entries, update(room, &format!("k{forgotten}"), stamp(50, 0, 1), Some("a ghost")))
}

/// An update older than the purged tombstones is discarded; a newer one is merged.
pub async fn purged_tombstones_block_older_updates<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    let (entries, ghost) = few_tombstones(&store, &room).await;
    merge(&store, &[&ghost]).await;
    assert_eq!(held(&store, &room).await.0, entries);
    let newer = update(&room, "k0", stamp(900, 0, 1), Some("new"));
    merge(&store, &[&newer]).await;
    assert!(held(&store, &room).await.0.contains(&newer));
}

/// Purged tombstones block older updates after a reopen, too.
pub async fn purged_tombstones_count_after_reopen<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    let (entries, ghost) = few_tombstones(&store, &room).await;
    let Some(store) = reopened(factory, store).await else { return };
    merge(&store, &[&ghost]).await;
    assert_eq!(held(&store, &room).await.0, entries);
}

/// The generation of state stays if every node that began also ended.
pub async fn clean_end_keeps_generation<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let first = store.begin_state(NodeId(1)).await.unwrap();
    store.end_state(NodeId(1)).await.unwrap();
    assert_eq!(store.begin_state(NodeId(2)).await.unwrap(), first);
    store.end_state(NodeId(2)).await.unwrap();
    store.end_state(NodeId(3)).await.unwrap();
    assert_eq!(store.begin_state(NodeId(1)).await.unwrap(), first);
}

/// A begin without a preceding end starts a new generation.
pub async fn missing_end_changes_generation<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let mut generations = vec![store.begin_state(NodeId(1)).await.unwrap()];
    for _ in 0..4 {
        let next = store.begin_state(NodeId(1)).await.unwrap();
        assert!(!generations.contains(&next), "a new generation, since updates may have been lost");
        generations.push(next);
    }
}
