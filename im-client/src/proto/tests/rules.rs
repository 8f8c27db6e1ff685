//! Tests of single rules of the state machine.

use im_core::wire::{Disconnect, Signal, Snapshot, StateUpdate};
use im_core::{NodeId, Stamp, StateKey};

use super::*;
use crate::ErrorKind;
use crate::config::{Checkpoints, Reconnect};

fn manual() -> Config {
    Config { checkpoints: Checkpoints::Manual, ..Config::default() }
}

fn mids(commands: &[Command]) -> Vec<String> {
    let mid = |command: &Command| match &command.body {
        CommandBody::Send { id, .. } => id.to_string(),
        other => other.name().to_owned(),
    };
    commands.iter().map(mid).collect()
}

/// Sends without an ack are retried under the same ids in their order.
#[test]
fn unacked_sends_are_resent_in_order() {
    let mut rig = Rig::online(manual());
    let first = rig.ask(send("r", 1));
    rig.ask(send("r", 2));
    rig.ask(send("r", 3));
    let before = rig.written();
    rig.reply(first, &append_ack("r", 1));
    rig.cut();
    rig.ask(send("r", 4));
    rig.welcomed(true);
    let again = rig.written();
    assert_eq!(mids(&again), ["message-number-0002", "message-number-0003", "message-number-0004"]);
    assert_eq!(again[..2], before[1..]);
    assert_eq!(rig.replies.len(), 1);
}

/// A command without idempotency key fails if it was written, and waits if it was not.
#[test]
fn unsafe_command_after_cut_is_unknown() {
    let mut rig = Rig::online(manual());
    let create = |name| CommandBody::Create {
        room: room(name),
        kind: im_core::wire::RoomKind::Group,
        open: true,
        members: vec![],
    };
    let set = CommandBody::PutState {
        room: room("r"),
        key: StateKey::new("k").unwrap(),
        value: Value::Null,
        stamp: None,
    };
    rig.ask(create("a"));
    rig.ask(set);
    rig.written();
    rig.cut();
    assert!(rig.replies.iter().all(|(_, r)| r.as_ref().unwrap_err().kind() == ErrorKind::Unknown));
    assert_eq!(rig.replies.len(), 2);
    rig.ask(create("b"));
    rig.welcomed(true);
    assert_eq!(names(&rig.written()), ["create"]);
}

#[test]
fn offline_signal_is_refused() {
    let mut rig = Rig::new(manual());
    let kind = EventKind::new("typing").unwrap();
    rig.ask(CommandBody::Signal { to: Target::Room(room("r")), kind, content: Value::Null });
    assert_eq!(rig.replies[0].1.as_ref().unwrap_err().kind(), ErrorKind::Offline);
}

/// A value that the server would answer with a disconnect is refused before it is written.
#[test]
fn invalid_value_is_refused_before_writing() {
    let mut rig = Rig::online(manual());
    let deep = (0..20).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    for content in [
        deep,
        Value::Float(f64::NAN),
        Value::Array(vec![Value::Null; 9000]),
        Value::from("x".repeat(40_000)),
    ] {
        let CommandBody::Send { to, id, kind, .. } = send("r", 1) else { unreachable!() };
        rig.ask(CommandBody::Send { to, id, kind, content });
        let error = rig.replies.pop().unwrap().1.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.message_id().is_some());
    }
    assert!(rig.written().is_empty());
}

/// The client keeps the server's limits on batches and commands in flight.
#[test]
fn batch_and_in_flight_limits_hold() {
    let mut rig = Rig::new(manual());
    for n in 0..10 {
        rig.ask(send("r", n));
    }
    rig.machine.on_connected();
    let hello = rig.written().remove(0);
    let mut limited = welcome(false);
    (limited.limits.batch, limited.limits.in_flight) = (2, 5);
    rig.reply(hello.id, &Reply::Welcome(Box::new(limited)));
    let sizes: Vec<usize> = rig.messages.iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 2, 1]);
    let written = rig.written();
    rig.reply(written[0].id, &append_ack("r", 1));
    assert_eq!(mids(&rig.written()), ["message-number-0005"]);
}

/// The resume travels with hello and names the cursors that differ from the checkpoint.
#[test]
fn resume_names_only_changed_cursors() {
    let mut rig = Rig::online(manual());
    rig.subscribe("a", at(3), 1);
    rig.subscribe("b", at(7), 2);
    rig.push(Push::Event(event("b", 8)));
    rig.cut();
    rig.machine.on_connected();
    rig.pump();
    assert_eq!(rig.messages.len(), 1, "one message");
    let flight = rig.written();
    let CommandBody::Hello(hello) = &flight[0].body else { panic!("hello first") };
    assert_eq!(hello.session.as_ref().map(|token| token.secret.expose()), Some("secret"));
    assert_eq!(hello.device, Some(DeviceId::new("phone").unwrap()));
    assert_eq!(
        flight[1].body,
        CommandBody::Resume { cursors: vec![(room("b"), at(8))], rev: Some(2) }
    );
}

/// A stale checkpoint is retried with all cursors, and an unknown session with a new one.
#[test]
fn stale_checkpoint_resumes_with_all_cursors() {
    let mut rig = Rig::online(manual());
    rig.subscribe("a", at(3), 1);
    rig.cut();
    let flight = rig.welcomed(true);
    assert_eq!(flight[0].body, CommandBody::Resume { cursors: vec![], rev: Some(1) });
    rig.refuse(flight[0].id, Code::StaleCheckpoint);
    let all = CommandBody::Resume { cursors: vec![(room("a"), at(3))], rev: None };
    assert_eq!(rig.written()[0].body, all);

    rig.cut();
    rig.machine.on_connected();
    let flight = rig.written();
    rig.refuse(flight[0].id, Code::UnknownSession);
    assert_eq!(rig.disconnects, 1);
    rig.pass(Duration::from_secs(1));
    rig.machine.on_connected();
    let flight = rig.written();
    let CommandBody::Hello(hello) = &flight[0].body else { panic!("hello first") };
    assert_eq!(hello.session, None);
    assert_eq!(flight[1].body, all);
}

/// Redelivered events are dropped, and a gap is requested once from the cursor.
#[test]
fn duplicates_drop_and_gaps_repair_once() {
    let mut rig = Rig::online(manual());
    rig.subscribe("a", at(3), 1);
    for n in [4, 4, 3, 5, 8, 9, 7] {
        rig.push(Push::Event(event("a", n)));
    }
    assert_eq!(rig.seqs(), [4, 5]);
    let asked = rig.written();
    assert_eq!(names(&asked), ["subscribe"], "one request for one gap");
    assert_eq!(asked[0].body, CommandBody::Subscribe { room: room("a"), since: Some(at(5)) });
    rig.reply(
        asked[0].id,
        &Reply::Rooms {
            statuses: vec![status("a", Status::Ok, Some(at(5)))],
            rev: 2,
            generation: 1,
        },
    );
    for n in 6..=9 {
        rig.push(Push::Event(event("a", n)));
    }
    assert_eq!(rig.seqs(), [6, 7, 8, 9]);
}

/// Events of another epoch are dropped, and the room is subscribed again.
#[test]
fn other_epoch_events_trigger_resubscription() {
    let mut rig = Rig::online(manual());
    rig.subscribe("a", at(3), 1);
    let other = Epoch { generation: 2, incarnation: 1 };
    rig.push(Push::Event(Arc::new(Event { epoch: other, ..(*event("a", 4)).clone() })));
    assert_eq!(rig.seqs(), [0; 0]);
    let asked = rig.written();
    let start = Cursor { epoch: other, seq: seq(3) };
    let reset = status("a", Status::Reset, Some(start));
    rig.reply(asked[0].id, &Reply::Rooms { statuses: vec![reset.clone()], rev: 2, generation: 1 });
    rig.push(Push::Event(Arc::new(Event { epoch: other, ..(*event("a", 4)).clone() })));
    let events = rig.events();
    assert_eq!(events[0], ClientEvent::Room(reset));
    assert!(matches!(&events[1], ClientEvent::Event(event) if event.epoch == other));
}

#[test]
fn gap_status_precedes_later_events() {
    let mut rig = Rig::online(manual());
    rig.subscribe("a", at(3), 1);
    rig.cut();
    let flight = rig.welcomed(true);
    let gap = status("a", Status::Gap, Some(at(10)));
    rig.reply(flight[0].id, &Reply::Rooms { statuses: vec![gap.clone()], rev: 1, generation: 1 });
    rig.push(Push::Event(event("a", 11)));
    let events: Vec<_> =
        rig.events().into_iter().skip_while(|e| !matches!(e, ClientEvent::Room(_))).collect();
    assert_eq!(events, [ClientEvent::Room(gap), ClientEvent::Event(event("a", 11))]);
}

#[test]
fn room_missing_from_answer_is_resubscribed() {
    let mut rig = Rig::online(manual());
    rig.subscribe("a", at(3), 1);
    rig.cut();
    let flight = rig.welcomed(true);
    rig.reply(flight[0].id, &Reply::Rooms { statuses: vec![], rev: 1, generation: 1 });
    assert_eq!(
        rig.written()[0].body,
        CommandBody::Subscribe { room: room("a"), since: Some(at(3)) }
    );
}

#[test]
fn denied_room_is_unsubscribed() {
    let mut rig = Rig::online(manual());
    rig.subscribe("a", at(3), 1);
    rig.push(Push::Room(status("a", Status::Denied, None)));
    rig.push(Push::Event(event("a", 4)));
    assert!(matches!(&rig.events()[..], [ClientEvent::Room(_)]));
    assert!(rig.machine.saved().cursors.is_empty());
}

#[test]
fn denied_room_stays_out_of_checkpoint() {
    let mut rig = Rig::online(manual());
    rig.subscribe("a", at(3), 1);
    rig.subscribe("b", at(3), 2);
    rig.push(Push::Room(status("a", Status::Denied, None)));
    // The answer to another command contains the revision of a checkpoint that still has the room.
    rig.subscribe("b", at(3), 3);
    rig.cut();
    let flight = rig.welcomed(true);
    let all = CommandBody::Resume { cursors: vec![(room("b"), at(3))], rev: None };
    assert_eq!(flight[0].body, all);
    let statuses = vec![status("b", Status::Ok, Some(at(3)))];
    rig.reply(flight[0].id, &Reply::Rooms { statuses, rev: 4, generation: 1 });
    rig.cut();
    let flight = rig.welcomed(true);
    assert_eq!(flight[0].body, CommandBody::Resume { cursors: vec![], rev: Some(4) });
    // The answer that denies the room is about the checkpoint itself.
    let statuses = vec![status("b", Status::Denied, None)];
    rig.reply(flight[0].id, &Reply::Rooms { statuses, rev: 5, generation: 1 });
    rig.cut();
    assert_eq!(rig.welcomed(true)[0].body, CommandBody::Resume { cursors: vec![], rev: Some(5) });
}

/// The application may move a room's cursor back, and the server may not.
#[test]
fn only_application_moves_cursor_back() {
    let mut rig = Rig::online(manual());
    rig.subscribe("a", at(8), 1);
    rig.push(Push::Room(status("a", Status::Ok, Some(at(2)))));
    rig.push(Push::Event(event("a", 3)));
    assert_eq!(rig.seqs(), [0; 0]);
    rig.subscribe("a", at(2), 2);
    rig.push(Push::Event(event("a", 3)));
    assert_eq!(rig.seqs(), [3]);
}

/// The events up to the server's cursor were not received, so only `gap` and `reset` move the
/// client's cursor forward.
#[test]
fn ok_beyond_cursor_is_gap() {
    let mut rig = Rig::online(manual());
    rig.subscribe("a", at(3), 1);
    rig.push(Push::Room(status("a", Status::Ok, Some(at(5)))));
    let asked = rig.written();
    assert_eq!(asked[0].body, CommandBody::Subscribe { room: room("a"), since: Some(at(3)) });
    rig.push(Push::Event(event("a", 6)));
    assert_eq!(rig.seqs(), [0; 0]);
    let answer = vec![status("a", Status::Ok, Some(at(3)))];
    rig.reply(asked[0].id, &Reply::Rooms { statuses: answer, rev: 2, generation: 1 });
    (4..=6).for_each(|n| rig.push(Push::Event(event("a", n))));
    assert_eq!(rig.seqs(), [4, 5, 6]);
}

/// Many rooms are resumed in frames that keep the default limits of a server.
#[test]
fn large_resume_splits_into_frames() {
    let cursors: Vec<_> = (0..1200).map(|n| (room(&format!("{n:0>128}")), at(n))).collect();
    let mut rig =
        Rig::with(manual(), Identity::default(), Saved { session: None, cursors: cursors.clone() });
    let flight = rig.welcomed(false);
    let mut named = Vec::new();
    for command in &flight {
        let CommandBody::Resume { cursors, rev: None } = &command.body else {
            panic!("resume without a revision")
        };
        named.extend(cursors.clone());
    }
    assert!(flight.len() > 2);
    assert_eq!(named, cursors);
}

/// With several resume frames, the answer to the frame that named a room counts.
#[test]
fn resume_answer_matches_its_frame() {
    let mut rig = Rig::online(manual());
    for n in 0..600 {
        rig.subscribe(&format!("r{n}"), at(1), n + 1);
        rig.push(Push::Event(event(&format!("r{n}"), 2)));
    }
    rig.events();
    rig.cut();
    let flight = rig.welcomed(true);
    assert!(matches!(&flight[0].body, CommandBody::Resume { rev: Some(600), .. }));
    let CommandBody::Resume { cursors, rev: None } = &flight[1].body else {
        panic!("one frame has the revision")
    };
    let name = cursors[0].0.to_string();
    // The checkpoint is behind the second frame's cursor, and its history was trimmed meanwhile.
    let gap = status(&name, Status::Gap, Some(at(1)));
    rig.reply(flight[0].id, &Reply::Rooms { statuses: vec![gap], rev: 600, generation: 1 });
    rig.reply(
        flight[1].id,
        &Reply::Rooms {
            statuses: vec![status(&name, Status::Ok, Some(at(2)))],
            rev: 601,
            generation: 1,
        },
    );
    let told = rig.events();
    assert!(!told.iter().any(|event| matches!(event, ClientEvent::Room(_))));
}

/// A checkpoint is sent after so many events and after an idle time.
#[test]
fn checkpoint_sent_after_events_or_idle() {
    let idle = Duration::from_secs(5);
    let mut rig = Rig::online(Config {
        checkpoints: Checkpoints::Auto { events: 3, idle },
        ..Config::default()
    });
    rig.subscribe("a", at(0), 1);
    for n in 1..=3 {
        rig.push(Push::Event(event("a", n)));
    }
    let checkpoint = rig.written().remove(0);
    assert_eq!(checkpoint.body, CommandBody::Checkpoint { cursors: vec![(room("a"), at(3))] });
    rig.reply(checkpoint.id, &Reply::Checkpoint { rev: 2 });
    rig.push(Push::Event(event("a", 4)));
    assert!(rig.written().is_empty());
    rig.pass(idle);
    let checkpoint = rig.written().remove(0);
    assert_eq!(checkpoint.body, CommandBody::Checkpoint { cursors: vec![(room("a"), at(4))] });
    rig.reply(checkpoint.id, &Reply::Checkpoint { rev: 3 });
    rig.cut();
    let flight = rig.welcomed(true);
    assert_eq!(flight[0].body, CommandBody::Resume { cursors: vec![], rev: Some(3) });
}

#[test]
fn catch_up_spaces_checkpoints() {
    let idle = Duration::from_secs(5);
    let checkpoints = Checkpoints::Auto { events: 3, idle };
    let mut rig = Rig::online(Config { checkpoints, ..Config::default() });
    rig.subscribe("a", at(0), 1);
    for n in 1..=3 {
        rig.push(Push::Event(event("a", n)));
    }
    let first = rig.written().remove(0);
    rig.reply(first.id, &Reply::Checkpoint { rev: 2 });
    // The idle time never passes between two events.
    for n in 4..=12 {
        rig.pass(idle / 10);
        rig.push(Push::Event(event("a", n)));
        assert!(rig.written().is_empty(), "{n}");
    }
    rig.pass(idle / 10);
    let second = rig.written().remove(0);
    assert_eq!(second.body, CommandBody::Checkpoint { cursors: vec![(room("a"), at(12))] });
}

fn update(ms: u64) -> Arc<StateUpdate> {
    Arc::new(StateUpdate {
        room: room("a"),
        key: StateKey::new("k").unwrap(),
        stamp: Stamp { ms: Timestamp::from_millis(ms), counter: 0, node: NodeId(1) },
        from: UserId::new("bob").unwrap(),
        value: Some(Content::text("v", &Limits::default()).unwrap()),
    })
}

/// Stale updates are dropped, and a snapshot of another generation replaces the state.
#[test]
fn stale_state_drops_and_snapshot_replaces() {
    let mut rig = Rig::online(manual());
    rig.subscribe("a", at(0), 1);
    let told = |rig: &mut Rig| {
        let stamp = |event| match event {
            ClientEvent::State(update) => vec![update.stamp.ms.as_millis()],
            ClientEvent::Snapshot { entries, .. } => {
                entries.iter().map(|e| e.stamp.ms.as_millis()).collect()
            }
            other => panic!("{other:?}"),
        };
        rig.events().into_iter().flat_map(stamp).collect::<Vec<_>>()
    };
    let snapshot = |generation, ms| {
        Push::Snapshot(Snapshot {
            room: room("a"),
            generation,
            entries: vec![update(ms)],
            more: false,
        })
    };
    rig.push(snapshot(1, 5));
    rig.push(Push::State(update(5)));
    rig.push(Push::State(update(4)));
    rig.push(Push::State(update(7)));
    assert_eq!(told(&mut rig), [5, 7]);
    rig.push(snapshot(2, 3));
    rig.push(Push::State(update(4)));
    assert_eq!(told(&mut rig), [3, 4]);
}

#[test]
fn a_full_queue_loses_nothing_durable() {
    let mut rig = Rig::online(Config { max_queued_events: 4, ..manual() });
    rig.subscribe("a", at(0), 1);
    for n in 1..=9 {
        rig.push(Push::Event(event("a", n)));
    }
    assert!(!rig.machine.wants_input(), "backpressure on the server");
    assert!(rig.written().is_empty(), "the event queue is still full");
    assert_eq!(rig.seqs(), [1, 2, 3, 4]);
    let asked = rig.written();
    assert_eq!(asked[0].body, CommandBody::Subscribe { room: room("a"), since: Some(at(4)) });
    rig.reply(
        asked[0].id,
        &Reply::Rooms {
            statuses: vec![status("a", Status::Ok, Some(at(4)))],
            rev: 2,
            generation: 1,
        },
    );
    for n in 5..=8 {
        rig.push(Push::Event(event("a", n)));
    }
    assert_eq!(rig.seqs(), [5, 6, 7, 8]);
}

#[test]
fn full_event_queue_still_reads_acks() {
    let mut rig = Rig::online(Config { max_queued_events: 1, ..manual() });
    rig.subscribe("a", at(0), 1);
    rig.push(Push::Event(event("a", 1)));
    assert!(!rig.machine.wants_input());
    let id = rig.ask(send("a", 1));
    assert!(rig.machine.wants_input());
    rig.reply(id, &append_ack("a", 2));
    assert!(rig.replies.pop().is_some_and(|(answered, reply)| answered == id && reply.is_ok()));
}

/// A send with retryable refusals keeps its id and fails after `send_retries` retries.
#[test]
fn retryable_send_fails_after_retries() {
    let mut rig = Rig::online(Config { send_retries: 2, ..manual() });
    let id = rig.ask(send("r", 1));
    let first = rig.written();
    for _ in 0..2 {
        rig.refuse(id, Code::StoreUnavailable);
        assert!(rig.written().is_empty() && rig.replies.is_empty());
        rig.pass(Duration::from_secs(1));
        assert_eq!(rig.written(), first);
    }
    rig.refuse(id, Code::StoreUnavailable);
    let (_, reply) = rig.replies.pop().unwrap();
    let error = reply.unwrap_err();
    assert_eq!(error.code(), Some(Code::StoreUnavailable));
    assert_eq!(error.message_id().unwrap().as_str(), "message-number-0001");
}

/// Sends to the target wait for all pending acks and are retried in order.
#[test]
fn retryable_refusal_resends_target_in_order() {
    let mut rig = Rig::online(manual());
    let [a, b, c] = [1, 2, 3].map(|n| rig.ask(send("r", n)));
    rig.written();
    rig.refuse(a, Code::Unknown);
    rig.ask(send("r", 4));
    rig.ask(send("elsewhere", 5));
    assert_eq!(mids(&rig.written()), ["message-number-0005"], "only sends to that target wait");
    rig.pass(Duration::from_millis(100));
    assert!(rig.written().is_empty(), "two are unanswered");
    assert!(rig.machine.deadline() > Some(rig.now), "nothing is due before they are answered");
    rig.refuse(b, Code::SenderOrder);
    assert!(rig.written().is_empty());
    rig.reply(c, &append_ack("r", 3));
    rig.pump();
    assert_eq!(rig.messages.len(), 1, "all in one message");
    assert_eq!(
        mids(&rig.written()),
        ["message-number-0001", "message-number-0002", "message-number-0004"]
    );
}

/// The first refused send of a target sets how long its retry waits.
#[test]
fn first_refusal_sets_retry_delay() {
    let mut rig = Rig::online(manual());
    let [a, b] = [1, 2].map(|n| rig.ask(send("r", n)));
    rig.written();
    rig.refuse_for(b, Code::SenderOrder, Duration::from_secs(9));
    rig.refuse_for(a, Code::RateLimited, Duration::from_secs(2));
    rig.pass(Duration::from_millis(1999));
    assert!(rig.written().is_empty());
    rig.pass(Duration::from_millis(1));
    assert_eq!(mids(&rig.written()), ["message-number-0001", "message-number-0002"]);
}

#[test]
fn rate_limited_sends_wait_longest() {
    let mut rig = Rig::online(manual());
    let [a, b, c] = [1, 2, 3].map(|n| rig.ask(send("r", n)));
    rig.written();
    rig.refuse_for(a, Code::RateLimited, Duration::from_millis(200));
    rig.refuse_for(b, Code::SenderOrder, Duration::from_secs(5));
    rig.refuse_for(c, Code::RateLimited, Duration::from_millis(300));
    rig.pass(Duration::from_millis(4999));
    assert!(rig.written().is_empty());
    rig.pass(Duration::from_millis(1));
    let all = ["message-number-0001", "message-number-0002", "message-number-0003"];
    assert_eq!(mids(&rig.written()), all);
}

/// A send that waits behind another does not fail when that one runs out of retries.
#[test]
fn waiting_send_outlives_abandoned_send() {
    let mut rig = Rig::online(Config { send_retries: 1, ..manual() });
    let [a, b] = [1, 2].map(|n| rig.ask(send("r", n)));
    for _ in 0..2 {
        rig.written();
        rig.refuse(a, Code::StoreUnavailable);
        rig.refuse(b, Code::SenderOrder);
        rig.pass(Duration::from_secs(1));
    }
    assert_eq!(mids(&rig.written()), ["message-number-0002"]);
    rig.refuse(b, Code::SenderOrder);
    rig.pass(Duration::from_secs(1));
    rig.reply(b, &append_ack("r", 2));
    let outcomes: Vec<_> = rig.replies.iter().map(|(id, reply)| (*id, reply.is_ok())).collect();
    assert_eq!(outcomes, [(a, false), (b, true)]);
}

/// Held sends go first on a new connection, in their order.
#[test]
fn new_connection_retries_held_sends_first() {
    let mut rig = Rig::online(manual());
    let [a, _] = [1, 2].map(|n| rig.ask(send("r", n)));
    rig.written();
    rig.refuse_for(a, Code::StoreUnavailable, Duration::from_secs(60));
    rig.ask(send("r", 3));
    rig.cut();
    rig.welcomed(true);
    assert_eq!(
        mids(&rig.written()),
        ["message-number-0001", "message-number-0002", "message-number-0003"]
    );
}

#[test]
fn final_refusal_reaches_caller_at_once() {
    let mut rig = Rig::online(manual());
    let id = rig.ask(send("r", 1));
    rig.refuse(id, Code::Conflict);
    assert_eq!(rig.replies.pop().unwrap().1.unwrap_err().code(), Some(Code::Conflict));
}

#[test]
fn silent_server_is_pinged_then_left() {
    let mut rig = Rig::online(manual());
    rig.pass(Duration::from_secs(29));
    assert!(rig.written().is_empty());
    rig.pass(Duration::from_secs(1));
    let ping = rig.written().remove(0);
    assert_eq!(ping.body, CommandBody::Ping);
    rig.reply(ping.id, &Reply::Pong(Timestamp::from_millis(1)));
    rig.pass(Duration::from_secs(30));
    assert_eq!(names(&rig.written()), ["ping"]);
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.disconnects, 1);
    assert!(matches!(&rig.events()[..], [ClientEvent::Disconnected { retry_in: Some(_), .. }]));
}

/// The client sends in time also to a server that pushes all the time.
#[test]
fn busy_server_is_still_pinged() {
    let mut rig = Rig::online(manual());
    for _ in 0..30 {
        rig.pass(Duration::from_secs(1));
        rig.machine.on_heard(rig.now);
    }
    assert_eq!(names(&rig.written()), ["ping"]);
}

#[test]
fn unanswered_hello_ends_connection() {
    let mut rig = Rig::new(manual());
    rig.machine.on_connected();
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.disconnects, 1);
    assert!(rig.machine.deadline().is_some());
}

#[test]
fn codes_decide_whether_to_come_back() {
    let ends = |code: Code| {
        let mut rig = Rig::online(manual());
        rig.push(Push::Disconnect(Disconnect {
            code: code.number(),
            message: String::new(),
            retry_after: None,
        }));
        rig.machine.is_ended()
    };
    for code in [Code::Kicked, Code::LoggedOut, Code::Expired] {
        assert!(ends(code), "{code}");
    }
    for code in [
        Code::Draining,
        Code::SlowSubscriber,
        Code::IdleTimeout,
        Code::UnknownSession,
        Code::Malformed,
    ] {
        assert!(!ends(code), "{code}");
    }
}

/// A wrong version or origin ends the client; a handshake timeout does not.
#[test]
fn invalid_hello_is_not_retried() {
    for (code, ends) in
        [(Code::WrongVersion, true), (Code::BadOrigin, true), (Code::HandshakeTimeout, false)]
    {
        let mut rig = Rig::new(manual());
        rig.machine.on_connected();
        rig.lost(Some(code));
        assert_eq!(rig.machine.is_ended(), ends, "{code}");
    }
}

#[test]
fn command_closing_connection_is_not_resent() {
    let mut rig = Rig::online(manual());
    rig.ask(send("r", 1));
    rig.written();
    rig.lost(Some(Code::TooMany));
    assert_eq!(rig.replies.pop().unwrap().1.unwrap_err().code(), Some(Code::TooMany));
    rig.pass(Duration::from_secs(1));
    rig.welcomed(true);
    assert!(rig.written().is_empty());
}

#[test]
fn handshake_timeout_keeps_pending_commands() {
    let mut rig = Rig::online(manual());
    rig.ask(send("r", 1));
    rig.written();
    rig.lost(Some(Code::HandshakeTimeout));
    assert!(rig.replies.is_empty(), "{:?}", rig.replies);
    rig.pass(Duration::from_secs(1));
    rig.welcomed(true);
    assert_eq!(mids(&rig.written()), ["message-number-0001"]);
}

#[test]
fn server_retry_delay_is_honoured() {
    let mut rig = Rig::online(manual());
    let wish = Duration::from_secs(9);
    rig.push(Push::Disconnect(Disconnect {
        code: 4001,
        message: "soon".into(),
        retry_after: Some(wish),
    }));
    let pause = rig.machine.deadline().unwrap() - rig.now;
    assert!(pause >= wish && pause <= wish * 3 / 2);
}

/// The end of the client fails pending commands and those that come later.
#[test]
fn closed_client_fails_all_commands() {
    let mut rig = Rig::online(manual());
    rig.ask(send("r", 1));
    rig.lost(Some(Code::Kicked));
    rig.ask(send("r", 2));
    let kinds: Vec<_> = rig.replies.iter().map(|(_, r)| r.as_ref().unwrap_err().kind()).collect();
    assert_eq!(kinds, [ErrorKind::Closed, ErrorKind::Closed]);
    assert!(matches!(rig.events().last(), Some(ClientEvent::Closed { code: Some(4600), .. })));
}

#[test]
fn client_ends_after_allowed_failures() {
    let mut rig = Rig::new(Config { reconnect: Reconnect::attempts(2), ..manual() });
    for _ in 0..2 {
        rig.lost(None);
        assert!(!rig.machine.is_ended());
        rig.pass(Duration::from_secs(1));
    }
    rig.lost(None);
    assert!(rig.machine.is_ended());
    assert_eq!(rig.connects, 3);
}

#[test]
fn logout_ends_the_client() {
    let mut rig = Rig::online(manual());
    let id = rig.ask(CommandBody::Logout);
    rig.reply(id, &Reply::Done);
    assert!(rig.replies.pop().unwrap().1.is_ok());
    assert!(rig.machine.is_ended());
}

/// A room that is being unsubscribed does not return with the checkpoint.
#[test]
fn left_room_ignores_checkpoint() {
    let mut rig = Rig::online(manual());
    rig.subscribe("a", at(1), 1);
    rig.cut();
    rig.ask(CommandBody::Unsubscribe { room: room("a") });
    rig.machine.on_connected();
    let flight = rig.written();
    rig.reply(flight[0].id, &Reply::Welcome(Box::new(welcome(true))));
    rig.reply(
        flight[1].id,
        &Reply::Rooms {
            statuses: vec![status("a", Status::Ok, Some(at(1)))],
            rev: 1,
            generation: 1,
        },
    );
    rig.push(Push::Event(event("a", 2)));
    assert_eq!(rig.seqs(), [0; 0]);
    assert_eq!(names(&rig.written()), ["unsubscribe"]);
}

/// A malformed frame ends the connection, and the pending send is retried on the next.
#[test]
fn malformed_frame_costs_only_connection() {
    let mut rig = Rig::online(manual());
    rig.ask(send("r", 1));
    rig.written();
    rig.machine.on_message(rig.now, b"{\"t\":\"event\"}", &mut |_| {});
    rig.pump();
    assert_eq!(rig.disconnects, 1);
    rig.pass(Duration::from_secs(1));
    rig.welcomed(true);
    assert_eq!(mids(&rig.written()), ["message-number-0001"]);
    let later = Value::from(Map::from_iter([("t", "from-the-future")]));
    rig.arrive(&later);
    assert_eq!(rig.disconnects, 1);
}

/// The tap sees redelivered events, which the application does not.
#[test]
fn tap_sees_redelivered_events() {
    let mut rig = Rig::online(manual());
    rig.subscribe("a", at(0), 1);
    let frame = encode(&Push::Event(event("a", 1)).to_value(), Encoding::Json);
    let mut seen = 0;
    for _ in 0..2 {
        rig.machine.on_message(rig.now, &frame, &mut |_| seen += 1);
    }
    assert_eq!((seen, rig.seqs()), (2, vec![1]));
}

/// Signals are delivered, and dropped while the event queue is full.
#[test]
fn full_queue_drops_signals() {
    let mut rig = Rig::online(Config { max_queued_events: 1, ..manual() });
    let signal = Arc::new(Signal {
        to: Target::Room(room("a")),
        from: UserId::new("bob").unwrap(),
        at: Timestamp::from_millis(1),
        kind: EventKind::new("typing").unwrap(),
        content: Content::text("", &Limits::default()).unwrap(),
    });
    rig.push(Push::Signal(signal.clone()));
    rig.push(Push::Signal(signal.clone()));
    assert_eq!(rig.events(), [ClientEvent::Signal(signal)]);
}
