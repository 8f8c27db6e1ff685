//! Sessions: owners, limits, and how they end.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use im_core::engine::{Engine, EngineConfig};
use im_core::memory::MemoryBus;
use im_core::ports::{Bus, BusMessage, Envelope, ManualClock};
use im_core::state::{SecretHash, SessionRecord};
use im_core::wire::Secret;
use im_core::{Code, DeviceId, NodeId, SessionId, Timestamp, UserId};
use serde_json::{Value, json};

use support::{Client, greeted};

fn ann() -> UserId {
    UserId::new("ann").unwrap()
}

/// An engine with a clock that shows `ms` until it is set.
async fn by_the_clock(config: EngineConfig, ms: u64) -> (Engine, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(ms)));
    let engine = Engine::builder().allow_anonymous().clock(clock.clone()).config(config);
    (engine.start().await.unwrap(), clock)
}

fn again(welcome: &Value) -> Value {
    json!({"t": "hello", "id": 1, "v": 1, "user": "ann", "session": welcome["session"], "secret": welcome["secret"]})
}

#[tokio::test(start_paused = true)]
async fn late_hint_spares_newer_connection() {
    let bus = Arc::new(MemoryBus::new(16));
    let engine = Engine::builder().allow_anonymous().bus(bus.clone()).start().await.unwrap();
    let mut first = Client::new(&engine);
    let welcome = first.ask(json!({"t": "hello", "id": 1, "v": 1, "user": "ann"})).await;
    let mut second = Client::new(&engine);
    assert_eq!(second.ask(again(&welcome)).await["resumed"], true);
    assert_eq!(first.until(|f| f["t"] == "disconnect").await["code"], 4101);
    let superseded = |before| Envelope {
        from: NodeId(7),
        message: BusMessage::Close {
            user: ann(),
            session: Some(SessionId::new(welcome["session"].as_str().unwrap()).unwrap()),
            before: Some(before),
            code: Code::Superseded,
        },
    };
    // Another node's message about the connection before this one.
    bus.publish(superseded(2));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(second.ask(json!({"t": "ping", "id": 2})).await["t"], "ok");
    bus.publish(superseded(3));
    assert_eq!(second.until(|f| f["t"] == "disconnect").await["code"], 4101);
}

#[tokio::test(start_paused = true)]
async fn ending_all_sessions_covers_every_page() {
    let engine = Engine::builder().allow_anonymous().start().await.unwrap();
    for n in 0..600 {
        let record = SessionRecord {
            id: SessionId::new(format!("s{n}")).unwrap(),
            user: ann(),
            device: DeviceId::new("phone").unwrap(),
            secret: SecretHash::of(&Secret::new("secret")),
            created: Timestamp::from_millis(n),
            expires: Timestamp::from_millis(u64::MAX),
            fencing_token: 1,
        };
        engine.store().open_session(record).await.unwrap();
    }
    engine.kick(&ann(), None, Code::Kicked).await.unwrap();
    assert!(engine.store().sessions_of(&ann(), 1).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn refused_connection_leaves_no_session() {
    let config = EngineConfig::default().max_connections_per_user(1);
    let engine = Engine::builder().allow_anonymous().config(config).start().await.unwrap();
    let _first = greeted(&engine, "ann").await;
    let mut second = Client::new(&engine);
    let refusal = second.ask(json!({"t": "hello", "id": 1, "v": 1, "user": "ann"})).await;
    assert_eq!(refusal["code"], 4204);
    assert_eq!(engine.store().sessions_of(&ann(), 10).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn session_in_use_does_not_expire() {
    let config = EngineConfig::default().session_ttl(Duration::from_secs(1000));
    let (engine, clock) = by_the_clock(config, 0).await;
    let mut ann = Client::new(&engine);
    let welcome = ann.ask(json!({"t": "hello", "id": 1, "v": 1, "user": "ann"})).await;
    for step in 1..=10 {
        clock.set(Timestamp::from_millis(step * 600_000));
        // A tick of the engine.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(ann.ask(json!({"t": "ping", "id": 2})).await["t"], "ok");
    }
    drop(ann);
    let mut ann = Client::new(&engine);
    assert_eq!(ann.ask(again(&welcome)).await["resumed"], true);
    drop(ann);
    clock.set(Timestamp::from_millis(10 * 600_000 + 1_000_001));
    let mut ann = Client::new(&engine);
    assert_eq!(ann.ask(again(&welcome)).await["code"], 4400);
}

#[tokio::test(start_paused = true)]
async fn logged_out_session_does_not_return() {
    // So short a lifetime that a disconnect would extend it.
    let config = EngineConfig::default().session_ttl(Duration::from_secs(3600));
    let (engine, clock) = by_the_clock(config, 1_000_000).await;
    let mut ann = Client::new(&engine);
    let welcome = ann.ask(json!({"t": "hello", "id": 1, "v": 1, "user": "ann"})).await;
    clock.set(Timestamp::from_millis(1_000_000 + 3_000_000));
    assert_eq!(ann.ask(json!({"t": "logout", "id": 2})).await["t"], "ok");
    drop(ann);
    engine.drain(Duration::from_secs(1)).await;

    let again = Engine::builder()
        .allow_anonymous()
        .clock(clock)
        .store(engine.store().clone())
        .start()
        .await
        .unwrap();
    let mut ann = Client::new(&again);
    let (session, secret) = (&welcome["session"], &welcome["secret"]);
    let hello =
        json!({"t": "hello", "id": 1, "v": 1, "user": "ann", "session": session, "secret": secret});
    assert_eq!(ann.ask(hello).await["code"], 4400);
}
