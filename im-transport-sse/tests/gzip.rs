//! Compressed streams, read by a client that decompresses incrementally.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use im_core::engine::EngineConfig;
use im_http::ListenerConfig;
use im_transport_sse::{Gzip, SseConfig};
use support::{Session, Stream, edge_with, engine, listen, serve};

const GZIP: (&str, &str) = ("accept-encoding", "gzip, deflate, br, zstd");

/// Returns the content encoding, and whether `Vary` lists `Accept-Encoding`.
fn chosen(stream: &Stream) -> (Option<&str>, bool) {
    let encoding = stream.head.header("content-encoding");
    (encoding, stream.head.head.contains("vary: accept-encoding\n"))
}

#[tokio::test]
async fn gzip_is_chosen_on_request() {
    let engine = engine(EngineConfig::default()).await;
    let at = listen(&engine, ListenerConfig::default()).await;
    let ann = Session::open(at, "ann").await;
    for (asked, expected) in [
        (vec![], None),
        (vec![GZIP], Some("gzip")),
        (vec![("accept-encoding", "gzip;q=0.2, identity;q=0.8")], None),
        (vec![("accept-encoding", "gzip;q=0")], None),
        (vec![("accept-encoding", "br"), ("accept-encoding", "*;q=0.1")], Some("gzip")),
    ] {
        let stream = ann.stream("", &asked).await;
        assert_eq!(chosen(&stream), (expected, true), "{asked:?}");
        assert_eq!(stream.head.header("content-type"), Some("text/event-stream"));
    }
    let never = SseConfig::default().gzip(Gzip::Never);
    let at = serve(edge_with(&engine, never), ListenerConfig::default()).await;
    let ann = Session::open(at, "ann").await;
    assert_eq!(chosen(&ann.stream("", &[GZIP]).await), (None, false));
}

/// A gzip stream delivers at once in fewer bytes and can be resumed.
#[tokio::test]
async fn gzip_stream_is_prompt_and_resumable() {
    let engine = engine(EngineConfig::default()).await;
    let at = listen(&engine, ListenerConfig::default()).await;
    let (ann, bob) = (Session::open(at, "ann").await, Session::open(at, "bob").await);
    ann.room("tea").await;
    bob.call(serde_json::json!({"t": "join", "id": 2, "room": "tea"})).await;
    bob.call(serde_json::json!({"t": "subscribe", "id": 2, "room": "tea"})).await;
    let mut packed = ann.stream("", &[GZIP]).await;
    let mut plain = bob.stream("", &[]).await;
    // The event that bob joined.
    packed.until("data: {\"t\":\"event\"").await;
    let words = |n: usize| format!("number {}{n}", "x".repeat(n * n));
    let mut marks = Vec::new();
    for n in 0..40 {
        ann.say("tea", &words(n)).await;
        let expected = format!("event \"{}\"", words(n));
        for stream in [&mut packed, &mut plain] {
            assert_eq!(stream.until("data: {\"t\":\"event\"").await.pop().unwrap(), expected);
        }
        marks.push(packed.at.clone());
    }
    assert!(packed.bytes * 2 < plain.bytes, "{} and {}", packed.bytes, plain.bytes);

    let mut again = ann.stream("", &[GZIP, ("last-event-id", &marks[30])]).await;
    assert_eq!(chosen(&again).0, Some("gzip"));
    for n in 31..40 {
        assert_eq!(again.until("data").await, [format!("event \"{}\"", words(n))]);
    }
    // The older of the two streams has ended in order, with its checksum; so does the newer.
    assert_eq!(packed.rest().await, ["retry: 86400000", "disconnect 4101"]);
    let (last, ()) = tokio::join!(again.rest(), engine.drain(Duration::from_secs(5)));
    assert_eq!(last[1], "disconnect 4001");
}

#[tokio::test]
async fn heartbeats_get_through() {
    let config = EngineConfig::default()
        .heartbeat(Duration::from_millis(50))
        .tick(Duration::from_millis(10));
    let at = listen(&engine(config).await, ListenerConfig::default()).await;
    let ann = Session::open(at, "ann").await;
    let mut stream = ann.stream("", &[GZIP]).await;
    for _ in 0..3 {
        assert_eq!(stream.block().await.as_deref(), Some(":"));
    }
}
