//! Sender order, while messages wait unread behind one that is being executed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use im_core::engine::Engine;
use im_core::memory::MemoryStore;
use im_testkit::faulty_store::{Fault, FaultyStore, Moment, Operation};
use im_transport_ws::{WebSocket, WsConfig};
use serde_json::{Value, json};
use support::{Client, FIN, TEXT, frame, in_memory};
use tokio::io::DuplexStream;

/// Longer than the wait for the retry of a refused send: wire/SPEC.md, "Sends".
const LONG: Duration = Duration::from_secs(20);

async fn start() -> (Arc<FaultyStore>, Client<DuplexStream>) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let engine = Engine::builder().allow_anonymous().store(store.clone()).start().await.unwrap();
    let ws = WebSocket::new(engine, WsConfig::default());
    let mut client = Client::open(in_memory(&ws, 64 * 1024), "").await.unwrap();
    client.hello().await;
    for (id, room) in [(2, "tea"), (3, "milk")] {
        let create = json!({"t": "create", "id": id, "room": room});
        assert_eq!(client.command(&create).await["t"], "ok");
    }
    (store, client)
}

fn send(id: u64) -> Value {
    let mid = format!("0123456789abcdef-{id}");
    json!({"t": "send", "id": id, "room": "tea", "mid": mid, "content": id})
}

/// Returns the codes of the acks of these commands, 0 for those that succeeded.
async fn codes(client: &mut Client<DuplexStream>, ids: &[u64]) -> Vec<u64> {
    let mut codes = vec![None; ids.len()];
    while codes.contains(&None) {
        let answer = client.json().await;
        if let Some(at) = ids.iter().position(|id| answer["id"] == *id) {
            codes[at] = Some(answer["code"].as_u64().unwrap_or(0));
        }
    }
    codes.into_iter().flatten().collect()
}

/// In one message, and in several that are written at once.
#[tokio::test(start_paused = true)]
async fn send_behind_slow_command_keeps_order() {
    for messages in [1, 3] {
        let (store, mut client) = start().await;
        let history = json!({"t": "history", "id": 11, "room": "milk"});
        let commands = [send(10), history, send(12)];
        store.fail_times(Operation::Append, Fault::Unavailable, 1);
        let gate = store.hold(Operation::Read, Moment::Before);
        let written: Vec<u8> = match messages {
            1 => frame(FIN | TEXT, json!(commands).to_string().as_bytes()),
            _ => commands
                .iter()
                .flat_map(|command| frame(FIN | TEXT, command.to_string().as_bytes()))
                .collect(),
        };
        client.bytes(&written).await;
        gate.reached(1).await;
        tokio::time::advance(LONG).await;
        gate.open();
        assert_eq!(codes(&mut client, &[10, 11, 12]).await, [4202, 0, 4206], "{messages}");
        // In their order they are accepted.
        let again: Vec<u8> = [send(20), send(12)]
            .into_iter()
            .map(|mut send| {
                if send["id"] == 20 {
                    send["mid"] = json!("0123456789abcdef-10");
                }
                frame(FIN | TEXT, send.to_string().as_bytes())
            })
            .collect::<Vec<_>>()
            .concat();
        client.bytes(&again).await;
        assert_eq!(codes(&mut client, &[20, 12]).await, [0, 0]);
    }
}

/// A send that arrives long after a refusal, from a client that has abandoned the refused send, is
/// accepted.
#[tokio::test(start_paused = true)]
async fn send_long_after_refusal_passes() {
    let (store, mut client) = start().await;
    store.fail_times(Operation::Append, Fault::Unavailable, 1);
    client.text(&send(10).to_string()).await;
    assert_eq!(codes(&mut client, &[10]).await, [4202]);
    tokio::time::advance(Duration::from_secs(6)).await;
    client.text(&send(11).to_string()).await;
    assert_eq!(codes(&mut client, &[11]).await, [0]);
}
