//! Catch-up from the log, held in the middle of a read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use im_core::engine::{Access, Batch, Connection, Engine, EngineConfig};
use im_core::memory::MemoryStore;
use im_core::state::StreamPosition;
use im_core::wire::{ResumeToken, Secret};
use im_core::{Code, SessionId};
use im_testkit::faulty_store::{Fault, FaultyStore, Moment, Operation};
use serde_json::{Value, json};

use support::peer;

/// A session that sends its commands one by one and reads from a stream half.
struct Client {
    engine: Engine,
    store: Arc<FaultyStore>,
    token: Option<ResumeToken>,
}

impl Client {
    /// Starts an engine that reads pages of three events and has one event of each room in memory.
    async fn start() -> Self {
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let config = EngineConfig::default().max_page(3).window_events(1);
        let builder = Engine::builder().allow_anonymous().store(store.clone()).config(config);
        Self { engine: builder.start().await.unwrap(), store, token: None }.other_session().await
    }

    /// Opens another session of the same user.
    async fn other_session(&self) -> Self {
        let mut client =
            Self { engine: self.engine.clone(), store: self.store.clone(), token: None };
        let welcome = client.call(json!({"t": "hello", "id": 1, "v": 1, "user": "ann"})).await;
        let text = |name: &str| welcome[name].as_str().unwrap().to_owned();
        let session = SessionId::new(text("session")).unwrap();
        client.token = Some(ResumeToken { session, secret: Secret::new(text("secret")) });
        client
    }

    async fn call(&self, command: Value) -> Value {
        let message = Bytes::from(command.to_string());
        let acks =
            self.engine.call(peer(), self.token.as_ref(), message).await.unwrap().all().await;
        let ack: Value = serde_json::from_slice(&acks[0]).unwrap();
        assert_eq!(ack["t"], "ok", "{ack}");
        ack
    }

    /// Creates a room, subscribes to it, and sends `messages` messages: seqs 2 and up.
    async fn fill(&self, room: &str, messages: u64) {
        self.call(json!({"t": "create", "id": 2, "room": room})).await;
        self.call(json!({"t": "subscribe", "id": 3, "room": room})).await;
        for n in 0..messages {
            let mid = format!("0123456789abcdef-{room}-{n}");
            self.call(json!({"t": "send", "id": 4, "room": room, "mid": mid, "content": n})).await;
        }
    }

    async fn listen(&self, position: Option<&StreamPosition>) -> Connection {
        let access = Access::Token(self.token.clone().unwrap());
        self.engine.open_stream(peer(), &access, position).await.unwrap()
    }
}

fn frames(batch: Option<Batch>) -> Vec<Value> {
    let frames = batch.into_iter().flat_map(|batch| batch.frames);
    frames.map(|frame| serde_json::from_slice(&frame).unwrap()).collect()
}

/// The seqs of the room's events among these frames.
fn seqs(frames: &[Value], room: &str) -> Vec<u64> {
    let of_room = |frame: &&Value| frame["t"] == "event" && frame["room"] == room;
    frames.iter().filter(of_room).map(|frame| frame["seq"].as_u64().unwrap()).collect()
}

/// The end of the connection drops the queue; the page in progress continues the dropped queue on
/// the next one.
#[tokio::test]
async fn close_during_catch_up_loses_nothing() {
    let ann = Client::start().await;
    ann.fill("tea", 12).await;
    let down = ann.listen(None).await;
    let mut delivered = Vec::new();
    while seqs(&delivered, "tea") != [2] {
        delivered.extend(frames(down.take(1).await));
    }
    // The queue has 3 and 4, and the next take reads the page after them.
    let gate = ann.store.hold(Operation::Read, Moment::After);
    let reading = tokio::spawn({
        let down = down.clone();
        async move { down.take(1).await }
    });
    gate.reached(1).await;
    down.close(Code::Closed);
    gate.open();
    delivered.extend(frames(reading.await.unwrap()));
    while let Some(batch) = down.take(1).await {
        delivered.extend(frames(Some(batch)));
    }
    assert_eq!(delivered.last().unwrap()["t"], "disconnect");
    let before = seqs(&delivered, "tea");
    let next = before.last().unwrap() + 1;
    assert_eq!(before, (2..next).collect::<Vec<_>>());
    // The position at the end is that of the last delivered event.
    let after = ann.listen(Some(&down.stream_position())).await;
    let mut delivered = Vec::new();
    while seqs(&delivered, "tea").last() != Some(&13) {
        delivered.extend(frames(after.take(1 << 16).await));
    }
    assert_eq!(seqs(&delivered, "tea"), (next..14).collect::<Vec<_>>());
}

/// An acked subscription starts before older events are taken, even if the stream half learns of it
/// late.
#[tokio::test]
async fn acknowledged_subscription_comes_before_older_events() {
    let ann = Client::start().await;
    ann.fill("tea", 3).await;
    let down = ann.listen(None).await;
    let mut delivered = Vec::new();
    while seqs(&delivered, "tea").last() != Some(&4) {
        delivered.extend(frames(down.take(1 << 16).await));
    }
    let epoch = delivered.last().unwrap()["epoch"].clone();
    let gate = ann.store.hold(Operation::Checkpoint, Moment::Before);
    ann.call(json!({"t": "subscribe", "id": 5, "room": "tea", "epoch": epoch, "since": 2})).await;
    let mid = "0123456789abcdef-tea-late";
    ann.call(json!({"t": "send", "id": 6, "room": "tea", "mid": mid, "content": "late"})).await;
    let taking = tokio::spawn({
        let down = down.clone();
        async move { down.take(1 << 16).await }
    });
    gate.reached(1).await;
    tokio::task::yield_now().await;
    gate.open();
    let mut delivered = frames(taking.await.unwrap());
    while seqs(&delivered, "tea").last() != Some(&5) {
        delivered.extend(frames(down.take(1 << 16).await));
    }
    assert_eq!((&delivered[0]["t"], &delivered[0]["cursor"]), (&json!("room"), &json!(2)));
    assert_eq!(seqs(&delivered, "tea"), [3, 4, 5]);
}

/// Pages in memory pass a page that is read from the store, at most eight times.
#[tokio::test]
async fn pages_in_memory_pass_eight_times() {
    let ann = Client::start().await;
    ann.fill("tea", 40).await;
    let first = ann.listen(None).await;
    let mut delivered = Vec::new();
    while seqs(&delivered, "tea").last() != Some(&41) {
        delivered.extend(frames(first.take(1).await));
    }
    let epoch = |frames: &[Value]| frames.last().unwrap()["epoch"].clone();
    let tea = epoch(&delivered);
    ann.fill("milk", 12).await;
    delivered.clear();
    while seqs(&delivered, "milk").last() != Some(&13) {
        delivered.extend(frames(first.take(1).await));
    }
    let milk = epoch(&delivered);
    // No subscriber had to read milk from the store, so none of its pages is in memory.
    let other = ann.other_session().await;
    for (room, epoch) in [("milk", milk), ("tea", tea)] {
        other
            .call(json!({"t": "subscribe", "id": 2, "room": room, "epoch": epoch, "since": 1}))
            .await;
    }
    let down = other.listen(None).await;
    let mut delivered = Vec::new();
    while seqs(&delivered, "milk").is_empty() {
        delivered.extend(frames(down.take(1).await));
    }
    assert_eq!(seqs(&delivered, "tea"), (2..26).collect::<Vec<_>>());
    while seqs(&delivered, "milk").len() < 12 || seqs(&delivered, "tea").len() < 40 {
        delivered.extend(frames(down.take(1).await));
    }
    assert_eq!(seqs(&delivered, "milk"), (2..14).collect::<Vec<_>>());
    assert_eq!(seqs(&delivered, "tea"), (2..42).collect::<Vec<_>>());
}

/// Neither acks nor heartbeats wait for a read of the log.
#[tokio::test(start_paused = true)]
async fn acks_come_while_log_is_read() {
    let ann = Client::start().await;
    ann.fill("tea", 12).await;
    let mut bob = support::Client::greeted(&ann.engine, "ann").await;
    let epoch = bob.ask(json!({"t": "history", "id": 2, "room": "tea"})).await["epoch"].clone();
    let gate = ann.store.hold(Operation::Read, Moment::After);
    bob.ask(json!({"t": "subscribe", "id": 3, "room": "tea", "epoch": epoch, "since": 1})).await;
    let heartbeat = bob.connection.next(1 << 16).await;
    gate.reached(1).await;
    assert!(heartbeat.frames.is_empty() && heartbeat.heartbeat, "{heartbeat:?}");
    bob.ask(json!({"t": "ping", "id": 4})).await;
    gate.open();
    let mut events = Vec::new();
    while seqs(&events, "tea").len() < 12 {
        events.push(bob.next().await);
    }
    assert_eq!(seqs(&events, "tea"), (2..14).collect::<Vec<_>>());
}

/// A read that panics is retried at the next tick.
#[tokio::test(start_paused = true)]
async fn panicking_read_is_retried() {
    let ann = Client::start().await;
    ann.fill("tea", 12).await;
    ann.store.fail_times(Operation::Read, Fault::Panic, 2);
    let down = ann.listen(None).await;
    let mut delivered = Vec::new();
    while seqs(&delivered, "tea").last() != Some(&13) {
        delivered.extend(frames(Some(down.next(1 << 16).await)));
    }
    assert_eq!(seqs(&delivered, "tea"), (2..14).collect::<Vec<_>>());
}
