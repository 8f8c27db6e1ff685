//! In-process subscriptions while the store fails.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::sync::Arc;
use std::time::Duration;

use im_core::engine::{Engine, EngineConfig, Publish};
use im_core::memory::MemoryStore;
use im_core::state::RoomSeed;
use im_core::wire::{Push, Role, RoomKind, Target};
use im_core::{Cursor, RoomId, Seq, UserId};
use im_testkit::faulty_store::{Fault, FaultyStore, Operation};
use tokio::time::Instant;

fn tea() -> RoomId {
    RoomId::new("tea").unwrap()
}

async fn say(engine: &Engine) {
    let ann = UserId::new("ann").unwrap();
    engine.publish(Publish::text(Target::Room(tea()), ann, "milk?")).await.unwrap();
}

/// Returns an engine with a room, and the cursor before its first event.
async fn with_room() -> (Engine, Arc<FaultyStore>, Cursor) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let config = EngineConfig::default().window_events(1).page_cache_bytes(0);
    let engine = Engine::builder().allow_anonymous().store(store.clone()).config(config);
    let engine = engine.start().await.unwrap();
    let ann = UserId::new("ann").unwrap();
    let seed =
        RoomSeed { kind: RoomKind::Group, open: true, members: vec![(ann.clone(), Role::Owner)] };
    let made = engine.create_room(tea(), seed, &ann).await.unwrap();
    for _ in 0..10 {
        say(&engine).await;
    }
    (engine, store, Cursor { epoch: made.epoch, seq: Seq::ZERO })
}

/// A store that fails at once is read once a tick.
#[tokio::test(start_paused = true)]
async fn failing_store_is_read_once_a_tick() {
    let (engine, store, begin) = with_room().await;
    let mut subscription = engine.subscribe(&tea(), Some(begin)).await.unwrap();
    let before = store.calls(Operation::Read);
    // Bounded, so that a subscription that reads all the time ends.
    store.fail_times(Operation::Read, Fault::Unavailable, 10_000);
    let waiting = tokio::time::timeout(Duration::from_millis(10_500), subscription.next());
    let next = waiting.await;
    let reads = store.calls(Operation::Read) - before;
    assert!((10..=12).contains(&reads), "{reads} reads in ten ticks");
    assert!(next.is_err(), "{next:?}");
    store.heal(Operation::Read);
    let Some(Push::Event(event)) = subscription.next().await else { unreachable!("no event") };
    assert_eq!(event.seq, Seq::FIRST);
}

/// Events of the room during failures delay the next read by a tick at most.
#[tokio::test(start_paused = true)]
async fn busy_room_is_read_after_failures() {
    let (engine, store, begin) = with_room().await;
    let mut subscription = engine.subscribe(&tea(), Some(begin)).await.unwrap();
    store.fail_times(Operation::Read, Fault::Unavailable, 3);
    let start = Instant::now();
    let busy = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            say(&engine).await;
        }
    };
    tokio::select! {
        push = subscription.next() => assert!(push.is_some()),
        () = busy => {}
    }
    assert_eq!(start.elapsed().as_secs(), 3);
}
