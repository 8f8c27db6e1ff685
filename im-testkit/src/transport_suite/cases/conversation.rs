//! Conversation: groups, direct rooms, channels, inboxes, several devices, ephemeral messages.

use im_core::engine::Publish;
use im_core::wire::{RoomKind, Target};
use im_core::{Code, RoomId};

use super::bystander::Bystander;
use super::*;

/// Every member of a group receives all messages, in one order and with their senders.
pub async fn a_group_talks<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = room("r");
    let mut ann = world.peer("ann").await;
    ann.create(&r, RoomKind::Group, false, &["bob", "eve"]).await.unwrap();
    let (mut bob, mut eve) = (world.peer("bob").await, world.peer("eve").await);
    for peer in [&mut ann, &mut bob, &mut eve] {
        assert_eq!(peer.subscribe(&r, None).await.unwrap().head, seq(1));
    }
    let said = [(0, "hello"), (1, "hi"), (2, "hey"), (0, "how are you?")];
    let mut peers = [ann, bob, eve];
    for (who, words) in said {
        peers[who].say(&r, words).await.unwrap();
    }
    for peer in &mut peers {
        for (n, (who, words)) in said.into_iter().enumerate() {
            let event = peer.event().await;
            assert_eq!(event.seq, seq(n as u64 + 2));
            assert_eq!(event.from, user(["ann", "bob", "eve"][who]));
            assert_eq!(text(&event).as_deref(), Some(words));
        }
    }
}

/// A sender that is subscribed receives its own message, with the position in its ack.
pub async fn own_message_is_pushed_too<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    ann.subscribe(&r, None).await.unwrap();
    let ack = ann.say(&r, "echo").await.unwrap();
    let event = ann.event().await;
    assert_eq!((event.seq, event.epoch, event.at), (ack.seq, ack.epoch, ack.at));
    assert!(!ack.duplicate);
}

/// Sends of two users to each other are stored in one room, which a third user cannot access.
pub async fn two_users_share_one_direct_room<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    let first = ann.say_to(Target::Peer(user("bob")), "from ann").await.unwrap();
    let second = bob.say_to(Target::Peer(user("ann")), "from bob").await.unwrap();
    let direct = RoomId::direct(&user("ann"), &user("bob"));
    assert_eq!((&first.room, first.seq), (&direct, seq(1)));
    assert_eq!((&second.room, second.seq), (&direct, seq(2)));
    let start = im_core::Cursor { epoch: first.epoch, seq: im_core::Seq::ZERO };
    for peer in [&mut ann, &mut bob] {
        peer.subscribe(&direct, Some(start)).await.unwrap();
        assert_eq!(peer.heard().await, "from ann");
        assert_eq!(peer.heard().await, "from bob");
    }
    let mut eve = world.peer("eve").await;
    assert_eq!(eve.subscribe(&direct, None).await.unwrap_err(), Code::NotFound);
    assert_eq!(eve.say(&direct, "me too").await.unwrap_err(), Code::NotFound);
}

/// In a channel, readers receive but cannot send; an open one is readable by non-members.
pub async fn channel_readers_only_listen<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = room("news");
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    ann.create(&r, RoomKind::Channel, true, &[]).await.unwrap();
    // An open channel is readable by non-members, too.
    let mut passer_by = world.peer("eve").await;
    passer_by.subscribe(&r, None).await.unwrap();
    bob.join(&r).await.unwrap();
    bob.subscribe(&r, None).await.unwrap();
    assert_eq!(bob.say(&r, "me too").await.unwrap_err(), Code::Forbidden);
    ann.say(&r, "news").await.unwrap();
    assert_eq!(bob.heard().await, "news");
    assert_eq!(passer_by.event().await.member_changes().len(), 1);
    assert_eq!(passer_by.heard().await, "news");
}

/// A non-member gets 4520 for every command, for a closed room as for a missing one.
pub async fn strangers_learn_nothing<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let closed = world.group("closed", &["ann"]).await;
    let mut eve = world.peer("eve").await;
    for r in [&closed, &room("no-such-room")] {
        let answers = [
            eve.subscribe(r, None).await.map(drop),
            eve.say(r, "hello?").await.map(drop),
            eve.history(r, im_core::wire::PageFrom::Before(im_core::Seq::MAX), 5).await.map(drop),
            eve.members(r, None, 5).await.map(drop),
            eve.put_state(r, "k", "v", None).await.map(drop),
            eve.signal(Target::Room(r.clone()), "x").await,
            eve.join(r).await.map(drop),
        ];
        assert!(answers.iter().all(|answer| *answer == Err(Code::NotFound)), "{r}: {answers:?}");
    }
    assert_eq!(world.head(&closed).await.seq, seq(1));
    bystander.ends_untouched(&world).await;
}

/// Every device of a user receives room messages and inbox events, including those that it sent.
pub async fn all_devices_receive_messages<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut phone, mut laptop) = (world.dial().await, world.dial().await);
    phone.hello(hello_on("ann", "phone")).await.unwrap();
    laptop.hello(hello_on("ann", "laptop")).await.unwrap();
    for device in [&mut phone, &mut laptop] {
        device.subscribe(&r, None).await.unwrap();
        device.subscribe(&RoomId::inbox(&user("ann")), None).await.unwrap();
    }
    phone.say(&r, "from my phone").await.unwrap();
    assert_eq!(laptop.heard().await, "from my phone");
    assert_eq!(phone.heard().await, "from my phone");
    let to = Target::User(user("ann"));
    world.engine().publish(Publish::text(to, user("service"), "for ann")).await.unwrap();
    assert_eq!(phone.heard().await, "for ann");
    assert_eq!(laptop.heard().await, "for ann");
}

/// Another user can neither subscribe nor send to an inbox.
pub async fn inbox_is_private_to_its_user<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let to = Target::User(user("ann"));
    world.engine().publish(Publish::text(to.clone(), user("service"), "for ann")).await.unwrap();
    let mut eve = world.peer("eve").await;
    let inbox = RoomId::inbox(&user("ann"));
    assert_eq!(eve.subscribe(&inbox, None).await.unwrap_err(), Code::NotFound);
    assert!(eve.say_to(to, "spam").await.is_err());
    assert!(eve.say(&inbox, "spam").await.is_err());
    assert_eq!(world.head(&inbox).await.seq, seq(1));
}

/// Ephemeral messages reach current subscribers and are not stored. Clients may not send them to a
/// user's inbox.
pub async fn signals_reach_present_members_only<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    bob.subscribe(&r, None).await.unwrap();
    ann.signal(Target::Room(r.clone()), "typing").await.unwrap();
    let signal = bob.signalled().await;
    assert_eq!((&signal.to, &signal.from), (&Target::Room(r.clone()), &user("ann")));
    assert_eq!(signal.content.value(), says("typing"));
    assert_eq!(world.head(&r).await.seq, seq(1));
    assert_eq!(ann.signal(Target::User(user("bob")), "psst").await.unwrap_err(), Code::Forbidden);
}

/// Contents arrive unchanged in both encodings: bytes, floats, nulls, escapes, empty keys.
pub async fn user_content_arrives_unchanged<F: TransportFactory>(shape: Shape) {
    use im_core::wire::{CommandBody, Map, Value};
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    // With two encodings, adjacent connections use different ones.
    let (mut first, mut second) = (world.peer("ann").await, world.peer("ann").await);
    first.subscribe(&r, None).await.unwrap();
    second.subscribe(&r, None).await.unwrap();
    let mut map = Map::default();
    map.insert("$bytes", Value::Bytes(vec![0, 255, 7]));
    map.insert(
        "",
        Value::Array(vec![
            Value::Null,
            Value::Bool(true),
            Value::Float(-0.5),
            Value::Int(-(1 << 53) + 1),
        ]),
    );
    map.insert("text", Value::from("Zoë 用户 \u{1f600} \"\\\n\u{0}"));
    let content = Value::from(map);
    for (at, peer) in [&mut first, &mut second].into_iter().enumerate() {
        let id = im_core::MessageId::random();
        let kind = im_core::EventKind::new(format!("kind-{at}")).unwrap();
        let to = Target::Room(r.clone());
        peer.ask(CommandBody::Send { to, id, kind, content: content.clone() }).await.unwrap();
    }
    for peer in [&mut first, &mut second] {
        for _ in 0..2 {
            assert_eq!(peer.event().await.content.value(), content);
        }
    }
}
