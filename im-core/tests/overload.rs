//! An overloaded engine, or one with slow embedder code: which requests are refused with which
//! code, and that all others continue.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use im_core::engine::{Connection, Engine, EngineConfig, Peer};
use im_core::ports::{Action, Authenticator, Credentials, Hooks, Identity, Verdict};
use im_core::wire::Encoding;
use im_core::{Result, UserId};
use serde_json::{Value, json};
use tokio::time::Instant;

struct Client {
    connection: Connection,
    got: VecDeque<Value>,
    /// The code of the disconnect.
    closed: Option<u16>,
}

fn peer(address: Option<IpAddr>) -> Peer {
    let (transport, encoding) = ("test", Encoding::Json);
    Peer { transport, encoding, address, credentials: Credentials::default() }
}

impl Client {
    fn new(engine: &Engine) -> Self {
        let connection = engine.accept(peer(None)).unwrap();
        Self { connection, got: VecDeque::new(), closed: None }
    }

    async fn greeted(engine: &Engine, user: &str) -> Self {
        let mut client = Self::new(engine);
        assert_eq!(client.ask(hello(user)).await["t"], "ok");
        client
    }

    async fn next(&mut self) -> Value {
        while self.got.is_empty() {
            let batch = self.connection.next(1 << 16).await;
            self.connection.release(batch.id);
            self.closed = batch.close.map(|disconnect| disconnect.code);
            self.got
                .extend(batch.frames.iter().map(|f| serde_json::from_slice::<Value>(f).unwrap()));
        }
        self.got.pop_front().unwrap()
    }

    async fn ask(&mut self, frame: Value) -> Value {
        self.connection.submit(Bytes::from(frame.to_string())).await;
        loop {
            let answer = self.next().await;
            if answer["id"] == frame["id"] {
                return answer;
            }
        }
    }
}

fn hello(user: &str) -> Value {
    json!({"t": "hello", "id": 1, "v": 1, "user": user})
}

fn send(id: u64, content: &str) -> Value {
    let mid = format!("0123456789abcdef-{id}");
    json!({"t": "send", "id": id, "room": "tea", "mid": mid, "content": content})
}

/// Never returns for Molly.
struct Slow;

#[async_trait]
impl Authenticator for Slow {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity> {
        if credentials.token.is_some() {
            return std::future::pending().await;
        }
        Ok(Identity::of(credentials.claimed_user.clone().unwrap()))
    }
}

#[async_trait]
impl Hooks for Slow {
    async fn before(&self, actor: &Identity, _: &Action) -> Verdict {
        if actor.user == UserId::new("molly").unwrap() {
            return std::future::pending().await;
        }
        Verdict::Default
    }
}

/// A hook that never returns refuses after its timeout, and other connections go on.
#[tokio::test(start_paused = true)]
async fn hanging_hook_refuses_after_timeout() {
    let engine = Engine::builder().allow_anonymous().hooks(Arc::new(Slow)).start().await.unwrap();
    let mut ann = Client::greeted(&engine, "ann").await;
    ann.ask(json!({"t": "create", "id": 2, "room": "tea", "open": true})).await;
    let mut molly = Client::greeted(&engine, "molly").await;
    let commands = [
        send(3, "mumble"),
        json!({"t": "join", "id": 4, "room": "tea"}),
        json!({"t": "subscribe", "id": 5, "room": "tea"}),
        json!({"t": "history", "id": 6, "room": "tea"}),
        json!({"t": "put_state", "id": 7, "room": "tea", "key": "k", "value": 1}),
        json!({"t": "create", "id": 8, "room": "tea-2"}),
    ];
    for command in commands {
        let began = Instant::now();
        let mut meanwhile = async || {
            // Paused time does not advance while any task has work.
            let sent = ann.ask(send(command["id"].as_u64().unwrap() + 100, "milk?")).await;
            assert_eq!((&sent["t"], began.elapsed()), (&json!("ok"), Duration::ZERO), "{sent}");
        };
        let (refused, ()) = tokio::join!(molly.ask(command.clone()), meanwhile());
        assert_eq!((&refused["t"], &refused["code"]), (&json!("err"), &json!(4201)), "{refused}");
        assert_eq!(began.elapsed().as_secs(), 2, "{command}");
    }
    assert_eq!(molly.ask(json!({"t": "ping", "id": 9})).await["t"], "ok", "it lives on");
}

#[tokio::test(start_paused = true)]
async fn hanging_authenticator_refuses_after_timeout() {
    // Timeouts of silent connections are checked so rarely that they do not interfere.
    let config = EngineConfig::default().tick(Duration::from_secs(3600));
    let engine =
        Engine::builder().authenticator(Arc::new(Slow)).config(config).start().await.unwrap();
    let mut ann = Client::greeted(&engine, "ann").await;
    let began = Instant::now();
    let mut molly = Client::new(&engine);
    let refused = molly
        .ask(json!({"t": "hello", "id": 1, "v": 1, "user": "molly", "token": "of a slow service"}))
        .await;
    assert_eq!((&refused["t"], &refused["code"]), (&json!("err"), &json!(4201)), "{refused}");
    assert_eq!(began.elapsed().as_secs(), 5);
    let bye = molly.next().await;
    assert_eq!(
        (&bye["t"], &bye["code"], molly.closed),
        (&json!("disconnect"), &json!(4201), Some(4201))
    );

    let refused = ann.ask(json!({"t": "refresh", "id": 2, "token": "of a slow service"})).await;
    assert_eq!((&refused["t"], &refused["code"]), (&json!("err"), &json!(4201)), "{refused}");
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(
        ann.ask(json!({"t": "ping", "id": 3})).await["t"],
        "ok",
        "the old ones are good still"
    );
}

#[tokio::test(start_paused = true)]
async fn pending_state_is_bounded() {
    let config = EngineConfig::default().max_state_pending(2);
    let engine = Engine::builder().allow_anonymous().config(config).start().await.unwrap();
    let mut ann = Client::greeted(&engine, "ann").await;
    ann.ask(json!({"t": "create", "id": 2, "room": "tea"})).await;
    let set = |id: u64, key: &str| json!({"t": "put_state", "id": id, "room": "tea", "key": key, "value": id});
    assert_eq!(ann.ask(set(3, "a")).await["t"], "ok");
    assert_eq!(ann.ask(set(4, "b")).await["t"], "ok");
    let refused = ann.ask(set(5, "c")).await;
    assert_eq!((&refused["t"], &refused["code"]), (&json!("err"), &json!(4201)), "{refused}");
    // Once they are written there is capacity again.
    let began = Instant::now();
    while ann.ask(set(6, "c")).await["t"] != "ok" {
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(began.elapsed() < Duration::from_secs(10), "they are never written");
    }
}

#[tokio::test(start_paused = true)]
async fn pending_handshakes_per_address_are_bounded() {
    let config = EngineConfig::default().max_handshakes_per_address(2);
    let engine = Engine::builder().allow_anonymous().config(config).start().await.unwrap();
    let one: IpAddr = [192, 0, 2, 1].into();
    let accept = |address| engine.accept(peer(Some(address)));
    let (first, second) = (accept(one).unwrap(), accept(one).unwrap());
    let refused = accept(one).unwrap_err();
    assert_eq!((refused.code().number(), refused.message()), (4204, "too many connections"));
    let elsewhere = accept([192, 0, 2, 2].into()).unwrap();
    // A handshake or a close makes capacity for one more.
    first.submit(Bytes::from(hello("ann").to_string())).await;
    let third = accept(one).unwrap();
    assert_eq!(accept(one).unwrap_err().code().number(), 4204);
    drop(second);
    let fourth = accept(one).unwrap();
    assert_eq!(accept(one).unwrap_err().code().number(), 4204);
    assert_eq!(engine.connections(), 4);
    drop((first, elsewhere, third, fourth));
}
