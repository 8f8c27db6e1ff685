//! `im-bench serve` as a process of its own, and its end.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says where")]

use std::process::Stdio;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopBy {
    Signal(&'static str),
    /// By the end of its standard input.
    Input,
}

/// Starts a server. Returns its address.
async fn serve() -> (Child, String) {
    let mut server = Command::new(env!("CARGO_BIN_EXE_im-bench"))
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let ready: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let address = ready["listening"].as_str().unwrap().to_owned();
    (server, address)
}

/// Connects one client and stops the server. Returns the close code and the server's exit code.
async fn stopped(how: StopBy) -> (u16, Option<i32>) {
    let (mut server, address) = serve().await;
    let input = server.stdin.take().unwrap();
    let (mut socket, _) = connect_async(format!("ws://{address}/")).await.unwrap();
    socket.send(Message::text(r#"{"t":"hello","id":1,"v":1,"user":"ann"}"#)).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().contains(r#""t":"ok""#));
    match how {
        StopBy::Input => drop(input),
        StopBy::Signal(name) => {
            let command = format!("kill -{name} {}", server.id().unwrap());
            assert!(Command::new("sh").args(["-c", &command]).status().await.unwrap().success());
        }
    }
    let code = loop {
        match socket.next().await {
            Some(Ok(Message::Close(Some(close)))) => break close.code.into(),
            Some(Ok(_)) => {}
            other => panic!("{how:?}: it ended without a close frame: {other:?}"),
        }
    };
    drop(socket);
    (code, server.wait().await.unwrap().code())
}

/// A server stopped by a signal or end of input disconnects with 4001 and exits with 0.
#[tokio::test]
async fn stopped_server_disconnects_with_code() {
    for how in [StopBy::Signal("TERM"), StopBy::Signal("INT"), StopBy::Input] {
        let ended = tokio::time::timeout(PATIENCE, stopped(how)).await.unwrap();
        assert_eq!(ended, (4001, Some(0)), "{how:?}");
    }
}

#[tokio::test]
async fn one_port_offers_all_transports() {
    let (_server, address) = serve().await;
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /im HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let offer: Value = serde_json::from_str(body).unwrap();
    assert_eq!(offer["transports"], serde_json::json!(["ws", "sse", "poll"]));
}
