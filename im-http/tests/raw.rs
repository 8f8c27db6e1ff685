//! Our own listener with an edge, over raw bytes as other programs send them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use im_core::engine::Engine;
use im_http::{Edge, Hosts, Listener, ListenerConfig, PeerAddr, TimedBody, UplinkConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;

const HELLO: &str = r#"{"t":"hello","id":1,"v":1,"user":"ann"}"#;

/// Fails the test instead of letting it hang.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("this should not take a minute")
}

async fn edge(config: ListenerConfig) -> SocketAddr {
    let engine = Engine::builder().allow_anonymous().start().await.unwrap();
    let edge = Edge::new(engine, UplinkConfig::default()).at("/im");
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().config(config);
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(edge));
    address
}

/// Builds a request with these header lines, each with its line end, and this body.
fn post(headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /im/send HTTP/1.1\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn hello() -> String {
    post("host: localhost\r\n", HELLO)
}

/// Reads the head and as much of the body as is announced.
async fn answer(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(within(stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(read).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    within(stream.read_exact(&mut body)).await.unwrap();
    head + &String::from_utf8(body).unwrap()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
}

/// Sends these bytes and reads up to the end of the response.
async fn ask(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    answer(&mut stream).await
}

/// Sends these bytes, ends the client's half, and reads to the end of the connection.
async fn ask_and_end(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut read = String::new();
    within(stream.read_to_string(&mut read)).await.unwrap();
    read
}

#[tokio::test]
async fn ambiguous_requests_are_refused_as_such() {
    let at = edge(ListenerConfig::default()).await;
    for (headers, expected) in [
        ("", 400),
        ("host: localhost\r\nhost: localhost\r\n", 400),
        ("host: localhost\r\nhost: evil.example\r\n", 400),
        ("host: \r\n", 400),
        ("host: a b\r\n", 400),
        ("host: localhost\r\n", 200),
    ] {
        let answer = ask(at, &post(headers, HELLO)).await;
        assert_eq!(status(&answer), expected, "{headers:?}: {answer}");
        assert_eq!(answer.contains("connection: close"), expected != 200, "{answer}");
    }
    let chunks = format!("{:x}\r\n{HELLO}\r\n0\r\n\r\n", HELLO.len());
    for (coding, expected) in [
        ("transfer-encoding: chunked", 200),
        ("transfer-encoding: gzip, chunked", 501),
        ("transfer-encoding: gzip\r\ntransfer-encoding: chunked", 501),
        ("transfer-encoding: chunked, chunked", 400),
        ("transfer-encoding: chunked, gzip", 400),
        ("transfer-encoding: \u{fc}\r\ntransfer-encoding: chunked", 501),
        ("transfer-encoding: gzip, \u{fc}\r\ntransfer-encoding: chunked", 501),
    ] {
        let head = "POST /im/send HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
        let answer = ask(at, &format!("{head}\r\n{coding}\r\n\r\n{chunks}")).await;
        assert_eq!(status(&answer), expected, "{coding}: {answer}");
    }
    // HTTP/1.0 has no Host.
    let old = "GET /im HTTP/1.0\r\n\r\n";
    assert_eq!(status(&ask(at, old).await), 200);
}

/// The response announces the end, and bytes after the request are not parsed.
#[tokio::test]
async fn ambiguous_requests_end_the_connection() {
    let at = edge(ListenerConfig::default()).await;
    let head = "POST /im/send HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let slashes = |path: &str| (hello().replace("/im/send", path), 400);
    for (request, expected) in [
        slashes("/im//send"),
        slashes("//im/send"),
        slashes("/im//"),
        (post("", HELLO), 400),
        (post("host: a\r\nhost: b\r\n", HELLO), 400),
        (
            format!("{head}transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            501,
        ),
    ] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all((request.clone() + &hello()).as_bytes()).await.unwrap();
        let mut read = String::new();
        within(stream.read_to_string(&mut read)).await.unwrap();
        assert_eq!(status(&read), expected, "{request}: {read}");
        assert_eq!(read.matches("HTTP/1.1").count(), 1, "{request}: {read}");
        assert!(read.contains("connection: close\r\n") && read.contains("4500"), "{read}");
        assert!(!read.contains("keep-alive"), "{read}");
    }
}

#[tokio::test]
async fn foreign_names_on_loopback_are_refused() {
    let named = async |at, host: &str| {
        let origin = format!("host: {host}\r\norigin: http://{host}\r\n");
        ask(at, &post(&origin, HELLO)).await
    };
    let at = edge(ListenerConfig::default()).await;
    let port = at.port();
    for local in ["localhost", "LOCALHOST.", "tab.localhost", "127.0.0.1", "[::1]"] {
        assert_eq!(status(&named(at, &format!("{local}:{port}")).await), 200, "{local}");
    }
    for foreign in ["evil.example", "localhost.evil.example", "0.0.0.0", "192.0.2.1"] {
        let answer = named(at, &format!("{foreign}:{port}")).await;
        assert_eq!(status(&answer), 403, "{foreign}: {answer}");
        assert!(answer.contains(foreign) && answer.contains("ListenerConfig::hosts"), "{answer}");
        assert!(answer.contains("4511"), "{answer}");
    }
    let absolute = hello().replace("/im/send", "http://evil.example/im/send");
    assert_eq!(status(&ask(at, &absolute).await), 403);
    let also = Hosts::LocalAnd(vec!["chat.example.org".into()]);
    let at = edge(ListenerConfig::default().hosts(also)).await;
    assert_eq!(status(&named(at, "chat.example.org").await), 200);
    assert_eq!(status(&named(at, "localhost").await), 200);
    assert_eq!(status(&named(at, "evil.example").await), 403);
    let at = edge(ListenerConfig::default().hosts(Hosts::Any)).await;
    assert_eq!(status(&named(at, "evil.example").await), 200);
}

#[tokio::test]
async fn complete_requests_are_answered_after_fin() {
    let at = edge(ListenerConfig::default()).await;
    let one = ask_and_end(at, &hello()).await;
    assert!(one.starts_with("HTTP/1.1 200") && one.contains(r#""session":"#), "{one}");
    let three = ask_and_end(at, &hello().repeat(3)).await;
    assert_eq!(three.matches(r#""session":"#).count(), 3, "{three}");
    let offer = ask_and_end(at, "GET /im HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(offer.starts_with("HTTP/1.1 200") && offer.contains("encodings"), "{offer}");
    let cut = hello();
    let cut = ask_and_end(at, &cut[..cut.len() - 3]).await;
    assert_eq!(status(&cut), 400, "an incomplete request is not executed: {cut}");
    assert_eq!(ask_and_end(at, "POST /im/send HTT").await, "");
}

/// Answers once `go_on` is notified, with the address that the request came from.
async fn slow_service(config: ListenerConfig) -> (SocketAddr, Arc<Notify>, Arc<Notify>) {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let notify = (begun.clone(), go_on.clone());
    let service = tower::service_fn(move |request: Request<TimedBody>| {
        let (begun, go_on) = notify.clone();
        async move {
            let from = request.extensions().get::<PeerAddr>().unwrap().0.ip();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            begun.notify_one();
            go_on.notified().await;
            let words = format!("{} bytes from {from}", body.len());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(words))))
        }
    });
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().config(config);
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(service));
    (address, begun, go_on)
}

#[tokio::test]
async fn slow_services_answer_after_fin() {
    let (at, begun, go_on) = slow_service(ListenerConfig::default()).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(hello().as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    begun.notified().await;
    go_on.notify_one();
    let mut read = String::new();
    within(stream.read_to_string(&mut read)).await.unwrap();
    assert!(read.ends_with(&format!("{} bytes from 127.0.0.1", HELLO.len())), "{read}");
}

#[tokio::test]
async fn closing_connections_announce_no_idle_time() {
    let at = edge(ListenerConfig::default()).await;
    let told = ask(at, "GET /im HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(told.contains("connection: keep-alive\r\nkeep-alive: timeout=75\r\n"), "{told}");
    for request in [
        "GET /im HTTP/1.1\r\nhost: localhost\r\nconnection: x\r\nconnection: close\r\n\r\n",
        "GET /im HTTP/1.0\r\n\r\n",
    ] {
        let told = ask(at, request).await;
        assert!(!told.contains("timeout="), "{told}");
    }
}

#[tokio::test]
async fn proxies_say_where_requests_come_from() {
    let ask = |at, line: &'static str| async move {
        let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{line}\r\n");
        ask(at, &request).await
    };
    let line = "x-forwarded-for: 8.8.8.8, 192.0.2.1\r\n";
    let (at, _, go_on) = slow_service(ListenerConfig::default()).await;
    go_on.notify_one();
    assert!(ask(at, line).await.ends_with("from 127.0.0.1"), "no proxy is trusted by default");
    let known = ListenerConfig::default().proxies(["127.0.0.1".parse().unwrap()]);
    let (at, _, go_on) = slow_service(known).await;
    go_on.notify_one();
    assert!(ask(at, line).await.ends_with("from 192.0.2.1"));
    // A quote or foreign text of the client must not hide an address that the proxy appended.
    for line in
        ["x-forwarded-for: \"8.8.8.8, 192.0.2.1\r\n", "x-forwarded-for: \u{fc}, 192.0.2.1\r\n"]
    {
        go_on.notify_one();
        assert!(ask(at, line).await.ends_with("from 192.0.2.1"), "{line}");
    }
    go_on.notify_one();
    let unclear = "x-forwarded-for: 8.8.8.8, \u{fc}, 127.0.0.1\r\n";
    assert!(ask(at, unclear).await.ends_with("from 127.0.0.1"));
}

/// Connects from one of this machine's loopback addresses.
async fn connect_from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Returns whether the listener serves this connection.
async fn is_served(stream: &mut TcpStream) -> bool {
    let ask = "GET /im HTTP/1.1\r\nhost: localhost\r\n\r\n";
    if stream.write_all(ask.as_bytes()).await.is_err() {
        return false;
    }
    // If it is closed with a request unread, the system resets it.
    matches!(within(stream.read(&mut [0; 2048])).await, Ok(read) if read > 0)
}

#[tokio::test]
async fn addresses_have_their_share_of_sockets() {
    let config = ListenerConfig::default().max_connections_per_address(2).max_sockets(3);
    let at = edge(config).await;
    let mut held = Vec::new();
    for (address, served) in [
        ("127.0.0.1", true),
        ("127.0.0.1", true),
        ("127.0.0.1", false),
        ("127.0.0.2", true),
        ("127.0.0.3", false),
    ] {
        let mut stream = connect_from(address, at).await;
        assert_eq!(is_served(&mut stream).await, served, "{address}");
        held.push(stream);
    }
    held.clear();
    // The listener notices the end of the connections some time later.
    within(async {
        while !is_served(&mut connect_from("127.0.0.1", at).await).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
