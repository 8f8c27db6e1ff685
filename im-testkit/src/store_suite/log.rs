//! Log: dense order, batches, concurrency.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use futures::{FutureExt, poll};
use im_core::state::{Intent, Refusal};
use im_core::wire::{Role, RoomKind};

use super::StoreFactory;
use super::fixture::*;

/// An empty batch has no answers.
pub async fn an_empty_batch_has_no_answers<F: StoreFactory>(factory: &F) {
    assert!(factory.open().await.append(Vec::new()).await.is_empty());
}

/// Seqs are dense from one, and a committed event is readable at once.
pub async fn seqs_are_dense_and_readable<F: StoreFactory>(factory: &F) {
    let (store, ann, room) = (factory.open().await, user("ann"), room("r"));
    let made = create(&room, RoomKind::Group, true, &[(&ann, Role::Owner)]);
    let mut log = vec![commit(&store, made).await];
    for n in 2..=12 {
        let mut append = keyed(&room, &ann, &format!("m{n}"), &mid(&n.to_string()));
        append.at = at(5_000 - n);
        let event = commit(&store, append).await;
        assert_eq!(event.seq, seq(n), "seq does not follow the clock");
        assert_eq!((&event.from, event.at), (&ann, at(5_000 - n)));
        assert_eq!(event.id, Some(mid(&n.to_string())));
        assert_eq!(event.content.value(), text(&format!("m{n}")));
        assert_eq!(head(&store, &room).await, n, "the head is updated before the answer");
        log.push(event);
    }
    assert_eq!(log[0].seq, seq(1));
    assert_eq!(whole_log(&store, &room).await, log);
}

/// Appends of a batch succeed and fail independently.
pub async fn appends_in_a_batch_are_independent<F: StoreFactory>(factory: &F) {
    let (store, ann, eve) = (factory.open().await, user("ann"), user("eve"));
    let (one, two) = (open_group(&store, "one", &ann).await, open_group(&store, "two", &ann).await);
    let batch = vec![
        post(&one, &ann, "a"),
        post(&one, &eve, "no"),
        post(&two, &ann, "b"),
        post(&room("nowhere"), &ann, "no"),
        create(&two, RoomKind::Group, true, &[]),
        post(&one, &ann, "c"),
    ];
    let mut answers = store.append(batch).await.into_iter();
    let mut next = || answers.next().expect("one answer for each append");
    let a = committed(next());
    assert_eq!((&a.room, a.seq, a.content.value()), (&one, seq(2), text("a")));
    assert_eq!(refused(next()), Refusal::Role);
    let b = committed(next());
    assert_eq!((&b.room, b.seq, b.content.value()), (&two, seq(2), text("b")));
    assert_eq!(refused(next()), Refusal::NoSuchRoom);
    assert_eq!(refused(next()), Refusal::Exists);
    let c = committed(next());
    assert_eq!((&c.room, c.seq, c.content.value()), (&one, seq(3), text("c")));
    assert!(answers.next().is_none());
    assert_eq!(whole_log(&store, &one).await[1..], [a, c]);
    assert_eq!(whole_log(&store, &two).await[1..], [b]);
}

/// An append sees the effect of the earlier ones in its batch.
pub async fn append_sees_earlier_appends_in_batch<F: StoreFactory>(factory: &F) {
    let (store, ann, bob, room) = (factory.open().await, user("ann"), user("bob"), room("r"));
    let batch = vec![
        post(&room, &bob, "too early"),
        create(&room, RoomKind::Group, true, &[(&ann, Role::Owner)]),
        post(&room, &bob, "not in yet"),
        change(&room, &bob, Intent::Join),
        post(&room, &bob, "hello"),
        change(&room, &ann, Intent::Ban(bob.clone())),
        post(&room, &bob, "not any more"),
        change(&room, &bob, Intent::Join),
        post(&room, &ann, "good"),
    ];
    let mut answers = store.append(batch).await.into_iter();
    let mut next = || answers.next().expect("one answer for each append");
    assert_eq!(refused(next()), Refusal::NoSuchRoom);
    assert_eq!(committed(next()).seq, seq(1));
    assert_eq!(refused(next()), Refusal::Role);
    assert_eq!(committed(next()).seq, seq(2));
    assert_eq!(committed(next()).seq, seq(3));
    assert_eq!(committed(next()).seq, seq(4));
    assert_eq!(refused(next()), Refusal::Banned);
    assert_eq!(refused(next()), Refusal::Banned);
    assert_eq!(committed(next()).seq, seq(5));
    let record = store.room(&room).await.unwrap().unwrap();
    assert_eq!((record.head, record.members), (seq(5), 1));
}

/// A long batch over many rooms keeps the order within each room.
pub async fn long_batch_keeps_order_per_room<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let rooms: Vec<_> = (0..20).map(|n| room(&format!("r{n}"))).collect();
    let makes = rooms.iter().map(|r| create(r, RoomKind::Group, true, &[(&ann, Role::Owner)]));
    let posts = (0..300).map(|n| post(&rooms[n * 7 % rooms.len()], &ann, &n.to_string()));
    let answers = store.append(makes.chain(posts).collect()).await;
    let events: Vec<_> = answers.into_iter().map(committed).collect();
    assert_eq!(events.len(), 320);
    for room in &rooms {
        let own: Vec<_> = events.iter().filter(|event| event.room == *room).cloned().collect();
        assert_eq!(whole_log(&store, room).await, own);
    }
}

/// Concurrent batches leave dense logs that keep the order of each writer.
pub async fn concurrent_batches_stay_dense_and_ordered<F: StoreFactory>(factory: &F) {
    const WRITERS: usize = 8;
    const BATCHES: usize = 12;
    const POSTS: usize = 5;
    let (store, ann) = (factory.open().await, user("ann"));
    let shared = open_group(&store, "shared", &ann).await;
    let writers = (0..WRITERS).map(|writer| {
        let (store, shared) = (Arc::clone(&store), shared.clone());
        tokio::spawn(async move {
            let from = user(&format!("writer{writer}"));
            let own = open_group(&store, &format!("own{writer}"), &from).await;
            commit(&store, change(&shared, &from, Intent::Join)).await;
            let mut events = Vec::new();
            for batch in 0..BATCHES {
                let say = |n| {
                    let place = if n % 2 == 0 { &shared } else { &own };
                    post(place, &from, &format!("{writer}/{batch}/{n}"))
                };
                let answers = store.append((0..POSTS).map(say).collect()).await;
                events.extend(answers.into_iter().map(committed));
            }
            (own, events)
        })
    });
    let mut answered: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for written in join_all(writers).await {
        let (own, events) = written.unwrap();
        let (here, there): (Vec<_>, Vec<_>) = events.into_iter().partition(|e| e.room == shared);
        for events in [&here, &there] {
            assert!(
                events.windows(2).all(|two| two[0].seq < two[1].seq),
                "the order of each writer"
            );
        }
        assert_eq!(whole_log(&store, &own).await[1..], there);
        answered.entry(&shared).or_default().extend(here);
    }
    let posts = answered.remove(&shared).unwrap();
    assert_eq!(posts.len(), WRITERS * BATCHES * POSTS.div_ceil(2));
    let log = whole_log(&store, &shared).await;
    assert_eq!(log.len(), 1 + WRITERS + posts.len(), "the creation, the joins and the posts");
    for event in &posts {
        assert_eq!(
            &log[event.seq.get() as usize - 1],
            event,
            "the answered event is the stored one"
        );
    }
    let seqs: BTreeSet<_> = posts.iter().map(|event| event.seq).collect();
    assert_eq!(seqs.len(), posts.len(), "no seq was assigned twice");
}

/// An append whose future is dropped leaves a whole log, and its retry stores each message once.
pub async fn dropped_append_keeps_log_whole<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    for round in 0..20 {
        let id = |n| mid(&format!("{round}-{n}"));
        let batch: Vec<_> = (0..3).map(|n| keyed(&room, &ann, "x", &id(n))).collect();
        let mut abandoned = store.append(batch.clone()).boxed();
        let _ = poll!(&mut abandoned);
        drop(abandoned);
        for answer in store.append(batch).await {
            assert!(answer.is_ok(), "a retry is committed or a duplicate, got {answer:?}");
        }
    }
    let log = whole_log(&store, &room).await;
    let ids: BTreeSet<_> = log.iter().filter_map(|event| event.id.clone()).collect();
    assert_eq!((ids.len(), log.len()), (60, 61), "every message is stored once");
}

/// Rooms of one store share its generation; each room has its own incarnation.
pub async fn rooms_share_generation_not_incarnation<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let one = open_group(&store, "one", &ann).await;
    let two = open_group(&store, "two", &ann).await;
    let three = commit(&store, direct(&ann, &bob, "hi")).await.room.clone();
    let mut epochs = BTreeSet::new();
    for room in [&one, &two, &three] {
        let epoch = store.room(room).await.unwrap().unwrap().epoch;
        assert!(whole_log(&store, room).await.iter().all(|event| event.epoch == epoch));
        epochs.insert(epoch);
    }
    assert_eq!(epochs.len(), 3);
    let generations: BTreeSet<_> = epochs.iter().map(|epoch| epoch.generation).collect();
    assert_eq!(generations.len(), 1);
}
