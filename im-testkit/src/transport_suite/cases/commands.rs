//! Commands: one ack each, order within a batch, refusals of invalid frames and fields.

use im_core::wire::{CommandBody, MemberAct, PageFrom, Role, RoomKind, Target, Value};
use im_core::{Code, EventKind, MessageId, Seq, SessionId};

use super::bystander::Bystander;
use super::*;

/// Each command of a batch is answered exactly once, by an ack or a refusal.
pub async fn every_command_gets_one_ack<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let (r, nowhere) = (room("r"), room("nowhere"));
    let mut peer = world.peer("ann").await;
    let kind = EventKind::new("typing").unwrap();
    let bodies = vec![
        CommandBody::Ping,
        CommandBody::Create {
            room: r.clone(),
            kind: RoomKind::Group,
            open: true,
            members: vec![user("bob")],
        },
        CommandBody::Create { room: r.clone(), kind: RoomKind::Group, open: true, members: vec![] },
        CommandBody::Join { room: r.clone() },
        CommandBody::Join { room: nowhere.clone() },
        CommandBody::Member {
            room: r.clone(),
            user: user("eve"),
            act: MemberAct::Add(Role::Reader),
        },
        CommandBody::Members { room: r.clone(), after: None, limit: 10 },
        CommandBody::Rooms { after: None, limit: 10 },
        CommandBody::Subscribe { room: r.clone(), since: None },
        CommandBody::Subscribe { room: nowhere.clone(), since: None },
        CommandBody::Resume { cursors: vec![], rev: None },
        CommandBody::Resume { cursors: vec![], rev: Some(77) },
        CommandBody::Checkpoint { cursors: vec![] },
        message(&r, &MessageId::random(), "hello"),
        message(&nowhere, &MessageId::random(), "hello"),
        CommandBody::Signal { to: Target::Room(r.clone()), kind, content: Value::Null },
        CommandBody::PutState { room: r.clone(), key: key("k"), value: Value::Null, stamp: None },
        CommandBody::RemoveState { room: r.clone(), key: key("k"), stamp: None },
        CommandBody::History {
            room: r.clone(),
            epoch: None,
            from: PageFrom::Before(Seq::MAX),
            limit: 5,
        },
        CommandBody::Sessions,
        CommandBody::Kick { session: SessionId::random() },
        CommandBody::Refresh { token: im_core::wire::Secret::new("any") },
        CommandBody::Leave { room: r.clone() },
        CommandBody::Unsubscribe { room: r },
    ];
    let count = bodies.len();
    let ids = peer.batch(bodies).await;
    let mut refused = Vec::new();
    for (at, id) in ids.into_iter().enumerate() {
        if peer.answer(id).await.is_err() {
            refused.push(at);
        }
    }
    // Refused: three commands on `nowhere`, a stale revision and an unknown session. The second
    // `create` of the same room is a duplicate.
    assert!(refused.starts_with(&[4, 9, 11, 14, 20]) && refused.len() < count / 2, "{refused:?}");
    // `Peer` fails on a second answer to a command, so read one more message.
    assert_eq!(peer.ping().await, Ok(()));
}

/// Commands of one message run in their order: create, twenty sends, and a page with all of them.
pub async fn batch_runs_in_order<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = room("r");
    let mut peer = world.peer("ann").await;
    let mut bodies = vec![CommandBody::Create {
        room: r.clone(),
        kind: RoomKind::Group,
        open: false,
        members: vec![],
    }];
    bodies.extend((1..=20).map(|n| message(&r, &MessageId::random(), &n.to_string())));
    let after = PageFrom::After(Seq::FIRST);
    bodies.push(CommandBody::History { room: r, epoch: None, from: after, limit: 50 });
    let ids = peer.batch(bodies).await;
    let page = peer.answer(ids[21]).await.unwrap();
    let page = im_core::wire::HistoryPage::from_value(page).unwrap();
    let texts: Vec<String> = page.events.iter().filter_map(text).collect();
    assert_eq!(texts, (1..=20).map(|n| n.to_string()).collect::<Vec<_>>());
    for (at, id) in ids[..21].iter().enumerate() {
        let fields = peer.answer(*id).await.unwrap();
        let ack = im_core::wire::AppendAck::from_value(fields).unwrap();
        assert_eq!(ack.seq, seq(at as u64 + 1));
    }
}

/// A command of an unknown kind is refused with 4502; the connection stays open.
pub async fn an_unknown_kind_is_refused<F: TransportFactory>(shape: Shape) {
    refused::<F>(shape, "dance", vec![], Code::UnknownKind).await;
}

/// Unknown fields of a command are ignored.
pub async fn unknown_fields_are_ignored<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let mut peer = world.peer("ann").await;
    let id =
        peer.send_frame("ping", [("from_the_future", says("x")), ("other", Value::Int(1))]).await;
    assert!(peer.answer(id).await.is_ok());
}

/// A missing field is refused with 4503, and the message names the field.
pub async fn missing_fields_are_named<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let mut peer = world.peer("ann").await;
    for (kind, fields) in [
        ("send", vec![("mid", text_value(MessageId::random().as_str())), ("content", Value::Null)]),
        ("send", vec![("room", text_value("r")), ("content", Value::Null)]),
        (
            "send",
            vec![("room", text_value("r")), ("mid", text_value(MessageId::random().as_str()))],
        ),
        ("subscribe", vec![]),
        ("subscribe", vec![("room", text_value("r")), ("since", Value::Int(1))]),
        ("history", vec![]),
        ("join", vec![("room", Value::Null)]),
    ] {
        let id = peer.send_frame(kind, fields).await;
        let refusal = peer.answer(id).await.unwrap_err();
        assert_eq!(
            Code::from_number(refusal.code),
            Some(Code::MissingField),
            "{kind}: {refusal:?}"
        );
        assert!(refusal.message.contains('"'), "the message names the field: {refusal:?}");
    }
    assert_eq!(peer.ping().await, Ok(()));
    bystander.ends_untouched(&world).await;
}

/// A frame without `id` is refused in a reply without `id`.
pub async fn frame_without_id_is_answered_without<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let mut peer = world.peer("ann").await;
    peer.send_value(&im_core::wire::Map::from_iter([("t", "ping")]).into()).await;
    assert_eq!(peer.ping().await, Ok(()));
    let codes: Vec<u16> = peer.complaints.iter().map(|refusal| refusal.code).collect();
    assert_eq!(codes, [Code::MissingField.number()]);
}

/// Ids that are empty, too long, or contain spaces or format characters are refused with 4504.
pub async fn bad_ids_are_refused<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let mut peer = world.peer("ann").await;
    let long = "x".repeat(129);
    for bad in ["", long.as_str(), "a b", "a\u{200b}"] {
        bad_field(&mut peer, "subscribe", vec![("room", text_value(bad))]).await;
        bad_field(&mut peer, "join", vec![("room", text_value(bad))]).await;
        bad_field(&mut peer, "send", send_with("mid", text_value(bad))).await;
        bad_field(&mut peer, "kick", vec![("session", text_value(bad))]).await;
        let key = vec![("room", text_value("r")), ("key", text_value(bad)), ("value", Value::Null)];
        bad_field(&mut peer, "put_state", key).await;
        let member =
            vec![("room", text_value("r")), ("user", text_value(bad)), ("act", text_value("add"))];
        bad_field(&mut peer, "member", member).await;
    }
    bad_field(&mut peer, "send", send_with("mid", text_value("short"))).await;
    bad_field(&mut peer, "send", send_with("kind", text_value(&"x".repeat(33)))).await;
    assert_eq!(peer.ping().await, Ok(()));
    bystander.ends_untouched(&world).await;
}

/// Values out of range, of another type, or contradictory are refused with 4504.
pub async fn bad_values_are_refused<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let mut peer = world.peer("ann").await;
    let page = |name, value| vec![("room", text_value("r")), (name, value)];
    for limit in
        [Value::Int(0), Value::Int(-1), Value::Float(1.5), text_value("all"), Value::Int(1 << 40)]
    {
        bad_field(&mut peer, "history", page("limit", limit.clone())).await;
        bad_field(&mut peer, "members", page("limit", limit.clone())).await;
        bad_field(&mut peer, "rooms", vec![("limit", limit)]).await;
    }
    bad_field(&mut peer, "history", page("after", Value::Int(-1))).await;
    bad_field(&mut peer, "history", page("epoch", text_value("not an epoch"))).await;
    let both = vec![("room", text_value("r")), ("after", Value::Int(1)), ("before", Value::Int(9))];
    bad_field(&mut peer, "history", both).await;
    bad_field(&mut peer, "send", send_with("peer", text_value("bob"))).await;
    bad_field(&mut peer, "send", send_with("room", Value::Int(7))).await;
    bad_field(&mut peer, "resume", vec![("cursors", Value::Int(7))]).await;
    let half = Value::Array(vec![Value::Array(vec![text_value("r"), text_value("1.1")])]);
    bad_field(&mut peer, "checkpoint", vec![("cursors", half)]).await;
    let stamp = vec![
        ("room", text_value("r")),
        ("key", text_value("k")),
        ("value", Value::Null),
        ("stamp", text_value("soon")),
    ];
    bad_field(&mut peer, "put_state", stamp).await;
    assert_eq!(peer.ping().await, Ok(()));
    bystander.ends_untouched(&world).await;
}

/// Clients may not use event kinds or room ids that are reserved for the server.
pub async fn reserved_kinds_are_refused<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    world.group("r", &["ann"]).await;
    let mut peer = world.peer("ann").await;
    let id = peer.send_frame("send", send_with("kind", text_value("im.members"))).await;
    assert_eq!(peer.code(id).await, Code::Forbidden);
    assert_eq!(
        peer.create(&room("dm:mine"), RoomKind::Group, true, &[]).await.unwrap_err(),
        Code::Forbidden
    );
}

pub fn text_value(text: &str) -> Value {
    Value::from(text)
}

/// The fields of a valid send to the room `r`, with one of them replaced or added.
fn send_with(name: &'static str, value: Value) -> Vec<(&'static str, Value)> {
    let good = [
        ("room", text_value("r")),
        ("mid", text_value(MessageId::random().as_str())),
        ("content", says("x")),
    ];
    good.into_iter().filter(|(field, _)| *field != name).chain([(name, value.clone())]).collect()
}

async fn bad_field(peer: &mut Peer, kind: &str, fields: Vec<(&'static str, Value)>) {
    let id = peer.send_frame(kind, fields.clone()).await;
    let refusal = peer.answer(id).await.expect_err("a refusal of the invalid field");
    assert_eq!(
        Code::from_number(refusal.code),
        Some(Code::BadField),
        "{kind} {fields:?}: {refusal:?}"
    );
}

async fn refused<F: TransportFactory>(
    shape: Shape,
    kind: &str,
    fields: Vec<(&'static str, Value)>,
    code: Code,
) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let mut peer = world.peer("ann").await;
    let id = peer.send_frame(kind, fields).await;
    assert_eq!(peer.code(id).await, code);
    assert_eq!(peer.ping().await, Ok(()));
    bystander.ends_untouched(&world).await;
}
