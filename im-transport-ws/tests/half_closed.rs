//! Peers that end their half of the connection without a close frame, and continue to read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use im_core::Code;
use im_transport_ws::{WebSocket, WsConfig};
use serde_json::json;
use support::{
    Client, FIN, TEXT, all_gone, connect, engine, frame, greeted, in_memory, listen, only,
};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

/// A half-closed socket gets a disconnect, and its session can be resumed.
#[tokio::test]
async fn half_closed_socket_keeps_its_session() {
    let engine = engine().await;
    let address = listen(&WebSocket::new(engine.clone(), WsConfig::default())).await;
    let mut other = greeted(address).await;
    let mut client = connect(address).await;
    let hello = json!({"t": "hello", "id": 1, "v": 1, "user": "bela"});
    let welcome = client.command(&hello).await;

    client.stream.shutdown().await.unwrap();
    let (code, words) = client.closed_cleanly().await;
    assert_eq!((code, words.as_str()), (4000, Code::Closed.meaning()));
    assert_eq!(client.end().await, b"", "nothing follows, and the server ends its half as well");
    only(&engine, 1).await;
    other.is_alive().await;

    let mut again = connect(address).await;
    let (session, secret) = (&welcome["session"], &welcome["secret"]);
    let hello = json!({"t": "hello", "id": 2, "v": 1, "user": "bela", "session": session, "secret": secret});
    assert_eq!(again.command(&hello).await["resumed"], true);
}

#[tokio::test]
async fn pending_acks_precede_disconnect() {
    let engine = engine().await;
    let mut client =
        greeted(listen(&WebSocket::new(engine.clone(), WsConfig::default())).await).await;
    let pings: Vec<u8> = (50..60)
        .flat_map(|id| frame(FIN | TEXT, format!(r#"{{"t":"ping","id":{id}}}"#).as_bytes()))
        .collect();
    client.bytes(&pings).await;
    client.stream.shutdown().await.unwrap();
    for id in 50..60 {
        assert_eq!(client.json().await["id"], id);
    }
    assert_eq!(client.closed_cleanly().await.0, 4000);
    all_gone(&engine).await;
}

#[tokio::test]
async fn half_closed_mid_frame_gets_disconnect() {
    let engine = engine().await;
    let address = listen(&WebSocket::new(engine.clone(), WsConfig::default())).await;
    let (mut other, mut client) = (greeted(address).await, greeted(address).await);
    client.bytes(&frame(FIN | TEXT, br#"{"t":"ping","id":2}"#)[..9]).await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.closed_cleanly().await.0, 4000);
    only(&engine, 1).await;
    other.is_alive().await;
}

/// A half-closed socket that is not read is held no longer than the close timeout.
#[tokio::test(start_paused = true)]
async fn half_closed_unread_socket_times_out() {
    let engine = engine().await;
    let config = WsConfig::default().close_timeout(Duration::from_secs(3));
    let ws = WebSocket::new(engine.clone(), config);
    // The disconnect does not fit into the pipe.
    let mut client = Client::open(in_memory(&ws, 16), "").await.unwrap();
    client.hello().await;
    let began = Instant::now();
    client.stream.shutdown().await.unwrap();
    while engine.connections() > 0 {
        tokio::time::advance(Duration::from_millis(10)).await;
        assert!(began.elapsed() < Duration::from_secs(4), "the connection is held for too long");
    }
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
}
