//! Acks of commands that are repeated, out of order, or about other users' rooms and sessions.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod support;

use bytes::Bytes;
use im_core::engine::{Engine, Peer};
use im_core::ports::Credentials;
use im_core::state::Intent;
use im_core::wire::{Encoding, Role};
use im_core::{RoomId, UserId};
use serde_json::{Value, json};
use support::{Client, greeted};

async fn engine() -> Engine {
    Engine::builder().allow_anonymous().start().await.unwrap()
}

fn code(answer: &Value) -> u64 {
    answer["code"].as_u64().unwrap_or(0)
}

/// Sends frames in one message and returns the codes of the acks, 0 for ok, in the order of their
/// numbers from 1.
async fn codes(client: &mut Client, frames: Value) -> Vec<u64> {
    let count = frames.as_array().unwrap().len();
    client.send(frames).await;
    let mut codes = vec![0; count];
    for _ in 0..count {
        let answer = client.next().await;
        codes[answer["id"].as_u64().unwrap() as usize - 1] = code(&answer);
    }
    codes
}

#[tokio::test(start_paused = true)]
async fn commands_behind_lost_session_are_refused() {
    let engine = engine().await;
    let mut ann = Client::new(&engine);
    let lost =
        json!({"t": "hello", "id": 1, "v": 1, "user": "ann", "session": "lost", "secret": "s"});
    let frames = json!([
        lost,
        {"t": "resume", "id": 2, "cursors": []},
        {"t": "create", "id": 3, "room": "tea"},
        {"t": "hello", "id": 4, "v": 1, "user": "ann"},
        {"t": "create", "id": 5, "room": "tea"},
    ]);
    assert_eq!(codes(&mut ann, frames).await, [4400, 4400, 4400, 0, 0]);
    assert_eq!(ann.ask(json!({"t": "ping", "id": 6})).await["t"], "ok", "the connection stays");
    // Also in messages of their own.
    let mut bob = Client::new(&engine);
    assert_eq!(code(&bob.ask(json!({"t": "hello", "id": 1, "v": 1, "user": "bob", "session": "lost", "secret": "s"})).await), 4400);
    assert_eq!(code(&bob.ask(json!({"t": "rooms", "id": 2})).await), 4400);
    assert_eq!(code(&bob.ask(json!({"t": "hello", "id": 3, "v": 1, "user": "bob"})).await), 0);
}

#[tokio::test(start_paused = true)]
async fn commands_after_bad_hello_are_refused() {
    let engine = engine().await;
    let mut ann = Client::new(&engine);
    let frames = json!([
        {"t": "hello", "id": 1, "user": "ann"},
        {"t": "rooms", "id": 2},
        {"t": "hello", "id": 3, "v": 1, "user": "ann"},
        {"t": "rooms", "id": 4},
    ]);
    assert_eq!(codes(&mut ann, frames).await, [4503, 4509, 0, 0]);
    // Without any hello before it, a command still ends the connection.
    let mut eve = Client::new(&engine);
    eve.send(json!({"t": "rooms", "id": 1})).await;
    assert_eq!((code(&eve.next().await), code(&eve.next().await)), (4509, 4509));
}

#[tokio::test(start_paused = true)]
async fn bad_hello_by_call_is_answered() {
    let engine = engine().await;
    let peer = Peer {
        transport: "test",
        encoding: Encoding::Json,
        address: None,
        credentials: Credentials::default(),
    };
    let frames = json!([{"t": "hello", "id": 1, "user": "ann"}, {"t": "rooms", "id": 2}]);
    let answers =
        engine.call(peer, None, Bytes::from(frames.to_string())).await.unwrap().all().await;
    let read = |answer: &Bytes| code(&serde_json::from_slice(answer).unwrap());
    assert_eq!(answers.iter().map(read).collect::<Vec<_>>(), [4503, 4509]);
}

#[tokio::test(start_paused = true)]
async fn create_is_idempotent() {
    let engine = engine().await;
    let (mut ann, mut bob) = (greeted(&engine, "ann").await, greeted(&engine, "bob").await);
    let create = json!({"t": "create", "id": 2, "room": "tea", "open": true, "members": ["cat"]});
    let first = ann.ask(create.clone()).await;
    let again = ann.ask(create.clone()).await;
    assert_eq!((&first["duplicate"], &again["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!((&again["seq"], &again["epoch"]), (&first["seq"], &first["epoch"]));
    assert_eq!(code(&bob.ask(create).await), 4523, "it is open, so that it exists is no secret");
}

/// The refusal to create another user's room does not reveal that it exists.
#[tokio::test(start_paused = true)]
async fn create_of_foreign_room_reveals_nothing() {
    let engine = engine().await;
    let (mut ann, mut eve) = (greeted(&engine, "ann").await, greeted(&engine, "eve").await);
    ann.ask(json!({"t": "create", "id": 2, "room": "secret"})).await;
    let refused = eve.ask(json!({"t": "create", "id": 2, "room": "secret"})).await;
    assert_eq!(code(&refused), 4521, "{refused}");
    assert!(!refused["msg"].as_str().unwrap().contains("exist"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn second_logout_is_unknown_session() {
    let engine = engine().await;
    let mut ann = Client::new(&engine);
    let welcome = ann.ask(json!({"t": "hello", "id": 1, "v": 1, "user": "ann"})).await;
    assert_eq!(ann.ask(json!({"t": "logout", "id": 2})).await["t"], "ok");
    let mut again = Client::new(&engine);
    let hello = json!({"t": "hello", "id": 1, "v": 1, "user": "ann", "session": welcome["session"], "secret": welcome["secret"]});
    assert_eq!(codes(&mut again, json!([hello, {"t": "logout", "id": 2}])).await, [4400, 4400]);
}

/// Sends and signals to a user's inbox are refused with the same code and text.
#[tokio::test(start_paused = true)]
async fn sends_and_signals_refuse_alike() {
    let engine = engine().await;
    let mut ann = greeted(&engine, "ann").await;
    let mut bob = greeted(&engine, "bob").await;
    // Bob's inbox exists, cat's does not.
    bob.ask(json!({"t": "subscribe", "id": 2, "room": "user:bob"})).await;
    for (n, user) in ["ann", "bob", "cat"].into_iter().enumerate() {
        let mid = format!("0123456789abcdef-{n}");
        let send =
            ann.ask(json!({"t": "send", "id": 2, "to": user, "mid": mid, "content": 1})).await;
        let signal = ann.ask(json!({"t": "signal", "id": 3, "to": user, "content": 1})).await;
        assert_eq!((code(&send), code(&signal)), (4521, 4521), "{user}");
        assert_eq!(send["msg"], signal["msg"]);
    }
}

#[tokio::test(start_paused = true)]
async fn last_owner_must_name_another() {
    let engine = engine().await;
    let mut ann = greeted(&engine, "ann").await;
    ann.ask(json!({"t": "create", "id": 2, "room": "tea", "members": ["bob"]})).await;
    let steps_down = json!({"t": "member", "id": 3, "room": "tea", "user": "ann", "act": "add", "role": "member"});
    for leaves in [json!({"t": "leave", "id": 3, "room": "tea"}), steps_down] {
        let refused = ann.ask(leaves).await;
        assert_eq!(code(&refused), 4521, "{refused}");
        assert!(
            refused["msg"].as_str().unwrap().contains("make another member an owner"),
            "{refused}"
        );
    }
    ann.ask(json!({"t": "member", "id": 4, "room": "tea", "user": "bob", "act": "add", "role": "owner"})).await;
    assert_eq!(ann.ask(json!({"t": "leave", "id": 5, "room": "tea"})).await["t"], "ok");
}

/// The service decides without a check of owners: an erasure does not wait for another owner.
#[tokio::test(start_paused = true)]
async fn erased_only_owner_leaves_room_behind() {
    let engine = engine().await;
    let (mut ann, mut bob) = (greeted(&engine, "ann").await, greeted(&engine, "bob").await);
    ann.ask(json!({"t": "create", "id": 2, "room": "tea", "members": ["bob"]})).await;
    engine.erase_user(&UserId::new("ann").unwrap()).await.unwrap();
    let members = bob.ask(json!({"t": "members", "id": 3, "room": "tea"})).await;
    assert_eq!(members["members"], json!([{"user": "bob", "role": "member"}]));
    let mid = "0123456789abcdef";
    let said =
        bob.ask(json!({"t": "send", "id": 4, "room": "tea", "mid": mid, "content": 1})).await;
    assert_eq!(said["t"], "ok", "who is left talks on: {said}");
    let lets_in = json!({"t": "member", "id": 5, "room": "tea", "user": "cat", "act": "add", "role": "member"});
    assert_eq!(code(&bob.ask(lets_in.clone()).await), 4521, "nobody becomes an owner by it");
    let (room, owner) = (RoomId::new("tea").unwrap(), UserId::new("bob").unwrap());
    let intent = Intent::Add(owner, Role::Owner);
    engine.change_members(&room, &UserId::new("service").unwrap(), intent).await.unwrap();
    assert_eq!(bob.ask(lets_in).await["t"], "ok", "whom the service makes one");
}
