//! Deletion of rooms.

use std::sync::Arc;

use futures::future::join_all;
use im_core::RoomId;
use im_core::ports::{Appended, LogRange, Store, StoreErrorKind};
use im_core::state::{Intent, Refusal};
use im_core::wire::{PageFrom, Role, RoomKind, StateUpdate};
use im_core::{NodeId, Seq, Stamp, StateKey};

use super::StoreFactory;
use super::fixture::*;

fn state(room: &RoomId) -> Arc<StateUpdate> {
    Arc::new(StateUpdate {
        room: room.clone(),
        key: StateKey::new("k").unwrap(),
        stamp: Stamp { ms: at(5), counter: 0, node: NodeId(1) },
        from: user("ann"),
        value: Some(packed(&text("a value"))),
    })
}

/// A group with members, a ban, sends and state.
async fn lived_in(store: &Arc<dyn Store>, name: &str) -> RoomId {
    let (ann, bob) = (user("ann"), user("bob"));
    let room = open_group(store, name, &ann).await;
    commit(store, change(&room, &bob, Intent::Join)).await;
    commit(store, change(&room, &ann, Intent::Ban(user("eve")))).await;
    for n in 0..6 {
        commit(store, keyed(&room, &bob, "hello", &mid(&n.to_string()))).await;
    }
    store.merge_state(vec![state(&room)]).await.unwrap();
    room
}

async fn purge(store: &Arc<dyn Store>, limit: usize) {
    while store.purge(limit).await.unwrap() {}
}

async fn is_gone(store: &Arc<dyn Store>, room: &RoomId) {
    let (ann, bob) = (user("ann"), user("bob"));
    assert_eq!(store.room(room).await.unwrap(), None);
    let range = LogRange { from: PageFrom::After(Seq::ZERO), limit: 9, max_bytes: 1 << 20 };
    assert!(store.read(room, range).await.unwrap().is_none());
    assert_eq!(store.heads(std::slice::from_ref(room)).await.unwrap(), [None]);
    assert_eq!(store.idempotency_record(room, &bob, &mid("1")).await.unwrap(), None);
    assert!(store.members(room, None, 9).await.unwrap().is_empty());
    assert!(store.memberships(room, None, 9).await.unwrap().is_empty());
    for user in [ann, bob, user("eve")] {
        assert_eq!(store.membership(room, &user).await.unwrap(), None);
        let rooms = store.rooms_of(&user, None, 99).await.unwrap();
        assert!(rooms.iter().all(|(id, ..)| id != room), "the room is still listed for {user}");
    }
    assert!(store.state(room).await.unwrap().entries.is_empty());
    assert!(store.rooms(None, 99).await.unwrap().iter().all(|record| record.id != *room));
}

/// A deleted room is gone at once from every read, before and during the purge; other rooms are
/// unchanged.
pub async fn deleted_room_is_gone_everywhere<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let (room, other) = (lived_in(&store, "r").await, lived_in(&store, "r1").await);
    let kept = (store.room(&other).await.unwrap(), whole_log(&store, &other).await);
    assert!(store.delete_room(&room).await.unwrap());
    loop {
        is_gone(&store, &room).await;
        let refusal = refused(one(&store, post(&room, &user("ann"), "x")).await);
        assert_eq!(refusal, Refusal::NoSuchRoom);
        assert!(!store.delete_room(&room).await.unwrap(), "the room was deleted before");
        assert_eq!((store.room(&other).await.unwrap(), whole_log(&store, &other).await), kept);
        if !store.purge(3).await.unwrap() {
            break;
        }
    }
    assert!(store.idempotency_record(&other, &user("bob"), &mid("1")).await.unwrap().is_some());
    assert_eq!(store.state(&other).await.unwrap().entries, [state(&other)]);
    assert_eq!(store.rooms_of(&user("bob"), None, 9).await.unwrap().len(), 1);
    assert!(!store.purge(3).await.unwrap());
}

/// A room that is created again shares nothing with the deleted one.
pub async fn recreated_room_shares_nothing<F: StoreFactory>(factory: &F) {
    let (store, bob) = (factory.open().await, user("bob"));
    let mut epochs = Vec::new();
    for limit in [1, 4, 1_000] {
        let room = lived_in(&store, "r").await;
        let old = store.room(&room).await.unwrap().unwrap();
        epochs.push(old.epoch);
        assert!(store.delete_room(&room).await.unwrap());
        let mia = user("mia");
        let created =
            create(&room, RoomKind::Channel, false, &[(&mia, Role::Owner), (&bob, Role::Reader)]);
        let event = commit(&store, created).await;
        assert_eq!(event.seq, seq(1));
        assert!(!epochs.contains(&event.epoch));
        assert_eq!(event.epoch.generation, old.epoch.generation);
        loop {
            let members = [(bob.clone(), Role::Reader), (mia.clone(), Role::Owner)];
            assert_eq!(store.members(&room, None, 9).await.unwrap(), members);
            assert_eq!(store.membership(&room, &user("eve")).await.unwrap(), None);
            assert!(store.rooms_of(&user("ann"), None, 9).await.unwrap().is_empty());
            let of_bob = store.rooms_of(&bob, None, 9).await.unwrap();
            assert_eq!(of_bob, [(room.clone(), RoomKind::Channel, Role::Reader)]);
            assert_eq!(store.idempotency_record(&room, &bob, &mid("1")).await.unwrap(), None);
            assert!(store.state(&room).await.unwrap().entries.is_empty());
            assert_eq!(whole_log(&store, &room).await, std::slice::from_ref(&event));
            if !store.purge(limit).await.unwrap() {
                break;
            }
        }
        let again = by_service(keyed(&room, &bob, "other", &mid("1")));
        assert_eq!(commit(&store, again).await.seq, seq(2), "the id is unused in the new epoch");
        assert!(store.delete_room(&room).await.unwrap());
        purge(&store, limit).await;
    }
}

/// Deleting a missing room changes nothing.
pub async fn deleting_missing_room_changes_nothing<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let room = lived_in(&store, "r").await;
    assert!(!store.delete_room(&super::fixture::room("R")).await.unwrap());
    assert!(!store.purge(9).await.unwrap());
    assert_eq!(whole_log(&store, &room).await.len(), 9);
}

/// A send concurrent with the deletion is committed before it or refused.
pub async fn sends_during_deletion_commit_or_fail<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    for _ in 0..6 {
        let room = open_group(&store, "r", &ann).await;
        let writers = (0..8).map(|_| {
            let (store, room, ann) = (Arc::clone(&store), room.clone(), ann.clone());
            tokio::spawn(async move { one(&store, post(&room, &ann, "x")).await })
        });
        let writers: Vec<_> = writers.collect();
        assert!(store.delete_room(&room).await.unwrap());
        let late = one(&store, post(&room, &ann, "late")).await;
        assert_eq!(refused(late), Refusal::NoSuchRoom);
        for answer in join_all(writers).await {
            match answer.unwrap().map_err(|error| error.kind()) {
                Ok(Appended::Committed(_)) => {}
                Err(StoreErrorKind::Refused(Refusal::NoSuchRoom)) => {}
                other => panic!("{other:?}"),
            }
        }
        is_gone(&store, &room).await;
    }
    purge(&store, 5).await;
}

/// A deleted room stays deleted after a reopen, the purge continues, and a new room under its id
/// has another epoch.
pub async fn deleted_room_stays_deleted_after_reopen<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let (room, other) = (lived_in(&store, "r").await, lived_in(&store, "r1").await);
    let epoch = store.room(&room).await.unwrap().unwrap().epoch;
    assert!(store.delete_room(&room).await.unwrap());
    assert!(store.purge(2).await.unwrap());
    let Some(store) = reopened(factory, store).await else { return };
    is_gone(&store, &room).await;
    assert!(store.purge(2).await.unwrap(), "the purge continues after a reopen");
    let again = lived_in(&store, "r").await;
    assert_ne!(store.room(&again).await.unwrap().unwrap().epoch, epoch);
    purge(&store, 2).await;
    assert_eq!(whole_log(&store, &again).await.len(), 9);
    assert_eq!(whole_log(&store, &other).await.len(), 9);
}
