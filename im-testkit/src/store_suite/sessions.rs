//! Session records and checkpoints.

use std::collections::BTreeMap;

use im_core::state::{Checkpoint, SecretHash, SessionRecord};
use im_core::wire::Secret;
use im_core::{Cursor, DeviceId, Epoch, SessionId};

use super::StoreFactory;
use super::fixture::*;

fn record(id: &str, owner: &str, created: u64, expires: u64) -> SessionRecord {
    SessionRecord {
        id: session(id),
        user: user(owner),
        device: DeviceId::new("phone").unwrap(),
        secret: SecretHash::of(&Secret::new("a secret that nobody guesses")),
        created: at(created),
        expires: at(expires),
        revoked: false,
    }
}

fn checkpoint(rev: u64, rooms: u64) -> Checkpoint {
    let epoch = Epoch { generation: u64::MAX, incarnation: 7 };
    let entry = |n| (room(&format!("room{n}")), Cursor { epoch, seq: seq(n * rev) });
    Checkpoint { rev, cursors: (0..rooms).map(entry).collect() }
}

pub async fn a_session_is_kept_and_replaced<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    assert_eq!(store.session(&session("s")).await.unwrap(), None);
    let first = record("s", "ann", 1, 100);
    store.put_session(first.clone()).await.unwrap();
    assert_eq!(store.session(&session("s")).await.unwrap(), Some(first.clone()));
    store.put_checkpoint(&session("s"), checkpoint(3, 2)).await.unwrap();
    let mut later = first;
    later.expires = at(200);
    store.put_session(later.clone()).await.unwrap();
    assert_eq!(store.session(&session("s")).await.unwrap(), Some(later));
    let kept = store.checkpoint(&session("s")).await.unwrap();
    assert_eq!(kept, checkpoint(3, 2), "a new record leaves the checkpoint alone");
    assert_eq!(store.session(&session("S")).await.unwrap(), None);
}

pub async fn a_session_may_change_hands_and_times<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    store.put_session(record("s", "ann", 5, 50)).await.unwrap();
    let moved = record("s", "bob", 1, 500);
    store.put_session(moved.clone()).await.unwrap();
    assert!(store.sessions_of(&user("ann"), 10).await.unwrap().is_empty());
    assert_eq!(store.sessions_of(&user("bob"), 10).await.unwrap(), std::slice::from_ref(&moved));
    assert_eq!(store.sweep_sessions(at(100), 10).await.unwrap(), 0, "it expires later now");
    assert_eq!(store.session(&session("s")).await.unwrap(), Some(moved));
    assert_eq!(store.sweep_sessions(at(501), 10).await.unwrap(), 1);
}

pub async fn the_sessions_of_a_user_come_oldest_first<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    for (id, owner, created) in
        [("z", "ann", 1), ("b", "ann", 300), ("c", "ann", 20), ("d", "anna", 10), ("e", "an", 10)]
    {
        store.put_session(record(id, owner, created, 1_000)).await.unwrap();
    }
    let listed = async |limit| -> Vec<SessionId> {
        let sessions = store.sessions_of(&user("ann"), limit).await.unwrap();
        assert!(sessions.iter().all(|record| record.user == user("ann")));
        sessions.into_iter().map(|record| record.id).collect()
    };
    assert_eq!(listed(10).await, ["z", "c", "b"].map(session));
    assert_eq!(listed(2).await, ["z", "c"].map(session));
    assert!(listed(0).await.is_empty());
    assert!(store.sessions_of(&user("bob"), 10).await.unwrap().is_empty());
}

pub async fn a_revoked_session_stays_revoked<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let first = record("s", "ann", 1, 100);
    store.put_session(first.clone()).await.unwrap();
    store.put_checkpoint(&session("s"), checkpoint(3, 2)).await.unwrap();
    store.revoke_session(&session("s")).await.unwrap();
    let mut revoked = first.clone();
    revoked.revoked = true;
    assert_eq!(store.session(&session("s")).await.unwrap(), Some(revoked.clone()));
    assert_eq!(store.checkpoint(&session("s")).await.unwrap(), Checkpoint::default());
    store.put_session(first).await.unwrap();
    let kept = store.session(&session("s")).await.unwrap();
    assert_eq!(kept.as_ref(), Some(&revoked), "it cannot be revived");
    store.revoke_session(&session("s")).await.unwrap();
    assert_eq!(store.session(&session("s")).await.unwrap(), kept, "revoking again does nothing");
}

pub async fn revoking_what_is_listed_reaches_every_session<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    for n in 0..10 {
        store.put_session(record(&format!("s{n}"), "ann", n, 100)).await.unwrap();
    }
    store.put_session(record("other", "bob", 1, 100)).await.unwrap();
    for expected in [3, 3, 3, 1, 0] {
        let listed = store.sessions_of(&user("ann"), 3).await.unwrap();
        assert_eq!(listed.len(), expected, "revoked ones take no place in the list");
        for record in listed {
            assert!(!record.revoked);
            store.revoke_session(&record.id).await.unwrap();
        }
    }
    assert_eq!(store.sessions_of(&user("bob"), 3).await.unwrap().len(), 1);
    assert!(store.session(&session("s9")).await.unwrap().unwrap().revoked);
}

pub async fn revoking_nothing_does_nothing<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    store.put_session(record("other", "ann", 1, 100)).await.unwrap();
    store.revoke_session(&session("s")).await.unwrap();
    assert_eq!(store.session(&session("s")).await.unwrap(), None);
    assert!(!store.session(&session("other")).await.unwrap().unwrap().revoked);
    store.put_session(record("s", "ann", 1, 100)).await.unwrap();
    assert!(!store.session(&session("s")).await.unwrap().unwrap().revoked);
}

pub async fn a_checkpoint_is_replaced_by_none_older<F: StoreFactory>(factory: &F) {
    let (store, id) = (factory.open().await, session("s"));
    store.put_session(record("s", "ann", 1, 100)).await.unwrap();
    assert_eq!(store.checkpoint(&id).await.unwrap(), Checkpoint::default());
    store.put_checkpoint(&id, checkpoint(5, 3)).await.unwrap();
    for older in [0, 1, 4] {
        store.put_checkpoint(&id, checkpoint(older, 9)).await.unwrap();
        assert_eq!(store.checkpoint(&id).await.unwrap(), checkpoint(5, 3));
    }
    store.put_checkpoint(&id, checkpoint(5, 2)).await.unwrap();
    assert_eq!(store.checkpoint(&id).await.unwrap(), checkpoint(5, 2), "only a greater one stays");
    let empty = Checkpoint { rev: 6, cursors: BTreeMap::new() };
    store.put_checkpoint(&id, empty.clone()).await.unwrap();
    assert_eq!(store.checkpoint(&id).await.unwrap(), empty);
}

pub async fn checkpoints_need_a_live_session<F: StoreFactory>(factory: &F) {
    let (store, id) = (factory.open().await, session("s"));
    store.put_checkpoint(&id, checkpoint(5, 3)).await.unwrap();
    assert_eq!(store.checkpoint(&id).await.unwrap(), Checkpoint::default());
    store.put_session(record("s", "ann", 1, 100)).await.unwrap();
    assert_eq!(store.checkpoint(&id).await.unwrap(), Checkpoint::default());
    store.revoke_session(&id).await.unwrap();
    store.put_checkpoint(&id, checkpoint(6, 3)).await.unwrap();
    assert_eq!(store.checkpoint(&id).await.unwrap(), Checkpoint::default());
}

pub async fn a_checkpoint_of_a_thousand_rooms_is_kept<F: StoreFactory>(factory: &F) {
    let (store, id) = (factory.open().await, session("s"));
    store.put_session(record("s", "ann", 1, 100)).await.unwrap();
    store.put_checkpoint(&id, checkpoint(9, 1_000)).await.unwrap();
    assert_eq!(store.checkpoint(&id).await.unwrap(), checkpoint(9, 1_000));
}

pub async fn expired_sessions_are_swept_in_steps<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    for (id, expires) in [("a", 10), ("b", 99), ("c", 100), ("d", 101), ("e", 5), ("f", 70_000)] {
        store.put_session(record(id, "ann", 1, expires)).await.unwrap();
        store.put_checkpoint(&session(id), checkpoint(2, 2)).await.unwrap();
    }
    store.revoke_session(&session("a")).await.unwrap();
    assert_eq!(store.sweep_sessions(at(5), 10).await.unwrap(), 0);
    assert_eq!(store.sweep_sessions(at(100), 0).await.unwrap(), 0);
    assert_eq!(store.sweep_sessions(at(100), 2).await.unwrap(), 2);
    assert_eq!(store.sweep_sessions(at(100), 2).await.unwrap(), 1);
    assert_eq!(store.sweep_sessions(at(100), 2).await.unwrap(), 0);
    for (id, kept) in [("a", false), ("b", false), ("e", false), ("c", true), ("d", true)] {
        assert_eq!(store.session(&session(id)).await.unwrap().is_some(), kept, "{id}");
        let checkpoint = store.checkpoint(&session(id)).await.unwrap();
        assert_eq!(checkpoint != Checkpoint::default(), kept, "{id}");
    }
    assert_eq!(store.sessions_of(&user("ann"), 10).await.unwrap().len(), 3);
}
