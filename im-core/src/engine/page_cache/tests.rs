use super::*;
use crate::engine::outgoing::Outgoing;
use crate::id::{EventKind, UserId};
use crate::time::Timestamp;
use crate::wire::{Content, Event, Limits};

fn epoch(incarnation: u64) -> Epoch {
    Epoch { generation: 1, incarnation }
}

fn at(n: u64) -> Cursor {
    Cursor { epoch: epoch(1), seq: Seq::new(n).unwrap() }
}

fn room() -> RoomId {
    RoomId::new("room").unwrap()
}

/// A page of a log that ends at 100.
fn page(seqs: std::ops::RangeInclusive<u64>) -> Arc<SharedPage> {
    let event = |n| {
        Outgoing::event(Arc::new(Event {
            room: room(),
            epoch: epoch(1),
            seq: Seq::new(n).unwrap(),
            from: UserId::new("sender").unwrap(),
            at: Timestamp::from_millis(0),
            kind: EventKind::message(),
            id: None,
            content: Content::text("hello", &Limits::default()).unwrap(),
        }))
    };
    Arc::new(SharedPage { head: at(100), first: Seq::FIRST, events: seqs.map(event).collect() })
}

fn bytes(page: &SharedPage) -> usize {
    page.events.iter().map(|item| item.held()).sum()
}

fn first_after(page: &SharedPage, after: u64) -> u64 {
    page.after(Seq::new(after).unwrap())[0].as_event().unwrap().seq.get()
}

#[test]
fn page_serves_every_cursor_inside() {
    let cache = PageCache::new(1 << 20);
    cache.insert(&room(), 0, &page(11..=20));
    cache.insert(&room(), 0, &page(31..=40));
    for after in [10, 15, 19, 30, 39] {
        let found = cache.find(&room(), at(after), 0).unwrap();
        assert_eq!(first_after(&found, after), after + 1);
    }
    for after in [0, 9, 20, 29, 40] {
        assert!(cache.find(&room(), at(after), 0).is_none(), "{after}");
    }
}

#[test]
fn other_epochs_and_erasures_find_nothing() {
    let cache = PageCache::new(1 << 20);
    cache.insert(&room(), 1, &page(11..=20));
    assert!(cache.find(&room(), at(10), 1).is_some());
    assert!(cache.find(&room(), at(10), 2).is_none());
    assert!(cache.find(&room(), Cursor { epoch: epoch(2), ..at(10) }, 1).is_none());
}

#[test]
fn page_at_head_is_not_cached() {
    let cache = PageCache::new(1 << 20);
    cache.insert(&room(), 0, &page(91..=100));
    assert!(cache.find(&room(), at(90), 0).is_none());
}

#[test]
fn least_recently_used_page_is_evicted() {
    let (one, two, three) = (page(1..=10), page(11..=20), page(21..=30));
    let cache = PageCache::new(2 * bytes(&one));
    [&one, &two].iter().for_each(|page| cache.insert(&room(), 0, page));
    assert!(cache.find(&room(), at(0), 0).is_some());
    cache.insert(&room(), 0, &three);
    let held: Vec<bool> =
        [0, 10, 20].iter().map(|after| cache.find(&room(), at(*after), 0).is_some()).collect();
    assert_eq!(held, [true, false, true]);
    let inner = cache.inner.lock();
    assert_eq!((inner.bytes, inner.used.len()), (2 * bytes(&one), 2));
    drop(inner);
    let none = PageCache::new(0);
    none.insert(&room(), 0, &one);
    assert!(none.find(&room(), at(0), 0).is_none());
}

#[test]
fn same_page_again_counts_once() {
    let cache = PageCache::new(1 << 20);
    let one = page(1..=10);
    (0..3).for_each(|_| cache.insert(&room(), 0, &one));
    let inner = cache.inner.lock();
    assert_eq!((inner.bytes, inner.used.len()), (bytes(&one), 1));
}
