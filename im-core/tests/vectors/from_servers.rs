//! Frames of servers.

use std::sync::Arc;
use std::time::Duration;

use im_core::wire::{
    AppendAck, Disconnect, ErrorReply, Event, HistoryPage, MemberChange, MemberEntry, MemberPage,
    Push, Reply, Role, RoomKind, RoomStatus, RoomsPage, ServerLimits, SessionEntry, Signal,
    Snapshot, StateUpdate, Status, Target, TicketGrant, Value, Welcome,
};
use im_core::{Code, CommandId, DeviceId, EventKind, MessageId, RoomId, Timestamp};

use crate::from_clients::*;

fn event(n: u64, id: Option<MessageId>, kind: EventKind, value: &Value) -> Event {
    Event {
        room: room("tea"),
        epoch: epoch(),
        seq: seq(n),
        from: user("alice"),
        at: at(),
        kind,
        id,
        content: content(value),
    }
}

fn members_event() -> Event {
    let changes = [
        MemberChange::Joined(user("bob"), Role::Member),
        MemberChange::Left(user("carol")),
        MemberChange::Removed(user("dan")),
        MemberChange::Banned(user("eve")),
        MemberChange::Unbanned(user("frank")),
    ];
    event(1, None, EventKind::members(), &MemberChange::list_to_value(&changes))
}

fn status(status: Status, at: Option<u64>, head: u64, code: Option<Code>) -> RoomStatus {
    let code = code.map(Code::number);
    RoomStatus { room: room("tea"), status, cursor: at.map(cursor), head: seq(head), code }
}

fn statuses() -> Vec<RoomStatus> {
    vec![
        status(Status::Ok, Some(41), 43, None),
        status(Status::Gap, Some(20), 43, None),
        status(Status::Reset, Some(43), 43, None),
        status(Status::Denied, None, 0, Some(Code::Removed)),
    ]
}

fn update(name: &str, value: Option<Value>) -> Arc<StateUpdate> {
    let value = value.as_ref().map(content);
    Arc::new(StateUpdate {
        room: room("tea"),
        key: key(name),
        stamp: stamp(),
        from: user("alice"),
        value,
    })
}

fn welcome(resumed: bool, expires: Option<Timestamp>) -> Reply {
    let limits = ServerLimits {
        message_bytes: 65_536,
        content_bytes: 32_768,
        batch: 64,
        in_flight: 16,
        page: 200,
        rooms: 1000,
        depth: 16,
        values: 8192,
    };
    let (rev, idle) = (if resumed { 7 } else { 0 }, Duration::from_secs(60));
    let (session, secret, user, device) = (session(), secret(), user("alice"), device());
    Reply::Welcome(Box::new(Welcome {
        session,
        secret,
        user,
        device,
        resumed,
        rev,
        expires,
        idle,
        limits,
    }))
}

fn append_ack(name: RoomId, n: u64, duplicate: bool) -> Reply {
    Reply::Appended(AppendAck { room: name, epoch: epoch(), seq: seq(n), at: at(), duplicate })
}

pub(crate) fn replies() -> Vec<(&'static str, &'static str, Reply)> {
    let page = |events, more| {
        Reply::History(HistoryPage { epoch: epoch(), head: seq(43), first: seq(1), events, more })
    };
    let hello = event(42, Some(mid()), EventKind::message(), &text("hello"));
    let entry = |name: &str, role| MemberEntry { user: user(name), role };
    let device_entry = |name: &str, connected| SessionEntry {
        session: session(),
        device: DeviceId::new(name).unwrap(),
        since: at(),
        connected,
    };
    vec![
        ("done", "kick", Reply::Done),
        ("refreshed", "refresh", Reply::Refreshed { expires: Some(at()) }),
        ("refreshed, for good", "refresh", Reply::Refreshed { expires: None }),
        ("welcome, new session", "hello", welcome(false, None)),
        ("welcome, resumed session", "hello", welcome(true, Some(at()))),
        ("pong", "ping", Reply::Pong(at())),
        ("rooms, none", "resume", Reply::Rooms { statuses: vec![], rev: 0, generation: 0 }),
        (
            "rooms, every status",
            "resume",
            Reply::Rooms { statuses: statuses(), rev: 8, generation: u64::MAX },
        ),
        ("checkpoint", "checkpoint", Reply::Checkpoint { rev: 9 }),
        ("sent", "send", append_ack(room("tea"), 42, false)),
        (
            "sent before, to a peer",
            "send",
            append_ack(RoomId::direct(&user("alice"), &user("bob")), 1, true),
        ),
        ("applied", "put_state", Reply::Applied(stamp())),
        ("history, empty", "history", page(vec![], false)),
        ("history, newest first", "history", page(vec![hello, members_event()], true)),
        (
            "members",
            "members",
            Reply::Members(MemberPage {
                members: vec![
                    entry("alice", Role::Owner),
                    entry("bob", Role::Moderator),
                    entry("carol", Role::Member),
                    entry("dan", Role::Reader),
                ],
                more: true,
            }),
        ),
        (
            "room list",
            "rooms",
            Reply::RoomList(RoomsPage {
                rooms: vec![
                    (RoomId::direct(&user("alice"), &user("bob")), RoomKind::Direct, Role::Member),
                    (room("tea"), RoomKind::Group, Role::Owner),
                    (RoomId::inbox(&user("alice")), RoomKind::Inbox, Role::Reader),
                    (room("新闻"), RoomKind::Channel, Role::Reader),
                ],
                more: false,
            }),
        ),
        (
            "sessions",
            "sessions",
            Reply::Sessions(vec![device_entry("phone", true), device_entry("laptop", false)]),
        ),
        (
            "ticket",
            "ticket",
            Reply::Ticket(TicketGrant { ticket: secret(), within: Duration::from_secs(60) }),
        ),
    ]
}

pub(crate) fn refusals() -> Vec<(&'static str, ErrorReply)> {
    let refusal = |id: Option<u64>, code: Code, retry_after| {
        let message = code.meaning().to_owned();
        ErrorReply { id: id.map(CommandId), code: code.number(), message, retry_after }
    };
    vec![
        ("err, to a command", refusal(Some(7), Code::Forbidden, None)),
        ("err, to what has no number", refusal(None, Code::MissingField, None)),
        (
            "err, come back later",
            refusal(Some(7), Code::RateLimited, Some(Duration::from_millis(250))),
        ),
    ]
}

pub(crate) fn pushes() -> Vec<(&'static str, Push)> {
    let signal = |to| {
        Push::Signal(Arc::new(Signal {
            to,
            from: user("alice"),
            at: at(),
            kind: kind("typing"),
            content: content(&Value::Bool(true)),
        }))
    };
    let snapshot = |entries, more| {
        Push::Snapshot(Snapshot { room: room("tea"), generation: 0xbeef, entries, more })
    };
    let bye = |code: Code, retry_after| {
        Push::Disconnect(Disconnect {
            code: code.number(),
            message: code.meaning().to_owned(),
            retry_after,
        })
    };
    let mut pushes = vec![
        (
            "event, a message",
            Push::Event(event(42, Some(mid()), EventKind::message(), &text("hello")).into()),
        ),
        (
            "event, without an id",
            Push::Event(event(43, None, kind("order.paid"), &Value::Null).into()),
        ),
        (
            "event, every sort of value",
            Push::Event(event(44, Some(mid()), kind("test"), &rich()).into()),
        ),
        ("event, members", Push::Event(members_event().into())),
        ("signal, in a room", signal(Target::Room(room("tea")))),
        ("signal, to a user", signal(Target::User(user("bob")))),
        ("state, set", Push::State(update("hp:bob", Some(Value::Int(93))))),
        ("state, set to null", Push::State(update("hp:bob", Some(Value::Null)))),
        ("state, removed", Push::State(update("hp:bob", None))),
        ("snapshot, empty", snapshot(vec![], false)),
        (
            "snapshot, first part",
            snapshot(vec![update("hp:bob", Some(Value::Int(93))), update("mp:bob", None)], true),
        ),
        ("position", Push::Position("AQIDBAUG".into())),
        ("disconnect, draining", bye(Code::Draining, Some(Duration::from_millis(1500)))),
        ("disconnect, for good", bye(Code::Kicked, None)),
    ];
    let names = ["room, ok", "room, gap", "room, reset", "room, denied"];
    pushes.extend(names.into_iter().zip(statuses().into_iter().map(Push::Room)));
    pushes
}
