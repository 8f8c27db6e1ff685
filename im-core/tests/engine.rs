//! The engine through its public API, without any network.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod support;

use im_core::engine::{Engine, Publish};
use im_core::wire::Target;
use im_core::{RoomId, UserId};
use serde_json::json;

use support::{Client, greeted};

/// Two users talk in a group, and one of them resumes after a cut.
#[tokio::test(start_paused = true)]
async fn returning_member_receives_missed_messages() {
    let engine = Engine::builder().allow_anonymous().start().await.unwrap();
    let (mut ann, mut bob) = (Client::new(&engine), Client::new(&engine));
    let hello = ann.ask(json!({"t": "hello", "id": 1, "v": 1, "user": "ann"})).await;
    assert_eq!(hello["t"], "ok", "{hello}");
    bob.ask(json!({"t": "hello", "id": 1, "v": 1, "user": "bob"})).await;
    let made = ann.ask(json!({"t": "create", "id": 2, "room": "tea", "open": true})).await;
    assert_eq!(made["seq"], 1, "{made}");
    bob.ask(json!({"t": "join", "id": 2, "room": "tea"})).await;
    for client in [&mut ann, &mut bob] {
        let status = client.ask(json!({"t": "subscribe", "id": 3, "room": "tea"})).await;
        assert_eq!(status["rooms"][0]["status"], "ok", "{status}");
    }
    let mid = "0123456789abcdef";
    let send =
        json!({"t": "send", "id": 4, "room": "tea", "mid": mid, "content": {"text": "milk?"}});
    let sent = ann.ask(send.clone()).await;
    assert_eq!(sent["seq"], 3, "{sent}");
    assert_eq!(ann.ask(send).await["duplicate"], true);
    let event = bob.until(|f| f["t"] == "event").await;
    assert_eq!(event["content"]["text"], "milk?");

    let secret = hello["secret"].clone();
    drop(ann);
    let room = Target::Room(RoomId::new("tea").unwrap());
    engine.publish(Publish::text(room, UserId::new("pot").unwrap(), "hot")).await.unwrap();
    let mut ann = Client::new(&engine);
    let back = json!({"t": "hello", "id": 1, "v": 1, "user": "ann", "session": hello["session"], "secret": secret});
    let back = ann.ask(back).await;
    assert_eq!(back["resumed"], true, "{back}");
    let resume =
        json!({"t": "resume", "id": 2, "cursors": [["tea", sent["epoch"], 2]], "rev": back["rev"]});
    assert_eq!(ann.ask(resume).await["rooms"][0]["status"], "ok");
    assert_eq!(ann.until(|f| f["t"] == "event").await["seq"], 3);
    assert_eq!(ann.until(|f| f["t"] == "event").await["content"]["text"], "hot");
}

/// A stranger gets the same code for a closed room as for an absent one.
#[tokio::test(start_paused = true)]
async fn closed_room_existence_stays_secret() {
    let engine = Engine::builder().allow_anonymous().start().await.unwrap();
    let (mut ann, mut eve) = (greeted(&engine, "ann").await, greeted(&engine, "eve").await);
    ann.ask(json!({"t": "create", "id": 2, "room": "closed"})).await;
    let mid = "0123456789abcdef";
    let said = json!({"t": "send", "id": 3, "peer": "bob", "mid": mid, "content": 1});
    let direct = ann.ask(said).await["room"].clone();
    let here = [json!("closed"), direct];
    for (at, room) in here.iter().enumerate() {
        for (step, t) in ["leave", "join", "subscribe", "members", "history"].iter().enumerate() {
            let id = 100 + at * 10 + step;
            let there = eve.ask(json!({"t": t, "id": id, "room": room})).await;
            let absent = eve.ask(json!({"t": t, "id": id, "room": "no-such-room"})).await;
            assert_eq!(there["code"], 4520, "{t} {room}: {there}");
            assert_eq!(there["code"], absent["code"], "{t} {room}: {there} {absent}");
        }
    }
}
