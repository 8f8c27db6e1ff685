//! The engine through its public face, without any network.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::collections::VecDeque;

use bytes::Bytes;
use im_core::engine::{Connection, Engine, Peer, Publish};
use im_core::ports::Credentials;
use im_core::wire::{Encoding, Target};
use im_core::{RoomId, UserId};
use serde_json::{Value, json};

struct Client {
    connection: Connection,
    got: VecDeque<Value>,
}

impl Client {
    fn new(engine: &Engine) -> Self {
        let peer = Peer {
            transport: "test",
            encoding: Encoding::Json,
            address: None,
            credentials: Credentials::default(),
        };
        Self { connection: engine.accept(peer).unwrap(), got: VecDeque::new() }
    }

    async fn send(&self, frame: Value) {
        self.connection.submit(Bytes::from(frame.to_string())).await;
    }

    async fn next(&mut self) -> Value {
        while self.got.is_empty() {
            let batch = self.connection.next(1 << 16).await;
            self.connection.release(batch.id);
            self.got
                .extend(batch.frames.iter().map(|f| serde_json::from_slice::<Value>(f).unwrap()));
        }
        self.got.pop_front().unwrap()
    }

    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.next().await;
            if wanted(&frame) {
                return frame;
            }
        }
    }

    async fn ask(&mut self, frame: Value) -> Value {
        let id = frame["id"].clone();
        self.send(frame).await;
        self.until(|f| f["id"] == id).await
    }
}

#[tokio::test(start_paused = true)]
async fn two_people_talk_in_a_group_and_one_comes_back() {
    let engine = Engine::builder().allow_anonymous().start().await.unwrap();
    let (mut ann, mut bob) = (Client::new(&engine), Client::new(&engine));
    let hello = ann.ask(json!({"t": "hello", "id": 1, "v": 1, "user": "ann"})).await;
    assert_eq!(hello["t"], "ok", "{hello}");
    bob.ask(json!({"t": "hello", "id": 1, "v": 1, "user": "bob"})).await;
    let made = ann.ask(json!({"t": "create", "id": 2, "room": "tea", "open": true})).await;
    assert_eq!(made["seq"], 1, "{made}");
    bob.ask(json!({"t": "join", "id": 2, "room": "tea"})).await;
    for client in [&mut ann, &mut bob] {
        let status = client.ask(json!({"t": "sub", "id": 3, "room": "tea"})).await;
        assert_eq!(status["rooms"][0]["status"], "ok", "{status}");
    }
    let mid = "0123456789abcdef";
    let send =
        json!({"t": "send", "id": 4, "room": "tea", "mid": mid, "content": {"text": "milk?"}});
    let sent = ann.ask(send.clone()).await;
    assert_eq!(sent["seq"], 3, "{sent}");
    assert_eq!(ann.ask(send).await["repeated"], true);
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
