//! Costs of commands, slowed clients, and disconnected clients.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use im_core::engine::{Engine, EngineConfig};
use im_core::ports::{ManualClock, RateLimiter, TokenBuckets};
use im_core::state::RoomSeed;
use im_core::wire::{PageFrom, Role, RoomKind};
use im_core::{RoomId, Seq, Timestamp, UserId};
use serde_json::{Value, json};
use support::{Client, greeted};

/// Records all costs, and refuses the commands that it is configured to.
#[derive(Default)]
struct Till {
    costs: Mutex<Vec<u32>>,
    refund: AtomicU64,
    refuses_next: AtomicBool,
}

impl Till {
    fn taken(&self) -> Vec<u32> {
        std::mem::take(&mut self.costs.lock().unwrap())
    }
}

impl RateLimiter for Till {
    fn take(&self, _: &UserId, cost: u32, _: Timestamp) -> Result<(), Duration> {
        if self.refuses_next.swap(false, Ordering::Relaxed) {
            return Err(Duration::from_millis(40));
        }
        self.costs.lock().unwrap().push(cost);
        Ok(())
    }

    fn refund(&self, _: &UserId, cost: u32, _: Timestamp) -> Duration {
        self.refund.fetch_add(cost.into(), Ordering::Relaxed);
        Duration::from_millis(3500)
    }
}

async fn with_till() -> (Engine, Arc<Till>) {
    let till = Arc::new(Till::default());
    let engine = Engine::builder().allow_anonymous().rate_limiter(till.clone());
    (engine.start().await.unwrap(), till)
}

fn send(id: u64) -> Value {
    let mid = format!("0123456789abcdef-{id}");
    json!({"t": "send", "id": id, "room": "tea", "mid": mid, "content": id})
}

fn users(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("u{n}")).collect()
}

fn cursors(n: usize) -> Vec<Value> {
    (0..n).map(|n| json!([format!("r{n}"), "1.1", 1])).collect()
}

#[tokio::test(start_paused = true)]
async fn commands_cost_the_rows_they_touch() {
    let (engine, till) = with_till().await;
    let mut ann = greeted(&engine, "ann").await;
    assert_eq!(till.taken(), [1], "hello");
    let table = [
        (json!({"t": "ping", "id": 2}), 1),
        (json!({"t": "create", "id": 3, "room": "tea"}), 1),
        (json!({"t": "create", "id": 4, "room": "large", "members": users(256)}), 513),
        (send(5), 1),
        (json!({"t": "history", "id": 6, "room": "tea", "limit": 10}), 1),
        (json!({"t": "history", "id": 7, "room": "tea", "limit": 1_000_000}), 13),
        (json!({"t": "members", "id": 8, "room": "large", "limit": 200}), 13),
        (json!({"t": "rooms", "id": 9, "limit": 200}), 13),
        (json!({"t": "sessions", "id": 10}), 7),
        (json!({"t": "resume", "id": 11, "cursors": cursors(3)}), 1),
        (json!({"t": "resume", "id": 12, "cursors": cursors(1000)}), 251),
        (json!({"t": "checkpoint", "id": 13, "cursors": cursors(1000)}), 251),
        (json!({"t": "dance", "id": 14}), 1),
        (json!({"t": "send", "id": 15}), 1),
        (json!({"t": "hello", "id": 16, "v": 1, "user": "ann"}), 1),
    ];
    for (command, cost) in table {
        ann.ask(command.clone()).await;
        assert_eq!(till.taken(), [cost], "{}", command["t"]);
    }
    // The members are searched when an owner leaves.
    let left = ann.ask(json!({"t": "leave", "id": 17, "room": "large"})).await;
    assert_eq!((left["code"].as_u64(), till.taken()), (Some(4521), vec![1, 16]));
}

/// A command that is charged in two parts, and costs more than the burst, is accepted after the
/// wait.
#[tokio::test(start_paused = true)]
async fn dear_command_gets_through_after_wait() {
    let mut time = Time::new();
    let engine = Engine::builder().allow_anonymous().clock(time.0.clone()).start().await.unwrap();
    let mut ann = greeted(&engine, "ann").await;
    let user = |n: usize| UserId::new(format!("u{n}")).unwrap();
    let mut members = vec![(UserId::new("ann").unwrap(), Role::Owner), (user(0), Role::Owner)];
    members.extend((1..16_000).map(|n| (user(n), Role::Member)));
    let seed = RoomSeed { kind: RoomKind::Group, open: true, members };
    let room = RoomId::new("large").unwrap();
    engine.create_room(room, seed, &UserId::new("ann").unwrap()).await.unwrap();
    let leave = json!({"t": "leave", "id": 2, "room": "large"});
    let refused = ann.ask(leave.clone()).await;
    assert_eq!(refused["code"], 4200, "{refused}");
    time.pass(refused["retry_ms"].as_u64().unwrap()).await;
    let left = ann.ask(leave).await;
    assert_eq!(left["t"], "ok", "{left}");
}

#[tokio::test(start_paused = true)]
async fn resume_of_checkpoint_is_charged() {
    let (engine, till) = with_till().await;
    let mut ann = Client::new(&engine);
    let welcome = ann.ask(json!({"t": "hello", "id": 1, "v": 1, "user": "ann"})).await;
    for n in 0..40 {
        ann.ask(json!({"t": "create", "id": 2, "room": format!("r{n}")})).await;
        ann.ask(json!({"t": "subscribe", "id": 3, "room": format!("r{n}")})).await;
    }
    let mut again = Client::new(&engine);
    let hello = json!({"t": "hello", "id": 1, "v": 1, "user": "ann",
        "session": welcome["session"], "secret": welcome["secret"]});
    let welcome = again.ask(hello).await;
    till.taken();
    again.ask(json!({"t": "resume", "id": 2, "cursors": [], "rev": welcome["rev"]})).await;
    assert_eq!(till.taken(), [1, 10]);
}

#[tokio::test(start_paused = true)]
async fn send_behind_refusal_is_free() {
    let (engine, till) = with_till().await;
    let mut ann = greeted(&engine, "ann").await;
    ann.ask(json!({"t": "create", "id": 900, "room": "tea"})).await;
    till.taken();
    till.refuses_next.store(true, Ordering::Relaxed);
    ann.send(json!([send(1), send(2), send(3)])).await;
    let mut codes = BTreeMap::new();
    for _ in 0..3 {
        let answer = ann.next().await;
        codes.insert(answer["id"].as_u64(), (answer["code"].as_u64(), answer["retry_ms"].as_u64()));
    }
    let behind = (Some(4206), Some(3500));
    let expected = [(Some(1), (Some(4200), Some(40))), (Some(2), behind), (Some(3), behind)];
    assert_eq!(codes, BTreeMap::from(expected), "its wait covers the rate too");
    assert_eq!(till.taken().len() as u64, till.refund.load(Ordering::Relaxed));
}

/// Time of the engine's clock and of the runtime.
struct Time(Arc<ManualClock>, u64);

impl Time {
    fn new() -> Self {
        Self(Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000))), 1_000_000)
    }

    async fn pass(&mut self, ms: u64) {
        self.1 += ms;
        self.0.set(Timestamp::from_millis(self.1));
        tokio::time::advance(Duration::from_millis(ms)).await;
    }
}

/// Sends all in messages of 64 and reads every ack. Returns those that were refused, in order, and
/// the longest wait.
async fn pipelined(client: &mut Client, ids: &[u64]) -> (Vec<u64>, u64) {
    let (mut refused, mut wait) = (Vec::new(), 0);
    for batch in ids.chunks(64) {
        client.send(Value::from_iter(batch.iter().map(|id| send(*id)))).await;
        for _ in batch {
            let answer = client.next().await;
            if answer["t"] == "err" {
                assert!([4200, 4206].contains(&answer["code"].as_u64().unwrap()), "{answer}");
                refused.push(answer["id"].as_u64().unwrap());
                wait = wait.max(answer["retry_ms"].as_u64().unwrap());
            } else {
                assert_eq!(answer["t"], "ok", "{answer}");
            }
        }
    }
    refused.sort_unstable();
    (refused, wait)
}

/// With the default limits.
#[tokio::test(start_paused = true)]
async fn pipelined_sends_are_slowed_not_closed() {
    let mut time = Time::new();
    let engine = Engine::builder().allow_anonymous().clock(time.0.clone()).start().await.unwrap();
    let mut ann = greeted(&engine, "ann").await;
    ann.ask(json!({"t": "create", "id": 0, "room": "tea"})).await;
    let mut left: Vec<u64> = (1..=3000).collect();
    let mut rounds = Vec::new();
    while !left.is_empty() {
        let (refused, wait) = pipelined(&mut ann, &left).await;
        rounds.push((left.len() - refused.len(), wait));
        assert!(rounds.len() < 10, "{rounds:?}");
        left = refused;
        time.pass(wait).await;
    }
    // Each round accepts as many as the burst holds, and waits no longer than the tokens require.
    assert_eq!(rounds, [(998, 5000), (1000, 5000), (1000, 10), (2, 0)]);
    let room = RoomId::new("tea").unwrap();
    let mut sent = Vec::new();
    while sent.len() < 3000 {
        let after = PageFrom::After(Seq::new(sent.len() as u64 + 1).unwrap());
        let page = engine.history(&room, after, 200).await.unwrap();
        sent.extend(page.events.iter().map(|event| event.content.value().as_int().unwrap()));
    }
    assert!(sent.iter().copied().eq(1..=3000), "in their order");
}

/// Reads until the connection ends. Returns how many frames were refused with 4200 before, and the
/// code of the end.
async fn until_cut_off(client: &mut Client, mut frame: impl FnMut(u64) -> Value) -> (u64, u64) {
    let mut slowed = 0;
    for id in 0..10_000 {
        client.send(frame(id)).await;
        match client.next().await {
            bye if bye["t"] == "disconnect" => return (slowed, bye["code"].as_u64().unwrap()),
            refused if refused["code"] == 4200 => {
                assert_eq!(refused["id"], id);
                slowed += 1;
            }
            _ => {}
        }
    }
    (slowed, 0)
}

#[tokio::test(start_paused = true)]
async fn refused_frames_are_charged_then_disconnected() {
    for bad in ["dance", "send"] {
        let time = Time::new();
        let engine = Engine::builder().allow_anonymous().clock(time.0.clone());
        let config = EngineConfig::default().max_flood(20);
        let engine = engine.rate_limiter(Arc::new(TokenBuckets::new(1, 10))).config(config);
        let engine = engine.start().await.unwrap();
        let mut eve = greeted(&engine, "eve").await;
        let ended = until_cut_off(&mut eve, |id| json!({"t": bad, "id": id})).await;
        assert_eq!(ended, (21, 4200), "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn unauthenticated_flood_is_disconnected() {
    let config = EngineConfig::default().max_flood(20);
    let engine = Engine::builder().allow_anonymous().config(config).start().await.unwrap();
    let mut eve = Client::new(&engine);
    let ended = until_cut_off(&mut eve, |id| json!({"t": "dance", "id": id})).await;
    assert_eq!(ended, (0, 4200));
    // Also behind a lost session.
    let mut eve = Client::new(&engine);
    let lost =
        json!({"t": "hello", "id": 1, "v": 1, "user": "eve", "session": "lost", "secret": "s"});
    assert_eq!(eve.ask(lost).await["code"], 4400);
    let ended = until_cut_off(&mut eve, |id| json!({"t": "rooms", "id": id})).await;
    assert_eq!(ended, (0, 4200));
}

/// A client that keeps sending is read slowly: 256 refusals are not delayed, each further one takes
/// 10 ms.
#[tokio::test(start_paused = true)]
async fn flood_of_refused_frames_is_read_slowly() {
    let time = Time::new();
    let engine = Engine::builder().allow_anonymous().clock(time.0.clone());
    let engine = engine.rate_limiter(Arc::new(TokenBuckets::new(1, 1))).start().await.unwrap();
    let mut eve = greeted(&engine, "eve").await;
    let mut flood = async |count: u64| {
        let (begin, mut refused) = (tokio::time::Instant::now(), 0);
        for id in 0..count {
            refused += u64::from(eve.ask(json!({"t": "ping", "id": id})).await["code"] == 4200);
        }
        (refused, begin.elapsed())
    };
    let (first, took) = flood(200).await;
    assert!(first >= 198 && took < Duration::from_millis(10), "{first} in {took:?}");
    let (more, took) = flood(156).await;
    let slow = first + more - 256;
    // The clock of a paused runtime steps by a millisecond.
    let (least, most) = (Duration::from_millis(10 * slow), Duration::from_millis(12 * slow));
    assert!((least..=most).contains(&took), "{slow} in {took:?}");
}

#[tokio::test(start_paused = true)]
async fn respecting_retry_delay_keeps_connection() {
    let mut time = Time::new();
    let config = EngineConfig::default().max_flood(20);
    let engine = Engine::builder().allow_anonymous().clock(time.0.clone()).config(config);
    let engine = engine.rate_limiter(Arc::new(TokenBuckets::new(10, 10))).start().await.unwrap();
    let mut ann = greeted(&engine, "ann").await;
    let mut refused = 0;
    for _ in 0..20 {
        let mut wait = 0;
        for id in 0..20 {
            let answer = ann.ask(json!({"t": "ping", "id": id})).await;
            wait = answer["retry_ms"].as_u64().unwrap_or(wait);
            refused += u64::from(answer["t"] == "err");
        }
        time.pass(wait).await;
    }
    assert!(refused > 100, "{refused}");
}

/// While a large resume is looked up, other tasks of the same thread run.
#[tokio::test(start_paused = true)]
async fn large_resume_yields_to_other_tasks() {
    let engine = Engine::builder().allow_anonymous().start().await.unwrap();
    let mut ann = greeted(&engine, "ann").await;
    let (mut wanted, ann_id) = (Vec::new(), UserId::new("ann").unwrap());
    for n in 0..600 {
        let members = vec![(ann_id.clone(), Role::Owner)];
        let seed = RoomSeed { kind: RoomKind::Group, open: true, members };
        let room = RoomId::new(format!("r{n}")).unwrap();
        let made = engine.create_room(room, seed, &ann_id).await.unwrap();
        wanted.push(json!([format!("r{n}"), made.epoch.to_string(), 1]));
    }
    let (turns, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let other = tokio::spawn({
        let (turns, done) = (turns.clone(), done.clone());
        async move {
            while !done.load(Ordering::Relaxed) {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    let answer = ann.ask(json!({"t": "resume", "id": 2, "cursors": wanted})).await;
    done.store(true, Ordering::Relaxed);
    other.await.unwrap();
    assert_eq!(answer["rooms"].as_array().unwrap().len(), 600);
    let turns = turns.load(Ordering::Relaxed);
    assert!(turns >= 2 * (600 / 50) - 2, "{turns} turns while rooms are looked up and followed");
}
