use im_core::id::NodeId;
use im_core::wire::{Content, Limits, Signal, Status, Target};
use im_core::{
    Cursor, Epoch, EventKind, MessageId, RoomId, Seq, Stamp, StateKey, Timestamp, UserId,
};

use super::{Checker, Fingerprint, Rule, Subscriber, Verdict};

/// One room, one sender, one subscriber; id and content of each message follow from its number.
struct World {
    checker: Checker,
    subscriber: Subscriber,
    room: RoomId,
    sender: UserId,
}

fn seq(n: u64) -> Seq {
    Seq::new(n).unwrap()
}

fn at(n: u64) -> Cursor {
    Cursor { epoch: Epoch { generation: 1, incarnation: 1 }, seq: seq(n) }
}

fn elsewhere(n: u64) -> Cursor {
    Cursor { epoch: Epoch { generation: 2, incarnation: 1 }, seq: seq(n) }
}

fn id(n: u64) -> MessageId {
    MessageId::new(format!("message-{n:016}")).unwrap()
}

fn says(text: &str) -> Fingerprint {
    Fingerprint::of(&EventKind::message(), &Content::text(text, &Limits::default()).unwrap())
}

fn stamp(ms: u64) -> Stamp {
    Stamp { ms: Timestamp::from_millis(ms), counter: 0, node: NodeId(1) }
}

impl World {
    fn new() -> Self {
        let checker = Checker::new();
        let subscriber = checker.subscriber("reader");
        Self {
            checker,
            subscriber,
            room: RoomId::new("room").unwrap(),
            sender: UserId::new("sender").unwrap(),
        }
    }

    /// Messages 1 to `n` are sent and acked in order, and the subscriber starts before the first.
    fn with_acked(n: u64) -> Self {
        let mut world = Self::new();
        (1..=n).for_each(|n| world.send(n, "hello"));
        (1..=n).for_each(|n| world.ack(n, "hello", at(n)));
        world.connect(Status::Ok, at(0), 0);
        world
    }

    fn send(&self, n: u64, text: &str) {
        self.checker.sent(&self.sender, &self.room, &id(n), says(text));
    }

    fn ack(&self, n: u64, text: &str, at: Cursor) {
        self.checker.acked(&self.sender, &self.room, &id(n), says(text), at);
    }

    fn connect(&mut self, status: Status, cursor: Cursor, head: u64) {
        self.subscriber.connected();
        self.subscriber.status(&self.room, status, Some(cursor), seq(head));
    }

    fn deliver(&mut self, n: u64, at: Cursor) {
        self.subscriber.delivered(&self.room, at, &self.sender, Some(&id(n)), says("hello"));
    }

    fn deliver_all(&mut self, seqs: impl IntoIterator<Item = u64>) {
        seqs.into_iter().for_each(|n| self.deliver(n, at(n)));
    }

    fn finish(self) -> Verdict {
        self.subscriber.finish();
        self.checker.finish()
    }

    #[track_caller]
    fn breaks(self, expected: &[(Rule, u64)]) {
        let verdict = self.finish();
        let found: Vec<_> = verdict.broken.iter().map(|(rule, count)| (*rule, *count)).collect();
        assert_eq!(found, expected, "{verdict}");
    }
}

#[test]
fn correct_history_breaks_no_rule() {
    let mut world = World::with_acked(4);
    world.deliver_all(1..=3);
    world.connect(Status::Ok, at(1), 4);
    world.deliver_all(2..=4);
    world.ack(2, "hello", at(2));
    let verdict = world.finish();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.sends, verdict.acked, verdict.deliveries), (4, 4, 6));
}

/// A send without an ack may be visible or absent.
#[test]
fn unacked_send_may_be_visible() {
    let mut world = World::with_acked(2);
    world.send(3, "hello");
    world.send(4, "hello");
    world.deliver_all(1..=3);
    world.breaks(&[]);
}

#[test]
fn unstored_acked_send_is_lost() {
    let mut world = World::with_acked(3);
    world.deliver_all(1..=3);
    world.checker.not_stored(&world.room);
    let verdict = world.finish();
    assert_eq!(verdict.count(Rule::Lost), 3, "{verdict}");
}

/// An event that a subscriber in sync never received is lost.
#[test]
fn undelivered_event_is_lost() {
    let mut world = World::with_acked(3);
    world.deliver_all(1..=1);
    assert!(!world.subscriber.is_whole());
    world.breaks(&[(Rule::Lost, 2)]);
}

/// An event that arrives after the checker's last chance for it counts as lost.
#[test]
fn late_event_is_lost() {
    let mut world = World::with_acked(2);
    world.deliver_all([1]);
    world.subscriber.had_every_chance();
    world.deliver_all([2]);
    world.subscriber.had_every_chance();
    world.breaks(&[(Rule::Lost, 1)]);
}

#[test]
fn dropped_subscriber_is_owed_nothing() {
    let mut world = World::with_acked(3);
    world.deliver_all(1..=1);
    let World { checker, subscriber, .. } = world;
    drop(subscriber);
    assert!(checker.finish().is_clean());
}

/// A message that is stored under two seqs is reported as `Duplicated`.
#[test]
fn message_with_two_seqs_is_duplicated() {
    let mut world = World::with_acked(2);
    world.deliver_all(1..=2);
    world.deliver(1, at(3));
    world.breaks(&[(Rule::Duplicated, 1)]);
}

/// A seq delivered twice on one connection is reported as `Duplicated`.
#[test]
fn seq_twice_per_connection_is_duplicated() {
    let mut world = World::with_acked(2);
    world.deliver_all([1, 1, 2]);
    world.breaks(&[(Rule::Duplicated, 1)]);
}

/// A resumed stream may go back once and may skip nothing.
#[test]
fn resumed_stream_goes_back_once() {
    let delivers = |again: &[u64]| {
        let mut world = World::with_acked(5);
        world.deliver_all(1..=3);
        world.subscriber.resumed();
        world.deliver_all(again.iter().copied());
        let verdict = world.finish();
        (verdict.count(Rule::Duplicated), verdict.count(Rule::SilentGap))
    };
    assert_eq!(delivers(&[4, 5]), (0, 0));
    assert_eq!(delivers(&[2, 3, 4, 5]), (0, 0));
    assert_eq!(delivers(&[2, 3, 3, 4, 5]), (1, 0), "a second step back is a duplicate");
    assert_eq!(delivers(&[2, 4, 5]), (0, 1), "a gap stays a gap");
    assert_eq!(delivers(&[5]), (0, 1));
}

/// After a confirmation of 3, the stream is resumed again from an earlier stream position.
#[test]
fn resumed_stream_skips_confirmed_events() {
    let delivers = |confirmed: u64, then: &[u64]| {
        let mut world = World::with_acked(5);
        world.deliver_all(1..=3);
        world.subscriber.confirmed(&world.room, at(confirmed));
        world.subscriber.resumed();
        world.deliver_all([2]);
        world.subscriber.resumed();
        world.deliver_all(then.iter().copied());
        let whole = world.subscriber.is_whole();
        (whole, world.finish().count(Rule::SilentGap))
    };
    assert_eq!(delivers(3, &[4, 5]), (true, 0));
    assert_eq!(delivers(3, &[3, 4, 5]), (true, 0));
    assert_eq!(delivers(3, &[3, 5]), (false, 1));
    assert_eq!(delivers(3, &[5]), (false, 2), "4 was never delivered");
    assert_eq!(delivers(2, &[4, 5]), (false, 1), "3 was not confirmed");
    assert_eq!(delivers(5, &[5]), (false, 2), "more was confirmed than delivered");
}

/// As above, where the confirmed event is the head and nothing follows.
#[test]
fn confirmed_events_may_reach_head() {
    let ends = |confirmed: u64| {
        let mut world = World::with_acked(3);
        world.connect(Status::Ok, at(0), 3);
        world.deliver_all(1..=3);
        world.subscriber.confirmed(&world.room, at(confirmed));
        world.subscriber.resumed();
        world.deliver_all([2]);
        world.subscriber.resumed();
        let whole = world.subscriber.is_whole();
        (whole, world.finish().count(Rule::PartialResume))
    };
    assert_eq!(ends(3), (true, 0));
    assert_eq!(ends(2), (false, 1));
}

/// A checkpoint of an earlier connection may apply late: the room then begins before the status.
#[test]
fn resumed_stream_may_precede_status() {
    let mut world = World::with_acked(3);
    world.deliver_all(1..=2);
    world.connect(Status::Ok, at(2), 3);
    world.subscriber.resumed();
    world.deliver_all([2, 3]);
    assert!(world.finish().is_clean());
}

/// As above, where the client has the events from an earlier connection.
#[test]
fn earlier_connection_events_may_be_skipped() {
    let delivers = |resumed: bool| {
        let mut world = World::with_acked(5);
        world.deliver_all(1..=4);
        world.subscriber.confirmed(&world.room, at(3));
        world.connect(Status::Ok, at(1), 1);
        if resumed {
            world.subscriber.resumed();
        }
        world.deliver_all([4, 5]);
        world.finish().count(Rule::SilentGap)
    };
    assert_eq!(delivers(true), 0);
    assert_eq!(delivers(false), 2);
}

/// An event before the cursor that a connection resumed from is reported as `Duplicated`.
#[test]
fn event_before_cursor_is_duplicated() {
    let mut world = World::with_acked(3);
    world.deliver_all(1..=2);
    world.connect(Status::Ok, at(2), 3);
    world.deliver_all(2..=3);
    world.breaks(&[(Rule::Duplicated, 1)]);
}

/// Two swapped events are out of order and no gap.
#[test]
fn swapped_events_are_out_of_order() {
    let mut world = World::with_acked(4);
    world.deliver_all([1, 3, 2, 4]);
    world.breaks(&[(Rule::OutOfOrder, 1)]);
}

#[test]
fn a_senders_order_must_be_kept() {
    let mut world = World::new();
    (1..=2).for_each(|n| world.send(n, "hello"));
    world.ack(1, "hello", at(2));
    world.ack(2, "hello", at(1));
    world.connect(Status::Ok, at(2), 2);
    world.breaks(&[(Rule::OutOfOrder, 1)]);
}

/// A refused send and its later retry may come after younger messages.
#[test]
fn refused_send_has_no_order() {
    let mut world = World::new();
    (1..=2).for_each(|n| world.send(n, "hello"));
    world.checker.refused(&world.sender, &world.room, &id(1), says("hello"));
    world.ack(2, "hello", at(1));
    world.send(1, "hello");
    world.ack(1, "hello", at(2));
    world.connect(Status::Ok, at(2), 2);
    world.breaks(&[]);
}

#[test]
fn skipped_seq_is_silent_gap() {
    let mut world = World::with_acked(5);
    world.deliver_all([1, 2, 5]);
    assert_eq!(world.subscriber.cursor(&world.room), Some(at(2)));
    world.breaks(&[(Rule::SilentGap, 2)]);
}

/// A skip before a cut is a silent gap although the next connection delivers the events.
#[test]
fn skip_before_cut_is_silent_gap() {
    let mut world = World::with_acked(3);
    world.deliver_all([1, 3]);
    world.connect(Status::Ok, at(1), 3);
    world.deliver_all(2..=3);
    world.breaks(&[(Rule::SilentGap, 1)]);
}

#[test]
fn stated_gap_is_no_violation() {
    let mut world = World::with_acked(5);
    world.deliver_all(1..=2);
    world.connect(Status::Gap, at(4), 5);
    world.deliver_all([5]);
    world.breaks(&[]);
}

#[test]
fn gap_in_store_is_silent_gap() {
    let mut world = World::with_acked(0);
    world.checker.stored(&world.room, at(3), seq(2), std::iter::empty::<im_core::wire::Event>());
    world.subscriber.unsubscribed(&world.room);
    world.breaks(&[(Rule::SilentGap, 2)]);
}

#[test]
fn short_resume_is_partial() {
    let mut world = World::with_acked(5);
    world.deliver_all(1..=2);
    world.connect(Status::Ok, at(2), 5);
    world.deliver_all(3..=4);
    world.breaks(&[(Rule::PartialResume, 1)]);
}

#[test]
fn resume_skipping_to_live_is_partial() {
    let mut world = World::with_acked(6);
    world.deliver_all(1..=2);
    world.connect(Status::Ok, at(2), 5);
    world.deliver_all([3, 6]);
    world.breaks(&[(Rule::PartialResume, 2)]);
}

#[test]
fn a_resume_from_elsewhere_is_partial() {
    let mut world = World::with_acked(4);
    world.deliver_all(1..=2);
    world.connect(Status::Ok, at(3), 4);
    world.deliver_all([4]);
    world.breaks(&[(Rule::PartialResume, 1)]);
}

#[test]
fn resume_missing_room_is_partial() {
    let mut world = World::with_acked(1);
    world.deliver_all([1]);
    world.subscriber.connected();
    world.subscriber.subscribe_sent(&world.room, Some(at(1)));
    world.breaks(&[(Rule::PartialResume, 1)]);
}

#[test]
fn gap_and_reset_need_a_cause() {
    let mut world = World::with_acked(4);
    world.deliver_all(1..=2);
    world.connect(Status::Reset, at(4), 4);
    world.breaks(&[(Rule::PartialResume, 1)]);

    let mut world = World::with_acked(4);
    world.deliver_all(1..=4);
    world.connect(Status::Gap, at(2), 4);
    world.deliver_all(3..=4);
    world.breaks(&[(Rule::PartialResume, 1)]);
}

#[test]
fn another_epoch_needs_a_reset() {
    let mut world = World::with_acked(2);
    world.deliver_all(1..=2);
    world.deliver(3, elsewhere(1));
    world.breaks(&[(Rule::StaleEpoch, 1)]);

    let mut world = World::with_acked(2);
    world.deliver_all(1..=2);
    world.send(3, "hello");
    world.connect(Status::Reset, elsewhere(0), 0);
    world.ack(3, "hello", elsewhere(1));
    world.deliver(3, elsewhere(1));
    world.breaks(&[]);
}

/// A subscriber that stays in an old epoch breaks the rule `StaleEpoch`.
#[test]
fn subscriber_in_old_epoch_is_stale() {
    let mut world = World::with_acked(2);
    world.deliver_all(1..=2);
    world.send(3, "hello");
    world.ack(3, "hello", elsewhere(1));
    world.breaks(&[(Rule::StaleEpoch, 1)]);
}

#[test]
fn nothing_comes_after_the_removal() {
    let mut world = World::with_acked(4);
    world.deliver_all(1..=2);
    world.subscriber.removed(&world.room, seq(2));
    world.deliver_all([3]);
    world.breaks(&[(Rule::AfterRemoval, 1)]);

    let mut world = World::with_acked(4);
    world.deliver_all(1..=4);
    world.subscriber.removed(&world.room, seq(2));
    world.breaks(&[(Rule::AfterRemoval, 2)]);

    let mut world = World::with_acked(4);
    world.deliver_all(1..=2);
    world.subscriber.removed(&world.room, seq(2));
    world.breaks(&[]);
}

#[test]
fn nothing_comes_after_a_denial() {
    let mut world = World::with_acked(3);
    world.deliver_all(1..=2);
    world.subscriber.status(&world.room, Status::Denied, None, Seq::ZERO);
    world.deliver_all([3]);
    world.breaks(&[(Rule::AfterRemoval, 1)]);
}

#[test]
fn older_state_after_newer_is_violation() {
    let mut world = World::with_acked(0);
    let (room, key) = (world.room.clone(), StateKey::new("score").unwrap());
    for ms in [5, 7, 6] {
        world.subscriber.state(&room, &key, stamp(ms));
    }
    world.breaks(&[(Rule::OlderState, 1)]);
}

/// Acked state must arrive unless its generation ended.
#[test]
fn acked_state_must_arrive() {
    let world = || {
        let mut world = World::with_acked(1);
        world.deliver_all([1]);
        let (room, key) = (world.room.clone(), StateKey::new("score").unwrap());
        world.subscriber.generation(&room, 1);
        world.subscriber.state(&room, &key, stamp(5));
        world.checker.state_applied(&room, &key, stamp(7));
        (world, room)
    };
    let (late, _) = world();
    late.breaks(&[(Rule::OlderState, 1)]);
    let (mut restarted, room) = world();
    restarted.subscriber.generation(&room, 2);
    restarted.breaks(&[]);
}

/// A signal that is delivered twice is a violation on any connection.
#[test]
fn signal_is_delivered_once() {
    let mut world = World::with_acked(1);
    world.deliver_all([1]);
    let signal = |text: &str| Signal {
        to: Target::Room(world.room.clone()),
        from: world.sender.clone(),
        at: Timestamp::from_millis(1),
        kind: EventKind::message(),
        content: Content::text(text, &Limits::default()).unwrap(),
    };
    let (once, typing) = (signal("once"), signal("typing"));
    world.checker.signal_sent(&world.sender, &world.room, says("once"));
    for signal in [&once, &typing, &typing] {
        world.subscriber.signal(signal);
    }
    world.connect(Status::Ok, at(1), 1);
    world.subscriber.signal(&once);
    world.breaks(&[(Rule::Duplicated, 1)]);
}

#[test]
fn a_conflict_must_not_be_acknowledged() {
    let mut world = World::with_acked(1);
    world.deliver_all([1]);
    world.send(1, "something else");
    world.ack(1, "something else", at(1));
    world.breaks(&[(Rule::ConflictAccepted, 1)]);
}

#[test]
fn two_events_per_seq_are_fork() {
    let mut world = World::with_acked(2);
    world.deliver(1, at(1));
    world.deliver(3, at(2));
    world.breaks(&[(Rule::Forked, 1)]);
}

/// An acked send whose seq belongs to another event is lost.
#[test]
fn acked_send_without_seq_is_lost() {
    let mut world = World::with_acked(1);
    world.deliver_all([1]);
    world.send(2, "hello");
    let event = im_core::wire::Event {
        room: world.room.clone(),
        epoch: at(1).epoch,
        seq: seq(1),
        from: world.sender.clone(),
        at: Timestamp::from_millis(0),
        kind: EventKind::message(),
        id: Some(id(2)),
        content: Content::text("hello", &Limits::default()).unwrap(),
    };
    world.checker.stored(&world.room, at(1), seq(1), [event]);
    let verdict = world.finish();
    assert_eq!((verdict.count(Rule::Lost), verdict.count(Rule::Forked)), (1, 1), "{verdict}");
}

/// Content that was not sent is `Altered`, and an id that was not sent is `Invented`.
#[test]
fn unknown_content_or_id_is_found() {
    let mut world = World::with_acked(0);
    world.send(1, "something else");
    world.deliver_all([1]);
    world.breaks(&[(Rule::Altered, 1)]);

    let mut world = World::with_acked(0);
    world.deliver_all([1]);
    world.breaks(&[(Rule::Invented, 1)]);
}

/// Ten thousand subscribers of one event cost one entry of the checker.
#[test]
fn many_subscribers_share_one_entry() {
    let mut world = World::with_acked(1);
    world.deliver_all([1]);
    let checker = world.checker.clone();
    for n in 0..10_000 {
        let mut subscriber = checker.subscriber(format!("reader {n}"));
        subscriber.connected();
        subscriber.status(&world.room, Status::Ok, Some(at(0)), seq(1));
        subscriber.delivered(&world.room, at(1), &world.sender, Some(&id(1)), says("hello"));
        subscriber.finish();
    }
    let verdict = world.finish();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(verdict.deliveries, 10_001);
}
