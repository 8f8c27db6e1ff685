//! Independent clients talk to a real server, written from `wire/SPEC.md` alone.
//!
//! The clients are in `tests/foreign`; requirements and variables are in [`im_tests::foreign`].
//! Those over plain HTTP are in `foreign_http.rs`.

#![allow(clippy::unwrap_used, reason = "this file is all test")]

use axum::Router;
use im_core::engine::Engine;
use im_tests::foreign::{node, python, run, spec};
use im_transport_ws::{WebSocket, WsConfig};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_with_ws() {
    let Some(mut client) = node("node_with_ws", "chat.cjs") else { return };
    client.arg(serve().await);
    run(client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_with_websockets_in_json() {
    let test = "python_with_websockets_in_json";
    let Some(mut client) = python(test, "chat.py").await else { return };
    client.arg(serve().await);
    run(client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_with_websockets_in_messagepack() {
    let test = "python_with_websockets_in_messagepack";
    let Some(mut client) = python(test, "chat.py").await else { return };
    client.arg(serve().await).arg("--msgpack");
    run(client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spec_lines_work_when_pasted() {
    let test = "spec_lines_work_when_pasted";
    let Some(mut client) = python(test, "by_hand.py").await else { return };
    client.arg(serve().await).arg(spec());
    run(client).await;
}

/// Starts a server for one test, which ends with the test's runtime. Returns its address.
async fn serve() -> String {
    let engine = Engine::builder().allow_anonymous().start().await.unwrap();
    let ws = WebSocket::new(engine, WsConfig::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route_service("/ws", ws);
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("ws://{address}/ws")
}
