//! Lifecycle: closing and reopening.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use im_core::ports::{Appended, LogRange, Store, StoreErrorKind, StoreResult};
use im_core::state::{
    Base, Checkpoint, CheckpointChange, ImportedPart, ImportedRoom, Intent, Keep, Membership,
    SecretHash, SessionRecord,
};
use im_core::wire::{PageFrom, Role, RoomKind, Secret, StateUpdate};
use im_core::{Cursor, DeviceId, Epoch, NodeId, RoomId, Seq, SessionId, Stamp, StateKey};

use super::StoreFactory;
use super::fixture::*;

fn some_session(id: &SessionId) -> SessionRecord {
    SessionRecord {
        id: id.clone(),
        user: user("ann"),
        device: DeviceId::new("phone").unwrap(),
        secret: SecretHash::of(&Secret::new("a secret that nobody guesses")),
        created: at(1),
        expires: at(100),
        fencing_token: 1,
    }
}

fn subscribing(room: &RoomId, cursor: Cursor) -> CheckpointChange {
    CheckpointChange {
        base: Base::Held,
        unsubscribe: vec![],
        subscribe: vec![(room.clone(), cursor)],
        confirm: vec![],
        max_rooms: 10,
    }
}

fn some_state(room: &RoomId, ms: u64) -> Arc<StateUpdate> {
    Arc::new(StateUpdate {
        room: room.clone(),
        key: StateKey::new("k").unwrap(),
        stamp: Stamp { ms: at(ms), counter: 3, node: NodeId(u32::MAX) },
        from: user("ann"),
        value: Some(packed(&text("a value"))),
    })
}

#[track_caller]
fn closed<T: std::fmt::Debug>(answer: StoreResult<T>) {
    let kind = answer.map_err(|error| error.kind()).expect_err("an error of the closed store");
    assert_eq!(kind, StoreErrorKind::Closed);
}

/// Every operation of a closed store fails with `Closed`.
pub async fn a_closed_store_refuses_everything<F: StoreFactory>(factory: &F) {
    let (store, ann, id) = (factory.open().await, user("ann"), session("s"));
    let room = open_group(&store, "r", &ann).await;
    store.open_session(some_session(&id)).await.unwrap();
    store.close().await.unwrap();
    let answers = store.append(vec![post(&room, &ann, "x"), post(&room, &ann, "y")]).await;
    assert_eq!(answers.len(), 2, "one answer for each append");
    answers.into_iter().for_each(closed);
    let range = LogRange { from: PageFrom::After(Seq::ZERO), limit: 1, max_bytes: 1 };
    closed(store.read(&room, range).await);
    closed(store.heads(std::slice::from_ref(&room)).await);
    closed(store.idempotency_record(&room, &ann, &mid("1")).await);
    closed(store.trim(&room, &Keep::ALL, 1).await);
    closed(store.rooms(None, 1).await);
    closed(store.memberships(&room, None, 1).await);
    closed(store.delete_room(&room).await);
    closed(store.purge(1).await);
    closed(store.erase_user(&ann, 1).await);
    closed(store.room(&room).await);
    closed(store.membership(&room, &ann).await);
    closed(store.members(&room, None, 1).await);
    closed(store.rooms_of(&ann, None, 1).await);
    closed(store.open_session(some_session(&id)).await);
    closed(store.session(&id).await);
    closed(store.sessions_of(&ann, 1).await);
    let nowhere = Cursor { epoch: Epoch { generation: 1, incarnation: 1 }, seq: Seq::ZERO };
    let (kind, open, created) = (RoomKind::Group, true, at(1));
    let import = ImportedRoom { id: super::fixture::room("i"), kind, open, created, first: seq(1) };
    closed(store.begin_import(import).await);
    closed(store.import(&room, nowhere.epoch, ImportedPart::default()).await);
    closed(store.finish_import(&room, nowhere.epoch).await);
    closed(store.attach_session(&id, at(5)).await);
    closed(store.touch_session(&id, at(5)).await);
    closed(store.end_session(&id).await);
    closed(store.ticket(&id).await);
    closed(store.open_ticket(&id, &some_session(&id).secret).await);
    closed(store.session_heads(std::slice::from_ref(&id)).await);
    closed(store.checkpoint(&id).await);
    closed(store.change_checkpoint(&id, subscribing(&room, nowhere)).await);
    closed(store.sweep_sessions(at(5), 1).await);
    closed(store.merge_state(vec![some_state(&room, 1)]).await);
    closed(store.state(&room).await);
    closed(store.begin_state(NodeId(1)).await);
    closed(store.state_generation().await);
    closed(store.end_state(NodeId(1)).await);
}

/// A store can be closed more than once.
pub async fn closing_twice_is_fine<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    assert!(!store.name().is_empty());
    for _ in 0..3 {
        store.close().await.unwrap();
    }
}

/// Appends that are committed while the store closes are present after a reopen; later ones are
/// refused.
pub async fn closing_keeps_committed_events<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    let was_closed = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, room, ann) = (Arc::clone(&store), room.clone(), ann.clone());
            let was_closed = Arc::clone(&was_closed);
            tokio::spawn(async move {
                let mut kept = Vec::new();
                for n in 0.. {
                    let too_late = was_closed.load(Ordering::SeqCst);
                    match one(&store, post(&room, &ann, &format!("{writer}/{n}"))).await {
                        Ok(Appended::Committed(event)) => {
                            assert!(!too_late, "a closed store commits nothing");
                            kept.push(event);
                        }
                        answer => {
                            closed(answer);
                            break;
                        }
                    }
                    tokio::task::yield_now().await;
                }
                kept
            })
        })
        .collect();
    while head(&store, &room).await < 20 {
        tokio::task::yield_now().await;
    }
    store.close().await.unwrap();
    was_closed.store(true, Ordering::SeqCst);
    let mut kept = Vec::new();
    for writer in writers {
        kept.extend(writer.await.unwrap());
    }
    assert!(kept.len() >= 16, "at least 16 commits before the close");
    let Some(store) = reopened(factory, store).await else { return };
    let log = whole_log(&store, &room).await;
    for event in &kept {
        assert_eq!(log.get(event.seq.get() as usize - 1), Some(event));
    }
}

/// Rooms, members, bans, logs, records, sessions, checkpoints and state are unchanged after a
/// reopen.
pub async fn everything_is_there_after_a_reopen<F: StoreFactory>(factory: &F) {
    let (store, ann, bob, eve) = (factory.open().await, user("ann"), user("bob"), user("eve"));
    let (id, gone) = (session("s"), session("gone"));
    let room = open_group(&store, "r", &ann).await;
    commit(&store, change(&room, &bob, Intent::Join)).await;
    commit(&store, change(&room, &ann, Intent::Ban(eve.clone()))).await;
    commit(&store, keyed(&room, &bob, "hello", &mid("1"))).await;
    let dm = commit(&store, direct(&ann, &bob, "hi")).await.room.clone();
    let record = some_session(&id);
    store.open_session(record.clone()).await.unwrap();
    store.open_session(some_session(&gone)).await.unwrap();
    store.end_session(&gone).await.unwrap();
    let epoch = store.room(&room).await.unwrap().unwrap().epoch;
    let mut checkpoint = Checkpoint::default();
    let change = subscribing(&room, Cursor { epoch, seq: seq(2) });
    checkpoint.apply(&change).unwrap();
    assert_eq!(store.change_checkpoint(&id, change).await.unwrap(), Ok(1));
    store.merge_state(vec![some_state(&room, 5)]).await.unwrap();
    let rooms = [room.clone(), dm.clone()];
    let before = (
        store.room(&room).await.unwrap(),
        store.heads(&rooms).await.unwrap(),
        store.members(&room, None, 10).await.unwrap(),
        store.rooms_of(&bob, None, 10).await.unwrap(),
        store.idempotency_record(&room, &bob, &mid("1")).await.unwrap(),
        [whole_log(&store, &room).await, whole_log(&store, &dm).await],
    );
    let Some(store) = reopened(factory, store).await else { return };
    let after = (
        store.room(&room).await.unwrap(),
        store.heads(&rooms).await.unwrap(),
        store.members(&room, None, 10).await.unwrap(),
        store.rooms_of(&bob, None, 10).await.unwrap(),
        store.idempotency_record(&room, &bob, &mid("1")).await.unwrap(),
        [whole_log(&store, &room).await, whole_log(&store, &dm).await],
    );
    assert_eq!(before, after);
    assert_eq!(store.membership(&room, &eve).await.unwrap(), Some(Membership::Banned));
    assert_eq!(store.session(&id).await.unwrap(), Some(record));
    assert_eq!(store.session(&gone).await.unwrap(), None);
    assert_eq!(store.checkpoint(&id).await.unwrap(), checkpoint);
    assert_eq!(store.state(&room).await.unwrap().entries, [some_state(&room, 5)]);
    store.merge_state(vec![some_state(&room, 4)]).await.unwrap();
    assert_eq!(store.state(&room).await.unwrap().entries, [some_state(&room, 5)]);
}

/// After a reopen, rooms keep their epochs, and new rooms get unused ones of the same generation.
pub async fn epochs_go_on_after_a_reopen<F: StoreFactory>(factory: &F) {
    let (mut store, ann) = (factory.open().await, user("ann"));
    let (mut epochs, mut oldest) = (BTreeSet::new(), None);
    for round in 0..3 {
        let room = open_group(&store, &format!("r{round}"), &ann).await;
        let epoch = store.room(&room).await.unwrap().unwrap().epoch;
        assert!(epochs.insert(epoch), "every room has its own epoch");
        let oldest = *oldest.get_or_insert(epoch);
        let old = super::fixture::room("r0");
        let event = commit(&store, post(&old, &ann, "x")).await;
        assert_eq!((event.seq, event.epoch), (seq(2 + round), oldest));
        let Some(again) = reopened(factory, store).await else { return };
        store = again;
    }
    let role = store.rooms_of(&ann, None, 10).await.unwrap();
    assert!(role.iter().all(|(_, _, role)| *role == Role::Owner));
    let generations: BTreeSet<_> = epochs.iter().map(|epoch| epoch.generation).collect();
    assert_eq!(generations.len(), 1, "a clean close keeps the generation");
}

/// State that was not ended has a new generation after a reopen.
pub async fn unended_state_changes_generation_after_reopen<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let first = store.begin_state(NodeId(1)).await.unwrap();
    store.end_state(NodeId(1)).await.unwrap();
    let Some(store) = reopened(factory, store).await else { return };
    assert_eq!(
        store.begin_state(NodeId(2)).await.unwrap(),
        first,
        "a clean end keeps the generation"
    );
    let store = reopened(factory, store).await.expect("a store that was reopened before");
    assert_ne!(
        store.begin_state(NodeId(3)).await.unwrap(),
        first,
        "a missing end changes the generation"
    );
}

/// Every new store has its own generation.
pub async fn new_store_has_new_generation<F: StoreFactory>(factory: &F) {
    let ann = user("ann");
    let mut generations = BTreeSet::new();
    for _ in 0..3 {
        let store: Arc<dyn Store> = factory.open().await;
        let room = open_group(&store, "r", &ann).await;
        generations.insert(store.room(&room).await.unwrap().unwrap().epoch.generation);
        store.close().await.unwrap();
    }
    assert_eq!(generations.len(), 3);
}
