//! Stream halves that read their session's checkpoint while the store or a hook fails, or under
//! load.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use im_core::engine::{Access, Connection, Engine, EngineConfig};
use im_core::memory::MemoryStore;
use im_core::ports::{Action, ActionKind, Hooks, Identity, ManualClock, Verdict};
use im_core::state::RoomSeed;
use im_core::wire::{Limits, ResumeToken, Role, RoomKind, Secret};
use im_core::{RoomId, SessionId, Timestamp, UserId};
use im_testkit::faulty_store::{Fault, FaultyStore, Operation};
use serde_json::{Value, json};
use tokio::time::Instant;

use support::peer;

/// A session over HTTP.
struct Session {
    engine: Engine,
    token: ResumeToken,
}

impl Session {
    async fn open(engine: &Engine, user: &str) -> Self {
        let hello = json!({"t": "hello", "id": 1, "v": 1, "user": user}).to_string();
        let acks = engine.call(peer(), None, hello.into()).await.unwrap().all().await;
        let welcome: Value = serde_json::from_slice(&acks[0]).unwrap();
        let text = |name: &str| welcome[name].as_str().unwrap().to_owned();
        let session = SessionId::new(text("session")).unwrap();
        let token = ResumeToken { session, secret: Secret::new(text("secret")) };
        Self { engine: engine.clone(), token }
    }

    async fn done(&self, command: Value) {
        let message = Bytes::from(command.to_string());
        let acks = self.engine.call(peer(), Some(&self.token), message).await.unwrap().all().await;
        let ack: Value = serde_json::from_slice(&acks[0]).unwrap();
        assert_eq!(ack["t"], "ok", "{ack}");
    }

    async fn listen(&self) -> Connection {
        let access = Access::Token(self.token.clone());
        self.engine.open_stream(peer(), &access, None).await.unwrap()
    }
}

/// Reads until `rooms` rooms have a status. Returns the time that it took.
async fn until_begun(down: &Connection, rooms: usize) -> Duration {
    let (start, mut begun) = (Instant::now(), 0);
    while begun < rooms {
        let batch = down.next(1 << 16).await;
        down.release(batch.id);
        for frame in &batch.frames {
            let frame: Value = serde_json::from_slice(frame).unwrap();
            begun += usize::from(frame["t"] == "room" && frame["status"] == "ok");
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{begun} rooms in a minute");
    }
    start.elapsed()
}

/// With the default limits, rooms that `resume` has paid for start at once.
#[tokio::test(start_paused = true)]
async fn paid_resume_begins_on_open_stream() {
    const ROOMS: usize = 2_000;
    let mut limits = Limits::default();
    (limits.max_message_bytes, limits.max_values) = (1 << 20, 1 << 16);
    let mut config = EngineConfig::default();
    config.limits = limits;
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
    let engine = Engine::builder().allow_anonymous().clock(clock).config(config);
    let engine = engine.start().await.unwrap();
    let (ann, mut cursors) = (UserId::new("ann").unwrap(), Vec::new());
    for n in 0..ROOMS {
        let members = vec![(ann.clone(), Role::Owner)];
        let seed = RoomSeed { kind: RoomKind::Group, open: false, members };
        let room = RoomId::new(format!("r{n}")).unwrap();
        let made = engine.create_room(room, seed, &ann).await.unwrap();
        cursors.push(json!([format!("r{n}"), made.epoch.to_string(), 1]));
    }
    let session = Session::open(&engine, "ann").await;
    let down = session.listen().await;
    session.done(json!({"t": "resume", "id": 2, "cursors": cursors})).await;
    assert_eq!(until_begun(&down, ROOMS).await, Duration::ZERO);
}

/// A read of the checkpoint that fails is retried after a tick, not only with the next session
/// check.
#[tokio::test(start_paused = true)]
async fn failed_checkpoint_read_retries_after_tick() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let config = EngineConfig::default().session_check(Duration::from_secs(3600));
    let engine = Engine::builder().allow_anonymous().store(store.clone()).config(config);
    let engine = engine.start().await.unwrap();
    let session = Session::open(&engine, "ann").await;
    session.done(json!({"t": "create", "id": 2, "room": "tea"})).await;
    let down = session.listen().await;
    store.fail_times(Operation::Checkpoint, Fault::Unavailable, 2);
    session.done(json!({"t": "subscribe", "id": 3, "room": "tea"})).await;
    assert_eq!(until_begun(&down, 1).await, Duration::from_secs(3), "a tick, then two");
}

/// Panics when it is called for the second read.
#[derive(Default)]
struct Panics(AtomicU32);

#[async_trait]
impl Hooks for Panics {
    fn wants(&self, kind: ActionKind) -> bool {
        kind == ActionKind::Read
    }

    async fn before(&self, _: &Identity, _: &Action) -> Verdict {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            1 => panic!("as planned"),
            _ => Verdict::Default,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn panicking_hook_blocks_no_stream() {
    let engine = Engine::builder().allow_anonymous().hooks(Arc::new(Panics::default()));
    let engine = engine.start().await.unwrap();
    let session = Session::open(&engine, "ann").await;
    session.done(json!({"t": "create", "id": 2, "room": "tea"})).await;
    let down = session.listen().await;
    // The first call is here, the second by the stream half.
    session.done(json!({"t": "subscribe", "id": 3, "room": "tea"})).await;
    let take = tokio::time::timeout(Duration::from_secs(3600), down.take(1 << 16));
    assert!(take.await.expect("the take hangs").is_none(), "no room has a status");
    assert_eq!(until_begun(&down, 1).await, Duration::from_secs(1));
}

/// However long reads of the checkpoint fail, only one retry is pending, and session checks add
/// none.
#[tokio::test(start_paused = true)]
async fn failing_looks_do_not_pile_up() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let engine = Engine::builder().allow_anonymous().store(store.clone()).start().await.unwrap();
    let session = Session::open(&engine, "ann").await;
    session.done(json!({"t": "create", "id": 2, "room": "tea"})).await;
    let down = session.listen().await;
    store.fail_times(Operation::Checkpoint, Fault::Unavailable, 10_000);
    session.done(json!({"t": "subscribe", "id": 3, "room": "tea"})).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let before = store.calls(Operation::Checkpoint);
    tokio::time::sleep(Duration::from_secs(100)).await;
    let looks = store.calls(Operation::Checkpoint) - before;
    assert!((9..=11).contains(&looks), "{looks} reads in ten times the longest pause");
    store.heal(Operation::Checkpoint);
    assert!(until_begun(&down, 1).await <= Duration::from_secs(10));
}

/// Evicted state that the store fails to return is read once a tick, and polls are answered
/// meanwhile.
#[tokio::test(start_paused = true)]
async fn failing_state_is_read_once_a_tick() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let config = EngineConfig::default().states_bytes(1);
    let engine = Engine::builder().allow_anonymous().store(store.clone()).config(config);
    let engine = engine.start().await.unwrap();
    let session = Session::open(&engine, "ann").await;
    session.done(json!({"t": "create", "id": 2, "room": "tea"})).await;
    session.done(json!({"t": "subscribe", "id": 3, "room": "tea"})).await;
    let down = session.listen().await;
    assert_eq!(until_begun(&down, 1).await, Duration::ZERO);
    session.done(json!({"t": "put_state", "id": 4, "room": "tea", "key": "k", "value": 1})).await;
    // State that is stored and was not used for a while is evicted for other state.
    tokio::time::sleep(Duration::from_secs(60)).await;
    session.done(json!({"t": "create", "id": 5, "room": "milk"})).await;
    session.done(json!({"t": "subscribe", "id": 6, "room": "milk"})).await;
    session.done(json!({"t": "put_state", "id": 7, "room": "milk", "key": "k", "value": 1})).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let other = Session::open(&engine, "ann").await;
    other.done(json!({"t": "subscribe", "id": 3, "room": "tea"})).await;
    let down = other.listen().await;
    let before = store.calls(Operation::State);
    // Bounded, so that a subscriber that reads all the time ends.
    store.fail_times(Operation::State, Fault::Unavailable, 10_000);
    let mut polls = 0;
    while tokio::time::timeout(Duration::from_millis(100), down.take(1 << 16))
        .await
        .unwrap()
        .is_some()
    {
        polls += 1;
    }
    assert!(polls <= 2);
    let next = async {
        loop {
            let batch = down.next(1 << 16).await;
            down.release(batch.id);
            let frames = batch.frames.iter().map(|f| serde_json::from_slice::<Value>(f).unwrap());
            if frames.into_iter().any(|frame| frame["t"] == "snapshot") {
                return;
            }
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(10_500), next).await.is_err());
    let reads = store.calls(Operation::State) - before;
    assert!((10..=12).contains(&reads), "{reads} reads in ten ticks");
}
