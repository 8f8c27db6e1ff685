//! All transports behind a real nginx, by the configuration of `docs/proxies.md`, in bytes on a
//! socket.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use im_core::engine::Engine;
use im_http::{Edge, Hosts, Listener, ListenerConfig, OriginPolicy, UplinkConfig};
use im_tests::nginx::Nginx;
use im_tests::skip;
use im_transport_longpoll::{LongPoll, LongPollConfig};
use im_transport_sse::{Sse, SseConfig};
use im_transport_ws::{WebSocket, WsConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const PAGE: &str = "host: chat.example.org\r\norigin: http://chat.example.org\r\n";

/// Fails the test instead of letting it hang.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("this should not take a minute")
}

async fn server() -> SocketAddr {
    server_for(OriginPolicy::SameOrigin).await
}

async fn server_for(origins: OriginPolicy) -> SocketAddr {
    let engine = Engine::builder().allow_anonymous().start().await.unwrap();
    let edge = Edge::new(engine.clone(), UplinkConfig::default())
        .at("/im")
        .origins(origins)
        .mount(WebSocket::new(engine.clone(), WsConfig::default()))
        .mount(Sse::new(engine.clone(), SseConfig::default()))
        .mount(LongPoll::new(engine, LongPollConfig::default()));
    let config = ListenerConfig::default()
        .hosts(Hosts::LocalAnd(vec!["chat.example.org".into()]))
        .proxies(["127.0.0.1".parse().unwrap()]);
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().config(config);
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(edge));
    address
}

/// Sends a request and reads the response until it contains `text`.
async fn ask_until(at: SocketAddr, request: &str, text: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let read = until(&mut stream, text).await;
    (stream, read)
}

async fn until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        let mut some = [0; 4096];
        let count = within(stream.read(&mut some)).await.unwrap();
        assert!(count > 0, "it ended after {read}");
        read.push_str(std::str::from_utf8(&some[..count]).unwrap());
    }
    read
}

async fn ask(at: SocketAddr, head: &str, headers: &str, body: &str) -> String {
    let request = format!(
        "{head} HTTP/1.1\r\n{headers}connection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = String::new();
    within(stream.read_to_string(&mut read)).await.unwrap();
    read
}

/// Opens a session. Returns the header with it.
async fn hello(at: SocketAddr, user: &str) -> String {
    let hello = json!({"t": "hello", "id": 1, "v": 1, "user": user}).to_string();
    let answer = ask(at, "POST /im/send", PAGE, &hello).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body = &answer[answer.find('[').unwrap()..=answer.rfind(']').unwrap()];
    let welcome = &serde_json::from_str::<Value>(body).unwrap()[0];
    let [session, secret] = ["session", "secret"].map(|name| welcome[name].as_str().unwrap());
    format!("{PAGE}im-session: {session} {secret}\r\n")
}

#[tokio::test]
async fn all_transports_work_behind_nginx() {
    let nginx = match Nginx::start(server().await).await {
        Ok(nginx) => nginx,
        Err(missing) => return skip("all_transports_work_behind_nginx", &missing),
    };
    let at = nginx.address;
    let session = hello(at, "ann").await;
    let create = json!([
        {"t": "create", "id": 1, "room": "tea", "open": true},
        {"t": "subscribe", "id": 2, "room": "tea"},
    ]);
    assert!(ask(at, "POST /im/send", &session, &create.to_string()).await.contains("HTTP/1.1 200"));
    let polled = ask(at, "GET /im/poll?hold=0", &session, "").await;
    assert!(polled.starts_with("HTTP/1.1 200") && polled.contains(r#""t":"position""#), "{polled}");

    let open = format!("GET /im/sse HTTP/1.1\r\n{session}\r\n");
    let (mut stream, head) = ask_until(at, &open, r#""t":"room""#).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");

    // Another user by WebSocket, whose message arrives on the stream at once.
    let socket = TcpStream::connect(at).await.unwrap();
    let mut request =
        tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(
            "ws://chat.example.org/im/ws",
        )
        .unwrap();
    request.headers_mut().insert("origin", "http://chat.example.org".parse().unwrap());
    let (mut ws, _) = within(client_async(request, socket)).await.unwrap();
    for command in [
        json!({"t": "hello", "id": 1, "v": 1, "user": "bob"}),
        json!({"t": "join", "id": 2, "room": "tea"}),
        json!({"t": "send", "id": 3, "room": "tea", "mid": "0".repeat(24), "content": "through nginx"}),
    ] {
        ws.send(Message::text(command.to_string())).await.unwrap();
        let answer = within(ws.next()).await.unwrap().unwrap().into_text().unwrap();
        assert!(answer.contains(r#""t":"ok""#), "{answer}");
    }
    until(&mut stream, "through nginx").await;

    let foreign = session.replace("origin: http://chat", "origin: http://evil");
    let refused = ask(at, "GET /im/poll?hold=0", &foreign, "").await;
    assert!(
        refused.starts_with("HTTP/1.1 403") && refused.contains("evil.example.org"),
        "{refused}"
    );
}

/// A proxy that forwards no headers is refused with hints.
#[tokio::test]
async fn bare_proxy_pass_is_refused() {
    let server = server().await;
    let nginx = match Nginx::start(server).await {
        Ok(nginx) => nginx,
        Err(missing) => return skip("bare_proxy_pass_is_refused", &missing),
    };
    let request = format!("GET /im/ws HTTP/1.1\r\n{PAGE}{UPGRADE}\r\n");
    let (_, refused) = ask_until(nginx.bare, &request, "}").await;
    assert!(refused.starts_with("HTTP/1.1 426"), "{refused}");
    for words in ["Connection: Upgrade", "Upgrade: websocket", "docs/proxies.md"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    let refused = ask(nginx.bare, "GET /im", PAGE, "").await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    for words in ["http://chat.example.org", &server.to_string(), "Edge::origins"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
}

#[tokio::test]
async fn origin_list_covers_all_transports() {
    let at = server_for(OriginPolicy::only(["https://app.example"]).unwrap()).await;
    for (head, more) in [
        ("GET /im", ""),
        ("POST /im/send", ""),
        ("GET /im/ws", UPGRADE),
        ("GET /im/sse", ""),
        ("GET /im/poll", ""),
    ] {
        for (origin, allowed) in [
            ("https://app.example", true),
            ("https://evil.example", false),
            ("http://localhost", false),
        ] {
            let request =
                format!("{head} HTTP/1.1\r\nhost: localhost\r\norigin: {origin}\r\n{more}\r\n");
            let (_, answer) = ask_until(at, &request, "\r\n\r\n").await;
            assert_eq!(!answer.starts_with("HTTP/1.1 403"), allowed, "{head} {origin}: {answer}");
        }
    }
}
