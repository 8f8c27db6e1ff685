//! Dedup: duplicates and conflicts.

use std::sync::Arc;

use futures::future::join_all;
use im_core::EventKind;
use im_core::ports::Appended;
use im_core::state::{Intent, Refusal, content_hash};
use im_core::wire::{Role, RoomKind};

use super::StoreFactory;
use super::fixture::*;

/// A duplicate returns the seq and time of the first append, however late it comes.
pub async fn duplicate_gets_first_seq_and_time<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    let mut send = keyed(&room, &ann, "hello", &mid("1"));
    let first = commit(&store, send.clone()).await;
    commit(&store, post(&room, &ann, "between")).await;
    send.at = at(9_999);
    for _ in 0..3 {
        let (epoch, record) = duplicate(one(&store, send.clone()).await);
        assert_eq!((epoch, record.seq, record.at), (first.epoch, first.seq, at(1_000)));
    }
    assert_eq!(whole_log(&store, &room).await.len(), 3);
    let record = store
        .idempotency_record(&room, &ann, &mid("1"))
        .await
        .unwrap()
        .expect("a record of the send");
    assert_eq!((record.seq, record.at), (first.seq, at(1_000)));
    assert_eq!(record.hash, content_hash(&EventKind::message(), &text("hello")));
}

/// A used id with other content is a conflict and leaves the first record unchanged.
pub async fn id_with_other_content_is_conflict<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    let first = commit(&store, keyed(&room, &ann, "hello", &mid("1"))).await;
    let other = one(&store, keyed(&room, &ann, "other", &mid("1"))).await;
    assert_eq!(refused(other), Refusal::Conflict);
    let again = one(&store, keyed(&room, &ann, "hello", &mid("1"))).await;
    assert_eq!(duplicate(again).1.seq, first.seq, "a conflict leaves the first record unchanged");
    assert_eq!(head(&store, &room).await, 2);
}

/// The same id may be used by another sender or in another room.
pub async fn ids_are_scoped_by_sender_room<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let (one, two) = (open_group(&store, "one", &ann).await, open_group(&store, "two", &ann).await);
    commit(&store, change(&one, &bob, Intent::Join)).await;
    assert_eq!(commit(&store, keyed(&one, &ann, "a", &mid("1"))).await.seq, seq(3));
    assert_eq!(commit(&store, keyed(&one, &bob, "b", &mid("1"))).await.seq, seq(4));
    assert_eq!(commit(&store, keyed(&two, &ann, "c", &mid("1"))).await.seq, seq(2));
    assert_eq!(commit(&store, keyed(&one, &ann, "a", &mid("2"))).await.seq, seq(5));
    for (room, from, expected) in [(&one, &ann, 3), (&one, &bob, 4), (&two, &ann, 2)] {
        let record = store.idempotency_record(room, from, &mid("1")).await.unwrap().unwrap();
        assert_eq!(record.seq, seq(expected));
    }
}

/// Appends without an id are all stored.
pub async fn send_without_id_is_never_duplicate<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    for n in 2..5 {
        let event = commit(&store, post(&room, &ann, "same")).await;
        assert_eq!((event.seq, &event.id), (seq(n), &None));
    }
}

/// A duplicate is recognised even if its sender may not send any more.
pub async fn duplicate_precedes_membership_check<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let room = open_group(&store, "r", &ann).await;
    commit(&store, change(&room, &bob, Intent::Join)).await;
    let send = keyed(&room, &bob, "hello", &mid("1"));
    let first = commit(&store, send.clone()).await;
    for change_of_heart in [
        change(&room, &bob, Intent::Leave),
        change(&room, &ann, Intent::Ban(bob.clone())),
        change(&room, &ann, Intent::Unban(bob.clone())),
        change(&room, &ann, Intent::Add(bob.clone(), Role::Reader)),
    ] {
        commit(&store, change_of_heart).await;
        let (epoch, record) = duplicate(one(&store, send.clone()).await);
        assert_eq!((epoch, record.seq), (first.epoch, first.seq));
        let other = one(&store, keyed(&room, &bob, "other", &mid("1"))).await;
        assert_eq!(refused(other), Refusal::Conflict);
        assert!(one(&store, keyed(&room, &bob, "new", &mid("2"))).await.is_err());
    }
}

/// Of concurrent appends of one id, one is committed and all others are duplicates.
pub async fn concurrent_duplicates_commit_once<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    for round in 2..8 {
        let send = keyed(&room, &ann, "hello", &mid(&round.to_string()));
        let tries = (0..16).map(|_| {
            let (store, send) = (Arc::clone(&store), send.clone());
            tokio::spawn(async move { one(&store, send).await })
        });
        let mut commits = 0;
        for answer in join_all(tries).await {
            match answer.unwrap() {
                Ok(Appended::Committed(event)) => {
                    assert_eq!(event.seq, seq(round));
                    commits += 1;
                }
                other => assert_eq!(duplicate(other).1.seq, seq(round)),
            }
        }
        assert_eq!(commits, 1);
    }
    assert_eq!(head(&store, &room).await, 7);
}

/// A duplicate and a conflict are recognised within one batch.
pub async fn duplicate_within_batch_is_recognised<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    let batch = vec![
        keyed(&room, &ann, "hello", &mid("1")),
        keyed(&room, &ann, "hello", &mid("1")),
        keyed(&room, &ann, "other", &mid("1")),
        keyed(&room, &ann, "hello", &mid("2")),
    ];
    let mut answers = store.append(batch).await.into_iter();
    let mut next = || answers.next().expect("one answer for each append");
    assert_eq!(committed(next()).seq, seq(2));
    assert_eq!(duplicate(next()).1.seq, seq(2));
    assert_eq!(refused(next()), Refusal::Conflict);
    assert_eq!(committed(next()).seq, seq(3));
    assert_eq!(whole_log(&store, &room).await.len(), 3);
}

/// A retry of the send that created a direct room is a duplicate.
pub async fn duplicate_first_direct_send_is_recognised<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let mut send = direct(&ann, &bob, "hello");
    let key = keyed(&send.room, &ann, "hello", &mid("1"));
    if let (
        im_core::state::Act::Post { event, .. },
        im_core::state::Act::Post { event: keyed, .. },
    ) = (&mut send.act, key.act)
    {
        *event = keyed;
    }
    let first = commit(&store, send.clone()).await;
    assert_eq!(first.seq, seq(1));
    let (epoch, record) = duplicate(one(&store, send).await);
    assert_eq!((epoch, record.seq), (first.epoch, seq(1)));
    assert_eq!(whole_log(&store, &first.room).await, [first]);
}

/// A refused append leaves no record: its id can be used again.
pub async fn refused_send_frees_its_id<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let room = open_group(&store, "r", &ann).await;
    let send = keyed(&room, &bob, "hello", &mid("1"));
    assert_eq!(refused(one(&store, send.clone()).await), Refusal::Role);
    assert_eq!(store.idempotency_record(&room, &bob, &mid("1")).await.unwrap(), None);
    commit(&store, change(&room, &bob, Intent::Join)).await;
    assert_eq!(commit(&store, send).await.seq, seq(3));
}

/// A record belongs to one room, sender and id.
pub async fn unsent_id_has_no_record<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let group = open_group(&store, "r", &ann).await;
    commit(&store, keyed(&group, &ann, "hello", &mid("1"))).await;
    for (room, from, id) in
        [(&room("r2"), &ann, mid("1")), (&group, &user("an"), mid("1")), (&group, &ann, mid("2"))]
    {
        assert_eq!(store.idempotency_record(room, from, &id).await.unwrap(), None);
    }
}

/// Duplicates and conflicts are recognised after a reopen, also from a banned sender.
pub async fn duplicates_are_recognised_after_reopen<F: StoreFactory>(factory: &F) {
    let (store, ann, bob, room) = (factory.open().await, user("ann"), user("bob"), room("r"));
    let members = [(&ann, Role::Owner), (&bob, Role::Member)];
    commit(&store, create(&room, RoomKind::Group, true, &members)).await;
    let send = keyed(&room, &bob, "hello", &mid("1"));
    let first = commit(&store, send.clone()).await;
    commit(&store, change(&room, &ann, Intent::Ban(bob.clone()))).await;
    let Some(store) = reopened(factory, store).await else { return };
    let (epoch, record) = duplicate(one(&store, send).await);
    assert_eq!((epoch, record.seq, record.at), (first.epoch, first.seq, first.at));
    let other = one(&store, keyed(&room, &bob, "other", &mid("1"))).await;
    assert_eq!(refused(other), Refusal::Conflict);
}
