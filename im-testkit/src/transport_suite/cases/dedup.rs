//! A message is kept once, however often and wherever it is sent.

use im_core::wire::{CommandBody, Map, MemberAct, SendReceipt, Target, Value};
use im_core::{Code, EventKind, MessageId};

use super::*;

/// The retry was answered with the first send's place, and says so.
fn is_repeat_of(retry: &SendReceipt, first: &SendReceipt) -> bool {
    retry.repeated && (retry.seq, retry.at, retry.epoch) == (first.seq, first.at, first.epoch)
}

pub async fn a_retry_is_answered_with_the_first_receipt<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let id = MessageId::random();
    let mut here = world.peer("ann").await;
    let first = here.say_as(&r, &id, "once").await.unwrap();
    assert!(!first.repeated);
    here.say(&r, "later").await.unwrap();
    assert!(is_repeat_of(&here.say_as(&r, &id, "once").await.unwrap(), &first));
    // Other connections of the user, at every engine and in every encoding that there is.
    for n in 0..4 {
        let mut there = world.nth_peer(n, "ann").await;
        assert!(is_repeat_of(&there.say_as(&r, &id, "once").await.unwrap(), &first));
    }
    assert_eq!(world.head(&r).await.seq, seq(3));
}

pub async fn a_retry_after_a_restart_is_recognised<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let id = MessageId::random();
    let first = world.peer("ann").await.say_as(&r, &id, "once").await.unwrap();
    let world = world.restart().await;
    let retry = world.peer("ann").await.say_as(&r, &id, "once").await.unwrap();
    assert!(is_repeat_of(&retry, &first));
    assert_eq!(world.head(&r).await.seq, seq(2));
}

pub async fn the_same_id_with_other_content_is_a_conflict<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let id = MessageId::random();
    let (mut here, mut there) = (world.peer("ann").await, world.peer("ann").await);
    here.say_as(&r, &id, "this").await.unwrap();
    assert_eq!(here.say_as(&r, &id, "that").await.unwrap_err(), Code::Conflict);
    assert_eq!(there.say_as(&r, &id, "that").await.unwrap_err(), Code::Conflict);
    assert_eq!(world.said(&r).await, [(user("ann"), "this".to_owned())]);
}

pub async fn the_same_id_of_another_user_is_another_message<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let id = MessageId::random();
    world.peer("ann").await.say_as(&r, &id, "mine").await.unwrap();
    assert!(!world.peer("bob").await.say_as(&r, &id, "mine").await.unwrap().repeated);
    assert_eq!(world.head(&r).await.seq, seq(3));
}

pub async fn the_order_of_keys_does_not_make_another_content<F: TransportFactory>(shape: Shape) {
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
    assert_eq!(again.get("repeated"), Some(&Value::Bool(true)));
}

pub async fn a_retry_after_a_ban_is_still_a_retry<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    let id = MessageId::random();
    let first = bob.say_as(&r, &id, "before").await.unwrap();
    ann.member(&r, "bob", MemberAct::Ban).await.unwrap();
    for mut connection in [bob, world.peer("bob").await] {
        assert!(is_repeat_of(&connection.say_as(&r, &id, "before").await.unwrap(), &first));
        assert_eq!(connection.say_as(&r, &id, "other").await.unwrap_err(), Code::Conflict);
        assert_eq!(connection.say(&r, "after").await.unwrap_err(), Code::Banned);
    }
    assert_eq!(world.said(&r).await, [(user("bob"), "before".to_owned())]);
}

pub async fn the_same_message_from_many_sides_at_once_is_kept_once<F: TransportFactory>(
    shape: Shape,
) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let id = MessageId::random();
    let mut peers = Vec::new();
    for _ in 0..6 {
        peers.push(world.peer("ann").await);
    }
    let sending = peers.iter_mut().map(|peer| peer.say_as(&r, &id, "once"));
    let receipts: Vec<SendReceipt> =
        futures::future::join_all(sending).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(receipts.iter().filter(|receipt| !receipt.repeated).count(), 1);
    assert!(receipts.iter().all(|receipt| receipt.seq == seq(2)));
    assert_eq!(world.head(&r).await.seq, seq(2));
}
