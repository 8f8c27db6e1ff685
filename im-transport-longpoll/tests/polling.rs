//! Polls: their responses, how they wait, and how they end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use im_core::engine::{Engine, EngineConfig};
use im_core::memory::{MemoryBus, MemoryStore};
use im_core::ports::{BusMessage, Envelope};
use im_core::state::{RoomPosition, RoomTag, StreamPosition};
use im_core::wire::{Encoding, Limits, decode};
use im_core::{Code, Cursor, Epoch, RoomId, Seq, UserId};
use im_http::{Edge, Listener, UplinkConfig};
use im_testkit::faulty_store::{Fault, FaultyStore};
use im_testkit::transport_suite::http::{Answer, Client};
use im_transport_longpoll::{LongPoll, LongPollConfig};
use serde_json::{Value, json};

/// Fails the test instead of letting it hang.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("this should not take a minute")
}

struct Server {
    engine: Engine,
    store: Arc<FaultyStore>,
    poll: LongPoll,
    at: SocketAddr,
}

impl Server {
    async fn start(config: LongPollConfig) -> Self {
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        Self::on(store, Arc::new(MemoryBus::new(64)), config).await
    }

    async fn on(store: Arc<FaultyStore>, bus: Arc<MemoryBus>, config: LongPollConfig) -> Self {
        // Only requests read the store.
        let slow = EngineConfig::default()
            .head_check(Duration::from_secs(3600))
            .session_check(Duration::from_secs(3600));
        let builder =
            Engine::builder().allow_anonymous().store(store.clone()).bus(bus).config(slow);
        let engine = builder.start().await.unwrap();
        let poll = LongPoll::new(engine.clone(), config);
        let edge = Edge::new(engine.clone(), UplinkConfig::default()).at("/im").mount(poll.clone());
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(listener.serve(edge));
        Self { engine, store, poll, at }
    }

    async fn session(&self, user: &str) -> Session {
        Session::open(self.at, user).await
    }

    /// Waits until the engine has this many connections.
    async fn has(&self, connections: usize) {
        within(async {
            while self.engine.connections() != connections {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

async fn ask(at: SocketAddr, head: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let mut client = Client::connect(at).await.unwrap();
    within(client.ask(head, &headers, body)).await.unwrap()
}

#[derive(Clone)]
struct Session {
    at: SocketAddr,
    name: String,
}

impl Session {
    async fn open(at: SocketAddr, user: &str) -> Self {
        let hello = json!({"t": "hello", "id": 1, "v": 1, "user": user}).to_string();
        let json = [("content-type", "application/json")];
        let answer = ask(at, "POST /im/send", &json, hello.as_bytes()).await;
        let welcome = &answer.json()[0];
        let text = |name: &str| welcome[name].as_str().unwrap().to_owned();
        Self { at, name: format!("{} {}", text("session"), text("secret")) }
    }

    async fn call(&self, command: Value) -> Value {
        let headers = [("content-type", "application/json"), ("im-session", &*self.name)];
        let body = command.to_string();
        ask(self.at, "POST /im/send", &headers, body.as_bytes()).await.json()[0].clone()
    }

    async fn say(&self, room: &str, text: &str) {
        let mid = format!("{text:0>24}");
        let send = json!({"t": "send", "id": 3, "room": room, "mid": mid, "content": text});
        assert_eq!(self.call(send).await["t"], "ok");
    }

    async fn room(&self, room: &str) {
        self.call(json!({"t": "create", "id": 2, "room": room, "open": true})).await;
        self.call(json!({"t": "subscribe", "id": 2, "room": room})).await;
    }

    async fn poll_with(&self, query: &str, headers: &[(&str, &str)]) -> Answer {
        let session = [("im-session", &*self.name)];
        let headers: Vec<_> = headers.iter().chain(&session).copied().collect();
        ask(self.at, &format!("GET /im/poll{query}"), &headers, b"").await
    }

    /// Polls from a stream position. Returns the abbreviated frames and the next stream position.
    async fn poll(&self, at: &str, hold: u64) -> (Vec<String>, String) {
        let answer = self.poll_with(&format!("?at={at}&hold={hold}"), &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        delivered(&answer)
    }
}

fn delivered(answer: &Answer) -> (Vec<String>, String) {
    let frames = answer.json();
    let (last, frames) = frames.as_array().unwrap().split_last().unwrap();
    assert_eq!(last["t"], "position");
    let position = last["at"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("etag"), Some(&*format!("\"{position}\"")));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    (frames.iter().map(brief).collect(), position)
}

fn brief(frame: &Value) -> String {
    match frame["t"].as_str().unwrap() {
        "event" => format!("event {}", frame["content"]).replace('"', ""),
        "room" => format!("{} {}", frame["room"], frame["status"]).replace('"', ""),
        other => other.to_owned(),
    }
}

fn recorded(answer: &Answer) -> (u16, Option<u16>) {
    (answer.status, answer.code())
}

/// A poll waits for frames and returns them with a stream position.
#[tokio::test]
async fn poll_waits_and_returns_position() {
    let server = Server::start(LongPollConfig::default()).await;
    let ann = server.session("ann").await;
    ann.room("tea").await;
    let (first, position) = ann.poll("", 25).await;
    assert_eq!(first, ["tea ok"]);
    let waiting = tokio::spawn({
        let (ann, position) = (ann.clone(), position.clone());
        async move { ann.poll(&position, 25).await }
    });
    server.has(1).await;
    ann.say("tea", "a").await;
    let (news, next) = within(waiting).await.unwrap();
    assert_eq!(news, ["event a"]);
    // The response was lost: the same event again, and later ones.
    ann.say("tea", "b").await;
    assert_eq!(ann.poll(&position, 25).await.0, ["event a", "event b"]);
    let (news, last) = ann.poll(&next, 0).await;
    assert_eq!(news, ["event b"]);
    let (nothing, same) = ann.poll(&last, 0).await;
    assert_eq!((nothing.len(), &same), (0, &last));
    let (nothing, same) = ann.poll(&last, 1).await;
    assert_eq!((nothing.len(), &same), (0, &last), "after the hold");
    let offer = ask(server.at, "GET /im", &[], b"").await.json();
    assert_eq!((&offer["transports"], &offer["hold_ms"]), (&json!(["poll"]), &json!(25_000)));
}

/// A poll whose entity tag is current is answered as not modified.
#[tokio::test]
async fn current_position_is_not_modified() {
    let server = Server::start(LongPollConfig::default()).await;
    let ann = server.session("ann").await;
    ann.room("tea").await;
    let (_, position) = ann.poll("", 25).await;
    let tag = format!("\"{position}\"");
    let unchanged = ann.poll_with("?hold=0", &[("if-none-match", &tag)]).await;
    assert_eq!((unchanged.status, unchanged.header("etag")), (304, Some(&*tag)));
    assert_eq!(unchanged.header("content-type"), None);
    ann.say("tea", "a").await;
    let changed = ann.poll_with("?hold=0", &[("if-none-match", &tag)]).await;
    assert_eq!(delivered(&changed).0, ["event a"]);
}

#[tokio::test]
async fn unknown_tags_match_nothing() {
    let server = Server::start(LongPollConfig::default()).await;
    let ann = server.session("ann").await;
    ann.room("tea").await;
    let (_, position) = ann.poll("", 25).await;
    let query = format!("?hold=0&at={position}");
    for tag in [&format!("\"{position}-gzip\""), "*", "abc", "\"", "", "W/\"\u{fc}\""] {
        let answer = ann.poll_with(&query, &[("if-none-match", tag)]).await;
        assert_eq!(delivered(&answer).0, [""; 0], "{tag}");
        // Without a position of its own, the poll starts at the checkpoint.
        let answer = ann.poll_with("?hold=0", &[("if-none-match", tag)]).await;
        assert_eq!(delivered(&answer).0, ["tea ok"], "{tag}");
    }
    let (_, position) = ann.poll("", 25).await;
    for tags in [
        vec![("if-none-match", format!("\"a,b\", W/\"{position}\""))],
        vec![("if-none-match", "\"x\"".to_owned()), ("if-none-match", format!("\"{position}\""))],
    ] {
        let tags: Vec<_> = tags.iter().map(|(name, tag)| (*name, &**tag)).collect();
        assert_eq!(ann.poll_with("?hold=0&at=", &tags).await.status, 304, "{tags:?}");
    }
}

#[tokio::test]
async fn held_polls_answer_after_fin() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let hour = Duration::from_secs(3600);
    let server = Server::start(LongPollConfig::default().max_hold(hour)).await;
    let ann = server.session("ann").await;
    ann.room("tea").await;
    let (_, position) = ann.poll("", 0).await;
    let mut stream = tokio::net::TcpStream::connect(server.at).await.unwrap();
    let head = format!(
        "GET /im/poll?at={position} HTTP/1.1\r\nhost: localhost\r\nim-session: {}\r\n\r\n",
        ann.name
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&position), "{answer}");
    // The session's downlink is still kept.
    server.store.fail_everything(Fault::Unavailable);
    assert_eq!(ann.poll(&position, 0).await.0, [""; 0]);
}

#[tokio::test]
async fn answers_are_msgpack_on_request() {
    let server = Server::start(LongPollConfig::default()).await;
    let ann = server.session("ann").await;
    ann.room("tea").await;
    let answer = ann.poll_with("?hold=0", &[("accept", "application/msgpack")]).await;
    assert_eq!(answer.header("content-type"), Some("application/msgpack"));
    let frames = decode(&answer.body, Encoding::MsgPack, &Limits::default()).unwrap();
    let kinds: Vec<_> = frames.iter().map(|f| f.get("t").unwrap().as_text().unwrap()).collect();
    assert_eq!(kinds, ["room", "position"]);
    // The other encoding, from the same stream position.
    let position = answer.header("etag").unwrap().trim_matches('"').to_owned();
    ann.say("tea", "a").await;
    assert_eq!(ann.poll(&position, 0).await.0, ["event a"]);
}

#[tokio::test]
async fn bad_requests_get_their_codes() {
    let server = Server::start(LongPollConfig::default()).await;
    let (ann, bob) = (server.session("ann").await, server.session("bob").await);
    ann.room("tea").await;
    let (_, position) = ann.poll("", 0).await;
    let session = ("im-session", &*ann.name);
    let mixed = {
        let (id, secret) =
            (ann.name.split_once(' ').unwrap().0, bob.name.split_once(' ').unwrap().1);
        format!("{id} {secret}")
    };
    let kept = format!("?hold=0&at={position}");
    for (query, headers, expected) in [
        ("", vec![], (400, 4509)),
        ("", vec![("im-session", "nobody guessed")], (404, 4400)),
        (&*kept, vec![("im-session", &*mixed)], (404, 4400)),
        ("?at=!!", vec![session], (400, 4504)),
        ("?at=zzzz", vec![session], (400, 4504)),
        ("?at=A%0d%0aSet-Cookie:%20x", vec![session], (400, 4504)),
        ("?hold=ever", vec![session], (400, 4504)),
        (&*kept, vec![session, ("origin", "https://evil.example")], (403, 4511)),
    ] {
        let answer = ask(server.at, &format!("GET /im/poll{query}"), &headers, b"").await;
        assert_eq!(recorded(&answer), (expected.0, Some(expected.1)), "{query} {headers:?}");
    }
    assert_eq!(ask(server.at, "POST /im/poll", &[session], b"").await.status, 405);
    // Her downlink is still kept, so an unavailable store has no effect.
    server.store.fail_everything(Fault::Unavailable);
    assert_eq!(ann.poll(&position, 0).await.0, [""; 0]);
}

#[tokio::test]
async fn foreign_and_older_positions_are_harmless() {
    let server = Server::start(LongPollConfig::default()).await;
    let (ann, bob) = (server.session("ann").await, server.session("bob").await);
    ann.room("tea").await;
    bob.room("news").await;
    let (_, foreign) = bob.poll("", 0).await;
    let (rooms, mine) = ann.poll(&foreign, 0).await;
    assert!(rooms.iter().all(|room| room == "tea ok"), "{rooms:?}");
    let cursor =
        Cursor { epoch: Epoch { generation: 1, incarnation: 1 }, seq: Seq::new(7).unwrap() };
    let room = RoomTag::of(&RoomId::new("tea").unwrap());
    let mut old: StreamPosition = mine.parse().unwrap();
    old.rooms = vec![RoomPosition { room, cursor: Some(cursor), state: 0 }];
    let (reset, position) = ann.poll(&old.to_string(), 0).await;
    assert_eq!(reset, ["tea reset"]);
    ann.say("tea", "a").await;
    assert_eq!(ann.poll(&position, 0).await.0, ["event a"]);
}

/// Of two concurrent polls the older one ends.
#[tokio::test]
async fn concurrent_polls_leave_one() {
    let server = Server::start(LongPollConfig::default()).await;
    let ann = server.session("ann").await;
    ann.room("tea").await;
    let (_, position) = ann.poll("", 0).await;
    let query = format!("?at={position}&hold=25");
    let (mut one, mut other) =
        (Box::pin(ann.poll_with(&query, &[])), Box::pin(ann.poll_with(&query, &[])));
    let (ended, left) = tokio::select! {
        ended = &mut one => (ended, other),
        ended = &mut other => (ended, one),
    };
    assert_eq!(recorded(&ended), (409, Some(4101)));
    let (answer, ()) = tokio::join!(left, ann.say("tea", "a"));
    assert_eq!(delivered(&answer).0, ["event a"]);
}

/// A held poll ends with its session or its server.
#[tokio::test]
async fn held_poll_ends_with_session() {
    let server = Server::start(LongPollConfig::default()).await;
    let hold = |session: &Session, position: &str| {
        let (session, query) = (session.clone(), format!("?at={position}&hold=25"));
        tokio::spawn(async move { session.poll_with(&query, &[]).await })
    };
    let ann = server.session("ann").await;
    let (_, position) = ann.poll("", 0).await;
    let waiting = hold(&ann, &position);
    server.engine.kick(&UserId::new("ann").unwrap(), None, Code::Kicked).await.unwrap();
    assert_eq!(recorded(&within(waiting).await.unwrap()), (410, Some(4600)));
    assert_eq!(recorded(&ann.poll_with("", &[]).await), (404, Some(4400)));
    let bob = server.session("bob").await;
    let (_, position) = bob.poll("", 0).await;
    let waiting = hold(&bob, &position);
    bob.call(json!({"t": "logout", "id": 4})).await;
    assert_eq!(recorded(&within(waiting).await.unwrap()), (410, Some(4601)));
    let eve = server.session("eve").await;
    let (_, position) = eve.poll("", 0).await;
    let waiting = hold(&eve, &position);
    let (ended, ()) = tokio::join!(waiting, server.engine.drain(Duration::from_secs(5)));
    let ended = ended.unwrap();
    assert_eq!(recorded(&ended), (503, Some(4001)));
    assert!(ended.header("retry-after").is_some() && ended.json()["retry_ms"].is_u64());
    assert_eq!(recorded(&eve.poll_with("", &[]).await), (503, Some(4001)));
}

/// Between two polls the store is not read, and no ephemeral message is lost.
#[tokio::test]
async fn idle_gap_reads_nothing_keeps_signals() {
    let server = Server::start(LongPollConfig::default()).await;
    let (ann, bob) = (server.session("ann").await, server.session("bob").await);
    ann.room("tea").await;
    bob.call(json!({"t": "join", "id": 2, "room": "tea"})).await;
    let (_, mut position) = ann.poll("", 0).await;
    (_, position) = ann.poll(&position, 0).await;
    let signal = json!({"t": "signal", "id": 5, "room": "tea", "kind": "typing", "content": 1});
    assert_eq!(bob.call(signal).await["t"], "ok");
    server.store.fail_everything(Fault::Unavailable);
    let (news, position) = ann.poll(&position, 0).await;
    assert_eq!(news.last().map(String::as_str), Some("signal"), "{news:?}");
    for _ in 0..3 {
        assert_eq!(ann.poll(&position, 0).await, (vec![], position.clone()));
    }
    let other = ann.poll_with("?hold=0", &[]).await;
    assert_eq!(recorded(&other), (503, Some(4202)), "another stream position reads the store");
}

/// The downlinks kept between polls are bounded in number and time.
#[tokio::test]
async fn kept_streams_are_bounded() {
    let config = LongPollConfig::default().max_kept(2).linger(Duration::from_millis(100));
    let server = Server::start(config).await;
    let mut sessions = Vec::new();
    for user in ["ann", "bob", "eve"] {
        let session = server.session(user).await;
        session.room(user).await;
        let (_, position) = session.poll("", 0).await;
        assert!(server.engine.connections() <= 2, "more than max_kept are kept");
        sessions.push((user, session, position));
    }
    server.has(0).await;
    // Kept or not, no event is missed.
    for (user, session, position) in sessions {
        session.say(user, "a").await;
        assert_eq!(session.poll(&position, 0).await.0, ["event a"]);
    }
    within(server.poll.shutdown()).await;
    assert_eq!(server.engine.connections(), 0);
}

#[tokio::test]
async fn a_client_that_goes_loses_nothing() {
    let server = Server::start(LongPollConfig::default()).await;
    let ann = server.session("ann").await;
    ann.room("tea").await;
    let (_, position) = ann.poll("", 0).await;
    for words in ["a", "b"] {
        let mut client = Client::connect(server.at).await.unwrap();
        let headers = [("im-session", ann.name.clone())];
        client.begin(&format!("GET /im/poll?at={position}"), &headers, b"").await.unwrap();
        drop(client);
        ann.say("tea", words).await;
    }
    assert_eq!(ann.poll(&position, 25).await.0, ["event a", "event b"]);
}

#[tokio::test]
async fn long_answer_is_split() {
    let server = Server::start(LongPollConfig::default().max_response_bytes(4096)).await;
    let ann = server.session("ann").await;
    ann.room("tea").await;
    let (_, mut position) = ann.poll("", 0).await;
    for n in 0..100 {
        ann.say("tea", &n.to_string()).await;
    }
    let (mut heard, mut polls) = (Vec::new(), 0);
    while heard.len() < 100 {
        let (news, next) = ann.poll(&position, 25).await;
        heard.extend(news);
        position = next;
        polls += 1;
    }
    let expected: Vec<String> = (0..100).map(|n| format!("event {n}")).collect();
    assert_eq!(heard, expected);
    assert!(polls > 2, "{polls}");
}

#[tokio::test]
async fn signal_on_two_nodes_delivered_once() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    // The nodes do not learn from each other which of them has a session.
    let loses = |envelope: &Envelope| matches!(envelope.message, BusMessage::Close { .. });
    let bus = Arc::new(MemoryBus::lossy(64, loses));
    let config = LongPollConfig::default();
    let one = Server::on(store.clone(), bus.clone(), config.clone()).await;
    let two = Server::on(store, bus, config).await;
    let (ann, bob) = (one.session("ann").await, one.session("bob").await);
    let elsewhere = Session { at: two.at, ..ann.clone() };
    ann.room("tea").await;
    bob.call(json!({"t": "join", "id": 2, "room": "tea"})).await;
    let (_, position) = ann.poll("", 0).await;
    let (_, position) = ann.poll(&position, 0).await;
    let (_, position) = elsewhere.poll(&position, 0).await;
    let signal = json!({"t": "signal", "id": 5, "room": "tea", "kind": "typing", "content": 1});
    assert_eq!(bob.call(signal).await["t"], "ok");
    let (first, position) = elsewhere.poll(&position, 25).await;
    assert_eq!(first.last().map(String::as_str), Some("signal"), "{first:?}");
    // On this node the message still waits in the downlink that was superseded.
    let (again, _) = ann.poll(&position, 0).await;
    assert!(!again.contains(&"signal".to_owned()), "{again:?}");
}

#[tokio::test]
async fn lost_answer_redelivers_from_full_position() {
    // More rooms than a position can hold; all but the last have advanced.
    let server = Server::start(LongPollConfig::default()).await;
    let ann = server.session("ann").await;
    let last = "room-219";
    let rooms: Vec<_> = (0..220).map(|nth| format!("room-{nth}")).collect();
    for room in &rooms {
        ann.room(room).await;
    }
    for (nth, room) in rooms.iter().filter(|room| *room != last).enumerate() {
        ann.say(room, &format!("{nth}-one")).await;
        ann.say(room, &format!("{nth}-two")).await;
    }
    let mut at = String::new();
    loop {
        let (frames, next) = ann.poll(&at, 0).await;
        at = next;
        if frames.is_empty() {
            break;
        }
    }
    ann.say(last, "late").await;
    let (lost, next) = ann.poll(&at, 0).await;
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_ne!(next, at, "the two belong to different responses");
    let (again, _) = ann.poll(&at, 0).await;
    assert!(again.iter().any(|frame| *frame == lost[0]), "{again:?} lacks {lost:?}");
}
