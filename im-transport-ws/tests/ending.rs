//! How connections end: by either side, or by a lost peer.

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
use support::{
    Client, FIN, PING, PONG, TEXT, all_gone, close, engine, frame, greeted, in_memory, listen,
    server, service, within,
};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

#[tokio::test]
async fn close_is_answered_with_its_code() {
    for code in [1000, 1001, 4999] {
        let mut client = greeted(server(WsConfig::default()).await).await;
        client.bytes(&close(code)).await;
        assert_eq!(client.closed().await.0, code);
        assert_eq!(client.end().await, b"");
    }
}

#[tokio::test]
async fn reserved_close_code_is_protocol_error() {
    let mut client = greeted(server(WsConfig::default()).await).await;
    client.bytes(&close(1005)).await;
    assert_eq!(client.closed().await.0, 1002);
}

#[tokio::test]
async fn socket_closed_mid_frame_is_gone() {
    let engine = engine().await;
    let ws = WebSocket::new(engine.clone(), WsConfig::default());
    let mut client = greeted(listen(&ws).await).await;
    client.bytes(&frame(FIN | TEXT, b"{\"t\":\"ping\"")[..9]).await;
    drop(client);
    all_gone(&engine).await;
}

#[tokio::test]
async fn reset_socket_is_gone() {
    let engine = engine().await;
    let ws = WebSocket::new(engine.clone(), WsConfig::default());
    let mut client = greeted(listen(&ws).await).await;
    // If it is closed with the answer unread, the system resets the socket.
    client.text(r#"{"t":"ping","id":2}"#).await;
    within(client.stream.readable()).await.unwrap();
    drop(client);
    all_gone(&engine).await;
}

/// A peer that is sent nothing gets heartbeats and stays connected if it answers.
#[tokio::test(start_paused = true)]
async fn quiet_peer_gets_heartbeats() {
    let engine = engine().await;
    let ws = WebSocket::new(engine.clone(), WsConfig::default());
    let mut client = Client::open(in_memory(&ws, 1 << 16), "").await.unwrap();
    client.hello().await;
    for _ in 0..10 {
        assert_eq!(client.any_frame().await, (FIN | PING, Vec::new()));
        client.bytes(&frame(FIN | PONG, b"")).await;
    }
    client.is_alive().await;
    // From now on the client answers no ping.
    assert_eq!(client.closed().await.0, Code::IdleTimeout.number());
    drop(client);
    all_gone(&engine).await;
}

#[tokio::test]
async fn shutdown_closes_all_and_waits() {
    let ws = service(WsConfig::default()).await;
    let address = listen(&ws).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(greeted(address).await);
    }
    let stopping = ws.clone();
    let stopping = tokio::spawn(async move { stopping.shutdown().await });
    for client in &mut clients {
        let (code, _) = client.closed().await;
        assert_eq!(code, Code::Draining.number());
        client.bytes(&close(code)).await;
        assert_eq!(client.end().await, b"");
    }
    within(stopping).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn close_timeout_bounds_the_wait() {
    let config = WsConfig::default().close_timeout(Duration::from_secs(3));
    let ws = service(config).await;
    let mut client = Client::open(in_memory(&ws, 1 << 16), "").await.unwrap();
    client.hello().await;
    let began = Instant::now();
    ws.shutdown().await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(client.closed().await.0, Code::Draining.number());
}

#[tokio::test(start_paused = true)]
async fn missing_hello_times_out() {
    let ws = service(WsConfig::default()).await;
    let mut client = Client::open(in_memory(&ws, 1 << 16), "").await.unwrap();
    assert_eq!(client.closed().await.0, Code::HandshakeTimeout.number());
}

#[tokio::test(start_paused = true)]
async fn unread_socket_is_disconnected() {
    let config = WsConfig::default().write_timeout(Duration::from_secs(3));
    let ws = service(config).await;
    let mut client = Client::open(in_memory(&ws, 1024), "").await.unwrap();
    client.hello().await;
    let began = Instant::now();
    let ping = frame(FIN | TEXT, br#"{"t":"ping","id":9}"#);
    // The acks fill the pipe; then the server stops reading, and finally disconnects.
    while within(client.stream.write_all(&ping)).await.is_ok() {}
    assert!(began.elapsed() >= Duration::from_secs(3));
    ws.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn slow_peer_is_not_disconnected() {
    let config = WsConfig::default().write_timeout(Duration::from_secs(3));
    let ws = service(config).await;
    let mut client = Client::open(in_memory(&ws, 256), "").await.unwrap();
    client.hello().await;
    for id in 100..120 {
        client.text(&format!(r#"{{"t":"ping","id":{id}}}"#)).await;
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(client.heard().await.contains(&id.to_string()));
    }
}

#[tokio::test]
async fn pings_are_answered_with_their_payload() {
    let mut client = greeted(server(WsConfig::default()).await).await;
    client.bytes(&frame(FIN | PING, b"are you there")).await;
    assert_eq!(client.frame().await, (FIN | PONG, b"are you there".to_vec()));
}

/// Pings below the flood limit may continue without end.
#[tokio::test(start_paused = true)]
async fn moderate_pings_never_close() {
    let ws = service(WsConfig::default().max_controls(3)).await;
    let mut client = Client::open(in_memory(&ws, 1 << 16), "").await.unwrap();
    client.hello().await;
    for _ in 0..30 {
        client.bytes(&frame(FIN | PING, b"x")).await;
        assert_eq!(client.frame().await, (FIN | PONG, b"x".to_vec()));
        tokio::time::advance(Duration::from_secs(4)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn write_interval_delays_without_loss() {
    let interval = Duration::from_millis(50);
    let ws = service(WsConfig::default().write_interval(interval)).await;
    let mut client = Client::open(in_memory(&ws, 1 << 16), "").await.unwrap();
    client.hello().await;
    let began = Instant::now();
    for id in 100..103 {
        client.is_answered(id).await;
    }
    // Each answer waits for the end of the pause after the previous write.
    assert!(began.elapsed() >= 3 * interval, "{:?}", began.elapsed());
}
