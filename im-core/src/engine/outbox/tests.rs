mod model;
mod positions;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::super::config::EngineConfig;
use super::*;
use crate::code::Code;
use crate::id::{Cursor, Epoch, EventKind, NodeId, RoomId, Seq, StateKey};
use crate::ports::{Head, StateSnapshot};
use crate::state::{RoomRecord, StateLimits};
use crate::time::{Stamp, Timestamp};
use crate::wire::{Content, Event, Limits, Push, RoomKind, RoomStatus, StateUpdate, Status};

use super::super::room::{SubscribeOutcome, WindowBounds, WindowRead};

fn at(n: u64) -> Cursor {
    Cursor { epoch: Epoch { generation: 1, incarnation: 1 }, seq: Seq::new(n).unwrap() }
}

/// A cursor in the next epoch.
fn new_epoch(n: u64) -> Cursor {
    Cursor { epoch: Epoch { generation: 1, incarnation: 2 }, ..at(n) }
}

fn event(n: u64) -> Arc<Outgoing> {
    event_at(at(n))
}

fn event_at(at: Cursor) -> Arc<Outgoing> {
    event_of(RoomId::new("room").unwrap(), at)
}

fn event_of(room: RoomId, Cursor { epoch, seq }: Cursor) -> Arc<Outgoing> {
    Outgoing::event(Arc::new(Event {
        room,
        epoch,
        seq,
        from: UserId::new("sender").unwrap(),
        at: Timestamp::from_millis(0),
        kind: EventKind::message(),
        id: None,
        content: Content::text("hello", &Limits::default()).unwrap(),
    }))
}

/// A room whose log was applied up to `head`.
fn room(head: u64) -> Arc<Room> {
    named_room("room", head)
}

fn named_room(id: &str, head: u64) -> Arc<Room> {
    let windows = WindowBounds {
        events: 10,
        bytes: 10_000,
        all_bytes: 10_000,
        used: AtomicUsize::new(0),
        state_bytes: 10_000,
        state_used: AtomicUsize::new(0),
    };
    let room = Arc::new(Room::new(RoomId::new(id).unwrap(), Arc::new(windows)));
    let (record, head) = looked_up(&room, at(head));
    room.load(&record, head, StateSnapshot::default(), 1, &StateLimits::default());
    room
}

/// The record and head of a room that ends at `head`.
fn looked_up(room: &Room, head: Cursor) -> (RoomRecord, Head) {
    let record = RoomRecord {
        id: room.id().clone(),
        kind: RoomKind::Group,
        open: false,
        epoch: head.epoch,
        head: head.seq,
        first: Seq::FIRST,
        created: Timestamp::from_millis(0),
        members: 1,
        bytes: 0,
        erased: 0,
    };
    (record, Head { cursor: head, first: Seq::FIRST, state_revision: 0, erased: 0 })
}

/// Restarts the room in a new epoch that ends at `head`.
fn restart(room: &Room, head: Cursor) {
    let (record, head) = looked_up(room, head);
    assert!(room.restart(&record, head, &room.subscribers()));
}

fn outbox() -> Arc<Outbox> {
    Arc::new(Outbox::new(Arc::new(bounds())))
}

fn bounds() -> OutboxBounds {
    OutboxBounds {
        bytes: 10_000,
        all_bytes: 10_000,
        signals: 10,
        in_flight: 10,
        slow_subscriber: SlowSubscriber::CatchUp,
        used: AtomicUsize::new(0),
        ack_budget: Arc::new(AckBudget::new(&EngineConfig::default())),
    }
}

/// Sets a key of the room's state.
fn put_state(room: &Room, key: &str, ms: u64) {
    let update = StateUpdate {
        room: room.id().clone(),
        key: StateKey::new(key).unwrap(),
        stamp: Stamp { ms: Timestamp::from_millis(ms), counter: 0, node: NodeId(1) },
        from: UserId::new("sender").unwrap(),
        value: Some(Content::text("on", &Limits::default()).unwrap()),
    };
    room.merge(Arc::new(update), &StateLimits::default());
}

fn catch_up(outbox: &Outbox) -> CatchUp {
    let mut take = outbox.take(1000);
    while take.catch_up.is_none() && !(take.items.is_empty() && take.snapshot.is_none()) {
        take = outbox.take(1000);
    }
    take.catch_up.expect("the reader lags")
}

/// An event that is applied while the head is read reaches the subscriber.
#[test]
fn event_during_head_read_is_delivered() {
    let (room, outbox) = (room(10), outbox());
    // The store has 11 already; the room is about to apply it.
    assert_eq!(
        room.add_subscriber(
            &outbox,
            SubscriptionStart { cursor: at(10), authorised_at: at(11).seq, state_digest: None }
        ),
        SubscribeOutcome::Subscribed
    );
    let catch_up = catch_up(&outbox);
    let WindowRead::AtHead(head) = room.read_window(catch_up.after, 1000) else {
        panic!("11 was not applied yet")
    };
    room.apply(event(11));
    outbox.caught_up_to(&catch_up, head);

    let catch_up = self::catch_up(&outbox);
    let WindowRead::Events(items) = room.read_window(catch_up.after, 1000) else {
        panic!("11 is in the window")
    };
    assert_eq!(outbox.enqueue_history(&catch_up, &items, false), CatchUpOutcome::Advanced);
    let taken = outbox.take(1000).items;
    assert!(
        matches!(&taken[..], [OutboxItem::Push(push)] if push.as_event().unwrap().seq == at(11).seq)
    );
}

/// A hint of a head that does not exist leaves no subscriber catching up.
#[test]
fn false_hint_leaves_no_catch_up() {
    let (room, outbox) = (room(10), outbox());
    assert_eq!(
        room.add_subscriber(
            &outbox,
            SubscriptionStart { cursor: at(10), authorised_at: at(11).seq, state_digest: None }
        ),
        SubscribeOutcome::Subscribed
    );
    let catch_up = catch_up(&outbox);
    outbox.caught_up_to(&catch_up, at(10).seq);
    assert!(outbox.take(1000).catch_up.is_none());
    room.apply(event(11));
    assert_eq!(outbox.take(1000).items.len(), 1);
}

/// A queue that is dropped during a read restarts the read and is no store error.
#[test]
fn overflow_during_catch_up_is_reread() {
    let (room, outbox) = (room(10), outbox());
    assert_eq!(
        room.add_subscriber(
            &outbox,
            SubscriptionStart { cursor: at(10), authorised_at: at(12).seq, state_digest: None }
        ),
        SubscribeOutcome::Subscribed
    );
    let next = || outbox.inner.lock().next_catch_up().expect("the reader lags");
    assert_eq!(outbox.enqueue_history(&next(), &[event(11)], false), CatchUpOutcome::Advanced);
    let catch_up = next();
    assert_eq!(catch_up.after, at(11));
    outbox.inner.lock().overflow(&outbox.bounds);
    assert_eq!(outbox.enqueue_history(&catch_up, &[event(12)], false), CatchUpOutcome::Advanced);
    assert_eq!(next().after, at(10));
    // A gap where nothing was dropped is a store error.
    assert_eq!(outbox.enqueue_history(&next(), &[event(12)], false), CatchUpOutcome::Stalled);
}

/// Nothing is delivered on a connection that has ended: its session may have ended, too.
#[test]
fn page_read_across_close_is_dropped() {
    let (room, outbox) = (room(10), outbox());
    room.add_subscriber(
        &outbox,
        SubscriptionStart { cursor: at(10), authorised_at: at(11).seq, state_digest: None },
    );
    let catch_up = catch_up(&outbox);
    outbox.close(Disconnect {
        code: Code::LoggedOut.number(),
        message: "".into(),
        retry_after: None,
    });
    assert_eq!(outbox.enqueue_history(&catch_up, &[event(11)], false), CatchUpOutcome::Advanced);
    assert_eq!(drain(&outbox).0, []);
}

/// The end drops the queue; a page that is being read, and continues it, must not follow what was
/// delivered.
#[test]
fn page_behind_dropped_queue_is_dropped() {
    let (room, outbox) = (room(10), outbox());
    room.add_subscriber(
        &outbox,
        SubscriptionStart { cursor: at(10), authorised_at: at(13).seq, state_digest: None },
    );
    let next = || outbox.inner.lock().next_catch_up().expect("the reader lags");
    assert_eq!(
        outbox.enqueue_history(&next(), &[event(11), event(12)], false),
        CatchUpOutcome::Advanced
    );
    let catch_up = next();
    outbox.close(Disconnect { code: Code::Closed.number(), message: "".into(), retry_after: None });
    assert_eq!(outbox.enqueue_history(&catch_up, &[event(13)], false), CatchUpOutcome::Advanced);
    assert_eq!(drain(&outbox).0, []);
    assert_eq!(outbox.delivered_position(room.id()).position.unwrap().0, at(10));
}

/// Subscribes to the room from its head.
fn subscribe(room: &Arc<Room>, outbox: &Arc<Outbox>) {
    let from = room.head().unwrap();
    let start = SubscriptionStart { cursor: from, authorised_at: from.seq, state_digest: None };
    assert_eq!(room.add_subscriber(outbox, start), SubscribeOutcome::Subscribed);
}

/// Takes everything. Returns the rooms of the events, and the number of snapshots due.
fn drain(outbox: &Outbox) -> (Vec<RoomId>, usize) {
    let (mut rooms, mut snapshots) = (Vec::new(), 0);
    loop {
        let take = outbox.take(1000);
        if take.items.is_empty() && take.snapshot.is_none() {
            return (rooms, snapshots);
        }
        snapshots += usize::from(take.snapshot.is_some());
        rooms.extend(take.items.iter().map(|taken| match taken {
            OutboxItem::Push(push) => match &push.push {
                Push::Event(event) => event.room.clone(),
                Push::State(update) => update.room.clone(),
                Push::Room(status) => status.room.clone(),
                other => panic!("unexpected: {other:?}"),
            },
            OutboxItem::Ack(_) => panic!("nobody has asked"),
        }));
    }
}

/// A subscription id that a new room reuses gets no events of the old room.
#[test]
fn reused_id_gets_no_old_events() {
    let (old, new, outbox) = (room(10), named_room("new", 10), outbox());
    subscribe(&old, &outbox);
    // It is still on the old room's list.
    let subscription = outbox.unsubscribe(old.id()).unwrap();
    subscribe(&new, &outbox);
    assert_eq!(drain(&outbox), (vec![], 1));
    old.apply(event(11));
    put_state(&old, "kettle", 1);
    old.set_state_generation(2);
    old.rewritten(1);
    assert_eq!(drain(&outbox), (vec![], 0));
    old.remove_subscriber(subscription.subscriber_id, &outbox);
    assert!(old.is_idle());
    put_state(&new, "kettle", 1);
    assert_eq!(drain(&outbox), (vec![new.id().clone()], 0));
}

#[test]
fn rejoined_subscriber_ignores_earlier_removal() {
    let (room, other, outbox) = (room(10), named_room("other", 10), outbox());
    subscribe(&room, &outbox);
    let before = outbox.unsubscribe(room.id()).unwrap().subscriber_id;
    room.remove_subscriber(before, &outbox);
    [&other, &room].iter().for_each(|room| subscribe(room, &outbox));
    drain(&outbox);
    // The read of its log learns only now that there was nothing more to read.
    room.remove_subscriber(before, &outbox);
    room.apply(event(11));
    assert_eq!(drain(&outbox), (vec![room.id().clone()], 0));
}

/// A subscriber that reached a new epoch before its room is not reset again.
#[test]
fn subscriber_in_newer_epoch_stays() {
    let (room, outbox) = (room(10), outbox());
    room.add_subscriber(
        &outbox,
        SubscriptionStart { cursor: at(10), authorised_at: at(11).seq, state_digest: None },
    );
    let catch_up = catch_up(&outbox);
    outbox.jump(&catch_up, Status::Reset, new_epoch(3), new_epoch(3).seq);
    assert_eq!(drain(&outbox).0, [room.id().clone()], "it is told");
    restart(&room, new_epoch(5));
    assert_eq!(drain(&outbox), (vec![], 1), "what came between is not passed over");
    assert_eq!(self::catch_up(&outbox).after, new_epoch(3));
}

/// A room whose epoch changed since the lookup is read from the log first.
#[test]
fn subscribe_after_epoch_change_catches_up() {
    let (room, outbox) = (room(10), outbox());
    restart(&room, new_epoch(5));
    // Both seem to be at their head.
    room.add_subscriber(
        &outbox,
        SubscriptionStart { cursor: at(5), authorised_at: at(5).seq, state_digest: None },
    );
    room.apply(event_at(new_epoch(6)));
    assert_eq!(drain(&outbox), (vec![], 1), "it is told first that the room is another one");
    let catch_up = catch_up(&outbox);
    assert_eq!(catch_up.after, at(5));
    assert!(matches!(room.read_window(catch_up.after, 1000), WindowRead::OtherEpoch));
    outbox.jump(&catch_up, Status::Reset, new_epoch(6), new_epoch(6).seq);
    room.apply(event_at(new_epoch(7)));
    assert_eq!(drain(&outbox).0, [room.id().clone(), room.id().clone()]);
    assert_eq!(outbox.delivered_position(room.id()).position.unwrap().0, new_epoch(7));
}

/// A room that is behind delivers nothing of its older epoch to a new subscriber.
#[test]
fn stale_room_delivers_no_old_epoch() {
    let (room, outbox) = (room(5), outbox());
    room.add_subscriber(
        &outbox,
        SubscriptionStart {
            cursor: new_epoch(5),
            authorised_at: new_epoch(5).seq,
            state_digest: None,
        },
    );
    room.apply(event(6));
    assert_eq!(drain(&outbox), (vec![], 1));
    restart(&room, new_epoch(5));
    room.apply(event_at(new_epoch(6)));
    assert_eq!(drain(&outbox), (vec![], 1), "and is not reset");
    let catch_up = catch_up(&outbox);
    let WindowRead::Events(items) = room.read_window(catch_up.after, 1000) else {
        panic!("6 is in the window")
    };
    assert_eq!(outbox.enqueue_history(&catch_up, &items, false), CatchUpOutcome::Advanced);
    assert_eq!(drain(&outbox).0, [room.id().clone()]);
    assert_eq!(outbox.delivered_position(room.id()).position.unwrap().0, new_epoch(6));
}

#[test]
fn page_read_before_erasure_is_reread() {
    let (room, outbox) = (room(10), outbox());
    room.add_subscriber(
        &outbox,
        SubscriptionStart { cursor: at(10), authorised_at: at(11).seq, state_digest: None },
    );
    let catch_up = catch_up(&outbox);
    room.apply(event(11));
    let WindowRead::Events(items) = room.read_window(catch_up.after, 1000) else {
        panic!("11 is in the window")
    };
    room.rewritten(1);
    assert_eq!(outbox.enqueue_history(&catch_up, &items, false), CatchUpOutcome::Advanced);
    assert_eq!(drain(&outbox).0, []);
    let catch_up = self::catch_up(&outbox);
    assert!(
        matches!(room.read_window(catch_up.after, 1000), WindowRead::Miss),
        "it is asked of the store"
    );
    assert_eq!(outbox.enqueue_history(&catch_up, &[event(11)], false), CatchUpOutcome::Advanced);
    assert_eq!(drain(&outbox).0, [room.id().clone()]);
}

/// A room does not apply an event that was read before an erasure.
#[test]
fn event_read_before_erasure_is_refused() {
    let room = room(10);
    let before = room.erased();
    room.rewritten(1);
    assert!(!room.apply_read(event(11), before));
    assert_eq!(room.head(), Some(at(10)));
    assert!(room.apply_read(event(11), room.erased()));
    assert_eq!(room.head(), Some(at(11)));
}

/// A read of the log of an older epoch resets no subscriber.
#[test]
fn old_epoch_read_moves_nothing_back() {
    let (room, outbox) = (room(10), outbox());
    room.add_subscriber(
        &outbox,
        SubscriptionStart { cursor: at(10), authorised_at: at(11).seq, state_digest: None },
    );
    let catch_up = catch_up(&outbox);
    restart(&room, new_epoch(5));
    outbox.jump(&catch_up, Status::Reset, new_epoch(3), new_epoch(3).seq);
    assert_eq!(drain(&outbox).0, [room.id().clone()], "it is told once");
    assert_eq!(outbox.delivered_position(room.id()).position.unwrap().0, new_epoch(5));
}

/// A subscriber with state of an older generation gets the whole state.
#[test]
fn old_generation_state_gets_full_snapshot() {
    let (room, outbox) = (room(10), outbox());
    put_state(&room, "kettle", 1);
    let state = Some(room.state_digest());
    // Between the check of the digest and the entry in the list.
    room.set_state_generation(2);
    room.add_subscriber(
        &outbox,
        SubscriptionStart { cursor: at(10), authorised_at: at(10).seq, state_digest: state },
    );
    let held = || outbox.delivered_position(room.id()).position.unwrap().1;
    assert_eq!(held(), DeliveredState::Partial, "what it has is of the older one");
    assert!(outbox.take(1000).snapshot.is_some());
    let chunks = room.snapshot(1000, false).unwrap();
    let Push::Snapshot(snapshot) = &chunks[0].push else { panic!("a snapshot") };
    assert_eq!((snapshot.generation, snapshot.entries.len()), (2, 1));
    assert_eq!(held(), DeliveredState::All(room.state_digest()));
    assert_ne!(Some(room.state_digest()), state);
}
