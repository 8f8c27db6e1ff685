//! Subscriptions over one connection while the store is slow or fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use im_core::engine::Engine;
use im_core::memory::MemoryStore;
use im_testkit::faulty_store::{Fault, FaultyStore, Moment, Operation};
use serde_json::{Value, json};

use support::Client;

impl Client {
    /// Sends a command that is held.
    fn tell_aside(&self, command: &Value) {
        let (connection, message) = (self.connection.clone(), Bytes::from(command.to_string()));
        tokio::spawn(async move { connection.submit(message).await });
    }

    /// Sends a message to `tea`. `n` is also the command's id.
    async fn say(&self, n: u64) {
        let mid = format!("0123456789abcdef-{n}");
        self.send(&json!({"t": "send", "id": n, "room": "tea", "mid": mid, "content": n})).await;
    }

    /// Waits for the ack of a command. Returns it with the seqs of the events before it.
    async fn ack(&mut self, id: u64) -> (Value, Vec<u64>) {
        let mut seqs = Vec::new();
        loop {
            let frame = self.next().await;
            match &frame["t"] {
                t if t == "event" => seqs.push(frame["seq"].as_u64().unwrap()),
                _ if frame["id"] == id => return (frame, seqs),
                _ => {}
            }
        }
    }

    /// Sends a command and waits for its `ok`.
    async fn done(&mut self, command: Value) {
        let ack = self.ask(command).await;
        assert_eq!(ack["t"], "ok", "{ack}");
    }
}

async fn engine() -> (Engine, Arc<FaultyStore>) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let builder = Engine::builder().allow_anonymous().store(store.clone());
    (builder.start().await.unwrap(), store)
}

/// A subscription without a cursor whose head was read before an event was pushed does not deliver
/// it again.
#[tokio::test]
async fn resubscription_without_cursor_redelivers_nothing() {
    let (engine, store) = engine().await;
    let (mut ann, mut other) =
        (Client::greeted(&engine, "ann").await, Client::greeted(&engine, "ann").await);
    ann.done(json!({"t": "create", "id": 2, "room": "tea"})).await;
    ann.done(json!({"t": "subscribe", "id": 3, "room": "tea"})).await;
    let gate = store.hold(Operation::ChangeCheckpoint, Moment::Before);
    ann.tell_aside(&json!({"t": "subscribe", "id": 4, "room": "tea"}));
    gate.reached(1).await;
    other.say(10).await;
    assert_eq!(other.ack(10).await.0["t"], "ok");
    assert_eq!(ann.next().await["seq"], 2);
    gate.open();
    let (ack, between) = ann.ack(4).await;
    assert_eq!((&ack["rooms"][0]["cursor"], &ack["rooms"][0]["head"]), (&json!(2), &json!(2)));
    assert!(between.is_empty(), "{between:?}");
    other.say(11).await;
    assert_eq!(ann.next().await["seq"], 3);
}

/// After the ack `ok`, a failing read of the room is no `denied`.
#[tokio::test]
async fn store_failure_after_ack_denies_nothing() {
    let (engine, store) = engine().await;
    let mut ann = Client::greeted(&engine, "ann").await;
    ann.done(json!({"t": "create", "id": 2, "room": "tea"})).await;
    let gate = store.hold(Operation::ChangeCheckpoint, Moment::After);
    ann.tell_aside(&json!({"t": "subscribe", "id": 3, "room": "tea"}));
    gate.reached(1).await;
    store.fail(Operation::Heads, Fault::Unavailable);
    gate.open();
    assert_eq!(ann.ack(3).await.0["rooms"][0]["status"], "ok");
    let bye = ann.next().await;
    assert_eq!((&bye["t"], &bye["code"]), (&json!("disconnect"), &json!(4202)), "{bye}");
}
