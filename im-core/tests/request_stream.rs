//! A session in two halves: commands one message at a time, and a downlink that any node resumes
//! from a stream position.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use im_core::Code;
use im_core::engine::{Access, Connection, Engine, EngineConfig, Peer};
use im_core::memory::{MemoryBus, MemoryStore};
use im_core::ports::{Credentials, Unlimited};
use im_core::state::StreamPosition;
use im_core::wire::{Encoding, ResumeToken, Secret};
use serde_json::{Value, json};

fn peer() -> Peer {
    Peer {
        transport: "test",
        encoding: Encoding::Json,
        address: None,
        credentials: Credentials::default(),
    }
}

/// Two engines on one store, joined by a bus; every call goes to the other one.
struct RequestStream {
    engines: Vec<Engine>,
    turn: usize,
    token: Option<ResumeToken>,
}

impl RequestStream {
    async fn new(config: EngineConfig) -> Self {
        let (store, bus) = (Arc::new(MemoryStore::new()), Arc::new(MemoryBus::new(64)));
        let mut engines = Vec::new();
        for _ in 0..2 {
            // Rate limits are not under test here.
            let engine = Engine::builder().allow_anonymous().rate_limiter(Arc::new(Unlimited));
            let engine = engine.store(store.clone());
            engines.push(engine.bus(bus.clone()).config(config.clone()).start().await.unwrap());
        }
        // Each node has received the other's first messages.
        tokio::time::sleep(Duration::from_secs(10)).await;
        Self { engines, turn: 0, token: None }
    }

    /// Another client of the same engines.
    async fn and(&self, user: &str) -> Self {
        let mut other = Self { engines: self.engines.clone(), turn: self.turn + 1, token: None };
        other.hello(user).await;
        other
    }

    fn engine(&mut self) -> Engine {
        self.turn += 1;
        self.engines[self.turn % 2].clone()
    }

    async fn try_call(&mut self, message: Value) -> Result<Vec<Value>, Code> {
        let token = self.token.clone();
        let message = Bytes::from(message.to_string());
        let answers = self.engine().call(peer(), token.as_ref(), message).await;
        let answers = answers.map_err(|e| e.code())?.all().await;
        Ok(answers.iter().map(|answer| serde_json::from_slice(answer).unwrap()).collect())
    }

    async fn call(&mut self, command: Value) -> Value {
        let mut answers = self.try_call(command).await.unwrap();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    async fn hello(&mut self, user: &str) {
        let welcome = self.call(json!({"t": "hello", "id": 1, "v": 1, "user": user})).await;
        assert_eq!(welcome["t"], "ok", "{welcome}");
        let text = |name: &str| welcome[name].as_str().unwrap().to_owned();
        let session = im_core::SessionId::new(text("session")).unwrap();
        self.token = Some(ResumeToken { session, secret: Secret::new(text("secret")) });
    }

    async fn try_open_stream(&mut self, stream_position: Option<&str>) -> Result<Connection, Code> {
        let stream_position: Option<StreamPosition> =
            stream_position.map(|text| text.parse().unwrap());
        let access = Access::Token(self.token.clone().unwrap());
        self.engine()
            .open_stream(peer(), &access, stream_position.as_ref())
            .await
            .map_err(|e| e.code())
    }

    /// A poll that does not wait: the frames available, and the stream position after them.
    async fn poll(&mut self, stream_position: Option<&str>) -> (Vec<Value>, String) {
        let connection = self.try_open_stream(stream_position).await.unwrap();
        taken(&connection).await
    }

    async fn say(&mut self, room: &str, text: &str) {
        let mid = format!("0123456789abcdef-{text}");
        let said = self
            .call(json!({"t": "send", "id": 9, "room": room, "mid": mid, "content": text}))
            .await;
        assert_eq!(said["t"], "ok", "{said}");
    }
}

async fn taken(connection: &Connection) -> (Vec<Value>, String) {
    let mut frames = Vec::new();
    while let Some(batch) = connection.take(1 << 16).await {
        frames.extend(batch.frames.iter().map(|f| serde_json::from_slice::<Value>(f).unwrap()));
        if batch.close.is_some() {
            break;
        }
    }
    (frames, connection.stream_position().to_string())
}

async fn next(down: &Connection) -> Vec<Value> {
    let batch = down.next(1 << 16).await;
    batch.frames.iter().map(|f| serde_json::from_slice(f).unwrap()).collect()
}

fn brief(frames: &[Value]) -> Vec<String> {
    let of = |frame: &Value| match frame["t"].as_str().unwrap() {
        "event" => format!("{}:{}", frame["room"].as_str().unwrap(), frame["content"]),
        "room" => format!("{} {}", frame["room"].as_str().unwrap(), frame["status"]),
        "snapshot" => format!(
            "{} snapshot of {}",
            frame["room"].as_str().unwrap(),
            frame["entries"].as_array().unwrap().len()
        ),
        "state" => format!("{} state {}", frame["room"].as_str().unwrap(), frame["value"]),
        other => other.to_owned(),
    };
    frames.iter().map(|frame| of(frame).replace('"', "")).collect()
}

async fn at_tea(room: &str) -> (RequestStream, RequestStream) {
    let mut ann = RequestStream::new(EngineConfig::default()).await;
    ann.hello("ann").await;
    let mut bob = ann.and("bob").await;
    ann.call(json!({"t": "create", "id": 2, "room": room, "open": true})).await;
    bob.call(json!({"t": "join", "id": 2, "room": room})).await;
    let status = ann.call(json!({"t": "subscribe", "id": 3, "room": room})).await;
    assert_eq!(status["rooms"][0]["status"], "ok", "{status}");
    (ann, bob)
}

/// Polls that move from node to node miss no event and redeliver none.
#[tokio::test(start_paused = true)]
async fn polls_across_nodes_deliver_once() {
    let (mut ann, mut bob) = at_tea("tea").await;
    let (begun, mut stream_position) = ann.poll(None).await;
    assert_eq!(brief(&begun), ["tea ok"]);
    for n in 0..6 {
        bob.say("tea", &n.to_string()).await;
        let (frames, next) = ann.poll(Some(&stream_position)).await;
        assert_eq!(brief(&frames), [format!("tea:{n}")]);
        let (nothing, same) = ann.poll(Some(&next)).await;
        let (before, after): (StreamPosition, StreamPosition) =
            (next.parse().unwrap(), same.parse().unwrap());
        assert_eq!(nothing.len(), 0);
        let compared = |stream_position: StreamPosition| {
            (stream_position.session, stream_position.rev, stream_position.rooms)
        };
        assert_eq!(compared(before), compared(after), "an idle poll changes nothing");
        stream_position = next;
    }
}

#[tokio::test(start_paused = true)]
async fn lost_poll_answer_is_redelivered() {
    let (mut ann, mut bob) = at_tea("tea").await;
    let (_, stream_position) = ann.poll(None).await;
    for text in ["a", "b"] {
        bob.say("tea", text).await;
    }
    let (lost, _) = ann.poll(Some(&stream_position)).await;
    bob.say("tea", "c").await;
    let (again, next) = ann.poll(Some(&stream_position)).await;
    assert_eq!(brief(&lost), ["tea:a", "tea:b"]);
    assert_eq!(brief(&again), ["tea:a", "tea:b", "tea:c"]);
    assert_eq!(brief(&ann.poll(Some(&next)).await.0), [""; 0]);
}

/// A subscription change reaches a downlink that is open on another node.
#[tokio::test(start_paused = true)]
async fn commands_reach_stream_on_other_node() {
    let (mut ann, mut bob) = at_tea("tea").await;
    let down = ann.try_open_stream(None).await.unwrap();
    assert_eq!(brief(&taken(&down).await.0), ["tea ok"]);
    bob.call(json!({"t": "create", "id": 4, "room": "news", "open": true, "members": ["ann"]}))
        .await;
    // On either node.
    for room in ["news", "tea"] {
        ann.call(json!({"t": "subscribe", "id": 5, "room": room})).await;
        let begun = format!("{room} ok");
        // The signal of the invitation may arrive first.
        while !brief(&next(&down).await).contains(&begun) {}
    }
    ann.call(json!({"t": "unsubscribe", "id": 6, "room": "tea"})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    bob.say("tea", "unheard").await;
    bob.say("news", "heard").await;
    assert_eq!(brief(&taken(&down).await.0), ["news:heard"]);
}

/// A newer downlink supersedes the older ones on any node.
#[tokio::test(start_paused = true)]
async fn newer_stream_supersedes_across_nodes() {
    let (mut ann, _) = at_tea("tea").await;
    let downs =
        [ann.try_open_stream(None).await.unwrap(), ann.try_open_stream(None).await.unwrap()];
    let last = ann.try_open_stream(None).await.unwrap();
    for down in downs {
        let ended = loop {
            if let Some(disconnect) = down.next(1 << 16).await.close {
                break disconnect;
            }
        };
        assert_eq!(ended.code, Code::Superseded.number());
    }
    assert_eq!(brief(&taken(&last).await.0), ["tea ok"]);
}

#[tokio::test(start_paused = true)]
async fn state_is_delivered_once_until_changed() {
    let (mut ann, mut bob) = at_tea("tea").await;
    let set = |value: u64| json!({"t": "put_state", "id": 7, "room": "tea", "key": "kettle", "value": value});
    bob.call(set(1)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (frames, stream_position) = ann.poll(None).await;
    assert_eq!(brief(&frames), ["tea ok", "tea snapshot of 1"]);
    let (frames, stream_position) = ann.poll(Some(&stream_position)).await;
    assert_eq!(brief(&frames), [""; 0]);
    bob.call(set(2)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (frames, stream_position) = ann.poll(Some(&stream_position)).await;
    assert_eq!(brief(&frames), ["tea snapshot of 1"]);
    assert_eq!(brief(&ann.poll(Some(&stream_position)).await.0), [""; 0]);
}

/// State that is not yet written to the store is delivered on each node.
#[tokio::test(start_paused = true)]
async fn unwritten_state_reaches_every_node() {
    let never = Duration::from_secs(3600);
    // The store is as late as can be, and nothing is compared with it.
    let mut ann =
        RequestStream::new(EngineConfig::default().state_delay(never).head_check(never)).await;
    ann.hello("ann").await;
    let mut bob = ann.and("bob").await;
    ann.call(json!({"t": "create", "id": 2, "room": "tea", "members": ["bob"]})).await;
    ann.call(json!({"t": "subscribe", "id": 3, "room": "tea"})).await;
    for value in [1, 2, 3] {
        bob.call(
            json!({"t": "put_state", "id": 7, "room": "tea", "key": "kettle", "value": value}),
        )
        .await;
        // The messages between the nodes have arrived.
        tokio::time::sleep(Duration::from_millis(1)).await;
        for _node in 0..2 {
            let (frames, _) = ann.poll(None).await;
            let held = &frames.last().unwrap()["entries"][0]["value"];
            assert_eq!(*held, value, "{frames:?}");
        }
    }
}

/// A removed member gets the status `denied` once and no more events.
#[tokio::test(start_paused = true)]
async fn removed_member_gets_one_denied_status() {
    let (mut ann, mut bob) = at_tea("tea").await;
    bob.call(json!({"t": "subscribe", "id": 3, "room": "tea"})).await;
    let (_, stream_position) = bob.poll(None).await;
    ann.call(json!({"t": "member", "id": 8, "room": "tea", "user": "bob", "act": "ban"})).await;
    ann.say("tea", "secret").await;
    let (frames, stream_position) = bob.poll(Some(&stream_position)).await;
    assert_eq!(brief(&frames), ["tea denied"]);
    assert_eq!(brief(&bob.poll(Some(&stream_position)).await.0), [""; 0]);
}

/// Many busy rooms make progress although a stream position holds few of them.
#[tokio::test(start_paused = true)]
async fn many_busy_rooms_fit_small_positions() {
    let mut ann = RequestStream::new(EngineConfig::default()).await;
    ann.hello("ann").await;
    let rooms: Vec<String> = (0..300).map(|n| format!("room{n}")).collect();
    for room in &rooms {
        ann.call(json!({"t": "create", "id": 2, "room": room})).await;
        ann.call(json!({"t": "subscribe", "id": 3, "room": room})).await;
    }
    let (begun, mut stream_position) = ann.poll(None).await;
    assert_eq!(begun.len(), rooms.len());
    for room in &rooms {
        ann.say(room, "x").await;
    }
    let mut delivered = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let (frames, next) = ann.poll(Some(&stream_position)).await;
        assert!(next.len() <= StreamPosition::MAX_LEN);
        delivered.extend(brief(&frames));
        stream_position = next;
        // A position has no capacity for all of them, so the client confirms what it has received.
        let received: Vec<Value> = frames
            .iter()
            .map(|frame| json!([frame["room"], frame["epoch"], frame["seq"]]))
            .collect();
        if !received.is_empty() {
            ann.call(json!({"t": "checkpoint", "id": 4, "cursors": received})).await;
        }
    }
    assert_eq!(delivered.len(), rooms.len());
    assert_eq!(
        brief(&ann.poll(Some(&stream_position)).await.0),
        [""; 0],
        "in the end nothing is repeated"
    );
}

/// A resume says which rooms are subscribed, and rooms without hello are added.
#[tokio::test(start_paused = true)]
async fn returning_session_states_its_rooms() {
    let (mut ann, mut bob) = at_tea("tea").await;
    bob.call(json!({"t": "create", "id": 4, "room": "news", "open": true, "members": ["ann"]}))
        .await;
    let news = ann.call(json!({"t": "subscribe", "id": 5, "room": "news"})).await;
    let status = &news["rooms"][0];
    bob.say("news", "a").await;
    bob.say("tea", "b").await;
    let cursors = json!([["news", status["epoch"], status["cursor"]]]);
    let token = ann.token.take().unwrap();
    let (session, secret) = (token.session.to_string(), token.secret.expose().to_owned());
    let hello =
        json!({"t": "hello", "id": 1, "v": 1, "user": "ann", "session": session, "secret": secret});
    let resume = json!({"t": "resume", "id": 6, "cursors": cursors});
    let mut answers = ann.try_call(json!([hello, resume])).await.unwrap();
    assert_eq!(answers.remove(0)["resumed"], true);
    let answer = answers.remove(0);
    ann.token = Some(token);
    assert_eq!(answer["rooms"].as_array().unwrap().len(), 1);
    assert_eq!(brief(&ann.poll(None).await.0), ["news ok", "news:a"]);
    let stale = json!({"t": "resume", "id": 7, "cursors": [], "rev": 1});
    assert_eq!(ann.call(stale).await["code"], 4401);
    let added = json!({"t": "resume", "id": 8, "cursors": [["tea", status["epoch"], 0]], "rev": answer["rev"]});
    assert_eq!(ann.call(added).await["rooms"].as_array().unwrap().len(), 2);
    let again = json!({"t": "resume", "id": 9, "cursors": [["tea", status["epoch"], 0]]});
    ann.call(again).await;
    let begun = brief(&ann.poll(None).await.0);
    // The epoch in the cursor was the other room's.
    assert_eq!(begun, ["news ok", "tea reset", "news:a"], "without a hello rooms are added");
}

/// A ticket opens one downlink, and later only resumes it.
#[tokio::test(start_paused = true)]
async fn ticket_opens_one_stream() {
    let (mut ann, _) = at_tea("tea").await;
    let granted = ann.call(json!({"t": "ticket", "id": 4})).await;
    assert_eq!(granted["within_ms"], 60_000, "{granted}");
    let ticket = Secret::new(granted["ticket"].as_str().unwrap());
    let first = Access::Ticket { ticket: ticket.clone(), again: false };
    let access = Access::Ticket { ticket: ticket.clone(), again: true };
    let engine = ann.engine();
    let stream_position = StreamPosition::default();
    let early = engine.open_stream(peer(), &access, Some(&stream_position)).await;
    assert_eq!(early.unwrap_err().code(), Code::BadCredentials);
    // The stream position may be known from elsewhere.
    let down = engine.open_stream(peer(), &first, Some(&stream_position)).await.unwrap();
    let (_, stream_position) = taken(&down).await;
    assert_eq!(
        engine.open_stream(peer(), &first, None).await.unwrap_err().code(),
        Code::BadCredentials
    );
    let stream_position: StreamPosition = stream_position.parse().unwrap();
    ann.engine().open_stream(peer(), &access, Some(&stream_position)).await.unwrap();
    let wrong = Secret::new(format!("{}x", ticket.expose()));
    let wrong = Access::Ticket { ticket: wrong, again: true };
    let refused = ann.engine().open_stream(peer(), &wrong, Some(&stream_position)).await;
    assert_eq!(refused.unwrap_err().code(), Code::BadCredentials);
    ann.call(json!({"t": "logout", "id": 5})).await;
    let refused = ann.engine().open_stream(peer(), &access, Some(&stream_position)).await;
    assert_eq!(refused.unwrap_err().code(), Code::BadCredentials);
}

#[tokio::test(start_paused = true)]
async fn requests_without_session_are_refused() {
    let (mut ann, bob) = at_tea("tea").await;
    let ping = json!({"t": "ping", "id": 4});
    let token = ann.token.take();
    assert_eq!(ann.try_call(ping.clone()).await.unwrap_err(), Code::OutOfOrder);
    let gone = json!([{"t": "hello", "id": 1, "v": 1, "user": "ann", "session": "gone", "secret": "secret"}, ping]);
    assert_eq!(ann.try_call(gone).await.unwrap_err(), Code::UnknownSession);
    let stolen = ResumeToken { secret: Secret::new("guessed"), ..token.clone().unwrap() };
    ann.token = Some(stolen);
    assert_eq!(ann.try_call(ping.clone()).await.unwrap_err(), Code::UnknownSession);
    assert_eq!(ann.try_open_stream(None).await.unwrap_err(), Code::UnknownSession);
    let mixed = ResumeToken { secret: bob.token.unwrap().secret, ..token.clone().unwrap() };
    ann.token = Some(mixed);
    assert_eq!(ann.try_call(ping.clone()).await.unwrap_err(), Code::UnknownSession);
    ann.token = token;
    let down = ann.try_open_stream(None).await.unwrap();
    assert_eq!(ann.try_call(json!([])).await.unwrap_err(), Code::Malformed);
    assert_eq!(ann.try_call(ping.clone()).await.unwrap().len(), 1);
    assert_eq!(ann.call(json!({"t": "logout", "id": 5})).await["t"], "ok");
    let disconnect = loop {
        if let Some(disconnect) = down.next(1 << 16).await.close {
            break disconnect;
        }
    };
    assert_eq!(disconnect.code, Code::LoggedOut.number());
    assert_eq!(ann.try_call(ping).await.unwrap_err(), Code::UnknownSession);
}

/// A message with more commands than may be in flight gets all its acks.
#[tokio::test(start_paused = true)]
async fn oversized_batch_is_answered_whole() {
    let mut ann = RequestStream::new(EngineConfig::default().max_in_flight(2)).await;
    ann.hello("ann").await;
    let pings: Vec<Value> = (0..50).map(|id| json!({"t": "ping", "id": id})).collect();
    assert_eq!(ann.try_call(Value::from(pings)).await.unwrap().len(), 50);
}

/// Takes one batch of one frame. Returns it with the stream position after it.
async fn sip(connection: &Connection) -> (Vec<Value>, String) {
    let batch = connection.take(1).await.unwrap();
    let frames = batch.frames.iter().map(|f| serde_json::from_slice(f).unwrap()).collect();
    (frames, connection.stream_position().to_string())
}

/// Statuses that were not delivered on one downlink come with the next.
#[tokio::test(start_paused = true)]
async fn undelivered_statuses_are_resent() {
    let mut ann = RequestStream::new(EngineConfig::default()).await;
    ann.hello("ann").await;
    let rooms: Vec<String> = (0..5).map(|n| format!("room{n}")).collect();
    for room in &rooms {
        ann.call(json!({"t": "create", "id": 2, "room": room})).await;
        ann.call(json!({"t": "subscribe", "id": 3, "room": room})).await;
    }
    let down = ann.try_open_stream(None).await.unwrap();
    let (first, stream_position) = sip(&down).await;
    assert_eq!(first.len(), 1);
    let (rest, stream_position) = ann.poll(Some(&stream_position)).await;
    let delivered: std::collections::BTreeSet<String> =
        brief(&[first, rest].concat()).into_iter().collect();
    assert_eq!(delivered, rooms.iter().map(|room| format!("{room} ok")).collect());
    assert_eq!(brief(&ann.poll(Some(&stream_position)).await.0), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn undelivered_gap_is_resent() {
    let store = Arc::new(MemoryStore::new().keep_events(3));
    let engine = Engine::builder().allow_anonymous().store(store).start().await.unwrap();
    let mut ann = RequestStream { engines: vec![engine.clone(), engine], turn: 0, token: None };
    ann.hello("ann").await;
    ann.call(json!({"t": "create", "id": 2, "room": "tea"})).await;
    ann.call(json!({"t": "subscribe", "id": 3, "room": "tea"})).await;
    let (_, stream_position) = ann.poll(None).await;
    for n in 0..9 {
        ann.say("tea", &n.to_string()).await;
    }
    let down = ann.try_open_stream(Some(&stream_position)).await.unwrap();
    // The response is lost before anything was taken; and once more after the checkpoint was
    // confirmed elsewhere.
    let stream_position = down.stream_position().to_string();
    for _ in 0..2 {
        let (frames, _) = ann.poll(Some(&stream_position)).await;
        assert_eq!(brief(&frames), ["tea gap", "tea:6", "tea:7", "tea:8"]);
    }
}

#[tokio::test(start_paused = true)]
async fn undelivered_denial_is_resent() {
    let (mut ann, mut bob) = at_tea("tea").await;
    bob.call(json!({"t": "subscribe", "id": 3, "room": "tea"})).await;
    let down = bob.try_open_stream(None).await.unwrap();
    assert_eq!(brief(&taken(&down).await.0), ["tea ok"]);
    ann.call(json!({"t": "member", "id": 8, "room": "tea", "user": "bob", "act": "ban"})).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let stream_position = down.stream_position().to_string();
    let (frames, stream_position) = bob.poll(Some(&stream_position)).await;
    assert_eq!(brief(&frames), ["tea denied"]);
    assert_eq!(brief(&bob.poll(Some(&stream_position)).await.0), [""; 0]);
}

/// State that arrives after the end of a downlink is delivered by the next.
#[tokio::test(start_paused = true)]
async fn late_state_reaches_next_stream() {
    let (mut ann, mut bob) = at_tea("tea").await;
    let set = |value: u64| json!({"t": "put_state", "id": 7, "room": "tea", "key": "kettle", "value": value});
    bob.call(set(1)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let down = ann.try_open_stream(None).await.unwrap();
    assert_eq!(brief(&taken(&down).await.0), ["tea ok", "tea snapshot of 1"]);
    down.close(Code::Closed);
    bob.call(set(2)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (last, stream_position) = taken(&down).await;
    assert_eq!(brief(&last), ["disconnect"]);
    assert_eq!(brief(&ann.poll(Some(&stream_position)).await.0), ["tea snapshot of 1"]);
}

/// A stream position of another session or of a later revision is ignored.
#[tokio::test(start_paused = true)]
async fn foreign_or_later_position_is_ignored() {
    let (mut ann, mut bob) = at_tea("tea").await;
    bob.call(json!({"t": "subscribe", "id": 3, "room": "tea"})).await;
    let (_, others) = bob.poll(None).await;
    let (_, mine) = ann.poll(None).await;
    assert_eq!(brief(&ann.poll(Some(&others)).await.0), ["tea ok"]);
    let mut later: StreamPosition = mine.parse().unwrap();
    later.rev += 1;
    assert_eq!(brief(&ann.poll(Some(&later.to_string())).await.0), ["tea ok"]);
    assert_eq!(brief(&ann.poll(Some(&mine)).await.0), [""; 0]);
}

/// A checkpoint read after the end of a downlink subscribes nothing.
#[tokio::test(start_paused = true)]
async fn ended_stream_ignores_checkpoint_change() {
    let (mut ann, mut bob) = at_tea("tea").await;
    let down = ann.try_open_stream(None).await.unwrap();
    down.close(Code::Closed);
    ann.call(json!({"t": "subscribe", "id": 5, "room": "tea"})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    bob.say("tea", "unheard").await;
    assert_eq!(brief(&taken(&down).await.0), ["tea ok", "disconnect"]);
}

/// The seqs of the events among these frames.
fn seqs(frames: &[Value]) -> Vec<u64> {
    frames.iter().filter(|frame| frame["t"] == "event").filter_map(|f| f["seq"].as_u64()).collect()
}

/// A downlink does not confirm its stream position in the checkpoint: only commands of the client
/// do. A client may have received a position with events that it had not read when its connection
/// ended.
#[tokio::test(start_paused = true)]
async fn stream_position_moves_no_checkpoint() {
    const ROOMS: usize = 40;
    let mut ann = RequestStream::new(EngineConfig::default()).await;
    ann.hello("ann").await;
    let names: Vec<String> = (0..ROOMS).map(|n| format!("room{n}")).collect();
    for name in &names {
        ann.call(json!({"t": "create", "id": 2, "room": name})).await;
        ann.call(json!({"t": "subscribe", "id": 3, "room": name})).await;
    }
    let (_, stream_position) = ann.poll(None).await;
    for name in &names {
        ann.say(name, "unread").await;
    }
    let (_, stream_position) = ann.poll(Some(&stream_position)).await;
    // This poll has a response, and the client did not read the one before.
    ann.poll(Some(&stream_position)).await;
    let epoch =
        ann.call(json!({"t": "history", "id": 4, "room": names[0], "after": 0, "limit": 1}));
    let epoch = epoch.await["epoch"].clone();
    let confirm = json!({"t": "checkpoint", "id": 5, "cursors": [[names[0], epoch, 1]]});
    let rev = ann.call(confirm).await["rev"].clone();
    let resumed = ann.call(json!({"t": "resume", "id": 6, "cursors": [], "rev": rev})).await;
    let rooms = resumed["rooms"].as_array().unwrap();
    let cursors: Vec<_> = rooms.iter().map(|room| room["cursor"].as_u64().unwrap()).collect();
    assert_eq!(cursors, [1; ROOMS]);
    let (frames, _) = ann.poll(None).await;
    assert_eq!(seqs(&frames), [2; ROOMS]);
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_per_user_are_bounded() {
    let config = EngineConfig::default().max_calls_per_user(2);
    let engine = Engine::builder()
        .allow_anonymous()
        .hooks(Arc::new(Slow))
        .config(config)
        .start()
        .await
        .unwrap();
    let mut ann = RequestStream { engines: vec![engine.clone(), engine], turn: 0, token: None };
    ann.hello("ann").await;
    let join = Bytes::from(json!({"t": "join", "id": 4, "room": "tea"}).to_string());
    let (engine, token) = (ann.engine(), ann.token.clone());
    let calls = (0..3).map(|_| engine.call(peer(), token.as_ref(), join.clone()));
    let answers = futures::future::join_all(calls).await;
    let refused = answers.into_iter().filter_map(Result::err).map(|e| e.code());
    assert_eq!(refused.collect::<Vec<_>>(), [Code::TooManyConnections]);
}

struct Slow;

#[async_trait::async_trait]
impl im_core::ports::Hooks for Slow {
    async fn before(
        &self,
        _: &im_core::ports::Identity,
        _: &im_core::ports::Action,
    ) -> im_core::ports::Verdict {
        tokio::time::sleep(Duration::from_secs(1)).await;
        im_core::ports::Verdict::Default
    }
}
