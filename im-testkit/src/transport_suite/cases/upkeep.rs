//! Upkeep: trimmed logs, deleted rooms and erased users while subscribers read.

use std::sync::Arc;
use std::time::Duration;

use im_core::memory::MemoryStore;
use im_core::state::Keep;
use im_core::wire::{MemberChange, PageFrom, Push, Role, Status};
use im_core::{Code, Cursor, EventKind, RoomId, Seq, UserId};

use super::slow::{COUNT, flood, small};
use super::*;
use crate::faulty_store::{FaultyStore, Moment, Operation};

pub(super) fn last(count: u64) -> Keep {
    Keep { count: Some(count), ..Keep::ALL }
}

/// Reads up to `end` and returns the number of `gap` statuses. Every event must be the next one,
/// unless a `gap` status precedes it.
pub(super) async fn reads_on(peer: &mut Peer, room: &RoomId, mut at: Seq, end: Seq) -> usize {
    let mut gaps = 0;
    while at < end {
        match peer.push().await {
            Push::Event(event) => {
                assert_eq!(event.seq, at.next(), "no gap and no redelivery");
                at = event.seq;
            }
            Push::Room(status) => {
                assert_eq!((&status.room, status.status), (room, Status::Gap));
                let to = status.cursor.expect("a gap status has a cursor").seq;
                assert!(to > at, "a gap moves the cursor forward");
                at = to;
                gaps += 1;
            }
            Push::Snapshot(_) => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
    gaps
}

/// A subscriber whose next events were trimmed gets one `gap` and then every retained event.
pub async fn cursor_behind_trim_gets_gap<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, small(im_core::engine::SlowSubscriber::CatchUp)).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let mut slow = world.peer("bob").await;
    slow.subscribe(&r, None).await.unwrap();
    flood(&world, &r).await;
    world.engine().trim_room(&r, &last(3)).await.unwrap();
    assert_eq!(reads_on(&mut slow, &r, seq(1), seq(COUNT + 1)).await, 1);
    let mut ann = world.peer("ann").await;
    ann.say(&r, "and on").await.unwrap();
    assert_eq!(slow.heard().await, "and on");
}

/// A log that is trimmed during every read, with lost hints, is delivered without a silent gap.
pub async fn constant_trims_leave_no_silent_gap<F: TransportFactory>(shape: Shape) {
    let config = EngineConfig::default().window_events(4).head_check(Duration::from_millis(20));
    let every_third = std::sync::atomic::AtomicUsize::new(0);
    let loses = move |_: &_| {
        every_third.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(3)
    };
    let setup = Setup { config, bus_loses: Arc::new(loses), ..Setup::default() };
    let world = World::<F>::with(shape, setup).await;
    let r = world.group("r", &["ann", "bob", "eve"]).await;
    let (mut bob, mut eve) = (world.nth_peer(0, "bob").await, world.nth_peer(1, "eve").await);
    let begin = Cursor { seq: Seq::ZERO, ..world.head(&r).await };
    bob.subscribe(&r, None).await.unwrap();
    eve.subscribe(&r, Some(begin)).await.unwrap();
    let writer = async {
        for n in 0..120 {
            let to = im_core::wire::Target::Room(r.clone());
            let publish = im_core::engine::Publish::text(to, user("ann"), &n.to_string());
            world.engine().publish(publish).await.unwrap();
            if n % 4 == 0 {
                world.engine().trim_room(&r, &last(n % 6)).await.unwrap();
            }
        }
    };
    let (bobs, eves) =
        (reads_on(&mut bob, &r, seq(1), seq(121)), reads_on(&mut eve, &r, seq(0), seq(121)));
    tokio::join!(writer, bobs, eves);
}

/// A cursor before the first retained event gets `gap`, and every retained event.
pub async fn resume_before_trim_gets_gap<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let mut ann = world.peer("ann").await;
    ann.subscribe(&r, None).await.unwrap();
    for n in 2..=10 {
        ann.say(&r, &n.to_string()).await.unwrap();
    }
    world.engine().trim_room(&r, &last(4)).await.unwrap();
    let mut bob = world.peer("bob").await;
    let since = Cursor { seq: seq(3), ..world.head(&r).await };
    let status = bob.subscribe(&r, Some(since)).await.unwrap();
    assert_eq!((status.status, status.cursor.unwrap().seq), (Status::Gap, seq(6)));
    for n in 7..=10 {
        assert_eq!(bob.heard().await, n.to_string());
    }
    let page = bob.history(&r, PageFrom::Before(Seq::MAX), 50).await.unwrap();
    assert_eq!((page.first, page.events.len(), page.more), (seq(7), 4, false));
}

/// Subscribers of a deleted room get `denied`. A room created again under its id has another epoch
/// and shares nothing with it.
pub async fn deleted_room_is_denied_to_subscribers<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let (r, other) = (world.group("r", &["ann", "bob"]).await, world.group("o", &["bob"]).await);
    let (mut ann, mut bob) = (world.nth_peer(0, "ann").await, world.nth_peer(1, "bob").await);
    let old = world.head(&r).await;
    for peer in [&mut ann, &mut bob] {
        peer.subscribe(&r, None).await.unwrap();
    }
    bob.subscribe(&other, None).await.unwrap();
    world.engine().delete_room(&r).await.unwrap();
    assert_eq!(world.engine().delete_room(&r).await.unwrap_err().code(), Code::NotFound);
    for peer in [&mut ann, &mut bob] {
        let status = peer.status().await;
        assert_eq!((&status.room, status.status), (&r, Status::Denied));
        assert_eq!(status.code, Some(Code::NotFound.number()));
        assert_eq!(peer.say(&r, "hello?").await.unwrap_err(), Code::NotFound);
        assert_eq!(peer.subscribe(&r, Some(old)).await.unwrap_err(), Code::NotFound);
    }
    // Created again, with ann as the only member.
    assert_eq!(world.group("r", &["ann"]).await, r);
    let status = ann.subscribe(&r, Some(old)).await.unwrap();
    assert_eq!((status.status, status.cursor.unwrap().seq), (Status::Reset, seq(1)));
    assert_eq!(bob.subscribe(&r, Some(old)).await.unwrap_err(), Code::NotFound);
    ann.say(&r, "in the new room").await.unwrap();
    assert_eq!(ann.heard().await, "in the new room");
    bob.say(&other, "elsewhere").await.unwrap();
    assert_eq!(bob.heard().await, "elsewhere", "no event of the room in between");
}

/// An erased user's content, state and membership are gone from windows, store and new
/// subscriptions. Seqs stay.
pub async fn erased_user_is_gone_everywhere<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.nth_peer(0, "ann").await, world.nth_peer(1, "bob").await);
    ann.subscribe(&r, None).await.unwrap();
    bob.subscribe(&r, None).await.unwrap();
    bob.say(&r, "a secret").await.unwrap();
    ann.say(&r, "an answer").await.unwrap();
    assert_eq!(ann.heard().await, "a secret");
    assert_eq!(ann.heard().await, "an answer");
    bob.put_state(&r, "k", "bob's", None).await.unwrap();
    ann.state().await;
    assert_eq!(world.engine().erase_user(&user("bob")).await.unwrap(), 3);
    bob.ended_with(Code::Kicked).await;
    let (mut unset, mut removed) = (false, false);
    while !(unset && removed) {
        match ann.push().await {
            Push::State(update) => unset = update.value.is_none(),
            Push::Snapshot(part) => unset |= part.entries.iter().all(|e| e.value.is_none()),
            Push::Event(event) => {
                assert_eq!((event.seq, &event.from), (seq(4), &UserId::erased()));
                removed = true;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    // From the hot window of either node, and from the store.
    let begin = Cursor { seq: Seq::ZERO, ..world.head(&r).await };
    for n in 0..2 {
        let mut again = world.nth_peer(n, "ann").await;
        again.subscribe(&r, Some(begin)).await.unwrap();
        let mut log = Vec::new();
        while log.len() < 4 {
            match again.push().await {
                Push::Event(event) => log.push(event),
                Push::Snapshot(_) => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
        assert_eq!((&log[1].from, &log[1].kind), (&UserId::erased(), &EventKind::erased()));
        assert_eq!(text(&log[1]), None);
        assert_eq!(text(&log[2]).as_deref(), Some("an answer"));
        assert_eq!(log[3].member_changes(), [MemberChange::Removed(UserId::erased())]);
        let page = again.members(&r, None, 9).await.unwrap();
        let left: Vec<_> = page.members.iter().map(|m| (m.user.clone(), m.role)).collect();
        assert_eq!(left, [(user("ann"), Role::Owner)]);
    }
}

/// Content that was read from the store before an erasure is not delivered after it, to
/// subscriptions that started before or during it.
pub async fn reads_before_erasure_are_not_delivered<F: TransportFactory>(shape: Shape) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let world = World::<F>::with(shape, Setup { store: store.clone(), ..Setup::default() }).await;
    let r = world.group("r", &["ann", "bob", "eve"]).await;
    let begin = Cursor { seq: Seq::ZERO, ..world.head(&r).await };
    world.nth_peer(0, "bob").await.say(&r, "a secret").await.unwrap();
    // On the node that erases: another node gets the hint later.
    let (mut ann, mut eve) = (world.nth_peer(0, "ann").await, world.nth_peer(0, "eve").await);
    let gate = store.hold(Operation::Read, Moment::After);
    // A poll delivers the status of the room together with the events.
    let reads = async |peer: &mut Peer| {
        peer.subscribe(&r, Some(begin)).await.unwrap();
        (peer.event().await, peer.event().await)
    };
    let erased = async {
        soon(gate.reached(1)).await;
        world.engine().erase_user(&user("bob")).await.unwrap();
        let second = async {
            soon(gate.reached(2)).await;
            gate.open();
        };
        tokio::join!(reads(&mut eve), second).0
    };
    let (anns, eves) = tokio::join!(reads(&mut ann), erased);
    for (first, second) in [anns, eves] {
        assert_eq!((first.seq, second.seq), (seq(1), seq(2)));
        assert_eq!((&second.from, text(&second)), (&UserId::erased(), None));
    }
}

/// The reserved id of erased users cannot authenticate.
pub async fn erased_user_cannot_authenticate<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let mut nobody = world.dial().await;
    let refused = nobody.hello(hello_as(UserId::erased().as_str())).await;
    assert_eq!(refused.unwrap_err(), Code::BadCredentials);
}
