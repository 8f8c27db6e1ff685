//! Trimming: only the oldest events are removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use im_core::RoomId;
use im_core::ports::{Appended, Store};
use im_core::state::{Keep, Trimmed};
use im_core::wire::PageFrom;

use super::StoreFactory;
use super::fixture::*;

fn last(count: u64) -> Keep {
    Keep { count: Some(count), ..Keep::ALL }
}

async fn trim(store: &Arc<dyn Store>, room: &RoomId, keep: Keep, limit: usize) -> Trimmed {
    store.trim(room, &keep, limit).await.unwrap().expect("the room exists")
}

/// A group whose event `n` has the time `n` times 10 and is larger than the event before it.
async fn filled(store: &Arc<dyn Store>, name: &str, events: u64) -> RoomId {
    let ann = user("ann");
    let room = open_group(store, name, &ann).await;
    for n in 2..=events {
        let mut post = keyed(&room, &ann, &"x".repeat(n as usize), &mid(&n.to_string()));
        post.at = at(n * 10);
        commit(store, post).await;
    }
    room
}

async fn seqs(store: &Arc<dyn Store>, room: &RoomId) -> Vec<u64> {
    whole_log(store, room).await.iter().map(|event| event.seq.get()).collect()
}

/// A trim removes the oldest events only: head, epoch, members and other rooms are unchanged.
pub async fn trim_removes_only_oldest_events<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let (room, other) = (filled(&store, "r", 10).await, filled(&store, "r1", 10).await);
    let (before, members) =
        (store.room(&room).await.unwrap().unwrap(), store.members(&room, None, 9).await.unwrap());
    let log = whole_log(&store, &room).await;
    let trimmed = trim(&store, &room, last(4), 100).await;
    assert_eq!(trimmed, Trimmed { first: seq(7), removed: 6, more: false });
    assert_eq!(whole_log(&store, &room).await, log[6..]);
    let after = store.room(&room).await.unwrap().unwrap();
    assert_eq!((after.epoch, after.head, after.first), (before.epoch, seq(10), seq(7)));
    assert_eq!(store.members(&room, None, 9).await.unwrap(), members);
    let head = store.heads(std::slice::from_ref(&room)).await.unwrap()[0].unwrap();
    assert_eq!((head.cursor.seq, head.first), (seq(10), seq(7)));
    for at in 0..=12 {
        let page = read(&store, &room, PageFrom::After(seq(at)), 2).await;
        assert_eq!(page.first, seq(7));
        let expected = (at.max(6) + 1..=10).take(2);
        assert!(page.events.iter().map(|event| event.seq.get()).eq(expected), "after {at}");
        let page = read(&store, &room, PageFrom::Before(seq(at)), 2).await;
        let expected = (7..at.clamp(7, 11)).rev().take(2);
        assert!(page.events.iter().map(|event| event.seq.get()).eq(expected), "before {at}");
    }
    assert_eq!(commit(&store, post(&room, &user("ann"), "next")).await.seq, seq(11));
    assert_eq!(seqs(&store, &other).await, (1..=10).collect::<Vec<_>>());
}

/// Each bound of a trim (count, age, bytes) removes alone, and the strictest one decides.
pub async fn each_bound_of_a_trim_counts<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let kept = async |name: &str, keep: Keep| {
        let room = filled(&store, name, 8).await;
        trim(&store, &room, keep, 100).await.first.get()
    };
    // The first event, with the members, has the time 1,000.
    let late = Keep { after: Some(at(41)), ..Keep::ALL };
    assert_eq!(kept("a", late).await, 1, "an event after a younger one stays");
    let later = Keep { after: Some(at(1_001)), ..Keep::ALL };
    assert_eq!(kept("b", later).await, 9);
    let young = Keep { after: Some(at(41)), ..last(7) };
    assert_eq!(kept("c", young).await, 5);
    assert_eq!(kept("d", last(3)).await, 6);
    let sizes = |words: usize| packed(&text(&"x".repeat(words))).packed().len() as u64;
    let bytes = |bytes| Keep { bytes: Some(bytes), ..Keep::ALL };
    assert_eq!(kept("e", bytes(sizes(8) + sizes(7))).await, 7);
    assert_eq!(kept("f", bytes(sizes(8) + sizes(7) - 1)).await, 8);
    assert_eq!(kept("g", bytes(sizes(8) - 1)).await, 9);
    assert_eq!(kept("h", Keep { count: Some(5), ..bytes(sizes(8)) }).await, 8);
    assert_eq!(kept("i", Keep::ALL).await, 1);
}

/// A trim stops at its limit, reports `more`, and continues with the next call.
pub async fn trim_stops_at_limit_and_continues<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let room = filled(&store, "r", 10).await;
    for (first, removed, more) in [(4, 3, true), (7, 3, true), (9, 2, false), (9, 0, false)] {
        let trimmed = trim(&store, &room, last(2), 3).await;
        assert_eq!(trimmed, Trimmed { first: seq(first), removed, more });
        assert_eq!(seqs(&store, &room).await, (first..=10).collect::<Vec<_>>());
    }
    assert_eq!(trim(&store, &room, last(0), 0).await.removed, 1, "a limit of 0 counts as 1");
}

/// A trim may remove all events; the head stays, and the next event continues after it.
pub async fn trim_may_empty_the_log<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let room = filled(&store, "r", 5).await;
    let trimmed = trim(&store, &room, last(0), 100).await;
    assert_eq!(trimmed, Trimmed { first: seq(6), removed: 5, more: false });
    let page = read(&store, &room, PageFrom::After(seq(0)), 9).await;
    assert_eq!((page.head.seq, page.first, page.events.len()), (seq(5), seq(6), 0));
    assert!(read(&store, &room, PageFrom::Before(seq(9)), 9).await.events.is_empty());
    let record = store.room(&room).await.unwrap().unwrap();
    assert_eq!((record.head, record.first, record.bytes), (seq(5), seq(6), 0));
    let next = commit(&store, post(&room, &user("ann"), "next")).await;
    assert_eq!(whole_log(&store, &room).await, [next]);
}

/// Duplicates and conflicts are recognised after their events were trimmed.
pub async fn duplicates_are_recognised_after_trim<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = filled(&store, "r", 5).await;
    trim(&store, &room, last(0), 100).await;
    let (_, record) = duplicate(one(&store, keyed(&room, &ann, "xxx", &mid("3"))).await);
    assert_eq!((record.seq, record.at), (seq(3), at(30)));
    let other = one(&store, keyed(&room, &ann, "other", &mid("3"))).await;
    assert_eq!(refused(other), im_core::state::Refusal::Conflict);
    assert!(store.idempotency_record(&room, &ann, &mid("2")).await.unwrap().is_some());
}

/// A trim with nothing to remove, or of a missing room, changes nothing.
pub async fn a_trim_of_nothing_changes_nothing<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    assert_eq!(store.trim(&room("none"), &last(0), 9).await.unwrap(), None);
    let room = filled(&store, "r", 5).await;
    let before = store.room(&room).await.unwrap();
    for keep in [Keep::ALL, last(5), Keep { after: Some(at(0)), bytes: Some(1 << 40), ..last(99) }]
    {
        let trimmed = trim(&store, &room, keep, 9).await;
        assert_eq!(trimmed, Trimmed { first: seq(1), removed: 0, more: false });
    }
    assert_eq!(store.room(&room).await.unwrap(), before);
}

/// The bytes in the record of a room count the retained events only.
pub async fn bytes_count_retained_events<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let room = filled(&store, "r", 7).await;
    for keep in [100, 5, 4, 0] {
        trim(&store, &room, last(keep), 100).await;
        let log = whole_log(&store, &room).await;
        let bytes: usize = log.iter().map(|event| event.content.packed().len()).sum();
        assert_eq!(store.room(&room).await.unwrap().unwrap().bytes, bytes as u64);
    }
}

/// Contents of 30,000 bytes are trimmed like small ones.
pub async fn large_contents_are_trimmed_like_others<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    for n in 0..8 {
        commit(&store, post(&room, &ann, &n.to_string().repeat(30_000))).await;
    }
    assert_eq!(trim(&store, &room, last(3), 4).await.removed, 4);
    let log = whole_log(&store, &room).await;
    assert_eq!(log.len(), 5);
    assert_eq!(log[4].content.value(), text(&"7".repeat(30_000)));
    let bytes = Keep { bytes: Some(40_000), ..Keep::ALL };
    assert_eq!(trim(&store, &room, bytes, 100).await.first, seq(9));
}

/// Concurrent trims and appends leave no gap in the log.
pub async fn concurrent_trims_leave_no_gap<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut helpers = Vec::new();
    for keep in [last(3), Keep { bytes: Some(60), ..Keep::ALL }] {
        let (store, room, done) = (Arc::clone(&store), room.clone(), Arc::clone(&done));
        helpers.push(tokio::spawn(async move {
            while !done.load(Ordering::SeqCst) {
                trim(&store, &room, keep, 2).await;
                tokio::task::yield_now().await;
            }
        }));
    }
    for from in [PageFrom::After(seq(0)), PageFrom::Before(seq(1 << 40))] {
        let (store, room, done) = (Arc::clone(&store), room.clone(), Arc::clone(&done));
        helpers.push(tokio::spawn(async move {
            while !done.load(Ordering::SeqCst) {
                let page = read(&store, &room, from, 1_000).await;
                let mut seqs: Vec<u64> = page.events.iter().map(|e| e.seq.get()).collect();
                seqs.sort_unstable();
                assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
                assert_eq!(
                    seqs.last().copied().unwrap_or(page.head.seq.get()),
                    page.head.seq.get()
                );
                tokio::task::yield_now().await;
            }
        }));
    }
    for n in 2..120 {
        let answer = one(&store, keyed(&room, &ann, "words", &mid(&n.to_string()))).await;
        assert!(matches!(answer, Ok(Appended::Committed(event)) if event.seq == seq(n)));
    }
    done.store(true, Ordering::SeqCst);
    for helper in helpers {
        helper.await.unwrap();
    }
    trim(&store, &room, last(3), 1_000).await;
    let log = whole_log(&store, &room).await;
    assert_eq!(log.len(), 3);
    let bytes: usize = log.iter().map(|event| event.content.packed().len()).sum();
    assert_eq!(store.room(&room).await.unwrap().unwrap().bytes, bytes as u64);
}

/// A trimmed log is unchanged after a reopen, and trims continue.
pub async fn trimmed_events_stay_removed_after_reopen<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let room = filled(&store, "r", 10).await;
    trim(&store, &room, last(4), 3).await;
    let (before, log) = (store.room(&room).await.unwrap(), whole_log(&store, &room).await);
    let Some(store) = reopened(factory, store).await else { return };
    assert_eq!((store.room(&room).await.unwrap(), whole_log(&store, &room).await), (before, log));
    assert_eq!(trim(&store, &room, last(4), 100).await.first, seq(7));
    duplicate(one(&store, keyed(&room, &user("ann"), "xx", &mid("2"))).await);
    assert_eq!(commit(&store, post(&room, &user("ann"), "x")).await.seq, seq(11));
}
