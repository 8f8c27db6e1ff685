//! The engine retains what the policy requires, in rounds of a bounded size.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::sync::Arc;
use std::time::Duration;

use im_core::engine::{Engine, EngineConfig, Publish};
use im_core::memory::MemoryStore;
use im_core::ports::{ManualClock, Retention, RetentionPolicy, RoomDirectory, Upkeep};
use im_core::state::{Keep, RoomRecord, RoomSeed};
use im_core::wire::{Push, Role, RoomKind, Status, Target};
use im_core::{Cursor, RoomId, Seq, Timestamp, UserId};

fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

struct World {
    engine: Engine,
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
}

async fn world(policy: Arc<dyn RetentionPolicy>, config: EngineConfig) -> World {
    let store = Arc::new(MemoryStore::new());
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
    let engine = Engine::builder()
        .allow_anonymous()
        .store(store.clone())
        .clock(clock.clone())
        .retention(policy)
        .config(config.upkeep(Duration::from_secs(10)))
        .start()
        .await
        .unwrap();
    World { engine, store, clock }
}

impl World {
    /// A room with `messages` messages, after the event that lists its members.
    async fn filled(&self, name: &str, messages: usize) {
        let ann = UserId::new("ann").unwrap();
        let members = vec![(ann.clone(), Role::Owner)];
        let seed = RoomSeed { kind: RoomKind::Group, open: false, members };
        self.engine.create_room(room(name), seed, &ann).await.unwrap();
        for n in 0..messages {
            let publish = Publish::text(Target::Room(room(name)), ann.clone(), &n.to_string());
            self.engine.publish(publish).await.unwrap();
        }
    }

    async fn first(&self, name: &str) -> u64 {
        self.store.room(&room(name)).await.unwrap().unwrap().first.get()
    }

    /// Lets one round run.
    async fn round(&self) {
        tokio::time::sleep(Duration::from_millis(10_001)).await;
    }
}

/// The policy trims rooms, and a subscriber behind the trim gets the status `gap`.
#[tokio::test(start_paused = true)]
async fn retention_trims_rooms_and_sends_gap() {
    let policy = Retention { count: Some(5), ..Retention::default() };
    let world = world(Arc::new(policy), EngineConfig::default().window_events(2)).await;
    world.filled("a", 20).await;
    let head = world.store.room(&room("a")).await.unwrap().unwrap();
    let begin = Cursor { epoch: head.epoch, seq: Seq::FIRST };
    let mut behind = world.engine.subscribe(&room("a"), Some(begin)).await.unwrap();
    assert_eq!(behind.start().0, Status::Ok);
    world.round().await;
    assert_eq!(world.first("a").await, 17);
    let mut at = Seq::FIRST;
    while at < head.head {
        match behind.next().await.unwrap() {
            Push::Event(event) => {
                assert_eq!(event.seq, at.next());
                at = event.seq;
            }
            Push::Room(status) => {
                assert_eq!((status.status, at), (Status::Gap, Seq::FIRST));
                at = status.cursor.unwrap().seq;
                assert_eq!(at.get(), 16);
            }
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn age_uses_engine_clock() {
    let policy = Retention { age: Some(Duration::from_secs(60)), ..Retention::default() };
    let world = world(Arc::new(policy), EngineConfig::default()).await;
    world.filled("a", 3).await;
    world.clock.set(Timestamp::from_millis(1_030_000));
    let publish = |text| Publish::text(Target::Room(room("a")), UserId::new("ann").unwrap(), text);
    world.engine.publish(publish("younger")).await.unwrap();
    world.round().await;
    assert_eq!(world.first("a").await, 1);
    world.clock.set(Timestamp::from_millis(1_061_000));
    world.round().await;
    assert_eq!(world.first("a").await, 5);
    world.clock.set(Timestamp::from_millis(9_000_000));
    world.round().await;
    assert_eq!(world.first("a").await, 6);
    assert_eq!(world.engine.publish(publish("on")).await.unwrap().seq.get(), 6);
}

#[tokio::test(start_paused = true)]
async fn upkeep_round_is_bounded_and_continues() {
    let policy = Retention { count: Some(1), ..Retention::default() };
    let config = EngineConfig::default().upkeep_rooms(2).upkeep_events(8);
    let world = world(Arc::new(policy), config).await;
    for name in ["a", "b", "c", "d"] {
        world.filled(name, 5).await;
    }
    let firsts = async || {
        let mut firsts = Vec::new();
        for name in ["a", "b", "c", "d"] {
            firsts.push(world.first(name).await);
        }
        firsts
    };
    world.round().await;
    assert_eq!(firsts().await, [6, 4, 1, 1], "eight events, in the order of the rooms");
    world.round().await;
    assert_eq!(firsts().await, [6, 4, 6, 4]);
    // The end of the list, and then again from its start.
    for _ in 0..3 {
        world.round().await;
    }
    assert_eq!(firsts().await, [6, 6, 6, 6]);
}

/// A custom policy decides for each room, and its panic spares the other rooms.
#[tokio::test(start_paused = true)]
async fn custom_policy_panic_spares_other_rooms() {
    struct Own;
    impl RetentionPolicy for Own {
        fn keep(&self, room: &RoomRecord, _now: Timestamp) -> Keep {
            match room.id.as_str() {
                "a" => panic!("as planned"),
                "b" => Keep { count: Some(2), ..Keep::ALL },
                _ => Keep::ALL,
            }
        }
    }
    let world = world(Arc::new(Own), EngineConfig::default()).await;
    for name in ["a", "b", "c"] {
        world.filled(name, 5).await;
    }
    world.round().await;
    world.round().await;
    assert_eq!((world.first("a").await, world.first("b").await, world.first("c").await), (1, 5, 1));
}

#[tokio::test(start_paused = true)]
async fn deleted_rooms_are_purged_in_background() {
    let config = EngineConfig::default().upkeep_events(1);
    let world = world(Arc::new(Retention::default()), config).await;
    world.filled("a", 600).await;
    world.engine.delete_room(&room("a")).await.unwrap();
    // Each round removes a part, so one round is not enough.
    world.round().await;
    world.round().await;
    world.round().await;
    assert!(!world.store.purge(1).await.unwrap(), "nothing is left to remove");
}
