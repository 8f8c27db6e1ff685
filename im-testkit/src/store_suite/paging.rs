//! Paging: reading logs from any position, in both directions.

use std::sync::Arc;

use im_core::ports::{LogRange, Store};
use im_core::wire::{Event, PageFrom};
use im_core::{RoomId, Seq};

use super::StoreFactory;
use super::fixture::*;

const EVENTS: u64 = 11;

async fn filled<F: StoreFactory>(factory: &F) -> (Arc<dyn Store>, RoomId) {
    let (store, ann) = (factory.open().await, user("ann"));
    // Rooms adjacent in key order, whose events must not be returned.
    let before = open_group(&store, "q", &ann).await;
    let room = open_group(&store, "r", &ann).await;
    let after = open_group(&store, "r0", &ann).await;
    for n in 2..=EVENTS {
        for room in [&before, &room, &after] {
            commit(&store, post(room, &ann, &format!("{n:03}"))).await;
        }
    }
    (store, room)
}

fn seqs(events: &[Arc<Event>]) -> Vec<u64> {
    events.iter().map(|event| event.seq.get()).collect()
}

/// Forward pages are dense from any position and with any limit, and name head and first retained.
pub async fn pages_run_forwards_from_every_position<F: StoreFactory>(factory: &F) {
    let (store, room) = filled(factory).await;
    for after in [0, 1, 2, 5, EVENTS - 1, EVENTS, EVENTS + 1, 1 << 40, Seq::MAX.get()] {
        for limit in [1, 2, 5, EVENTS as usize, EVENTS as usize + 1, usize::MAX] {
            let page = read(&store, &room, PageFrom::After(seq(after)), limit).await;
            let expected: Vec<_> = (after.saturating_add(1)..=EVENTS).take(limit).collect();
            assert_eq!(seqs(&page.events), expected, "after {after}, at most {limit}");
            assert_eq!((page.head.seq, page.first), (seq(EVENTS), seq(1)));
            assert!(page.events.iter().all(|e| e.room == room && e.epoch == page.head.epoch));
        }
    }
}

/// Backward pages are dense from any position and with any limit.
pub async fn pages_run_backwards_from_every_position<F: StoreFactory>(factory: &F) {
    let (store, room) = filled(factory).await;
    for before in [0, 1, 2, 5, EVENTS, EVENTS + 1, EVENTS + 2, 1 << 40, Seq::MAX.get()] {
        for limit in [1, 2, 5, EVENTS as usize, EVENTS as usize + 1, usize::MAX] {
            let page = read(&store, &room, PageFrom::Before(seq(before)), limit).await;
            let last = before.saturating_sub(1).min(EVENTS);
            let expected: Vec<_> = (1..=last).rev().take(limit).collect();
            assert_eq!(seqs(&page.events), expected, "before {before}, at most {limit}");
            assert_eq!((page.head.seq, page.first), (seq(EVENTS), seq(1)));
            assert!(page.events.iter().all(|event| event.room == room));
        }
    }
}

/// A page stops at its byte limit but holds at least one event.
pub async fn byte_limit_leaves_one_event<F: StoreFactory>(factory: &F) {
    let (store, room) = filled(factory).await;
    // All posts have the same size; the first event, the creation, is excluded.
    let size = packed(&text("002")).packed().len();
    for (max_bytes, expected) in
        [(0, 1), (1, 1), (size, 1), (2 * size - 1, 1), (2 * size, 2), (3 * size + 1, 3)]
    {
        for (from, first) in [(PageFrom::After(seq(1)), 2), (PageFrom::Before(Seq::MAX), EVENTS)] {
            let range = LogRange { from, limit: 100, max_bytes };
            let page = store.read(&room, range).await.unwrap().unwrap();
            assert_eq!(page.events.len(), expected, "{from:?} with {max_bytes} bytes");
            assert_eq!(page.events[0].seq, seq(first));
        }
    }
    let range = LogRange { from: PageFrom::After(seq(EVENTS)), limit: 100, max_bytes: 0 };
    assert!(store.read(&room, range).await.unwrap().unwrap().events.is_empty());
}

/// A missing room has no page, even if its id is a prefix of an existing one.
pub async fn missing_room_has_no_page<F: StoreFactory>(factory: &F) {
    let (store, _) = filled(factory).await;
    for name in ["", "r", "r00"].map(|tail| format!("p{tail}")) {
        for from in [PageFrom::After(Seq::ZERO), PageFrom::Before(Seq::MAX)] {
            let range = LogRange { from, limit: 10, max_bytes: 1_000 };
            assert!(store.read(&room(&name), range).await.unwrap().is_none());
        }
    }
}

/// Heads are returned in the order of the request, with duplicates and `None` for missing rooms.
pub async fn heads_come_in_the_order_asked<F: StoreFactory>(factory: &F) {
    let (store, r) = filled(factory).await;
    let small = open_group(&store, "small", &user("ann")).await;
    let asked = [small.clone(), room("nowhere"), r.clone(), small, room("R")];
    let heads = store.heads(&asked).await.unwrap();
    let found: Vec<_> = heads.iter().map(|head| head.map(|h| h.cursor.seq.get())).collect();
    assert_eq!(found, [Some(1), None, Some(EVENTS), Some(1), None]);
    for (room, head) in asked.iter().zip(&heads) {
        let record = store.room(room).await.unwrap();
        let expected = record.map(|record| (record.epoch, record.first, 0));
        assert_eq!(head.map(|h| (h.cursor.epoch, h.first, h.state_revision)), expected);
    }
    assert!(store.heads(&[]).await.unwrap().is_empty());
}

/// Pages read during appends are dense and end at or before their head.
pub async fn pages_are_whole_while_others_write<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    let writer = tokio::spawn({
        let (store, room) = (Arc::clone(&store), room.clone());
        async move {
            for n in 0..60 {
                let batch = (0..4).map(|m| post(&room, &ann, &format!("{n}/{m}"))).collect();
                store.append(batch).await.into_iter().for_each(|answer| {
                    committed(answer);
                });
            }
        }
    });
    let mut cursor = Seq::ZERO;
    while cursor < seq(241) {
        let page = read(&store, &room, PageFrom::After(cursor), 10).await;
        assert!(page.head.seq >= cursor, "the head never decreases");
        let expected = (cursor.get() + 1..=page.head.seq.get()).take(10);
        assert_eq!(
            seqs(&page.events),
            expected.collect::<Vec<_>>(),
            "events up to the head of the page"
        );
        cursor = page.events.last().map_or(cursor, |event| event.seq);
        let back = read(&store, &room, PageFrom::Before(Seq::MAX), 3).await;
        let expected = (1..=back.head.seq.get()).rev().take(3);
        assert_eq!(seqs(&back.events), expected.collect::<Vec<_>>());
        tokio::task::yield_now().await;
        assert!(
            !(writer.is_finished() && cursor == seq(0)),
            "a page with events before the writer has finished"
        );
    }
    writer.await.unwrap();
}
