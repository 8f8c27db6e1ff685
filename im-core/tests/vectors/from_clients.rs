//! Frames of clients, and the names that all cases share.

use im_core::wire::{
    CommandBody, Content, Hello, Limits, Map, MemberAct, PageFrom, ResumeToken, Role, RoomKind,
    Secret,
};
use im_core::wire::{Target, Value};
use im_core::{
    Cursor, DeviceId, Epoch, EventKind, MessageId, RoomId, Seq, SessionId, Stamp, StateKey,
    Timestamp, UserId,
};

pub(crate) fn user(text: &str) -> UserId {
    UserId::new(text).unwrap()
}

pub(crate) fn room(text: &str) -> RoomId {
    RoomId::new(text).unwrap()
}

pub(crate) fn seq(n: u64) -> Seq {
    Seq::new(n).unwrap()
}

pub(crate) fn epoch() -> Epoch {
    Epoch { generation: 0x1f3a, incarnation: 2 }
}

pub(crate) fn cursor(n: u64) -> Cursor {
    Cursor { epoch: epoch(), seq: seq(n) }
}

pub(crate) fn stamp() -> Stamp {
    "1767225600000-3-4294967295".parse().unwrap()
}

pub(crate) fn at() -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000)
}

pub(crate) fn mid() -> MessageId {
    MessageId::new("0190b3f4-5c6d-7e8f-9a0b-1c2d3e4f5a6b").unwrap()
}

pub(crate) fn session() -> SessionId {
    SessionId::new("5f1d0c2b3a49586776859403").unwrap()
}

pub(crate) fn secret() -> Secret {
    Secret::new("yJ0eXAiOiJKV1QiLCJhbG")
}

pub(crate) fn device() -> DeviceId {
    DeviceId::new("phone").unwrap()
}

pub(crate) fn kind(text: &str) -> EventKind {
    EventKind::new(text).unwrap()
}

pub(crate) fn key(text: &str) -> StateKey {
    StateKey::new(text).unwrap()
}

pub(crate) fn text(text: &str) -> Value {
    Map::from_iter([("text", text)]).into()
}

pub(crate) fn content(value: &Value) -> Content {
    Content::new(value, &Limits::default()).unwrap()
}

/// A value with every kind of value in it.
pub(crate) fn rich() -> Value {
    let inner = Map::from_iter([
        ("null", Value::Null),
        ("yes", true.into()),
        ("no", false.into()),
        ("int", Value::Int(-9_007_199_254_740_991)),
        ("float", Value::Float(0.1)),
        ("text", "Grüße, 世界 \"\\\n\u{1f600}".into()),
        ("bytes", Value::Bytes(vec![0, 1, 254, 255])),
        ("list", Value::Array(vec![Value::Array(Vec::new()), Value::Map(Map::default())])),
        ("$price", Value::Float(9.5)),
        ("$bytes", "a key like any other".into()),
    ]);
    inner.into()
}

pub(crate) fn commands() -> Vec<(&'static str, CommandBody)> {
    use CommandBody as C;
    let hello =
        Hello { version: 1, token: None, user: None, device: None, session: None, client: None };
    let full = Hello {
        version: 1,
        token: Some(Secret::new("eyJhbGciOi.J9.x")),
        user: Some(user("alice")),
        device: Some(device()),
        session: Some(ResumeToken { session: session(), secret: secret() }),
        client: Some("im-js 0.1".into()),
    };
    let member = |act| C::Member { room: room("tea"), user: user("bob"), act };
    let send = |to, kind, content| C::Send { to, id: mid(), kind, content };
    let signal = |to| C::Signal { to, kind: kind("typing"), content: Value::Bool(true) };
    let history = |epoch, from| C::History { room: room("tea"), epoch, from, limit: 100 };
    vec![
        ("hello, least", C::Hello(Box::new(hello))),
        ("hello, everything", C::Hello(Box::new(full))),
        ("ping", C::Ping),
        ("refresh", C::Refresh { token: Secret::new("eyJhbGciOi.J9.y") }),
        ("logout", C::Logout),
        (
            "create, least",
            C::Create { room: room("tea"), kind: RoomKind::Group, open: false, members: vec![] },
        ),
        (
            "create, everything",
            C::Create {
                room: room("新闻"),
                kind: RoomKind::Channel,
                open: true,
                members: vec![user("bob"), user("|trey|")],
            },
        ),
        ("join", C::Join { room: room("tea") }),
        ("leave", C::Leave { room: room("tea") }),
        ("member, add a reader", member(MemberAct::Add(Role::Reader))),
        ("member, add a member", member(MemberAct::Add(Role::Member))),
        ("member, add a moderator", member(MemberAct::Add(Role::Moderator))),
        ("member, add an owner", member(MemberAct::Add(Role::Owner))),
        ("member, remove", member(MemberAct::Remove)),
        ("member, ban", member(MemberAct::Ban)),
        ("member, unban", member(MemberAct::Unban)),
        ("members, first page", C::Members { room: room("tea"), after: None, limit: 50 }),
        (
            "members, next page",
            C::Members { room: room("tea"), after: Some(user("bob")), limit: 50 },
        ),
        ("rooms, first page", C::Rooms { after: None, limit: 50 }),
        ("rooms, next page", C::Rooms { after: Some(room("tea")), limit: 4_294_967_295 }),
        ("subscribe, from the head", C::Subscribe { room: room("tea"), since: None }),
        ("subscribe, from a cursor", C::Subscribe { room: room("tea"), since: Some(cursor(41)) }),
        ("unsubscribe", C::Unsubscribe { room: room("tea") }),
        (
            "resume, all rooms",
            C::Resume {
                cursors: vec![(room("tea"), cursor(41)), (room("新闻"), cursor(0))],
                rev: None,
            },
        ),
        (
            "resume, with a checkpoint",
            C::Resume { cursors: vec![(room("tea"), cursor(41))], rev: Some(7) },
        ),
        (
            "resume, nothing but a checkpoint",
            C::Resume { cursors: vec![], rev: Some(9_007_199_254_740_991) },
        ),
        (
            "checkpoint",
            C::Checkpoint { cursors: vec![(room("tea"), cursor(9_007_199_254_740_991))] },
        ),
        ("send, to a room", send(Target::Room(room("tea")), EventKind::message(), text("hello"))),
        ("send, to a peer", send(Target::Peer(user("bob")), EventKind::message(), text(""))),
        ("send, to a user", send(Target::User(user("bob")), kind("order.paid"), Value::Null)),
        ("send, every sort of value", send(Target::Room(room("tea")), kind("test"), rich())),
        ("signal, to a room", signal(Target::Room(room("tea")))),
        ("signal, to a peer", signal(Target::Peer(user("bob")))),
        ("signal, to a user", signal(Target::User(user("bob")))),
        (
            "put_state",
            C::PutState {
                room: room("tea"),
                key: key("hp:bob"),
                value: Value::Int(93),
                stamp: None,
            },
        ),
        (
            "put_state, to null, with a stamp",
            C::PutState {
                room: room("tea"),
                key: key("hp:bob"),
                value: Value::Null,
                stamp: Some(stamp()),
            },
        ),
        ("remove_state", C::RemoveState { room: room("tea"), key: key("hp:bob"), stamp: None }),
        (
            "remove_state, with a stamp",
            C::RemoveState { room: room("tea"), key: key("hp:bob"), stamp: Some(stamp()) },
        ),
        ("history, from the head backwards", history(None, PageFrom::Before(Seq::MAX))),
        ("history, before", history(Some(epoch()), PageFrom::Before(seq(42)))),
        ("history, after", history(Some(epoch()), PageFrom::After(seq(0)))),
        ("sessions", C::Sessions),
        ("kick", C::Kick { session: session() }),
        ("ticket", C::Ticket),
    ]
}
