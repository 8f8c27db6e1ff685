//! The cost of one user's commands for other users at the store.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use im_core::SessionId;
use im_core::engine::{Access, Engine, EngineConfig};
use im_core::memory::MemoryStore;
use im_core::ports::Unlimited;
use im_core::wire::{ResumeToken, Secret};
use im_testkit::faulty_store::{FaultyStore, Moment, Operation};
use serde_json::{Value, json};

use support::{Client, peer};

impl Client {
    /// Returns the number of answers so far.
    async fn answers(&mut self) -> usize {
        while let Some(batch) = self.connection.take(1 << 20).await {
            self.connection.release(batch.id);
            let read = |frame: &Bytes| serde_json::from_slice::<Value>(frame).unwrap();
            self.got.extend(batch.frames.iter().map(read));
        }
        self.got.len()
    }
}

async fn with_store(config: EngineConfig) -> (Engine, Arc<FaultyStore>) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let engine = Engine::builder().allow_anonymous().store(store.clone()).config(config);
    let engine = engine.rate_limiter(Arc::new(Unlimited));
    (engine.start().await.unwrap(), store)
}

/// Returns the number of calls of each operation.
fn calls(store: &FaultyStore) -> Vec<(Operation, u64)> {
    Operation::ALL.iter().map(|operation| (*operation, store.calls(*operation))).collect()
}

/// Neither the answer nor its cost reveals whether a closed room exists.
#[tokio::test(start_paused = true)]
async fn closed_room_costs_as_missing_room() {
    let (engine, store) = with_store(EngineConfig::default()).await;
    let mut ann = Client::greeted(&engine, "ann").await;
    ann.ask(json!({"t": "create", "id": 2, "room": "secret"})).await;
    ann.ask(
        json!({"t": "send", "id": 3, "room": "secret", "mid": "0123456789abcdef", "content": 1}),
    )
    .await;
    let mut eve = Client::greeted(&engine, "eve").await;
    let commands = [
        json!({"t": "history"}),
        json!({"t": "members"}),
        json!({"t": "subscribe"}),
        json!({"t": "subscribe", "epoch": "1.1", "since": 1}),
        json!({"t": "signal", "content": 1}),
        json!({"t": "put_state", "key": "k", "value": 1}),
        json!({"t": "remove_state", "key": "k"}),
        json!({"t": "join"}),
        json!({"t": "leave"}),
        json!({"t": "member", "user": "eve", "act": "add", "role": "owner"}),
        json!({"t": "send", "mid": "0123456789abcdef", "content": 1}),
    ];
    let mut tried = async |command: &Value, room: &str| {
        let before = calls(&store);
        let mut command = command.clone();
        (command["room"], command["id"]) = (json!(room), json!(4));
        let answer = eve.ask(command).await;
        let after = calls(&store).into_iter().zip(before);
        let calls: Vec<_> = after.map(|((of, after), (_, before))| (of, after - before)).collect();
        (answer["code"].clone(), answer["msg"].clone(), calls)
    };
    for command in commands {
        let (none, closed) = (tried(&command, "nowhere").await, tried(&command, "secret").await);
        assert_eq!(none.0, 4520, "{command}");
        assert_eq!(closed, none, "{command}");
        let read = closed.2.iter().find(|(of, _)| *of == Operation::Read);
        assert_eq!(read, Some(&(Operation::Read, 0)), "no page is read: {command}");
    }
}

/// `resume` answers a closed room and a missing room alike, room by room.
#[tokio::test(start_paused = true)]
async fn closed_room_resumes_like_none() {
    let (engine, store) = with_store(EngineConfig::default()).await;
    let mut ann = Client::greeted(&engine, "ann").await;
    let made = ann.ask(json!({"t": "create", "id": 2, "room": "secret"})).await;
    let mut eve = Client::greeted(&engine, "eve").await;
    for (command, epoch) in
        [("resume", "1.1"), ("resume", made["epoch"].as_str().unwrap()), ("checkpoint", "1.1")]
    {
        let mut tried = Vec::new();
        for room in ["nowhere", "secret"] {
            let before = calls(&store);
            let asked = json!({"t": command, "id": 4, "cursors": [[room, epoch, 1]]});
            let mut answer = eve.ask(asked).await;
            if command == "resume" {
                assert_eq!(answer["rooms"][0]["code"], 4520, "{answer}");
                answer["rooms"][0]["room"].take();
            }
            answer["rev"].take();
            let after = calls(&store).into_iter().zip(before);
            let calls = after.map(|((of, after), (_, before))| (of, after - before));
            tried.push((answer, calls.collect::<Vec<_>>()));
        }
        assert_eq!(tried[0].0["t"], "ok");
        assert_eq!(tried[0], tried[1], "{command}");
    }
}

/// Opens a session of this user that is subscribed to the room.
async fn subscribed(engine: &Engine, user: &str, room: &str) -> Access {
    let mut token = None;
    for command in [
        json!({"t": "hello", "id": 1, "v": 1, "user": user}),
        json!({"t": "subscribe", "id": 2, "room": room}),
    ] {
        let message = Bytes::from(command.to_string());
        let acks = engine.call(peer(), token.as_ref(), message).await.unwrap().all().await;
        let ack: Value = serde_json::from_slice(&acks[0]).unwrap();
        assert_eq!(ack["t"], "ok", "{ack}");
        token = token.or_else(|| {
            let text = |name: &str| ack[name].as_str().map(str::to_owned);
            let session = SessionId::new(text("session")?).unwrap();
            Some(ResumeToken { session, secret: Secret::new(text("secret")?) })
        });
    }
    Access::Token(token.unwrap())
}

/// Stream halves of one user look up their rooms in turn, as `resume` does.
#[tokio::test(start_paused = true)]
async fn streams_of_user_run_in_turn() {
    let (engine, store) = with_store(EngineConfig::default()).await;
    let mut owner = Client::greeted(&engine, "owner").await;
    owner
        .ask(json!({"t": "create", "id": 2, "room": "tea", "kind": "channel", "open": true}))
        .await;
    let mut sessions = Vec::new();
    for user in ["ann", "ann", "bob"] {
        sessions.push(subscribed(&engine, user, "tea").await);
    }
    let gate = store.hold(Operation::Room, Moment::Before);
    let meanwhile = async {
        gate.reached(2).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.arrived(), 2, "the second one waits for the first; bob's does not");
        gate.open();
    };
    let listen = |access| engine.open_stream(peer(), access, None);
    let (first, second, other, ()) =
        tokio::join!(listen(&sessions[0]), listen(&sessions[1]), listen(&sessions[2]), meanwhile);
    for downlink in [first, second, other] {
        assert!(downlink.unwrap().take(1 << 16).await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn resumes_of_user_run_in_turn() {
    let (engine, store) = with_store(EngineConfig::default()).await;
    let mut ann = Client::greeted(&engine, "ann").await;
    let mut ann_too = Client::greeted(&engine, "ann").await;
    let mut bob = Client::greeted(&engine, "bob").await;
    for command in ["resume", "checkpoint"] {
        let gate = store.hold(Operation::Room, Moment::Before);
        let resume = json!({"t": "resume", "id": 2, "cursors": [["r", "1.1", 1]]});
        let second = json!({"t": command, "id": 2, "cursors": [["r", "1.1", 1]]});
        let changes = store.calls(Operation::ChangeCheckpoint);
        let meanwhile = async {
            gate.reached(2).await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(gate.arrived(), 2, "the second one waits for the first; bob's does not");
            assert_eq!(store.calls(Operation::ChangeCheckpoint), changes);
            gate.release(3);
        };
        let (first, second, other, ()) = tokio::join!(
            ann.ask(resume.clone()),
            ann_too.ask(second),
            bob.ask(resume.clone()),
            meanwhile
        );
        for answer in [first, second, other] {
            assert_eq!(answer["t"], "ok", "{answer}");
        }
    }
}

/// With one shard and one batch at a time, a light user waits for one batch of a heavy one.
#[tokio::test(start_paused = true)]
async fn light_user_waits_for_one_batch() {
    let (engine, store) = with_store(EngineConfig::default().append_shards(1)).await;
    let mut ann = Client::greeted(&engine, "ann").await;
    ann.ask(json!({"t": "create", "id": 2, "room": "tea"})).await;
    let mut eve = Client::greeted(&engine, "eve").await;
    let gate = store.hold(Operation::Append, Moment::Before);
    let members: Vec<String> = (0..200).map(|n| format!("u{n}")).collect();
    let create =
        |id: u64| json!({"t": "create", "id": id, "room": format!("r{id}"), "members": members});
    eve.send(&create(2)).await;
    gate.reached(1).await;
    for id in 3..5 {
        eve.send(&create(id)).await;
    }
    // Eve's queue waits for the batch in progress; ann's send waits for it and for one more.
    ann.send(
        &json!({"t": "send", "id": 3, "room": "tea", "mid": "0123456789abcdef", "content": 1}),
    )
    .await;
    for id in 5..20 {
        eve.send(&create(id)).await;
    }
    gate.release(1);
    gate.reached(2).await;
    gate.release(1);
    assert_eq!(ann.next().await["t"], "ok");
    let made = eve.answers().await;
    assert!((1..=4).contains(&made), "{made} rooms were created before");
    let batches = store.calls(Operation::Append);
    gate.open();
    while eve.answers().await < 18 {
        tokio::task::yield_now().await;
    }
    let batches = store.calls(Operation::Append) - batches;
    assert!(batches >= 13, "a room of 201 is a batch of its own: {batches} batches");
}

/// All shards together run one heavy append at a time; queued heavy appends delay no message.
#[tokio::test(start_paused = true)]
async fn heavy_appends_run_in_turn() {
    let (engine, store) = with_store(EngineConfig::default()).await;
    let mut ann = Client::greeted(&engine, "ann").await;
    for id in 0..32 {
        ann.ask(json!({"t": "create", "id": id, "room": format!("light{id}")})).await;
    }
    let mut eve = Client::greeted(&engine, "eve").await;
    let gate = store.hold(Operation::Append, Moment::Before);
    let members: Vec<String> = (0..200).map(|n| format!("u{n}")).collect();
    for id in 2..34 {
        let room = format!("heavy{id}");
        eve.send(&json!({"t": "create", "id": id, "room": room, "members": members})).await;
    }
    gate.reached(1).await;
    // All other appends have reached the store by then.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gate.arrived(), 1, "the other shards wait");
    for id in 0..32 {
        let (room, mid) = (format!("light{id}"), format!("0123456789abcdef{id}"));
        let send = json!({"t": "send", "id": id, "room": room, "mid": mid, "content": 1});
        ann.send(&send).await;
    }
    gate.reached(2).await;
    assert_eq!(eve.answers().await, 0);
    gate.open();
    while eve.answers().await < 32 || ann.answers().await < 32 {
        tokio::task::yield_now().await;
    }
    assert!(eve.got.iter().chain(&ann.got).all(|ack| ack["t"] == "ok"));
}

/// A message is never a heavy append, however few rows a call of the store may have.
#[tokio::test]
async fn concurrent_sends_share_smallest_calls() {
    let (engine, store) = with_store(EngineConfig::default().append_rows(0)).await;
    let mut ann = Client::greeted(&engine, "ann").await;
    for id in 0..32 {
        ann.ask(json!({"t": "create", "id": id, "room": format!("r{id}")})).await;
    }
    let gate = store.hold(Operation::Append, Moment::Before);
    for id in 0..32 {
        let (room, mid) = (format!("r{id}"), format!("0123456789abcdef{id}"));
        let send = json!({"t": "send", "id": id, "room": room, "mid": mid, "content": 1});
        ann.send(&send).await;
    }
    gate.reached(2).await;
    gate.open();
    while ann.answers().await < 32 {
        tokio::task::yield_now().await;
    }
}
