//! Accepted and refused handshakes, with the texts of refusals.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::net::SocketAddr;

use im_core::Code;
use im_core::CommandId;
use im_core::engine::{Engine, EngineConfig};
use im_core::wire::{Command, CommandBody, Encoding, Hello, Limits, decode, encode};
use im_http::{Edge, Listener, OriginPolicy, UplinkConfig};
use im_transport_ws::{WebSocket, WsConfig};
use support::{
    BINARY, Client, FIN, TEXT, ask, close, engine, frame, greeted, listen, only, server, service,
    upgrade_head, within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let address = server(WsConfig::default()).await;
    for (origin, good) in [
        ("https://localhost", true),
        ("https://evil.example", false),
        ("https://localhost.evil.example", false),
        ("null", false),
    ] {
        let stream = TcpStream::connect(address).await.unwrap();
        match Client::open(stream, &format!("Origin: {origin}\r\n")).await {
            Ok(mut client) => {
                assert!(good, "{origin}");
                client.hello().await;
            }
            Err(answer) => {
                assert!(!good, "{origin}");
                assert_eq!(answer.status, 403);
                assert!(answer.body.contains("4511"), "{}", answer.body);
            }
        }
    }
}

#[tokio::test]
async fn only_listed_origins_may_connect() {
    let origins = OriginPolicy::only(["https://app.example"]).unwrap();
    let ws = service(WsConfig::default()).await;
    let edge = Edge::new(engine().await, UplinkConfig::default()).origins(origins).mount(ws);
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(edge));
    let open = async |origin: &str| {
        let stream = TcpStream::connect(address).await.unwrap();
        Client::open(stream, &format!("Origin: {origin}\r\n"))
            .await
            .map(|_| ())
            .map_err(|answer| answer.status)
    };
    assert_eq!(open("https://app.example").await, Ok(()));
    assert_eq!(open("https://localhost").await, Err(403));
}

#[tokio::test]
async fn the_subprotocol_chooses_the_encoding() {
    let address = server(WsConfig::default()).await;
    for encoding in Encoding::ALL {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let offer = format!("Sec-WebSocket-Protocol: soap, {}\r\n", encoding.subprotocol());
        let answer = ask(&mut stream, &upgrade_head(&offer)).await;
        assert_eq!(answer.status, 101);
        assert!(
            answer
                .head
                .contains(&format!("sec-websocket-protocol: {}\r\n", encoding.subprotocol()))
        );
        let mut client = Client { stream };
        let hello = Command { id: CommandId(1), body: CommandBody::Hello(hello()) };
        let opcode = if encoding == Encoding::Json { TEXT } else { BINARY };
        client.bytes(&frame(FIN | opcode, &encode(&hello.to_value(), encoding))).await;
        let (first, payload) = client.frame().await;
        assert_eq!(first, FIN | opcode);
        assert_eq!(decode(&payload, encoding, &Limits::default()).unwrap().len(), 1);
    }
}

fn hello() -> Box<Hello> {
    let frames = decode(support::HELLO.as_bytes(), Encoding::Json, &Limits::default()).unwrap();
    match frames.into_iter().map(Command::from_value).next() {
        Some(Ok(Command { body: CommandBody::Hello(hello), .. })) => hello,
        other => panic!("{other:?}"),
    }
}

/// A bad handshake gets a status, a code and a hint.
#[tokio::test]
async fn bad_handshake_gets_status_and_code() {
    let address = server(WsConfig::default()).await;
    let mut other = greeted(address).await;
    let good = upgrade_head("");
    for (head, status, code, hint) in [
        ("GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 426, 4500, "upgrade: websocket"),
        (good.replace("Version: 13", "Version: 12"), 426, 4505, "sec-websocket-version: 13"),
        (
            good.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"),
            405,
            4500,
            "allow: get",
        ),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "bm9uY2U="), 400, 4500, "application/json"),
        (upgrade_head("Sec-WebSocket-Protocol: soap\r\n"), 400, 4501, "application/json"),
        (upgrade_head("Sec-WebSocket-Protocol: \u{fc}\r\n"), 400, 4501, "application/json"),
        (
            upgrade_head("Authorization: Bearer a\r\nAuthorization: Bearer b\r\n"),
            401,
            4301,
            "www-authenticate: bearer",
        ),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = ask(&mut stream, &head).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.head.contains(hint), "{answer:?}");
        assert!(answer.body.starts_with(&format!(r#"{{"code":{code},"msg":""#)), "{answer:?}");
    }
    other.is_alive().await;
}

#[tokio::test]
async fn upgrade_after_shutdown_is_refused() {
    let ws = service(WsConfig::default()).await;
    let address = listen(&ws).await;
    ws.shutdown().await;
    let stream = TcpStream::connect(address).await.unwrap();
    let answer = Client::open(stream, "").await.map(|_| ()).unwrap_err();
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains(&Code::Draining.number().to_string()));
}

#[tokio::test]
async fn silent_connections_per_address_are_bounded() {
    let config = EngineConfig::default().max_handshakes_per_address(2);
    let engine = Engine::builder().allow_anonymous().config(config).start().await.unwrap();
    let address = listen(&WebSocket::new(engine, WsConfig::default())).await;
    let open = async || Client::open(TcpStream::connect(address).await.unwrap(), "").await;
    let mut first = open().await.unwrap();
    let mut second = open().await.unwrap();
    let refused = open().await.map(|_| ()).unwrap_err();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.body, r#"{"code":4204,"msg":"too many connections"}"#);
    first.hello().await;
    let mut third = open().await.unwrap();
    for client in [&mut second, &mut third] {
        client.hello().await;
    }
    first.is_alive().await;
}

#[tokio::test]
async fn list_headers_may_have_several_lines() {
    let address = server(WsConfig::default()).await;
    let good = upgrade_head("");
    let split = |old: &str, new: &str| {
        assert!(good.contains(old));
        good.replace(old, new)
    };
    for head in [
        split("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"),
        split("Connection: Upgrade", "Connection: keep-alive ,\tupgrade ,"),
        split("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: WebSocket"),
        split("Upgrade: websocket", "Upgrade: h2c, websocket"),
        upgrade_head(
            "Sec-WebSocket-Protocol: soap, s\u{f6}ap\r\nSec-WebSocket-Protocol: im.v1.json\r\n",
        ),
        upgrade_head("Sec-WebSocket-Protocol: \r\n"),
        upgrade_head("Cookie: city=K\u{f6}ln\r\n"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = ask(&mut stream, &head).await;
        assert_eq!(answer.status, 101, "{head}: {answer:?}");
        Client { stream }.hello().await;
    }
}

#[tokio::test]
async fn stripped_handshake_names_missing_headers() {
    let address = server(WsConfig::default()).await;
    let good = upgrade_head("");
    let without =
        |lines: &[&str]| lines.iter().fold(good.clone(), |head, line| head.replace(line, ""));
    let (connection, upgrade) = ("Connection: Upgrade\r\n", "Upgrade: websocket\r\n");
    for (head, missing) in [
        // The request of nginx with a bare `proxy_pass`.
        (
            without(&[connection, upgrade])
                .replace("HTTP/1.1", "HTTP/1.0")
                .replace("Host: localhost", "Host: 127.0.0.1\r\nConnection: close"),
            &["HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"][..],
        ),
        (without(&[connection]), &["Connection: Upgrade"]),
        (without(&[upgrade]), &["Upgrade: websocket"]),
    ] {
        // The proxy also sends its own `Host`, so the page's origin is a foreign one.
        let head =
            head.replace("Sec-WebSocket-V", "Origin: https://chat.example.org\r\nSec-WebSocket-V");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = ask(&mut stream, &head).await;
        assert_eq!(answer.status, 426, "{answer:?}");
        for words in missing.iter().chain(&["docs/proxies.md"]) {
            assert!(answer.body.contains(words), "{words}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn upgraded_sockets_per_address_are_bounded() {
    use im_http::ListenerConfig;

    let connect_from = async |address: &str, to: SocketAddr| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap()
    };
    let config = ListenerConfig::default().max_connections_per_address(2);
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().config(config);
    let at = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(service(WsConfig::default()).await));
    let mut first = greeted(at).await;
    let mut second = greeted(at).await;
    let mut refused = connect_from("127.0.0.1", at).await;
    let _ = refused.write_all(upgrade_head("").as_bytes()).await;
    let read = within(refused.read(&mut [0; 8])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "the connection was not closed at once: {read:?}");
    let stranger = connect_from("127.0.0.2", at).await;
    Client::open(stranger, "").await.unwrap().hello().await;
    first.is_alive().await;
    second.bytes(&close(1000)).await;
    assert_eq!(second.closed().await.0, 1000);
    drop(second);
    // The listener notices the end of the connection some time later.
    within(async {
        loop {
            let mut stream = connect_from("127.0.0.1", at).await;
            let written = stream.write_all(upgrade_head("").as_bytes()).await;
            if written.is_ok() && matches!(stream.read(&mut [0; 8]).await, Ok(1..)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn connections_per_address_are_bounded() {
    let config = EngineConfig::default().max_connections_per_address(2);
    let engine = Engine::builder().allow_anonymous().config(config).start().await.unwrap();
    let address = listen(&WebSocket::new(engine.clone(), WsConfig::default())).await;
    let (mut first, second) = (greeted(address).await, greeted(address).await);
    let stream = TcpStream::connect(address).await.unwrap();
    let refused = Client::open(stream, "").await.map(|_| ()).unwrap_err();
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("4204"), "{refused:?}");
    first.is_alive().await;
    drop(second);
    only(&engine, 1).await;
    greeted(address).await;
}
