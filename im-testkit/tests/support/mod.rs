//! A client that speaks JSON to an engine without a network.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::collections::VecDeque;

use bytes::Bytes;
use im_core::engine::{Connection, Engine, Peer};
use im_core::ports::Credentials;
use im_core::wire::Encoding;
use serde_json::{Value, json};

pub(crate) fn peer() -> Peer {
    Peer {
        transport: "test",
        encoding: Encoding::Json,
        address: None,
        credentials: Credentials::default(),
    }
}

pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) got: VecDeque<Value>,
}

impl Client {
    pub(crate) async fn greeted(engine: &Engine, user: &str) -> Self {
        let connection = engine.accept(peer()).unwrap();
        let mut client = Self { connection, got: VecDeque::new() };
        let welcome = client.ask(json!({"t": "hello", "id": 1, "v": 1, "user": user})).await;
        assert_eq!(welcome["t"], "ok", "{welcome}");
        client
    }

    pub(crate) async fn send(&self, frame: &Value) {
        self.connection.submit(Bytes::from(frame.to_string())).await;
    }

    pub(crate) async fn next(&mut self) -> Value {
        while self.got.is_empty() {
            let batch = self.connection.next(1 << 16).await;
            self.connection.release(batch.id);
            let read = |frame: &Bytes| serde_json::from_slice::<Value>(frame).unwrap();
            self.got.extend(batch.frames.iter().map(read));
        }
        self.got.pop_front().unwrap()
    }

    pub(crate) async fn ask(&mut self, frame: Value) -> Value {
        self.send(&frame).await;
        loop {
            let answer = self.next().await;
            if answer["id"] == frame["id"] {
                return answer;
            }
        }
    }
}
