//! The health report of an engine.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::sync::Arc;
use std::time::Duration;

use im_core::engine::{Engine, EngineConfig, Peer, Phase, Publish};
use im_core::memory::MemoryStore;
use im_core::ports::Credentials;
use im_core::state::RoomSeed;
use im_core::wire::{Encoding, Role, RoomKind, Target};
use im_core::{RoomId, UserId};
use im_testkit::faulty_store::{Fault, FaultyStore, Moment, Operation};

const WITHIN: Duration = Duration::from_secs(2);

fn store() -> Arc<FaultyStore> {
    Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())))
}

async fn engine() -> (Engine, Arc<FaultyStore>) {
    let store = store();
    let builder = Engine::builder().allow_anonymous().store(store.clone());
    (builder.start().await.unwrap(), store)
}

#[tokio::test(start_paused = true)]
async fn health_shows_counts_and_readiness() {
    let (engine, _) = engine().await;
    let peer = Peer {
        transport: "test",
        encoding: Encoding::Json,
        address: None,
        credentials: Credentials::default(),
    };
    let _connection = engine.accept(peer).unwrap();
    let (room, ann) = (RoomId::new("tea").unwrap(), UserId::new("ann").unwrap());
    let members = vec![(ann.clone(), Role::Owner)];
    let seed = RoomSeed { kind: RoomKind::Group, open: false, members };
    engine.create_room(room.clone(), seed, &ann).await.unwrap();
    let _subscription = engine.subscribe(&room, None).await.unwrap();
    let health = engine.health(WITHIN).await;
    assert!(health.is_ready(), "{health:?}");
    assert_eq!((health.connections, health.rooms, health.appends_waiting), (1, 1, 0));
    assert_eq!((health.store.name, health.appends_failing), ("memory", None));
    let names: Vec<_> = health.tasks.iter().map(|task| task.name).collect();
    for name in ["tick", "head_check", "session_check", "state", "remote_state", "upkeep", "sweep"]
    {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    let words = health.to_string();
    assert!(words.starts_with("ready: running, memory answers in"), "{words}");
    assert!(words.contains("1 connections, 1 rooms, 0 appends waiting"), "{words}");
}

/// A store that does not answer makes the engine unready within the time limit, for concurrent
/// probes, too.
#[tokio::test(start_paused = true)]
async fn silent_store_makes_engine_unready() {
    let (engine, store) = engine().await;
    let gate = store.hold(Operation::StateGeneration, Moment::Before);
    let begun = tokio::time::Instant::now();
    let (one, other) = tokio::join!(engine.health(WITHIN), engine.health(WITHIN));
    assert!(begun.elapsed() <= WITHIN + Duration::from_millis(1), "{:?}", begun.elapsed());
    for health in [one, other] {
        assert!(!health.is_ready());
        assert!(health.store.answer.unwrap_err().contains("no answer within 2s"));
    }
    drop(gate);
    assert!(engine.health(WITHIN).await.is_ready());
}

/// A store's error may name hosts and files: only the operator sees it.
#[tokio::test(start_paused = true)]
async fn store_error_reaches_operator_only() {
    let (engine, store) = engine().await;
    assert!(engine.health(WITHIN).await.is_ready());
    store.fail(Operation::StateGeneration, Fault::Unavailable);
    // An answer is reused for a second, to bound the load of probes on the store.
    assert!(engine.health(WITHIN).await.is_ready());
    tokio::time::advance(Duration::from_secs(1)).await;
    let health = engine.health(WITHIN).await;
    assert!(!health.is_ready());
    assert!(!health.to_string().contains("planned"), "{health}");
    assert!(
        health.to_string().starts_with("not ready: running, memory does not answer"),
        "{health}"
    );
    assert_eq!(health.store.answer, Err("StateGeneration fails as planned".to_owned()));
}

/// A store that answers reads and fails appends shows in the report.
#[tokio::test(start_paused = true)]
async fn failing_appends_show_their_time() {
    let (engine, store) = engine().await;
    let say = async |text: &str| {
        let to = Target::User(UserId::new("ann").unwrap());
        engine.publish(Publish::text(to, UserId::new("shop").unwrap(), text)).await
    };
    say("one").await.unwrap();
    store.fail(Operation::Append, Fault::Unavailable);
    say("two").await.unwrap_err();
    tokio::time::advance(Duration::from_secs(7)).await;
    say("three").await.unwrap_err();
    assert_eq!(engine.health(WITHIN).await.appends_failing, Some(Duration::from_secs(7)));
    // A refusal by the rules is no failure of the store.
    let nowhere = Target::Room(RoomId::new("nowhere").unwrap());
    let to_nowhere = Publish::text(nowhere, UserId::new("shop").unwrap(), "four");
    store.heal(Operation::Append);
    engine.publish(to_nowhere).await.unwrap_err();
    assert!(engine.health(WITHIN).await.appends_failing.is_some());
    say("five").await.unwrap();
    assert_eq!(engine.health(WITHIN).await.appends_failing, None);
}

/// A task that hangs in the store is reported with its delay.
#[tokio::test(start_paused = true)]
async fn stuck_task_shows_its_delay() {
    let store = store();
    let config = EngineConfig::default().head_check(Duration::from_secs(1));
    let builder = Engine::builder().allow_anonymous().store(store.clone()).config(config);
    let engine = builder.start().await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(engine.health(WITHIN).await.lag() < Duration::from_secs(1));
    let _gate = store.hold(Operation::StateGeneration, Moment::Before);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let health = engine.health(WITHIN).await;
    let lag = |name| health.tasks.iter().find(|task| task.name == name).unwrap().lag;
    assert!(lag("head_check") >= Duration::from_secs(28), "{health:?}");
    assert!(lag("tick") < Duration::from_secs(1), "{health:?}");
    assert_eq!(health.lag(), lag("head_check").max(lag("session_check")));
}

#[tokio::test(start_paused = true)]
async fn draining_engine_is_not_ready() {
    let (engine, _) = engine().await;
    engine.drain(Duration::from_secs(1)).await;
    let health = engine.health(WITHIN).await;
    assert_eq!(health.phase, Phase::Stopped);
    assert!(!health.is_ready());
}
