//! A client that speaks JSON to an engine, without any network.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::collections::VecDeque;

use bytes::Bytes;
use im_core::engine::{Connection, Engine, Peer};
use im_core::ports::Credentials;
use im_core::wire::Encoding;
use serde_json::{Value, json};

pub(crate) struct Client {
    pub(crate) connection: Connection,
    got: VecDeque<Value>,
}

impl Client {
    pub(crate) fn new(engine: &Engine) -> Self {
        let peer = Peer {
            transport: "test",
            encoding: Encoding::Json,
            address: None,
            credentials: Credentials::default(),
        };
        Self { connection: engine.accept(peer).unwrap(), got: VecDeque::new() }
    }

    pub(crate) async fn send(&self, frame: Value) {
        self.connection.submit(Bytes::from(frame.to_string())).await;
    }

    pub(crate) async fn next(&mut self) -> Value {
        while self.got.is_empty() {
            let batch = self.connection.next(1 << 16).await;
            self.connection.release(batch.id);
            self.got
                .extend(batch.frames.iter().map(|f| serde_json::from_slice::<Value>(f).unwrap()));
        }
        self.got.pop_front().unwrap()
    }

    pub(crate) async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.next().await;
            if wanted(&frame) {
                return frame;
            }
        }
    }

    pub(crate) async fn ask(&mut self, frame: Value) -> Value {
        let id = frame["id"].clone();
        self.send(frame).await;
        self.until(|f| f["id"] == id).await
    }
}

pub(crate) async fn greeted(engine: &Engine, user: &str) -> Client {
    let mut client = Client::new(engine);
    let welcome = client.ask(json!({"t": "hello", "id": 1, "v": 1, "user": user})).await;
    assert_eq!(welcome["t"], "ok", "{welcome}");
    client
}
