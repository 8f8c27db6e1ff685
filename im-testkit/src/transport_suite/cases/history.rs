//! History: pages of the stored log.

use std::sync::Arc;

use im_core::memory::MemoryStore;
use im_core::wire::{CommandBody, Event, HistoryPage, PageFrom, Status};
use im_core::{Code, Cursor, Epoch, Seq};

use super::bystander::Bystander;
use super::*;

fn seqs(page: &HistoryPage) -> Vec<u64> {
    page.events.iter().map(|event: &Event| event.seq.get()).collect()
}

/// Pages cover the whole log, forward and backward, without a gap or an overlap.
pub async fn pages_cover_log_in_both_directions<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    for n in 2..=23 {
        ann.say(&r, &n.to_string()).await.unwrap();
    }
    let (mut forward, mut from) = (Vec::new(), Seq::ZERO);
    loop {
        let page = ann.history(&r, PageFrom::After(from), 5).await.unwrap();
        assert_eq!((page.head, page.first), (seq(23), seq(1)));
        assert!(page.events.len() <= 5);
        forward.extend(seqs(&page));
        let Some(last) = page.events.last().filter(|_| page.more) else { break };
        from = last.seq;
    }
    assert_eq!(forward, (1..=23).collect::<Vec<_>>());
    let (mut backward, mut from) = (Vec::new(), Seq::MAX);
    loop {
        let page = ann.history(&r, PageFrom::Before(from), 5).await.unwrap();
        backward.extend(seqs(&page));
        let Some(last) = page.events.last().filter(|_| page.more) else { break };
        from = last.seq;
    }
    assert_eq!(backward, (1..=23).rev().collect::<Vec<_>>());
}

/// A page begins next to the requested offset; an offset beyond the head is refused with 4403.
pub async fn page_begins_at_requested_position<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    for n in 2..=9 {
        ann.say(&r, &n.to_string()).await.unwrap();
    }
    let cases = [
        (PageFrom::After(seq(4)), 2, vec![5, 6], true),
        (PageFrom::After(seq(7)), 2, vec![8, 9], false),
        (PageFrom::After(seq(9)), 2, vec![], false),
        (PageFrom::Before(seq(4)), 2, vec![3, 2], true),
        (PageFrom::Before(seq(3)), 2, vec![2, 1], false),
        (PageFrom::Before(seq(1)), 2, vec![], false),
        (PageFrom::Before(Seq::MAX), 1, vec![9], true),
    ];
    for (from, limit, expected, more) in cases {
        let page = ann.history(&r, from, limit).await.unwrap();
        assert_eq!((seqs(&page), page.more), (expected, more), "{from:?}");
    }
    assert_eq!(ann.history(&r, PageFrom::After(seq(10)), 2).await.unwrap_err(), Code::AheadOfHead);
    bystander.ends_untouched(&world).await;
}

/// A limit over the maximum page returns a page of the maximum, and `more`.
pub async fn a_huge_limit_is_cut_down<F: TransportFactory>(shape: Shape) {
    let config = EngineConfig::default().max_page(3);
    let world = World::<F>::with(shape, Setup { config, ..Setup::default() }).await;
    let r = world.group("r", &["ann", "b", "c", "d", "e"]).await;
    let mut ann = world.peer("ann").await;
    for n in 2..=6 {
        ann.say(&r, &n.to_string()).await.unwrap();
    }
    let page = ann.history(&r, PageFrom::After(Seq::ZERO), u32::MAX).await.unwrap();
    assert_eq!((seqs(&page), page.more), (vec![1, 2, 3], true));
    let members = ann.members(&r, None, u32::MAX).await.unwrap();
    assert_eq!((members.members.len(), members.more), (3, true));
}

/// A page of another epoch than the room's is refused with 4402.
pub async fn another_epoch_is_refused<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    let right = world.head(&r).await.epoch;
    let wrong = Epoch { generation: right.generation ^ 1, ..right };
    let ask = |epoch| CommandBody::History {
        room: r.clone(),
        epoch: Some(epoch),
        from: PageFrom::After(Seq::ZERO),
        limit: 5,
    };
    assert!(ann.ask(ask(right)).await.is_ok());
    assert_eq!(ann.ask(ask(wrong)).await.unwrap_err(), Code::WrongEpoch);
    bystander.ends_untouched(&world).await;
}

/// A page that would begin in the trimmed part begins at the first retained event.
pub async fn trimmed_page_begins_at_first_retained<F: TransportFactory>(shape: Shape) {
    let store = Arc::new(MemoryStore::new().keep_events(5));
    let world = World::<F>::with(shape, Setup { store, ..Setup::default() }).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    for n in 2..=12 {
        ann.say(&r, &n.to_string()).await.unwrap();
    }
    let page = ann.history(&r, PageFrom::After(seq(3)), 2).await.unwrap();
    assert_eq!((page.first, seqs(&page), page.more), (seq(8), vec![8, 9], true));
    let page = ann.history(&r, PageFrom::Before(seq(10)), 50).await.unwrap();
    assert_eq!((page.first, seqs(&page), page.more), (seq(8), vec![9, 8], false));
    // A subscription with a cursor in the trimmed part gets the status `gap`.
    let since = Cursor { seq: seq(3), ..world.head(&r).await };
    let status = ann.subscribe(&r, Some(since)).await.unwrap();
    assert_eq!((status.status, status.cursor.unwrap().seq), (Status::Gap, seq(7)));
    for n in 8..=12 {
        assert_eq!(ann.heard().await, n.to_string());
    }
}
