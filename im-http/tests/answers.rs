//! Acks that exceed the bounds of memory, over a plain socket.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use im_core::engine::{Engine, EngineConfig, Publish};
use im_core::ports::TokenBuckets;
use im_core::state::RoomSeed;
use im_core::wire::{
    Encoding, Limits, Role, RoomKind, Target, Value, decode, encode, list_encoded,
};
use im_core::{RoomId, UserId};
use im_http::{Edge, Listener, Uplink, UplinkConfig};
use im_testkit::transport_suite::http::Client;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PAGES: i64 = 64;
/// What one call may occupy: its bound, one page, and the part that is being written.
const MOST: usize = 1024 * 1024;

async fn engine() -> Engine {
    let limiter = Arc::new(TokenBuckets::new(1_000_000, 1_000_000));
    Engine::builder().allow_anonymous().rate_limiter(limiter).start().await.unwrap()
}

fn asked(encoding: Encoding) -> Vec<u8> {
    let ask = |id: i64| json!({"t": "history", "id": id, "room": "tea", "limit": 200});
    let frame = |id: i64| encode(&serde_json::from_value(ask(id)).unwrap(), encoding);
    list_encoded(&(0..PAGES).map(frame).collect::<Vec<_>>(), encoding).to_vec()
}

async fn dialled(engine: &Engine) -> (Client, String) {
    let edge = Edge::new(engine.clone(), UplinkConfig::default()).at("/im");
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(edge));
    let mut client = Client::connect(address).await.unwrap();
    let hello = json!([
        {"t": "hello", "id": 1, "v": 1, "user": "ann"},
        {"t": "create", "id": 2, "room": "tea"},
    ]);
    let headers = [("content-type", "application/json".to_owned())];
    let answer = client.ask("POST /im/send", &headers, hello.to_string().as_bytes()).await.unwrap();
    let answer = answer.json();
    let welcome = answer.as_array().unwrap().iter().find(|reply| reply["id"] == 1).unwrap();
    let text = |name: &str| welcome[name].as_str().unwrap();
    let session = format!("{} {}", text("session"), text("secret"));
    let (room, ann) = (RoomId::new("tea").unwrap(), UserId::new("ann").unwrap());
    for _ in 0..3 {
        let words = "\u{1}".repeat(32_000);
        let publish = Publish::text(Target::Room(room.clone()), ann.clone(), &words);
        engine.publish(publish).await.unwrap();
    }
    (client, session)
}

async fn answers_are_whole_and_bounded(encoding: Encoding, kind: &str) {
    let engine = engine().await;
    let (mut client, session) = dialled(&engine).await;
    let headers = [("content-type", kind.to_owned()), ("im-session", session)];
    let asked = asked(encoding);
    let most = async {
        let mut most = 0;
        loop {
            most = most.max(engine.usage().ack_bytes);
            assert!(most <= MOST, "{most} bytes of acks");
            tokio::task::yield_now().await;
        }
    };
    let answer = tokio::select! {
        answer = client.ask("POST /im/send", &headers, &asked) => answer.unwrap(),
        () = most => unreachable!("it never ends"),
    };
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    let mut limits = Limits::default();
    limits.max_message_bytes = usize::MAX;
    let replies = decode(&answer.body, encoding, &limits).unwrap();
    let id = |reply: &Value| reply.get("id").and_then(Value::as_int).unwrap();
    let mut ids: Vec<i64> = replies.iter().map(id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..PAGES).collect::<Vec<_>>());
    let has_events = |reply: &Value| reply.get("events").is_some_and(|e| e.as_array().is_some());
    assert!(replies.iter().all(has_events));
    // The server drops the last bytes once they are written: before they arrive here or shortly
    // after.
    let freed = async {
        while engine.usage().ack_bytes > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), freed).await.expect("the acks are never freed");
}

#[tokio::test]
async fn large_answers_are_streamed_in_json() {
    answers_are_whole_and_bounded(Encoding::Json, "application/json").await;
}

#[tokio::test]
async fn large_answers_are_streamed_in_msgpack() {
    answers_are_whole_and_bounded(Encoding::MsgPack, "application/msgpack").await;
}

/// Eight pages of 40 KiB for a peer that reads 2 KiB a second. This exceeds all time-outs, while
/// the acks of all connections are close to their bound.
#[tokio::test(start_paused = true)]
async fn slow_peer_outlives_full_ack_budget() {
    const KIB: usize = 1024;
    let config =
        EngineConfig::default().max_page_bytes(48 * KIB).ack_bytes(32 * KIB).acks_bytes(160 * KIB);
    let engine = Engine::builder().allow_anonymous().config(config).start().await.unwrap();
    let (ann, tea) = (UserId::new("ann").unwrap(), RoomId::new("tea").unwrap());
    let members = vec![(ann.clone(), Role::Owner)];
    let seed = RoomSeed { kind: RoomKind::Group, open: true, members };
    engine.create_room(tea.clone(), seed, &ann).await.unwrap();
    for _ in 0..20 {
        let text = Publish::text(Target::Room(tea.clone()), ann.clone(), &"x".repeat(2000));
        engine.publish(text).await.unwrap();
    }
    let (mut peer, socket) = tokio::io::duplex(KIB);
    let uplink = TowerToHyperService::new(Uplink::new(engine, UplinkConfig::default()));
    let serving = hyper::server::conn::http1::Builder::new();
    tokio::spawn(serving.serve_connection(TokioIo::new(socket), uplink).into_future());
    let pages = (2..10).map(|id| json!({"t": "history", "id": id, "room": "tea"}));
    let hello = json!({"t": "hello", "id": 1, "v": 1, "user": "ann"});
    let asked = serde_json::Value::from_iter(std::iter::once(hello).chain(pages)).to_string();
    let head = "POST /send HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
    let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{asked}", asked.len());
    peer.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n0\r\n\r\n") {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut part = [0; KIB];
        let read = peer.read(&mut part).await.unwrap();
        assert_ne!(read, 0, "the connection ended");
        response.extend_from_slice(&part[..read]);
    }
    let pages = String::from_utf8(response).unwrap().matches("\"first\":1").count();
    assert_eq!(pages, 8);
}

#[tokio::test]
async fn peer_that_leaves_frees_its_answers() {
    let engine = engine().await;
    let (mut client, session) = dialled(&engine).await;
    let headers = [("content-type", "application/json".to_owned()), ("im-session", session)];
    client.begin("POST /im/send", &headers, &asked(Encoding::Json)).await.unwrap();
    let until = async |wanted: &dyn Fn() -> bool| {
        let waiting = async {
            while !wanted() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .expect("the condition does not occur");
    };
    until(&|| engine.usage().ack_bytes > 0).await;
    drop(client);
    until(&|| engine.usage().ack_bytes == 0 && engine.connections() == 0).await;
}
