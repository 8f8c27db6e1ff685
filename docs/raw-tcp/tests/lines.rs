//! Properties of this transport beyond the suite: ends, the bound of a line, heartbeats, peers that
//! do not read.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::future::{Future, pending};
use std::time::Duration;

use im_core::engine::{Engine, EngineConfig, Publish};
use im_core::wire::Target;
use im_core::{RoomId, UserId};
use im_testkit::transport_suite::peer::soon;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const HELLO: &str = "{\"t\":\"hello\",\"id\":1,\"v\":1,\"user\":\"ann\"}\n";

struct Server {
    engine: Engine,
    address: std::net::SocketAddr,
    serving: JoinHandle<()>,
}

async fn server(config: EngineConfig) -> Server {
    server_until(config, |_| pending()).await
}

async fn server_until<F>(config: EngineConfig, stop: impl FnOnce(Engine) -> F) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let engine = Engine::builder().allow_anonymous().config(config).start().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(raw_tcp::serve(listener, engine.clone(), stop(engine.clone())));
    Server { engine, address, serving }
}

/// Reads everything up to the end.
async fn rest(client: &mut TcpStream) -> String {
    let mut read = String::new();
    soon(client.read_to_string(&mut read)).await.unwrap();
    read
}

/// Reads everything up to `end`.
async fn until(client: &mut TcpStream, end: &str) {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        assert_ne!(soon(client.read_buf(&mut read)).await.unwrap(), 0);
    }
}

/// Commands read before end of input are acked before the disconnect frame.
#[tokio::test]
async fn half_closed_peer_gets_pending_acks() {
    let server = server(EngineConfig::default()).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let create = "{\"t\":\"create\",\"id\":2,\"room\":\"tea\",\"kind\":\"group\"}\n";
    let send =
        r#"{"t":"send","id":3,"room":"tea","mid":"0123456789abcdef0123","content":{"text":"hi"}}"#;
    // As from `printf … | nc`, with a truncated last line.
    client.write_all(format!("{HELLO}{create}{send}\n{{\"t\":").as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let read = rest(&mut client).await;
    let lines: Vec<&str> = read.lines().collect();
    assert!(
        lines.iter().any(|line| line.contains("\"id\":3") && line.contains("\"ok\"")),
        "{read}"
    );
    assert!(lines.last().unwrap().contains("\"disconnect\""), "{read}");
    assert!(lines.last().unwrap().contains("4000"), "{read}");
}

/// A line without a newline is refused once it exceeds `max_message_bytes`.
#[tokio::test]
async fn endless_line_is_refused_at_limit() {
    let server = server(EngineConfig::default()).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let max = server.engine.limits().max_message_bytes;
    client.write_all(&vec![b' '; max + 1]).await.unwrap();
    assert!(rest(&mut client).await.contains("4506"));
}

#[tokio::test]
async fn line_of_exact_limit_is_accepted() {
    let server = server(EngineConfig::default()).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let max = server.engine.limits().max_message_bytes;
    let line = format!("{}{HELLO}", " ".repeat(max + 1 - HELLO.len()));
    client.write_all(line.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    assert!(rest(&mut client).await.starts_with("{\"t\":\"ok\",\"id\":1"));
}

#[tokio::test]
async fn silent_connection_gets_empty_line_heartbeats() {
    let ms = Duration::from_millis;
    let server = server(EngineConfig::default().heartbeat(ms(20)).tick(ms(5))).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(HELLO.as_bytes()).await.unwrap();
    until(&mut client, "}\n\n\n").await;
}

#[tokio::test]
async fn drain_disconnects_peers_and_ends_serving() {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let end = |engine: Engine| async move {
        let _ = stopped.await;
        engine.drain(Duration::from_secs(10)).await;
    };
    let server = server_until(EngineConfig::default(), end).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(HELLO.as_bytes()).await.unwrap();
    until(&mut client, "}\n").await;
    stop.send(()).unwrap();
    assert!(rest(&mut client).await.contains("4001"));
    drop(client);
    soon(server.serving).await.unwrap();
    assert_eq!(server.engine.connections(), 0);
}

/// A peer that reads nothing is disconnected once its outbox is full.
#[tokio::test]
async fn idle_peer_is_disconnected() {
    let server = server(EngineConfig::default().outbox_bytes(64 * 1024)).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let create = "{\"t\":\"create\",\"id\":2,\"room\":\"tea\",\"kind\":\"group\"}\n";
    let follow = "{\"t\":\"subscribe\",\"id\":3,\"room\":\"tea\"}\n";
    client.write_all(format!("{HELLO}{create}").as_bytes()).await.unwrap();
    until(&mut client, "}\n").await;
    client.write_all(follow.as_bytes()).await.unwrap();
    tokio::time::pause();
    let (to, ann) = (Target::Room(RoomId::new("tea").unwrap()), UserId::new("ann").unwrap());
    let text = "x".repeat(30_000);
    // Finally the system accepts no more bytes for it; then the write time-out applies.
    for _ in 0..3_000 {
        server.engine.publish(Publish::text(to.clone(), ann.clone(), &text)).await.unwrap();
        tokio::time::advance(Duration::from_millis(50)).await;
        if server.engine.connections() == 0 {
            return;
        }
    }
    panic!("the connection is still open");
}
