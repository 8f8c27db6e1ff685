//! Import of rooms.

use std::sync::Arc;

use im_core::ports::{Store, StoreErrorKind, StoreResult};
use im_core::state::{
    ImportedEvent, ImportedPart, ImportedRoom, Intent, Keep, Membership, Refusal, RoomRecord,
    content_hash,
};
use im_core::wire::{PageFrom, Role, RoomKind};
use im_core::{Epoch, EventKind, RoomId, Seq, UserId};

use super::StoreFactory;
use super::fixture::*;

fn channel(name: &str, first: u64) -> ImportedRoom {
    let (kind, open) = (RoomKind::Channel, true);
    ImportedRoom { id: room(name), kind, open, created: at(77), first: seq(first) }
}

fn event(n: u64, from: &str) -> ImportedEvent {
    let (kind, words) = (EventKind::message(), text(&format!("words {n}")));
    ImportedEvent {
        seq: seq(n),
        from: user(from),
        at: at(n * 10),
        send: Some((mid(&n.to_string()), content_hash(&kind, &words))),
        kind,
        content: packed(&words),
    }
}

fn events(range: std::ops::Range<u64>) -> ImportedPart {
    let events = range.map(|n| event(n, if n % 2 == 0 { "ann" } else { "bob" })).collect();
    ImportedPart { memberships: Vec::new(), events }
}

fn people() -> ImportedPart {
    let memberships = vec![
        (user("bob"), Membership::Banned),
        (user("ann"), Membership::Member(Role::Owner)),
        (user("eve"), Membership::Member(Role::Reader)),
    ];
    ImportedPart { memberships, events: Vec::new() }
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(answer: StoreResult<T>) -> Refusal {
    match answer.map_err(|error| error.kind()) {
        Err(StoreErrorKind::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

async fn imported(store: &Arc<dyn Store>, name: &str, first: u64) -> RoomRecord {
    let new = channel(name, first);
    let epoch = store.begin_import(new.clone()).await.unwrap();
    store.import(&new.id, epoch, events(first..first + 4)).await.unwrap();
    store.import(&new.id, epoch, people()).await.unwrap();
    store.import(&new.id, epoch, ImportedPart::default()).await.unwrap();
    store.import(&new.id, epoch, events(first + 4..first + 6)).await.unwrap();
    store.finish_import(&new.id, epoch).await.unwrap()
}

async fn is_invisible(store: &Arc<dyn Store>, id: &RoomId) {
    assert_eq!(store.room(id).await.unwrap(), None);
    assert_eq!(store.heads(std::slice::from_ref(id)).await.unwrap(), [None]);
    assert_eq!(store.idempotency_record(id, &user("ann"), &mid("2")).await.unwrap(), None);
    assert_eq!(store.membership(id, &user("ann")).await.unwrap(), None);
    assert!(store.memberships(id, None, 9).await.unwrap().is_empty());
    assert!(store.rooms_of(&user("ann"), None, 9).await.unwrap().iter().all(|(it, ..)| it != id));
    assert!(store.rooms(None, 9).await.unwrap().iter().all(|record| record.id != *id));
    assert_eq!(refused(one(store, post(id, &user("ann"), "x")).await), Refusal::NoSuchRoom);
}

async fn is_whole(store: &Arc<dyn Store>, record: &RoomRecord, first: u64) {
    let id = &record.id;
    assert_eq!(store.room(id).await.unwrap().as_ref(), Some(record));
    assert_eq!((record.kind, record.open, record.created), (RoomKind::Channel, true, at(77)));
    assert_eq!((record.first, record.head, record.members), (seq(first), seq(first + 5), 2));
    let log = whole_log(store, id).await;
    assert_eq!(log.len(), 6);
    for (n, found) in (first..).zip(&log) {
        let expected = event(n, if n % 2 == 0 { "ann" } else { "bob" });
        let (id, hash) = expected.send.unwrap();
        assert_eq!((found.seq, &found.from, found.at), (seq(n), &expected.from, expected.at));
        assert_eq!((&found.kind, &found.content), (&expected.kind, &expected.content));
        assert_eq!(found.id.as_ref(), Some(&id));
        let sent =
            store.idempotency_record(&record.id, &expected.from, &id).await.unwrap().unwrap();
        assert_eq!((sent.seq, sent.at, sent.hash), (seq(n), expected.at, hash));
    }
    let bytes: usize = log.iter().map(|event| event.content.packed().len()).sum();
    assert_eq!(record.bytes, bytes as u64);
    let memberships = store.memberships(id, None, 9).await.unwrap();
    let mut expected = people().memberships;
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(memberships, expected);
    let of_eve = store.rooms_of(&user("eve"), None, 9).await.unwrap();
    assert!(of_eve.contains(&(id.clone(), RoomKind::Channel, Role::Reader)));
}

/// An imported room has its log, members, bans and idempotency records, and accepts appends.
pub async fn imported_room_equals_original<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    for (name, first) in [("whole", 1), ("trimmed", 500)] {
        let record = imported(&store, name, first).await;
        is_whole(&store, &record, first).await;
        let page = read(&store, &record.id, PageFrom::After(seq(0)), 1).await;
        assert_eq!((page.first, page.events[0].seq), (seq(first), seq(first)));
        let even = if first % 2 == 0 { first } else { first + 1 };
        let words = format!("words {even}");
        let retry = keyed(&record.id, &ann, &words, &mid(&even.to_string()));
        assert_eq!(duplicate(one(&store, retry).await).1.seq, seq(even));
        assert_eq!(commit(&store, post(&record.id, &ann, "on")).await.seq, seq(first + 6));
        let joins = change(&record.id, &user("bob"), Intent::Join);
        assert_eq!(refused(one(&store, joins).await), Refusal::Banned);
    }
}

/// A room refuses appends once its log has reached the last seq.
pub async fn log_ends_before_last_seq<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let end = Seq::MAX.get();
    for name in ["kept", "removed"] {
        let record = imported(&store, name, end - 6).await;
        is_whole(&store, &record, end - 6).await;
        assert_eq!(refused(one(&store, post(&record.id, &ann, "x")).await), Refusal::Exhausted);
    }
    let new = channel("imported", end);
    let epoch = store.begin_import(new.clone()).await.unwrap();
    let answer = store.import(&new.id, epoch, events(end..end + 1)).await;
    assert_eq!(refusal(answer), Refusal::Exhausted);
    let id = room("kept");
    for left in [4, 0] {
        let keep = Keep { count: Some(left), ..Keep::ALL };
        while store.trim(&id, &keep, 1).await.unwrap().unwrap().more {}
        while store.erase_user(&ann, 2).await.unwrap().more {}
        let page = read(&store, &id, PageFrom::Before(Seq::MAX), 9).await;
        let first = end - left;
        assert_eq!((page.first, page.head.seq), (seq(first), seq(end - 1)));
        let seqs: Vec<_> = page.events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (first..end).rev().map(seq).collect::<Vec<_>>());
    }
    for id in [id, room("removed")] {
        assert!(store.delete_room(&id).await.unwrap());
        while store.purge(1_000).await.unwrap() {}
        assert_eq!(store.room(&id).await.unwrap(), None);
    }
}

/// An import is invisible until it is finished, and a purge spares it.
pub async fn unfinished_import_is_invisible<F: StoreFactory>(factory: &F) {
    let (store, new) = (factory.open().await, channel("r", 1));
    let epoch = store.begin_import(new.clone()).await.unwrap();
    for part in [people(), events(1..4), events(4..7)] {
        is_invisible(&store, &new.id).await;
        store.import(&new.id, epoch, part).await.unwrap();
    }
    is_invisible(&store, &new.id).await;
    assert!(!store.purge(99).await.unwrap(), "a purge leaves an import in progress");
    let record = store.finish_import(&new.id, epoch).await.unwrap();
    assert_eq!(record.epoch, epoch);
    is_whole(&store, &record, 1).await;
}

/// An import is refused if the room exists at its begin, in between or at its end.
pub async fn import_refuses_existing_room<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let there = open_group(&store, "there", &ann).await;
    let new = channel("there", 1);
    assert_eq!(refusal(store.begin_import(new).await), Refusal::Exists);
    let new = channel("later", 1);
    let epoch = store.begin_import(new.clone()).await.unwrap();
    store.import(&new.id, epoch, people()).await.unwrap();
    let made = open_group(&store, "later", &user("eve")).await;
    let part = events(1..2);
    assert_eq!(refusal(store.import(&new.id, epoch, part).await), Refusal::Exists);
    assert_eq!(refusal(store.finish_import(&new.id, epoch).await), Refusal::Exists);
    assert!(store.delete_room(&made).await.unwrap());
    assert_eq!(refusal(store.finish_import(&new.id, epoch).await), Refusal::NoSuchRoom);
    is_invisible(&store, &new.id).await;
    while store.purge(2).await.unwrap() {}
    let of_ann = store.rooms_of(&ann, None, 9).await.unwrap();
    assert_eq!(of_ann, [(there, RoomKind::Group, Role::Owner)]);
}

/// A part of an import that does not continue it is refused as a whole.
pub async fn inconsistent_import_batch_is_refused<F: StoreFactory>(factory: &F) {
    let (store, new) = (factory.open().await, channel("r", 1));
    let epoch = store.begin_import(new.clone()).await.unwrap();
    store.import(&new.id, epoch, people()).await.unwrap();
    store.import(&new.id, epoch, events(1..4)).await.unwrap();
    let twice = ImportedEvent { send: event(1, "bob").send, ..event(5, "bob") };
    let with =
        |events| ImportedPart { memberships: vec![(user("mia"), Membership::Banned)], events };
    for (part, expected) in [
        (events(1..4), Refusal::NotNext),
        (events(5..6), Refusal::NotNext),
        (people(), Refusal::NotNext),
        (with(vec![event(4, "ann"), event(6, "ann")]), Refusal::NotNext),
        (with(vec![event(4, "ann"), twice]), Refusal::NotNext),
        (
            ImportedPart {
                memberships: vec![(UserId::erased(), Membership::Member(Role::Member))],
                events: vec![event(4, "ann")],
            },
            Refusal::Reserved,
        ),
    ] {
        assert_eq!(refusal(store.import(&new.id, epoch, part).await), expected);
    }
    let nowhere = Epoch { incarnation: epoch.incarnation + 1, ..epoch };
    for (id, epoch) in [(&new.id, nowhere), (&room("other"), epoch)] {
        assert_eq!(refusal(store.import(id, epoch, events(4..5)).await), Refusal::NoSuchRoom);
        assert_eq!(refusal(store.finish_import(id, epoch).await), Refusal::NoSuchRoom);
    }
    store.import(&new.id, epoch, events(4..7)).await.unwrap();
    let record = store.finish_import(&new.id, epoch).await.unwrap();
    is_whole(&store, &record, 1).await;
    assert_eq!(refusal(store.finish_import(&new.id, epoch).await), Refusal::Exists);
}

/// An import that is started again or dropped leaves nothing behind.
pub async fn restarted_or_dropped_import_leaves_nothing<F: StoreFactory>(factory: &F) {
    let (store, new) = (factory.open().await, channel("r", 1));
    let first = store.begin_import(new.clone()).await.unwrap();
    store.import(&new.id, first, people()).await.unwrap();
    store.import(&new.id, first, events(1..6)).await.unwrap();
    assert!(!store.delete_room(&new.id).await.unwrap(), "an import in progress is not a room");
    assert_eq!(refusal(store.finish_import(&new.id, first).await), Refusal::NoSuchRoom);
    let second = store.begin_import(new.clone()).await.unwrap();
    store.import(&new.id, second, people()).await.unwrap();
    let record = imported(&store, "r", 1).await;
    assert_eq!(refusal(store.import(&new.id, second, events(1..2)).await), Refusal::Exists);
    while store.purge(2).await.unwrap() {
        is_whole(&store, &record, 1).await;
    }
    is_whole(&store, &record, 1).await;
}

/// A purge removes an earlier room and an earlier import under the same id, and spares the running
/// import.
pub async fn purge_spares_running_import<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let (ann, eve) = (user("ann"), user("eve"));
    commit(&store, create(&room("r"), RoomKind::Group, false, &[(&ann, Role::Owner)])).await;
    assert!(store.delete_room(&room("r")).await.unwrap());
    let dropped = store.begin_import(channel("r", 1)).await.unwrap();
    store.import(&room("r"), dropped, people()).await.unwrap();
    let epoch = store.begin_import(channel("r", 1)).await.unwrap();
    store.import(&room("r"), epoch, people()).await.unwrap();
    while store.purge(3).await.unwrap() {}
    store.finish_import(&room("r"), epoch).await.unwrap();
    for (who, role) in [(ann, Role::Owner), (eve, Role::Reader)] {
        let expected = vec![(room("r"), RoomKind::Channel, role)];
        assert_eq!(store.rooms_of(&who, None, 9).await.unwrap(), expected);
    }
}

/// An import continues after a reopen and keeps its epoch.
pub async fn an_import_outlasts_a_reopen<F: StoreFactory>(factory: &F) {
    let (store, new) = (factory.open().await, channel("r", 1));
    let epoch = store.begin_import(new.clone()).await.unwrap();
    store.import(&new.id, epoch, events(1..4)).await.unwrap();
    let Some(store) = reopened(factory, store).await else { return };
    is_invisible(&store, &new.id).await;
    store.import(&new.id, epoch, events(4..7)).await.unwrap();
    store.import(&new.id, epoch, people()).await.unwrap();
    let record = store.finish_import(&new.id, epoch).await.unwrap();
    let store = reopened(factory, store).await.expect("a store that was reopened before");
    is_whole(&store, &record, 1).await;
    let other = open_group(&store, "other", &user("ann")).await;
    assert_ne!(store.room(&other).await.unwrap().unwrap().epoch, epoch);
}

/// An erasure also covers imports in progress.
pub async fn erasure_reaches_imported_rooms<F: StoreFactory>(factory: &F) {
    let (store, bob, new) = (factory.open().await, user("bob"), channel("r", 1));
    let epoch = store.begin_import(new.clone()).await.unwrap();
    store.import(&new.id, epoch, events(1..7)).await.unwrap();
    store.import(&new.id, epoch, people()).await.unwrap();
    while store.erase_user(&bob, 2).await.unwrap().more {}
    store.finish_import(&new.id, epoch).await.unwrap();
    let log = whole_log(&store, &new.id).await;
    assert_eq!(log.iter().filter(|event| event.from == UserId::erased()).count(), 3);
    assert!(log.iter().all(|event| event.from != bob));
    assert_eq!(store.membership(&new.id, &bob).await.unwrap(), None);
    assert_eq!(store.idempotency_record(&new.id, &bob, &mid("1")).await.unwrap(), None);
}
