//! Progress is a sign of life: messages that exceed the time-outs, in both directions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use im_core::Code;
use im_core::engine::{Engine, EngineConfig};
use im_transport_ws::{WebSocket, WsConfig};
use serde_json::json;
use support::{Client, FIN, TEXT, frame, in_memory};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const SECOND: Duration = Duration::from_secs(1);

async fn engine() -> Engine {
    let config = EngineConfig::default()
        .idle_timeout(5 * SECOND)
        .heartbeat(2 * SECOND)
        .tick(Duration::from_millis(100));
    Engine::builder().allow_anonymous().config(config).start().await.unwrap()
}

/// A client that has a room with 40 KiB of messages, over a pipe of 1 KiB.
async fn with_history(ws: &WebSocket) -> Client<DuplexStream> {
    let mut client = Client::open(in_memory(ws, 1024), "").await.unwrap();
    client.hello().await;
    client.command(&json!({"t": "create", "id": 2, "room": "tea"})).await;
    for n in 0..20 {
        let mid = format!("message-number-{n:04}");
        let content = "x".repeat(2048);
        let send = json!({"t": "send", "id": 3, "room": "tea", "mid": mid, "content": content});
        assert_eq!(client.command(&send).await["t"], "ok");
    }
    client
}

/// A command that takes four times the idle time to arrive, at a few bytes a second, is executed.
#[tokio::test(start_paused = true)]
async fn slow_message_keeps_the_connection() {
    let ws = WebSocket::new(engine().await, WsConfig::default());
    let mut client = Client::open(in_memory(&ws, 64 * 1024), "").await.unwrap();
    client.hello().await;
    let message = frame(FIN | TEXT, br#"{"t":"ping","id":7}"#);
    for byte in message {
        tokio::time::sleep(SECOND).await;
        client.stream.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(client.json().await["id"], 7);
}

/// A peer that sends nothing at all is closed all the same.
#[tokio::test(start_paused = true)]
async fn partial_message_keeps_no_connection() {
    let ws = WebSocket::new(engine().await, WsConfig::default());
    let mut client = Client::open(in_memory(&ws, 64 * 1024), "").await.unwrap();
    client.hello().await;
    let message = frame(FIN | TEXT, br#"{"t":"ping","id":7}"#);
    client.stream.write_all(&message[..10]).await.unwrap();
    assert_eq!(client.closed_cleanly().await.0, Code::IdleTimeout.number());
}

/// A page that takes four times the write time-out to be read arrives as a whole.
#[tokio::test(start_paused = true)]
async fn slow_page_is_delivered_whole() {
    let ws = WebSocket::new(engine().await, WsConfig::default());
    let mut client = with_history(&ws).await;
    client.text(&json!({"t": "history", "id": 9, "room": "tea"}).to_string()).await;
    let mut read = 0;
    while read < 40 * 1024 {
        tokio::time::sleep(SECOND).await;
        read += client.stream.read(&mut [0; 1024]).await.unwrap();
    }
    // The read stopped inside a frame: read on until a whole frame is an ack again.
    tokio::time::timeout(SECOND, client.stream.read_to_end(&mut Vec::new())).await.unwrap_err();
    client.is_alive().await;
}

/// The acks of all connections are close to their bound while this peer reads a page.
#[tokio::test(start_paused = true)]
async fn slow_peer_outlives_full_ack_budget() {
    // One page that waits, and the reservation of the next one, are three quarters of the bound.
    let config =
        EngineConfig::default().max_page_bytes(64 * 1024).acks_bytes(160 * 1024).tick(SECOND);
    let engine = Engine::builder().allow_anonymous().config(config).start().await.unwrap();
    let ws = WebSocket::new(engine, WsConfig::default());
    let mut client = with_history(&ws).await;
    client.text(&json!({"t": "history", "id": 9, "room": "tea"}).to_string()).await;
    let mut read = 0;
    while read < 40 * 1024 {
        tokio::time::sleep(SECOND).await;
        let part = client.stream.read(&mut [0; 1024]).await.unwrap();
        assert_ne!(part, 0, "the connection ended");
        read += part;
    }
    tokio::time::timeout(SECOND, client.stream.read_to_end(&mut Vec::new())).await.unwrap_err();
    client.is_alive().await;
}

/// A peer that reads single bytes is disconnected in the end.
#[tokio::test(start_paused = true)]
async fn single_byte_peer_is_disconnected() {
    let engine = engine().await;
    let ws = WebSocket::new(engine.clone(), WsConfig::default());
    let mut client = with_history(&ws).await;
    client.text(&json!({"t": "history", "id": 9, "room": "tea"}).to_string()).await;
    let begin = tokio::time::Instant::now();
    while engine.connections() > 0 {
        tokio::time::sleep(5 * SECOND).await;
        client.stream.read_u8().await.unwrap();
        assert!(begin.elapsed() < 60 * SECOND, "the peer is still connected");
    }
}
