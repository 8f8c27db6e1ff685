//! Sender order when some sends are retryably refused before they reach the store.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod support;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use im_core::engine::{Engine, Peer};
use im_core::ports::{Action, Credentials, Hooks, Identity, RateLimiter, Verdict};
use im_core::wire::{Encoding, PageFrom, ResumeToken, Secret};
use im_core::{RoomId, Seq, SessionId, Timestamp, UserId};
use serde_json::{Value, json};

use support::{Client, greeted};

/// Allows or refuses command by command as scripted, and allows everything after that.
#[derive(Default)]
struct Scripted(Mutex<VecDeque<bool>>);

impl Scripted {
    fn script(&self, allowed: impl IntoIterator<Item = bool>) {
        self.0.lock().unwrap().extend(allowed);
    }
}

impl RateLimiter for Scripted {
    fn take(&self, _: &UserId, _: u32, _: Timestamp) -> Result<(), Duration> {
        let allowed = self.0.lock().unwrap().pop_front().unwrap_or(true);
        if allowed { Ok(()) } else { Err(Duration::from_millis(250)) }
    }
}

/// Never returns for content that mumbles, and refuses content that shouts.
struct Doorman;

#[async_trait]
impl Hooks for Doorman {
    async fn before(&self, _: &Identity, action: &Action) -> Verdict {
        let Action::Send { content, .. } = action else { return Verdict::Default };
        match content.as_text() {
            Some("mumble") => std::future::pending().await,
            Some("TEA!") => Verdict::Refuse("no shouting".to_owned()),
            _ => Verdict::Default,
        }
    }
}

/// Never returns, for a number of calls.
struct Deaf(Arc<AtomicUsize>);

#[async_trait]
impl Hooks for Deaf {
    async fn before(&self, _: &Identity, _: &Action) -> Verdict {
        let left =
            self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() { std::future::pending().await } else { Verdict::Default }
    }
}

fn send(id: u64, content: &str) -> Value {
    let mid = format!("0123456789abcdef-{id}");
    json!({"t": "send", "id": id, "room": "tea", "mid": mid, "content": content})
}

/// Sends all in one message. Returns the codes of the acks in the order of the sends, 0 for ok.
async fn pipelined(client: &mut Client, sends: &[Value]) -> Vec<u64> {
    client.send(Value::from(sends)).await;
    let mut codes = vec![None; sends.len()];
    while codes.contains(&None) {
        let answer = client.until(|f| f["t"] == "ok" || f["t"] == "err").await;
        let at = sends.iter().position(|send| send["id"] == answer["id"]).unwrap();
        codes[at] = Some(answer["code"].as_u64().unwrap_or(0));
    }
    codes.into_iter().flatten().collect()
}

async fn said(engine: &Engine) -> Vec<String> {
    let room = RoomId::new("tea").unwrap();
    let page = engine.history(&room, PageFrom::After(Seq::ZERO), 100).await.unwrap();
    let text = |content: im_core::wire::Value| content.as_text().map(str::to_owned);
    page.events.iter().filter_map(|event| text(event.content.value())).collect()
}

/// Ann in a room of her own.
async fn tea(limiter: Arc<Scripted>, hooks: bool) -> (Engine, Client) {
    let builder = Engine::builder().allow_anonymous().rate_limiter(limiter);
    let builder = if hooks { builder.hooks(Arc::new(Doorman)) } else { builder };
    let engine = builder.start().await.unwrap();
    let mut ann = greeted(&engine, "ann").await;
    ann.ask(json!({"t": "create", "id": 900, "room": "tea"})).await;
    (engine, ann)
}

/// A rate-limited send is awaited as one that the store refused.
#[tokio::test(start_paused = true)]
async fn rate_limited_send_is_awaited() {
    let limiter = Arc::new(Scripted::default());
    let (engine, mut ann) = tea(limiter.clone(), false).await;
    let sends = [send(1, "a"), send(2, "b"), send(3, "c"), send(4, "d")];
    limiter.script([true, false, true, false]);
    assert_eq!(pipelined(&mut ann, &sends).await, [0, 4200, 4206, 4200]);
    limiter.script([true, false, true]);
    assert_eq!(pipelined(&mut ann, &sends[1..]).await, [0, 4200, 4206]);
    assert_eq!(pipelined(&mut ann, &sends[2..]).await, [0, 0]);
    assert_eq!(said(&engine).await, ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn abandoned_send_delays_others_five_seconds() {
    let limiter = Arc::new(Scripted::default());
    let (engine, mut ann) = tea(limiter.clone(), false).await;
    limiter.script([false]);
    assert_eq!(pipelined(&mut ann, &[send(1, "a"), send(2, "b")]).await, [4200, 4206]);
    tokio::time::advance(Duration::from_millis(4999)).await;
    let refused = ann.ask(send(3, "c")).await;
    assert_eq!((&refused["code"], &refused["retry_ms"]), (&json!(4206), &json!(1000)));
    tokio::time::advance(Duration::from_millis(4999)).await;
    assert_eq!(ann.ask(send(4, "d")).await["code"], 4206);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(pipelined(&mut ann, &[send(4, "d"), send(5, "e")]).await, [0, 0]);
    assert_eq!(said(&engine).await, ["d", "e"]);
}

/// A client that abandons a send and retries the next continues at once.
#[tokio::test(start_paused = true)]
async fn resending_next_abandons_refused_send() {
    let limiter = Arc::new(Scripted::default());
    let (engine, mut ann) = tea(limiter.clone(), false).await;
    let sends = [send(1, "a"), send(2, "b"), send(3, "c")];
    limiter.script([false]);
    assert_eq!(pipelined(&mut ann, &sends).await, [4200, 4206, 4206]);
    assert_eq!(pipelined(&mut ann, &sends[1..]).await, [0, 0]);
    assert_eq!(said(&engine).await, ["b", "c"]);
}

/// A hook that fails for longer than sends are awaited changes no order.
#[tokio::test(start_paused = true)]
async fn slow_hook_keeps_sender_order() {
    let (away, deaf) = (4, Arc::new(AtomicUsize::new(0)));
    let hooks = Arc::new(Deaf(deaf.clone()));
    let engine = Engine::builder().allow_anonymous().hooks(hooks).start().await.unwrap();
    let mut ann = greeted(&engine, "ann").await;
    ann.ask(json!({"t": "create", "id": 900, "room": "tea"})).await;
    deaf.store(away, Ordering::Relaxed);
    let sends: Vec<Value> = (1..=6).map(|n| send(n, &format!("{n}"))).collect();
    assert_eq!(pipelined(&mut ann, &sends).await, [4201, 4201, 4201, 4201, 4206, 4206]);
    assert_eq!(pipelined(&mut ann, &sends).await, [0; 6]);
    assert_eq!(said(&engine).await, ["1", "2", "3", "4", "5", "6"]);
}

/// A send with a retryable refusal by a hook is awaited until its final answer.
#[tokio::test(start_paused = true)]
async fn hook_refusal_is_awaited_until_final() {
    let (engine, mut ann) = tea(Arc::default(), true).await;
    let sends = [send(1, "mumble"), send(2, "b"), send(3, "c")];
    assert_eq!(pipelined(&mut ann, &sends).await, [4201, 4206, 4206]);
    let sends = [send(1, "TEA!"), send(2, "b"), send(3, "c")];
    assert_eq!(pipelined(&mut ann, &sends).await, [4528, 0, 0]);
    assert_eq!(said(&engine).await, ["b", "c"]);
}

/// Calls with one command or a batch. Returns the code of each ack, 0 for ok, in the order of the
/// commands' numbers.
async fn call(engine: &Engine, session: &ResumeToken, message: &Value) -> Vec<u64> {
    let answers = engine.call(peer(), Some(session), Bytes::from(message.to_string())).await;
    let read = |answer: Bytes| serde_json::from_slice::<Value>(&answer).unwrap();
    let answers = answers.unwrap().all().await;
    let mut answers: Vec<Value> = answers.into_iter().map(read).collect();
    answers.sort_by_key(|answer| answer["id"].as_u64());
    answers.iter().map(|answer| answer["code"].as_u64().unwrap_or(0)).collect()
}

fn peer() -> Peer {
    let (transport, encoding) = ("test", Encoding::Json);
    Peer { transport, encoding, address: None, credentials: Credentials::default() }
}

#[tokio::test(start_paused = true)]
async fn sender_order_holds_across_requests() {
    let limiter = Arc::new(Scripted::default());
    let (engine, _ann) = tea(limiter.clone(), false).await;
    let hello = json!({"t": "hello", "id": 1, "v": 1, "user": "ann"}).to_string();
    let welcome =
        engine.call(peer(), None, Bytes::from(hello)).await.unwrap().all().await.remove(0);
    let welcome: Value = serde_json::from_slice(&welcome).unwrap();
    let text = |name: &str| welcome[name].as_str().unwrap();
    let session = SessionId::new(text("session")).unwrap();
    let session = ResumeToken { session, secret: Secret::new(text("secret")) };
    limiter.script([false]);
    assert_eq!(call(&engine, &session, &send(1, "a")).await, [4200]);
    assert_eq!(call(&engine, &session, &json!([send(2, "b"), send(3, "c")])).await, [4206, 4206]);
    let all = json!([send(1, "a"), send(2, "b"), send(3, "c")]);
    assert_eq!(call(&engine, &session, &all).await, [0, 0, 0]);
    assert_eq!(said(&engine).await, ["a", "b", "c"]);
}
