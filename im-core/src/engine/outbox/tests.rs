use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::id::{Epoch, EventKind};
use crate::ports::{Head, StateSnapshot};
use crate::state::{RoomRecord, StateLimits};
use crate::time::Timestamp;
use crate::wire::{Content, Event, Limits, RoomKind};

use super::super::room::{Added, Recent, WindowBounds};

fn at(n: u64) -> Cursor {
    Cursor { epoch: Epoch { generation: 1, incarnation: 1 }, seq: Seq::new(n).unwrap() }
}

fn event(n: u64) -> Arc<Outgoing> {
    Outgoing::event(Arc::new(Event {
        room: RoomId::new("room").unwrap(),
        epoch: at(n).epoch,
        seq: at(n).seq,
        from: UserId::new("sender").unwrap(),
        at: Timestamp::from_millis(0),
        kind: EventKind::message(),
        id: None,
        content: Content::text("hello", &Limits::default()).unwrap(),
    }))
}

/// A room whose log was applied up to `head`.
fn room(head: u64) -> Arc<Room> {
    let windows =
        WindowBounds { events: 10, bytes: 10_000, all_bytes: 10_000, used: AtomicUsize::new(0) };
    let room = Arc::new(Room::new(RoomId::new("room").unwrap(), Arc::new(windows)));
    let record = RoomRecord {
        id: room.id().clone(),
        kind: RoomKind::Group,
        open: false,
        epoch: at(head).epoch,
        head: at(head).seq,
        first: Seq::FIRST,
        created: Timestamp::from_millis(0),
        members: 1,
        bytes: 0,
        erased: 0,
    };
    let head = Head { cursor: at(head), first: Seq::FIRST, state_revision: 0, erased: 0 };
    room.load(&record, head, StateSnapshot::default(), &StateLimits::default());
    room
}

fn outbox() -> Arc<Outbox> {
    Arc::new(Outbox::new(Arc::new(OutboxBounds {
        bytes: 10_000,
        all_bytes: 10_000,
        signals: 10,
        in_flight: 10,
        slow_reader: SlowReader::CatchUp,
        used: AtomicUsize::new(0),
    })))
}

fn lag(outbox: &Outbox) -> Lag {
    let mut take = outbox.take(1000);
    while take.lag.is_none() && !(take.items.is_empty() && take.snapshot.is_none()) {
        take = outbox.take(1000);
    }
    take.lag.expect("the reader lags")
}

#[test]
fn an_event_that_is_applied_while_the_end_of_the_log_is_looked_at_is_not_forgotten() {
    let (room, outbox) = (room(10), outbox());
    // The store has 11 already; the room is about to apply it.
    assert_eq!(
        room.add_reader(&outbox, Start { from: at(10), authorised: at(11).seq, state: None }),
        Added::Reads
    );
    let lag = lag(&outbox);
    let Recent::Level(head) = room.recent(lag.after, 1000) else {
        panic!("11 was not applied yet")
    };
    room.apply(event(11));
    outbox.fed_up_to_head(&lag, head);

    let lag = self::lag(&outbox);
    let Recent::Events(items) = room.recent(lag.after, 1000) else { panic!("11 is in the window") };
    assert_eq!(outbox.feed(&lag, &items, false), Fed::On);
    let taken = outbox.take(1000).items;
    assert!(
        matches!(&taken[..], [Taken::Push(push)] if push.as_event().unwrap().seq == at(11).seq)
    );
}

#[test]
fn a_hint_that_does_not_hold_leaves_nobody_waiting() {
    let (room, outbox) = (room(10), outbox());
    assert_eq!(
        room.add_reader(&outbox, Start { from: at(10), authorised: at(11).seq, state: None }),
        Added::Reads
    );
    let lag = lag(&outbox);
    outbox.fed_up_to_head(&lag, at(10).seq);
    assert!(outbox.take(1000).lag.is_none());
    room.apply(event(11));
    assert_eq!(outbox.take(1000).items.len(), 1);
}

#[test]
fn a_queue_that_is_dropped_while_the_log_is_read_is_no_fault_of_the_store() {
    let (room, outbox) = (room(10), outbox());
    assert_eq!(
        room.add_reader(&outbox, Start { from: at(10), authorised: at(12).seq, state: None }),
        Added::Reads
    );
    let next = || outbox.inner.lock().next_lag().expect("the reader lags");
    assert_eq!(outbox.feed(&next(), &[event(11)], false), Fed::On);
    let lag = next();
    assert_eq!(lag.after, at(11));
    outbox.inner.lock().overflow(&outbox.bounds);
    assert_eq!(outbox.feed(&lag, &[event(12)], false), Fed::On);
    assert_eq!(next().after, at(10));
    // A hole where nothing was dropped is one.
    assert_eq!(outbox.feed(&next(), &[event(12)], false), Fed::Stuck);
}
