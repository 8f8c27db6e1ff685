//! Event streams, from their first byte to their last.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use im_core::Code;
use im_core::UserId;
use im_core::engine::EngineConfig;
use im_http::ListenerConfig;
use serde_json::json;
use support::{Session, Stream, ask, edge, engine, listen, only, within};

#[tokio::test]
async fn stream_carries_statuses_events_positions() {
    let engine = engine(EngineConfig::default()).await;
    let at = listen(&engine, ListenerConfig::default()).await;
    let ann = Session::open(at, "ann").await;
    ann.room("tea").await;
    let mut stream = ann.stream("", &[]).await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("vary", "accept-encoding"),
    ] {
        assert_eq!(stream.head.header(name), Some(value));
    }
    assert_eq!(stream.until("data:").await, ["tea ok"]);
    let first = stream.at.clone();
    for words in ["a", "b\n\nid: AQA\r\rdata: x"] {
        ann.say("tea", words).await;
    }
    // One line each, for any content.
    assert_eq!(stream.until("data").await, ["event \"a\""]);
    let second = stream.at.clone();
    assert_eq!(stream.until("data").await, [r#"event "b\n\nid: AQA\r\rdata: x""#]);
    let third = stream.at.clone();
    assert!(first != second && second != third);
    drop(stream);
    only(&engine, 0).await;
    // Resumed by the header of browsers, or by the query; the header takes precedence, because it
    // is newer than the address.
    let query = format!("?at={first}");
    let mut again = ann.stream(&query, &[("last-event-id", &second)]).await;
    assert!(again.until("data").await[0].starts_with("event \"b"));
    let mut again = ann.stream(&query, &[]).await;
    assert_eq!(again.until("data").await, ["event \"a\""]);
}

/// The position of a session with many rooms is longer than a message. It takes at most about a
/// quarter of the bytes, and events that it does not cover are redelivered.
#[tokio::test]
async fn long_positions_come_less_often() {
    const ROOMS: usize = 60;
    let at = listen(&engine(EngineConfig::default()).await, ListenerConfig::default()).await;
    let ann = Session::open(at, "ann").await;
    let rooms: Vec<String> = (0..ROOMS).map(|n| format!("room{n}")).collect();
    for room in &rooms {
        ann.room(room).await;
    }
    let mut stream = ann.stream("", &[]).await;
    for room in &rooms {
        ann.say(room, "all").await;
        while !stream.block().await.unwrap().contains("all") {}
    }
    let (mut messages, mut positions) = (0, 0);
    let (mut covered, mut position) = (0, stream.at.clone());
    for n in 0..60 {
        let mid = format!("word-number-{n:0>12}");
        let send = json!({"t": "send", "id": 3, "room": "room7", "mid": mid, "content": n});
        assert_eq!(ann.call(send).await["t"], "ok");
        let block = stream.block().await.unwrap();
        let data = block.lines().next().unwrap().len();
        messages += data;
        positions += block.len() - data;
        if stream.at != position {
            (covered, position) = (n + 1, stream.at.clone());
        }
    }
    assert!(0 < positions && positions < messages / 3, "{positions} beside {messages}");
    assert!((1..60).contains(&covered), "{covered}");
    let mut again = ann.stream("", &[("last-event-id", &position)]).await;
    let mut blocks = again.until(r#"data: {"t":"event","room":"room7""#).await;
    assert_eq!(blocks.pop().unwrap(), format!("event {covered}"));
}

#[tokio::test]
async fn ticket_replaces_session_and_credentials() {
    let at = listen(&engine(EngineConfig::default()).await, ListenerConfig::default()).await;
    let ann = Session::open(at, "ann").await;
    ann.room("tea").await;
    let mut known = ann.stream("", &[]).await;
    let position = known.position().await;
    let granted = ann.call(json!({"t": "ticket", "id": 4})).await;
    let ticket = granted["ticket"].as_str().unwrap();
    let as_it_is = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
    assert!(ticket.chars().all(as_it_is), "the ticket needs no escaping in a URL: {ticket}");
    let query = format!("?ticket={ticket}&at={position}");
    let refused =
        ask(at, &format!("GET /im/sse{query}"), &[("last-event-id", &position)], b"").await;
    assert_eq!(
        (refused.status, refused.code()),
        (401, Some(4301)),
        "the ticket has opened no stream yet"
    );
    let mut stream = Stream::open(at, &query, &[]).await;
    ann.say("tea", "a").await;
    assert_eq!(stream.until("data").await, ["event \"a\""]);
    let position = stream.at.clone();
    let refused = ask(at, &format!("GET /im/sse{query}"), &[], b"").await;
    assert_eq!((refused.status, refused.code()), (401, Some(4301)), "a ticket opens one stream");
    ann.say("tea", "b").await;
    let mut stream = Stream::open(at, &query, &[("last-event-id", &position)]).await;
    assert_eq!(stream.until("data").await, ["event \"b\""]);
}

/// A browser's stream that is cut before the first message is resumed with its ticket.
#[tokio::test]
async fn stream_resumes_from_first_block() {
    let engine = engine(EngineConfig::default()).await;
    let at = listen(&engine, ListenerConfig::default()).await;
    let ann = Session::open(at, "ann").await;
    let granted = ann.call(json!({"t": "ticket", "id": 4})).await;
    let query = format!("?ticket={}", granted["ticket"].as_str().unwrap());
    let stream = Stream::open(at, &query, &[]).await;
    let position = stream.at.clone();
    drop(stream);
    only(&engine, 0).await;
    ann.room("tea").await;
    ann.say("tea", "a").await;
    let mut stream = Stream::open(at, &query, &[("last-event-id", &position)]).await;
    assert_eq!(stream.until("data").await, ["tea ok"]);
    assert_eq!(stream.until("data").await, ["event \"a\""]);
}

#[tokio::test]
async fn bad_requests_get_their_codes() {
    let at = listen(&engine(EngineConfig::default()).await, ListenerConfig::default()).await;
    let ann = Session::open(at, "ann").await;
    let mut stream = ann.stream("", &[]).await;
    let session = ("im-session", &*ann.name);
    for (query, headers, expected) in [
        ("", vec![], (400, 4509)),
        ("?ticket=&at=", vec![("im-session", ""), ("last-event-id", "")], (400, 4509)),
        ("?ticket=guessed%0d%0adata:%20x", vec![], (401, 4301)),
        ("", vec![("im-session", "nobody guessed")], (404, 4400)),
        ("?at=!!", vec![session], (400, 4504)),
        ("?at=A%0d%0adata:%20x", vec![session], (400, 4504)),
        ("?at=AQA&at=AQA", vec![session], (400, 4504)),
        ("", vec![session, ("last-event-id", "zzzz")], (400, 4504)),
        ("", vec![session, ("last-event-id", "AQA"), ("last-event-id", "AQA")], (400, 4504)),
        ("", vec![session, ("origin", "https://evil.example")], (403, 4511)),
    ] {
        let answer = ask(at, &format!("GET /im/sse{query}"), &headers, b"").await;
        let told = (answer.status, answer.code());
        assert_eq!(told, (expected.0, Some(expected.1)), "{query} {headers:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert_eq!(ask(at, "POST /im/sse", &[session], b"").await.status, 405);
    ann.room("tea").await;
    assert_eq!(stream.until("data").await, ["tea ok"], "other streams are unaffected");
}

#[tokio::test]
async fn empty_fields_are_none() {
    let at = listen(&engine(EngineConfig::default()).await, ListenerConfig::default()).await;
    let ann = Session::open(at, "ann").await;
    ann.room("tea").await;
    for query in ["", "?at=", "?ticket=&at=", "?at&ticket"] {
        for last in [&[][..], &[("last-event-id", "")], &[("last-event-id", " ")]] {
            let mut stream = ann.stream(query, last).await;
            assert_eq!(stream.until("data").await, ["tea ok"], "{query} {last:?}");
        }
    }
}

#[tokio::test]
async fn half_closed_peer_keeps_receiving() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let engine = engine(EngineConfig::default()).await;
    let at = listen(&engine, ListenerConfig::default()).await;
    let (ann, bob) = (Session::open(at, "ann").await, Session::open(at, "bob").await);
    ann.room("tea").await;
    bob.call(json!({"t": "join", "id": 2, "room": "tea"})).await;
    let mut reader = tokio::net::TcpStream::connect(at).await.unwrap();
    let head =
        format!("GET /im/sse HTTP/1.1\r\nhost: localhost\r\nim-session: {}\r\n\r\n", ann.name);
    reader.write_all(head.as_bytes()).await.unwrap();
    reader.shutdown().await.unwrap();
    let mut read = String::new();
    let mut until = async |text: &str| {
        let end = loop {
            if let Some(at) = read.find(text) {
                break at + text.len();
            }
            let mut some = [0; 4096];
            let count = within(reader.read(&mut some)).await.unwrap();
            assert!(count > 0, "the stream ended after {read}");
            read.push_str(std::str::from_utf8(&some[..count]).unwrap());
        };
        read.drain(..end);
    };
    // The server probes twice whether the peer still reads.
    until(":\n\n").await;
    bob.say("tea", "is heard").await;
    until("is heard").await;
    until(":\n\n").await;
    bob.say("tea", "later").await;
    until("later").await;
    assert_eq!(engine.connections(), 1);
}

#[tokio::test]
async fn final_block_states_retry_delay() {
    let engine = engine(EngineConfig::default()).await;
    let at = listen(&engine, ListenerConfig::default()).await;
    let ann = Session::open(at, "ann").await;
    let mut older = ann.stream("", &[]).await;
    let mut newer = ann.stream("", &[]).await;
    let stay_away =
        |code: u16| ["retry: 86400000", &format!("disconnect {code}")].map(str::to_owned);
    assert_eq!(older.rest().await, stay_away(4101));
    engine.kick(&UserId::new("ann").unwrap(), None, Code::Kicked).await.unwrap();
    assert_eq!(newer.rest().await, stay_away(4600));
    let bob = Session::open(at, "bob").await;
    let mut left = bob.stream("", &[]).await;
    bob.call(json!({"t": "logout", "id": 2})).await;
    assert_eq!(left.rest().await, stay_away(4601));
    let eve = Session::open(at, "eve").await;
    let mut drained = eve.stream("", &[]).await;
    let (blocks, ()) = tokio::join!(drained.rest(), engine.drain(Duration::from_secs(5)));
    assert!(blocks[0].starts_with("retry: ") && blocks[0] != "retry: 86400000", "{blocks:?}");
    assert_eq!(blocks[1], "disconnect 4001");
}

#[tokio::test]
async fn silent_stream_gets_heartbeats() {
    let config = EngineConfig::default()
        .heartbeat(Duration::from_millis(50))
        .idle_timeout(Duration::from_millis(100))
        .tick(Duration::from_millis(10));
    let at = listen(&engine(config).await, ListenerConfig::default()).await;
    let ann = Session::open(at, "ann").await;
    let mut stream = ann.stream("", &[]).await;
    // The client may be silent for any time.
    for _ in 0..10 {
        stream.until(":").await;
    }
    ann.room("tea").await;
    assert!(stream.until("data").await.contains(&"tea ok".to_owned()));
}

/// A peer that reads nothing is disconnected, and others are not affected.
#[tokio::test]
async fn idle_peer_is_disconnected_alone() {
    let engine = engine(EngineConfig::default()).await;
    let config = ListenerConfig::default().write_timeout(Duration::from_millis(200));
    let at = listen(&engine, config).await;
    let (ann, bob) = (Session::open(at, "ann").await, Session::open(at, "bob").await);
    ann.room("tea").await;
    bob.call(json!({"t": "join", "id": 2, "room": "tea"})).await;
    bob.call(json!({"t": "subscribe", "id": 2, "room": "tea"})).await;
    let mut reads = bob.stream("", &[]).await;
    reads.position().await;
    let idle = ann.stream("", &[]).await;
    let words = "x".repeat(30_000);
    let mut said = 0;
    // Until all buffers of the connection are full.
    while engine.connections() > 1 {
        let mid = format!("{said:0>24}");
        let send = json!({"t": "send", "id": 3, "room": "tea", "mid": mid, "content": &words});
        ann.call(send).await;
        within(reads.until("data")).await;
        said += 1;
    }
    assert!(said > 1);
    drop(idle);
}

/// The peer's machine is off, or its network gone: it neither acknowledges nor refuses bytes.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn vanished_peer_is_disconnected() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let config = EngineConfig::default()
        .heartbeat(Duration::from_millis(50))
        .tick(Duration::from_millis(10));
    let engine = engine(config).await;
    let config = ListenerConfig::default().write_timeout(Duration::from_millis(500));
    let at = listen(&engine, config).await;
    let ann = Session::open(at, "ann").await;
    let mut reader = tokio::net::TcpStream::connect(at).await.unwrap();
    let request =
        format!("GET /im/sse HTTP/1.1\r\nhost: localhost\r\nim-session: {}\r\n\r\n", ann.name);
    reader.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    reader.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    assert_eq!(engine.connections(), 1);
    // From here on the system drops everything that arrives for the peer: the filter rejects all
    // packets.
    let nothing = socket2::SockFilter::new(0x06, 0, 0, 0);
    socket2::SockRef::from(&reader).attach_filter(&[nothing]).unwrap();
    only(&engine, 0).await;
}

#[tokio::test]
async fn it_streams_through_axum_and_warp() {
    let engine = engine(EngineConfig::default()).await;
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let in_axum = socket.local_addr().unwrap();
    let app = axum::Router::new().nest_service("/im", edge(&engine));
    tokio::spawn(axum::serve(socket, app).into_future());
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let in_warp = socket.local_addr().unwrap();
    let routes = im_http::warp::mount(edge(&engine).at("/im"));
    tokio::spawn(warp::serve(routes).incoming(socket).run());
    for (at, user) in [(in_axum, "ann"), (in_warp, "bob")] {
        let session = Session::open(at, user).await;
        session.room(user).await;
        let mut stream = session.stream("", &[]).await;
        stream.position().await;
        session.say(user, "a").await;
        assert_eq!(stream.until("data").await, ["event \"a\""]);
        let offer = ask(at, "GET /im", &[], b"").await.json();
        assert_eq!(offer["transports"], json!(["sse"]));
    }
    only(&engine, 0).await;
}
