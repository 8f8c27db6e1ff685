//! Bytes in memory, as the engine counts them: acks, recent events, keyed state.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod support;

use bytes::Bytes;
use im_core::engine::{Engine, EngineConfig, Peer};
use im_core::ports::Credentials;
use im_core::wire::{Encoding, ResumeToken, Secret};
use serde_json::{Value, json};
use support::{Client, greeted};

const KIB: usize = 1024;

async fn started(config: EngineConfig) -> Engine {
    let limiter = im_core::ports::TokenBuckets::new(1_000_000, 1_000_000);
    let builder = Engine::builder().allow_anonymous().rate_limiter(std::sync::Arc::new(limiter));
    builder.config(config).start().await.unwrap()
}

/// The content of `im-bench attack history`: as many bytes of packed content as fit, six times as
/// many in JSON.
fn control_characters() -> String {
    "\u{1}".repeat(32 * KIB - 16)
}

async fn room_of_control_characters(engine: &Engine, messages: usize) {
    let mut ann = greeted(engine, "ann").await;
    let made = ann
        .ask(json!({"t": "create", "id": 2, "room": "tea", "kind": "channel", "open": true}))
        .await;
    assert_eq!(made["t"], "ok", "{made}");
    let publish = |text: &str| {
        let to = im_core::wire::Target::Room(im_core::RoomId::new("tea").unwrap());
        im_core::engine::Publish::text(to, im_core::UserId::new("ann").unwrap(), text)
    };
    for _ in 0..messages {
        engine.publish(publish(&control_characters())).await.unwrap();
    }
}

fn pages(count: usize) -> Value {
    let ask = |n: usize| json!({"t": "history", "id": n + 10, "room": "tea", "limit": 200});
    (0..count).map(ask).collect()
}

/// Lets tasks run until they all wait.
async fn settle() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn unread_pages_hold_bounded_ack_bytes() {
    let engine = started(EngineConfig::default()).await;
    room_of_control_characters(&engine, 10).await;
    let bob = greeted(&engine, "bob").await;
    let connection = bob.connection.clone();
    let asked = Bytes::from(pages(64).to_string());
    let submitting = tokio::spawn(async move { connection.submit(asked).await });
    settle().await;
    let held = engine.usage().ack_bytes;
    assert!((1..=512 * KIB).contains(&held), "{held} bytes of acks");
    assert!(!submitting.is_finished(), "the rest of the batch waits");
    // The rest follows as pages are written, each within its bound and not empty.
    let mut answered = 0;
    while answered < 64 {
        let batch = bob.connection.next(1).await;
        for frame in &batch.frames {
            assert!(frame.len() <= 256 * KIB, "a page of {} bytes", frame.len());
            let page: Value = serde_json::from_slice(frame).unwrap();
            assert!(!page["events"].as_array().unwrap().is_empty(), "an empty page");
            assert_eq!(page["more"], true);
            answered += 1;
        }
        bob.connection.release(batch.id);
        let held = engine.usage().ack_bytes;
        assert!(held <= 512 * KIB, "{held} bytes of acks");
    }
    submitting.await.unwrap();
    assert_eq!(engine.usage().ack_bytes, 0);
}

fn peer() -> Peer {
    Peer {
        transport: "test",
        encoding: Encoding::Json,
        address: None,
        credentials: Credentials::default(),
    }
}

async fn session(engine: &Engine, user: &str) -> ResumeToken {
    let hello = json!({"t": "hello", "id": 1, "v": 1, "user": user}).to_string();
    let answers = engine.call(peer(), None, hello.into()).await.unwrap().all().await;
    let welcome: Value = serde_json::from_slice(&answers[0]).unwrap();
    let text = |name: &str| welcome[name].as_str().unwrap().to_owned();
    let session = im_core::SessionId::new(text("session")).unwrap();
    ResumeToken { session, secret: Secret::new(text("secret")) }
}

/// The acks of a call count until their last chunk is dropped.
#[tokio::test(start_paused = true)]
async fn ack_bytes_count_until_dropped() {
    let engine = started(EngineConfig::default()).await;
    room_of_control_characters(&engine, 10).await;
    let token = session(&engine, "bob").await;
    assert_eq!(engine.usage().ack_bytes, 0);
    let asked = Bytes::from(pages(64).to_string());
    let mut answers = engine.call(peer(), Some(&token), asked).await.unwrap();
    assert!(!answers.is_complete());
    assert_eq!(answers.commands(), 64);
    settle().await;
    let held = engine.usage().ack_bytes;
    assert!((1..=512 * KIB).contains(&held), "{held} bytes of acks");
    let mut answered = 0;
    while let Some(part) = answers.next().await {
        answered += part.frames.len();
        settle().await;
        let held = engine.usage().ack_bytes;
        assert!(held <= 768 * KIB, "{held} bytes of acks");
    }
    assert_eq!(answered, 64);
    assert_eq!(engine.usage().ack_bytes, 0);
    drop(answers);
    // A call abandoned in the middle leaves no bytes behind.
    let asked = Bytes::from(pages(64).to_string());
    let answers = engine.call(peer(), Some(&token), asked).await.unwrap();
    assert!(engine.usage().ack_bytes > 0);
    drop(answers);
    settle().await;
    assert_eq!((engine.usage().ack_bytes, engine.connections()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn all_acks_together_are_bounded() {
    let config = EngineConfig::default().acks_bytes(2 * KIB * KIB);
    let engine = started(config).await;
    room_of_control_characters(&engine, 10).await;
    let mut clients = Vec::new();
    for n in 0..40 {
        let client = greeted(&engine, &format!("user{n}")).await;
        let connection = client.connection.clone();
        let asked = Bytes::from(pages(64).to_string());
        tokio::spawn(async move { connection.submit(asked).await });
        clients.push(client);
    }
    settle().await;
    let held = engine.usage().ack_bytes;
    assert!((KIB * KIB..=2 * KIB * KIB).contains(&held), "{held} bytes of acks");
    // Sends of another user continue meanwhile.
    let mut ann = greeted(&engine, "ann").await;
    for n in 0..10 {
        let mid = format!("0123456789abcdef-{n}");
        let sent = ann
            .ask(json!({"t": "send", "id": n + 3, "room": "tea", "mid": mid, "content": "milk?"}))
            .await;
        assert_eq!(sent["t"], "ok", "{sent}");
    }
    // Connections that receive nothing are disconnected while others need the budget.
    let began = tokio::time::Instant::now();
    let mut id = 90;
    let ask = |id: u64| json!({"t": "history", "id": id, "room": "tea"});
    while ann.ask(ask(id)).await["t"] != "ok" {
        id += 1;
        assert!(began.elapsed().as_secs() < 120, "ann never gets a page");
    }
    let ended = clients.iter().filter(|client| client.connection.is_closed()).count();
    assert!(ended > 0, "nobody was ended");
}

#[tokio::test(start_paused = true)]
async fn windows_count_every_form() {
    let config = EngineConfig::default().windows_bytes(1024 * KIB).window_bytes(600 * KIB);
    let engine = started(config).await;
    room_of_control_characters(&engine, 0).await;
    let mut bob = greeted(&engine, "bob").await;
    bob.ask(json!({"t": "subscribe", "id": 2, "room": "tea"})).await;
    let to = || im_core::wire::Target::Room(im_core::RoomId::new("tea").unwrap());
    let ann = im_core::UserId::new("ann").unwrap();
    for n in 0..10 {
        let text = im_core::engine::Publish::text(to(), ann.clone(), &control_characters());
        engine.publish(text).await.unwrap();
        let event = bob.until(|frame| frame["t"] == "event").await;
        assert_eq!(event["seq"], n + 2);
        // One event is 32 KiB packed, as much again on the wire in MessagePack, and six times that
        // in JSON.
        let held = engine.usage().window_bytes;
        assert!((256 * KIB..=600 * KIB).contains(&held), "{held} bytes of recent events");
    }
}

#[tokio::test(start_paused = true)]
async fn all_windows_together_are_bounded() {
    let config = EngineConfig::default().windows_bytes(1100 * KIB);
    let engine = started(config).await;
    let mut bob = greeted(&engine, "bob").await;
    let ann = im_core::UserId::new("ann").unwrap();
    let mut cursors = Vec::new();
    for n in 0..40 {
        let room = format!("tea-{n}");
        let made = json!({"t": "create", "id": 2, "room": room, "kind": "channel"});
        assert_eq!(bob.ask(made).await["t"], "ok");
        bob.ask(json!({"t": "subscribe", "id": 3, "room": room})).await;
        cursors.push(room);
    }
    for room in &cursors {
        let to = im_core::wire::Target::Room(im_core::RoomId::new(room).unwrap());
        let text = im_core::engine::Publish::text(to, ann.clone(), &control_characters());
        engine.publish(text).await.unwrap();
        let event = bob.until(|frame| frame["t"] == "event").await;
        assert_eq!((&event["room"], &event["seq"]), (&json!(room), &json!(2)));
        let held = engine.usage().window_bytes;
        assert!(held <= 1100 * KIB, "{held} bytes of recent events");
    }
    // Windows of idle rooms are emptied for others.
    assert!(engine.usage().window_bytes > 512 * KIB);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(engine.usage().window_bytes, 0);
    // A subscriber that resumes catches up from the store.
    let mut carol = greeted(&engine, "bob").await;
    let status = carol.ask(json!({"t": "subscribe", "id": 2, "room": "tea-7"})).await;
    let epoch = &status["rooms"][0]["epoch"];
    let since = json!({"t": "subscribe", "id": 3, "room": "tea-7", "epoch": epoch, "since": 1});
    assert_eq!(carol.ask(since).await["t"], "ok");
    assert_eq!(carol.until(|frame| frame["t"] == "event").await["seq"], 2);
}

fn set(room: &str, key: usize, value: &str) -> Value {
    json!({"t": "put_state", "id": 4, "room": room, "key": format!("k{key}"), "value": value})
}

/// Rooms full of state, all subscribed by ann.
async fn rooms_full_of_state(engine: &Engine, count: usize) -> support::Client {
    let mut ann = greeted(engine, "ann").await;
    for n in 0..count {
        let room = format!("tea-{n}");
        let made = ann.ask(json!({"t": "create", "id": 2, "room": room, "open": true})).await;
        assert_eq!(made["t"], "ok", "{made}");
        ann.ask(json!({"t": "subscribe", "id": 3, "room": room})).await;
        for key in 0..2 {
            let done = ann.ask(set(&room, key, &"x".repeat(30 * KIB))).await;
            assert_eq!(done["t"], "ok", "{done}");
        }
        let held = engine.usage().state_bytes;
        assert!(held <= 600 * KIB, "{held} bytes of state");
    }
    ann
}

fn small_states() -> EngineConfig {
    EngineConfig::default().states_bytes(512 * KIB)
}

#[tokio::test(start_paused = true)]
async fn state_of_all_rooms_is_bounded() {
    let engine = started(small_states()).await;
    let _ann = rooms_full_of_state(&engine, 100).await;
    assert!(engine.usage().state_bytes > 256 * KIB, "more was evicted than need be");
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert!(engine.usage().state_bytes <= 600 * KIB);
}

#[tokio::test(start_paused = true)]
async fn evicted_state_is_read_on_subscribe() {
    let engine = started(small_states()).await;
    let _ann = rooms_full_of_state(&engine, 100).await;
    let mut bob = greeted(&engine, "bob").await;
    for n in [0, 50, 99] {
        let room = format!("tea-{n}");
        bob.ask(json!({"t": "join", "id": 2, "room": room})).await;
        bob.ask(json!({"t": "subscribe", "id": 3, "room": room})).await;
        let mut keys = Vec::new();
        while keys.len() < 2 {
            let part = bob.until(|frame| frame["t"] == "snapshot").await;
            assert_eq!(part["room"], json!(room));
            keys.extend(part["entries"].as_array().unwrap().iter().map(|e| e["key"].clone()));
        }
        assert_eq!(keys, ["k0", "k1"]);
        assert!(engine.usage().state_bytes <= 600 * KIB);
    }
}

#[tokio::test(start_paused = true)]
async fn evicted_state_still_wins_over_older() {
    let engine = started(small_states()).await;
    let mut ann = rooms_full_of_state(&engine, 100).await;
    let mut older = set("tea-0", 0, "old");
    older["stamp"] = json!("1-0-1");
    let refused = ann.ask(older).await;
    assert_eq!((&refused["t"], &refused["code"]), (&json!("err"), &json!(4527)), "{refused}");
    // A newer value is accepted, and subscribers receive only that one.
    let newer = set("tea-1", 0, "new");
    ann.send(newer).await;
    let push = ann.until(|frame| frame["room"] == "tea-1" && frame["t"] != "room").await;
    assert_eq!((&push["t"], &push["value"]), (&json!("state"), &json!("new")), "{push}");
    // An update beyond the room's bound is refused, as if all of it were in memory.
    let full = ann.ask(set("tea-2", 9, &"x".repeat(30 * KIB))).await;
    assert_eq!((&full["t"], &full["code"]), (&json!("err"), &json!(4508)), "{full}");
}

#[tokio::test(start_paused = true)]
async fn other_nodes_update_reaches_evicted_room() {
    let store = std::sync::Arc::new(im_core::memory::MemoryStore::new());
    let bus = std::sync::Arc::new(im_core::memory::MemoryBus::new(1024));
    let start = async || {
        let builder = Engine::builder().allow_anonymous().store(store.clone()).bus(bus.clone());
        builder.config(small_states()).start().await.unwrap()
    };
    let (one, other) = (start().await, start().await);
    let mut ann = rooms_full_of_state(&one, 40).await;
    // All of it is in the store, and was delivered.
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    let mut ann_there = greeted(&other, "ann").await;
    let done = ann_there.ask(set("tea-3", 1, "from there")).await;
    assert_eq!(done["t"], "ok", "{done}");
    let has_it = |frame: &Value| {
        let entries = frame["entries"].as_array();
        let in_snapshot = |e: &Value| e["value"] == "from there";
        frame["value"] == "from there" || entries.is_some_and(|all| all.iter().any(in_snapshot))
    };
    let push = ann.until(|frame| frame["room"] == "tea-3" && has_it(frame)).await;
    assert!(has_it(&push));
}

/// Requests a list, page by page. Returns it and the number of pages. No page exceeds the bound.
async fn listed(
    client: &mut Client,
    mut command: Value,
    key: &str,
    max: usize,
) -> (usize, Vec<String>) {
    let (mut pages, mut names) = (0, Vec::<String>::new());
    loop {
        let page = client.ask(command.clone()).await;
        assert!(page.to_string().len() <= max, "{} bytes", page.to_string().len());
        let list = if key == "user" { &page["members"] } else { &page["list"] };
        names.extend(list.as_array().unwrap().iter().map(|e| e[key].as_str().unwrap().to_owned()));
        pages += 1;
        if page["more"] == json!(false) {
            return (pages, names);
        }
        assert!(!list.as_array().unwrap().is_empty());
        command["after"] = json!(names.last());
    }
}

/// Names of maximum length, more than fit into a page.
#[tokio::test(start_paused = true)]
async fn name_lists_are_bounded_by_bytes() {
    let max = 4 * KIB;
    let engine = started(EngineConfig::default().max_page_bytes(max)).await;
    let mut ann = greeted(&engine, "ann").await;
    let mut names: Vec<String> = (0..100).map(|n| format!("{n:0>60}")).collect();
    for room in &names {
        ann.ask(json!({"t": "create", "id": 2, "room": room})).await;
    }
    let rooms = json!({"t": "rooms", "id": 3, "limit": 200});
    let (pages, rooms) = listed(&mut ann, rooms, "room", max).await;
    assert!(pages > 2, "{pages} pages");
    assert_eq!(rooms, names);
    let made = ann.ask(json!({"t": "create", "id": 4, "room": "tea", "members": names})).await;
    assert_eq!(made["t"], "ok", "{made}");
    let members = json!({"t": "members", "id": 5, "room": "tea", "limit": 200});
    let (pages, mut members) = listed(&mut ann, members, "user", max).await;
    assert!(pages > 2, "{pages} pages");
    names.push("ann".to_owned());
    members.sort();
    assert_eq!(members, names);
}
