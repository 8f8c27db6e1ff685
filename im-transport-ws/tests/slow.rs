//! Slow and silent readers: their disconnect, the count of its code, and unaffected others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use im_core::engine::{Engine, EngineConfig, Publish, SlowSubscriber};
use im_core::memory::MemoryStore;
use im_core::wire::Target;
use im_core::{Code, RoomId, UserId};
use im_testkit::faulty_store::{FaultyStore, Moment, Operation};
use im_transport_ws::{WebSocket, WsConfig};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde_json::json;
use support::{Client, in_memory, listen, only};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpSocket;

/// Counts connections that were closed with one code.
#[derive(Default)]
struct Closed {
    code: String,
    count: Arc<AtomicU64>,
}

impl Closed {
    fn with(code: Code) -> Self {
        Self { code: code.number().to_string(), count: Arc::default() }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Recorder for Closed {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let wanted = key.name() == "im_connections_closed_total"
            && key.labels().any(|label| label.key() == "code" && label.value() == self.code);
        if wanted { Counter::from_arc(self.count.clone()) } else { Counter::noop() }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// An engine with small outboxes, which fill quickly.
async fn engine(policy: SlowSubscriber) -> Engine {
    let config = EngineConfig::default()
        .outbox_bytes(32 * 1024)
        .window_events(32)
        .window_bytes(64 * 1024)
        .slow_subscriber(policy);
    Engine::builder().allow_anonymous().config(config).start().await.unwrap()
}

/// Says hello as `name` and subscribes to the room `tea`, which is created if needed.
async fn subscribe<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>, name: &str) {
    client.command(&json!({"t": "hello", "id": 1, "v": 1, "user": name})).await;
    client.command(&json!({"t": "create", "id": 2, "room": "tea", "open": true})).await;
    client.command(&json!({"t": "join", "id": 3, "room": "tea"})).await;
    let status = client.command(&json!({"t": "subscribe", "id": 4, "room": "tea"})).await;
    assert_eq!(status["rooms"][0]["status"], "ok", "{status}");
}

/// Publishes a message of 8 KiB in the room. Returns its seq.
async fn publish(engine: &Engine) -> u64 {
    let room = Target::Room(RoomId::new("tea").unwrap());
    let pot = UserId::new("pot").unwrap();
    engine.publish(Publish::text(room, pot, &"x".repeat(8192))).await.unwrap().seq.get()
}

/// Connects another subscriber of the room, which reads.
async fn bystander(ws: &WebSocket) -> Client<DuplexStream> {
    let mut client = Client::open(in_memory(ws, 1 << 16), "").await.unwrap();
    subscribe(&mut client, "bystander").await;
    client
}

/// Publishes a message, which the bystander receives. Membership events precede the first one.
async fn heard_by(bystander: &mut Client<DuplexStream>, engine: &Engine) {
    let seq = publish(engine).await;
    loop {
        let event = bystander.json().await;
        if event["kind"] == "message" {
            assert_eq!(event["seq"], seq, "every message, in order");
            return;
        }
    }
}

/// A subscriber that falls behind gets a disconnect, and others are not affected.
#[tokio::test]
async fn slow_subscriber_is_disconnected_alone() {
    let closed = Closed::with(Code::SlowSubscriber);
    let _recording = metrics::set_default_local_recorder(&closed);
    let engine = engine(SlowSubscriber::Disconnect).await;
    let ws = WebSocket::new(engine.clone(), WsConfig::default());
    let mut slow = Client::open(in_memory(&ws, 4096), "").await.unwrap();
    subscribe(&mut slow, "slow").await;
    let mut bystander = bystander(&ws).await;
    for _ in 0..50 {
        heard_by(&mut bystander, &engine).await;
    }
    // The client reads only now: the bytes in flight, and the reason of the disconnect.
    let (code, words) = slow.closed_cleanly().await;
    assert_eq!((code, words.as_str()), (4203, Code::SlowSubscriber.meaning()));
    drop(slow);
    only(&engine, 1).await;
    assert_eq!(closed.count(), 1);
    heard_by(&mut bystander, &engine).await;
    bystander.is_alive().await;
}

/// A socket that is never read is disconnected, and others are not affected.
#[tokio::test]
async fn unread_socket_is_disconnected_alone() {
    let closed = Closed::with(Code::SlowSubscriber);
    let _recording = metrics::set_default_local_recorder(&closed);
    // A reader that makes progress is kept; this one reads nothing.
    let engine = engine(SlowSubscriber::CatchUp).await;
    let config = WsConfig::default().write_timeout(Duration::from_millis(200));
    let ws = WebSocket::new(engine.clone(), config);
    let address = listen(&ws).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut silent = Client::open(socket.connect(address).await.unwrap(), "").await.unwrap();
    subscribe(&mut silent, "silent").await;
    let mut bystander = bystander(&ws).await;
    assert_eq!(engine.connections(), 2);
    // The window of the socket fills up, a write waits, and then the connection is closed.
    support::within(async {
        while engine.connections() > 1 {
            heard_by(&mut bystander, &engine).await;
        }
    })
    .await;
    assert_eq!(closed.count(), 1, "the disconnect is counted under its code");
    heard_by(&mut bystander, &engine).await;
    bystander.is_alive().await;
    drop(silent);
}

#[tokio::test]
async fn idle_peer_blocks_no_store_call() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let engine = Engine::builder().allow_anonymous().store(store.clone()).start().await.unwrap();
    // No client is disconnected in this test.
    let patient = WsConfig::default().write_timeout(Duration::from_secs(3600));
    let ws = WebSocket::new(engine.clone(), patient);
    let mut slow = Client::open(in_memory(&ws, 4096), "").await.unwrap();
    subscribe(&mut slow, "slow").await;
    let mut bystander = bystander(&ws).await;
    // A command of the slow client holds the only permit of the store, and then its socket fills
    // up.
    let gate = store.hold(Operation::Members, Moment::Before);
    store.take_turns(1);
    let asked = json!({"t": "members", "id": 5, "room": "tea"});
    slow.text(&asked.to_string()).await;
    gate.reached(1).await;
    for _ in 0..5 {
        heard_by(&mut bystander, &engine).await;
    }
    gate.open();
    let members = support::within(bystander.command(&asked)).await;
    assert_eq!(members["t"], "ok", "{members}");
}
