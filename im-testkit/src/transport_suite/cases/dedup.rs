//! Dedup: a message is stored once, whatever connection, encoding or engine retries it.

use std::sync::Arc;
use std::time::Duration;

use im_core::ports::ManualClock;
use im_core::wire::{AppendAck, CommandBody, Encoding, Map, MemberAct, Target, Value};
use im_core::{Code, EventKind, MessageId, RoomId, Timestamp};

use super::super::link::Dial;
use super::bystander::Bystander;
use super::*;

/// Returns whether the retry is marked as a duplicate with the position and time of the first ack.
fn is_duplicate_of(retry: &AppendAck, first: &AppendAck) -> bool {
    retry.duplicate && (retry.seq, retry.at, retry.epoch) == (first.seq, first.at, first.epoch)
}

/// A retry returns the first ack, on the same and on other connections, engines and encodings.
pub async fn retry_gets_first_ack<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let id = MessageId::random();
    let mut here = world.peer("ann").await;
    let first = here.say_as(&r, &id, "once").await.unwrap();
    assert!(!first.duplicate);
    here.say(&r, "later").await.unwrap();
    assert!(is_duplicate_of(&here.say_as(&r, &id, "once").await.unwrap(), &first));
    // Connections on every engine and in every encoding.
    for n in 0..4 {
        let mut there = world.nth_peer(n, "ann").await;
        assert!(is_duplicate_of(&there.say_as(&r, &id, "once").await.unwrap(), &first));
    }
    assert_eq!(world.head(&r).await.seq, seq(3));
}

/// A retry after a restart is a duplicate; other content under the same id is a conflict.
pub async fn retry_after_restart_is_duplicate<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let id = MessageId::random();
    let first = world.peer("ann").await.say_as(&r, &id, "once").await.unwrap();
    let world = world.restart().await;
    let mut ann = world.peer("ann").await;
    assert!(is_duplicate_of(&ann.say_as(&r, &id, "once").await.unwrap(), &first));
    assert_eq!(ann.say_as(&r, &id, "other").await.unwrap_err(), Code::Conflict);
    assert_eq!(world.head(&r).await.seq, seq(2));
}

/// Other content under a used message id is refused with 4524, on every connection of the user.
pub async fn same_id_different_content_is_conflict<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let r = world.group("r", &["ann"]).await;
    let id = MessageId::random();
    let (mut here, mut there) = (world.peer("ann").await, world.peer("ann").await);
    here.say_as(&r, &id, "this").await.unwrap();
    assert_eq!(here.say_as(&r, &id, "that").await.unwrap_err(), Code::Conflict);
    assert_eq!(there.say_as(&r, &id, "that").await.unwrap_err(), Code::Conflict);
    assert_eq!(world.said(&r).await, [(user("ann"), "this".to_owned())]);
    bystander.ends_untouched(&world).await;
}

/// The same message id from another user is another message.
pub async fn same_id_other_user_is_new<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let id = MessageId::random();
    world.peer("ann").await.say_as(&r, &id, "mine").await.unwrap();
    assert!(!world.peer("bob").await.say_as(&r, &id, "mine").await.unwrap().duplicate);
    assert_eq!(world.head(&r).await.seq, seq(3));
}

/// The order of map keys does not matter: the retry is a duplicate.
pub async fn key_order_keeps_content_equal<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let (id, kind) = (MessageId::random(), EventKind::message());
    let send = |keys: [&'static str; 2]| {
        let content = Map::from_iter(keys.map(|key| (key, Value::from(key)))).into();
        CommandBody::Send {
            to: Target::Room(r.clone()),
            id: id.clone(),
            kind: kind.clone(),
            content,
        }
    };
    let first = world.peer("ann").await.ask(send(["a", "b"])).await.unwrap();
    let again = world.peer("ann").await.ask(send(["b", "a"])).await.unwrap();
    assert_eq!(first.get("seq"), again.get("seq"));
    assert_eq!(again.get("duplicate"), Some(&Value::Bool(true)));
}

/// A banned sender's retry still returns the first ack; new sends are refused as banned.
pub async fn retry_after_ban_is_duplicate<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    let id = MessageId::random();
    let first = bob.say_as(&r, &id, "before").await.unwrap();
    ann.member(&r, "bob", MemberAct::Ban).await.unwrap();
    for mut connection in [bob, world.peer("bob").await] {
        assert!(is_duplicate_of(&connection.say_as(&r, &id, "before").await.unwrap(), &first));
        assert_eq!(connection.say_as(&r, &id, "other").await.unwrap_err(), Code::Conflict);
        assert_eq!(connection.say(&r, "after").await.unwrap_err(), Code::Banned);
    }
    assert_eq!(world.said(&r).await, [(user("bob"), "before".to_owned())]);
    bystander.ends_untouched(&world).await;
}

/// Values that differ most between the two encodings.
fn colourful() -> Value {
    let mut map = Map::from_iter([("text", "tea \u{1f375} for two")]);
    map.insert("$price", Value::Float(2.5));
    map.insert("bytes", Value::Bytes(vec![0, 1, 254, 255]));
    map.insert("list", Value::Array(vec![Value::Null, Value::Int(-(1 << 40)), Value::Bool(true)]));
    map.into()
}

async fn send<F: TransportFactory>(
    world: &World<F>,
    encoding: Encoding,
    room: &RoomId,
    id: &MessageId,
    content: Value,
) -> Result<AppendAck, Code> {
    let mut peer = world.dial_by(Dial { encoding, ..world.nth(0) }).await;
    peer.welcome_as("bob").await;
    let (to, kind) = (Target::Room(room.clone()), EventKind::message());
    let fields = peer.ask(CommandBody::Send { to, id: id.clone(), kind, content }).await?;
    Ok(AppendAck::from_value(fields).unwrap())
}

/// A retry in the other encoding is a duplicate: at once, after a ban and after a restart.
pub async fn retry_in_other_encoding_is_duplicate<F: TransportFactory>(shape: Shape) {
    let mut world = World::<F>::new(shape).await;
    let orders = [[Encoding::Json, Encoding::MsgPack], [Encoding::MsgPack, Encoding::Json]];
    for (n, [one, other]) in orders.into_iter().enumerate() {
        let r = world.group(&format!("r{n}"), &["ann", "bob"]).await;
        let id = MessageId::random();
        let first = send(&world, one, &r, &id, colourful()).await.unwrap();
        assert!(!first.duplicate);
        for step in ["at once", "after a ban", "after a restart"] {
            match step {
                "after a ban" => {
                    world.peer("ann").await.member(&r, "bob", MemberAct::Ban).await.unwrap();
                }
                "after a restart" => world = world.restart().await,
                _ => {}
            }
            for encoding in [other, one] {
                let retry = send(&world, encoding, &r, &id, colourful()).await;
                assert!(is_duplicate_of(&retry.unwrap(), &first), "{step}, in {encoding:?}");
                let changed = send(&world, encoding, &r, &id, says("else")).await;
                assert_eq!(changed.unwrap_err(), Code::Conflict, "{step}, in {encoding:?}");
            }
        }
        let anew = send(&world, other, &r, &MessageId::random(), colourful()).await;
        assert_eq!(anew.unwrap_err(), Code::Banned);
        assert_eq!(world.head(&r).await.seq, seq(3), "the room, the message, the ban");
    }
}

/// A UUIDv7 with this time in ms (RFC 9562 section 5.7).
fn made_at(ms: u64, n: u64) -> MessageId {
    MessageId::new(format!("{:08x}-{:04x}-7000-8000-{n:012x}", ms >> 16, ms & 0xffff)).unwrap()
}

/// With a horizon, ids older than it are refused with 4525, and ids without a time with 4504.
pub async fn ids_before_horizon_are_too_old<F: TransportFactory>(shape: Shape) {
    let now = 1_800_000_000_000;
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(now)));
    let config = EngineConfig::default().dedup_horizon(Some(Duration::from_secs(60)));
    let setup = Setup { config, clock: clock.clone(), ..Setup::default() };
    let world = World::<F>::with(shape, setup).await;
    let bystander = world.group("others", &["bob"]).await;
    let r = world.group("r", &["ann"]).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    let (fresh, edge) = (made_at(now, 1), made_at(now - 60_000, 2));
    let first = ann.say_as(&r, &fresh, "fresh").await.unwrap();
    assert!(is_duplicate_of(&ann.say_as(&r, &fresh, "fresh").await.unwrap(), &first));
    assert!(!ann.say_as(&r, &edge, "just so").await.unwrap().duplicate);
    let late = ann.say_as(&r, &made_at(now - 60_001, 3), "late").await;
    assert_eq!(late.unwrap_err(), Code::TooOld);
    let random = ann.say_as(&r, &MessageId::random(), "of no time").await;
    assert_eq!(random.unwrap_err(), Code::BadField);
    // A stored message is refused, too, once it is older than the horizon, and is never stored a
    // second time.
    clock.set(Timestamp::from_millis(now + 60_001));
    assert_eq!(ann.say_as(&r, &fresh, "fresh").await.unwrap_err(), Code::TooOld);
    assert_eq!(ann.say_as(&r, &fresh, "other").await.unwrap_err(), Code::TooOld);
    assert_eq!(world.head(&r).await.seq, seq(3));
    assert!(bob.say_as(&bystander, &made_at(now + 60_000, 4), "mine").await.is_ok());
}

/// Concurrent sends of one message id are stored once; all but one are duplicates.
pub async fn concurrent_retries_are_stored_once<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let id = MessageId::random();
    let mut peers = Vec::new();
    for _ in 0..6 {
        peers.push(world.peer("ann").await);
    }
    let sending = peers.iter_mut().map(|peer| peer.say_as(&r, &id, "once"));
    let acks: Vec<AppendAck> =
        futures::future::join_all(sending).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(acks.iter().filter(|ack| !ack.duplicate).count(), 1);
    assert!(acks.iter().all(|ack| ack.seq == seq(2)));
    assert_eq!(world.head(&r).await.seq, seq(2));
}
