//! Slow subscribers: bounded outboxes, catch-up, disconnects.

use im_core::engine::SlowSubscriber;
use im_core::wire::{Push, Value};
use im_core::{Code, Cursor, RoomId};

use super::bystander::Bystander;
use super::*;

/// More events than socket buffers hold, and far more than an outbox does.
pub(super) const COUNT: u64 = 1500;
const WORDS: usize = 8 * 1024;

pub(super) fn small(policy: SlowSubscriber) -> Setup {
    let config = EngineConfig::default()
        .outbox_bytes(32 * 1024)
        .window_events(32)
        .window_bytes(64 * 1024)
        .max_page_bytes(128 * 1024)
        .slow_subscriber(policy);
    Setup { config, ..Setup::default() }
}

pub(super) async fn flood<F: TransportFactory>(world: &World<F>, r: &RoomId) {
    let words = "x".repeat(WORDS);
    let publish = |n: u64| {
        let to = im_core::wire::Target::Room(r.clone());
        let mut content = im_core::wire::Map::from_iter([("text", Value::from(words.as_str()))]);
        content.insert("n", Value::Int(n as i64));
        let mut publish = im_core::engine::Publish::text(to, user("ann"), "");
        publish.content = content.into();
        world.engine().publish(publish)
    };
    for n in 0..COUNT {
        publish(n).await.unwrap();
    }
}

/// A slow subscriber catches up on every event in order, and gets the newest state.
pub async fn slow_subscriber_loses_nothing_durable<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, small(SlowSubscriber::CatchUp)).await;
    let bystander = Bystander::new(&world).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let mut slow = world.peer("bob").await;
    slow.subscribe(&r, None).await.unwrap();
    let mut ann = world.peer("ann").await;
    flood(&world, &r).await;
    for n in 0..20 {
        ann.put_state(&r, "score", &n.to_string(), None).await.unwrap();
    }
    let mut next = seq(2);
    let mut score = None;
    // The last score may come before or after the last event, or in a snapshot.
    while next.get() < COUNT + 2 || score != Some(says("19")) {
        match slow.push().await {
            Push::Event(event) => {
                assert_eq!(event.seq, next);
                next = next.next();
            }
            Push::State(update) => score = update.value.as_ref().map(im_core::wire::Content::value),
            Push::Snapshot(part) => {
                for entry in part.entries {
                    score = entry.value.as_ref().map(im_core::wire::Content::value);
                }
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert_eq!(slow.ping().await, Ok(()));
    bystander.ends_untouched(&world).await;
}

/// With `SlowSubscriber::Disconnect`, a slow subscriber is disconnected with 4203 and can read the
/// rest after a reconnect.
pub async fn disconnected_slow_subscriber_resumes<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, small(SlowSubscriber::Disconnect)).await;
    let bystander = Bystander::new(&world).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let mut slow = world.peer("bob").await;
    let mut cursor: Cursor = slow.subscribe(&r, None).await.unwrap().cursor.unwrap();
    let token = slow.token();
    flood(&world, &r).await;
    slow.ended_with(Code::SlowSubscriber).await;
    let disconnect = slow.ended().await.disconnect.expect("a disconnect frame");
    assert_eq!(
        (disconnect.code, disconnect.message.as_str()),
        (4203, Code::SlowSubscriber.meaning())
    );
    cursor.seq = slow.drain_events(cursor.seq);
    assert!(cursor.seq.get() < COUNT + 1, "the outbox overflowed before the last event");
    let mut again = world.dial().await;
    again.hello(hello_again("bob", token)).await.unwrap();
    // The new connection reads the rest from the history.
    let head = world.head(&r).await;
    while cursor.seq < head.seq {
        let page = again.history(&r, im_core::wire::PageFrom::After(cursor.seq), 50).await.unwrap();
        for event in page.events {
            assert_eq!(event.seq, cursor.seq.next());
            cursor.seq = event.seq;
        }
    }
    let (statuses, _) = again.resume(vec![(r.clone(), cursor)], None).await.unwrap();
    assert_eq!(statuses[0].status, im_core::wire::Status::Ok);
    bystander.ends_untouched(&world).await;
}

/// Acks reach a subscriber that reads no pushes for a while.
pub async fn acks_reach_idle_subscriber<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, small(SlowSubscriber::CatchUp)).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let mut bob = world.peer("bob").await;
    bob.subscribe(&r, None).await.unwrap();
    let ids = bob.batch((0..50).map(|_| im_core::wire::CommandBody::Ping).collect()).await;
    flood(&world, &r).await;
    for id in ids {
        assert!(bob.answer(id).await.is_ok());
    }
}
