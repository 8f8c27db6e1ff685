//! Quotas of one address and one user.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use im_core::engine::{Connection, Engine, Peer};
use im_core::ports::{Allowance, Allowances, Credentials, ManualClock, TokenBuckets};
use im_core::wire::Encoding;
use im_core::{Code, Timestamp};
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);

/// An allowance of `amount` an hour, all at once.
fn hourly(amount: u64) -> Allowance {
    Allowance { amount, per: HOUR, at_once: amount }
}

fn peer(address: [u8; 4]) -> Peer {
    let address = Some(IpAddr::from(address));
    Peer {
        transport: "test",
        encoding: Encoding::Json,
        address,
        credentials: Credentials::default(),
    }
}

const HOME: [u8; 4] = [192, 0, 2, 1];
const AWAY: [u8; 4] = [192, 0, 2, 2];

async fn engine(quotas: Allowances) -> (Engine, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
    let engine = Engine::builder().allow_anonymous().clock(clock.clone());
    (engine.quotas(Arc::new(quotas)).start().await.unwrap(), clock)
}

async fn ask(connection: &Connection, frame: Value) -> Value {
    connection.submit(Bytes::from(frame.to_string())).await;
    loop {
        let batch = connection.next(1 << 16).await;
        connection.release(batch.id);
        let read = |frame: &Bytes| serde_json::from_slice::<Value>(frame).unwrap();
        if let Some(answer) = batch.frames.iter().map(read).find(|f| f["id"] == frame["id"]) {
            return answer;
        }
    }
}

fn code(answer: &Value) -> u64 {
    answer["code"].as_u64().unwrap_or(0)
}

async fn greeted(engine: &Engine, from: [u8; 4], user: &str) -> Result<Connection, Value> {
    let refused = |error: im_core::Error| json!({"code": error.code().number()});
    let connection = engine.accept(peer(from)).map_err(refused)?;
    match ask(&connection, json!({"t": "hello", "id": 1, "v": 1, "user": user})).await {
        welcome if welcome["t"] == "ok" => Ok(connection),
        refused => Err(refused),
    }
}

#[tokio::test(start_paused = true)]
async fn address_opens_only_so_many_sessions() {
    let (engine, clock) = engine(Allowances::none().sessions_per_address(hourly(2))).await;
    for user in ["ann", "bob"] {
        greeted(&engine, HOME, user).await.unwrap();
    }
    let refused = greeted(&engine, HOME, "cat").await.unwrap_err();
    assert_eq!(
        (code(&refused), refused["retry_ms"].as_u64()),
        (4200, Some(1_800_000)),
        "{refused}"
    );
    assert!(refused["msg"].as_str().unwrap().contains("sessions of this address"), "{refused}");
    greeted(&engine, AWAY, "cat").await.unwrap();
    clock.set(Timestamp::from_millis(1_000_000 + 1_800_000));
    greeted(&engine, HOME, "cat").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rooms_per_address_and_user_bounded() {
    let quotas = Allowances::none().rooms_per_address(hourly(3)).rooms_per_user(hourly(2));
    let (engine, _) = engine(quotas).await;
    let (ann, bob) = (
        greeted(&engine, HOME, "ann").await.unwrap(),
        greeted(&engine, HOME, "bob").await.unwrap(),
    );
    let create = |id: u64| json!({"t": "create", "id": id, "room": format!("r{id}")});
    assert_eq!(code(&ask(&ann, create(2)).await), 0);
    assert_eq!(code(&ask(&ann, create(3)).await), 0);
    let refused = ask(&ann, create(4)).await;
    assert_eq!(code(&refused), 4200);
    assert!(refused["msg"].as_str().unwrap().contains("rooms of this user"), "{refused}");
    // The refused ones were not charged to the address.
    for id in 5..20 {
        assert_eq!(code(&ask(&ann, create(id)).await), 4200);
    }
    assert_eq!(code(&ask(&bob, create(20)).await), 0);
    let refused = ask(&bob, create(21)).await;
    assert!(refused["msg"].as_str().unwrap().contains("rooms of this address"), "{refused}");
    // Commands refused by the address quota were not charged to the user.
    let bob = greeted(&engine, AWAY, "bob").await.unwrap();
    assert_eq!(code(&ask(&bob, create(22)).await), 0);
    let refused = ask(&bob, create(23)).await;
    assert!(refused["msg"].as_str().unwrap().contains("rooms of this user"), "{refused}");
}

/// A create with a taken id is not charged.
#[tokio::test(start_paused = true)]
async fn existing_room_id_uses_no_quota() {
    let quotas = Allowances::none().rooms_per_address(hourly(2)).rooms_per_user(hourly(1));
    let (engine, _) = engine(quotas.bytes_per_user(hourly(200))).await;
    let (ann, bob) = (
        greeted(&engine, HOME, "ann").await.unwrap(),
        greeted(&engine, HOME, "bob").await.unwrap(),
    );
    let create = |room: &str| json!({"t": "create", "id": 2, "room": room, "open": true});
    assert_eq!(code(&ask(&ann, create("tea")).await), 0);
    for _ in 0..10 {
        assert_eq!(code(&ask(&bob, create("tea")).await), 4523);
    }
    assert_eq!(code(&ask(&bob, create("milk")).await), 0);
}

/// A state update older than the current value is not stored.
#[tokio::test(start_paused = true)]
async fn stale_state_uses_no_bytes() {
    let (engine, _) = engine(Allowances::none().bytes_per_user(hourly(10_000))).await;
    let ann = greeted(&engine, HOME, "ann").await.unwrap();
    ask(&ann, json!({"t": "create", "id": 2, "room": "tea"})).await;
    let set = |stamp: &str| json!({"t": "put_state", "id": 3, "room": "tea", "key": "k", "value": "x".repeat(4000), "stamp": stamp});
    assert_eq!(code(&ask(&ann, set("2-0-0")).await), 0);
    for _ in 0..10 {
        assert_eq!(code(&ask(&ann, set("1-0-0")).await), 4527);
    }
    assert_eq!(code(&ask(&ann, set("3-0-0")).await), 0);
    assert_eq!(code(&ask(&ann, set("4-0-0")).await), 4200, "what was stored is used up");
}

/// A command refused by its user's rate costs the address as much as a refused frame, whatever its
/// own cost.
#[tokio::test(start_paused = true)]
async fn slowed_user_leaves_address_its_commands() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
    let engine = Engine::builder().allow_anonymous().clock(clock);
    let quotas = Allowances::none().commands_per_address(hourly(2000));
    let engine = engine.rate_limiter(Arc::new(TokenBuckets::new(1, 600)));
    let engine = engine.quotas(Arc::new(quotas)).start().await.unwrap();
    let ann = greeted(&engine, HOME, "ann").await.unwrap();
    let users: Vec<_> = (0..256).map(|n| format!("u{n}")).collect();
    let create =
        |id: u64| json!({"t": "create", "id": id, "room": format!("r{id}"), "members": users});
    assert_eq!(code(&ask(&ann, create(2)).await), 0);
    for id in 3..23 {
        assert_eq!(code(&ask(&ann, create(id)).await), 4200);
    }
    let bob = greeted(&engine, HOME, "bob").await.unwrap();
    assert_eq!(code(&ask(&bob, create(30)).await), 0);
}

/// A first message creates a direct room; later ones do not.
#[tokio::test(start_paused = true)]
async fn direct_rooms_count_as_rooms() {
    let (engine, _) = engine(Allowances::none().rooms_per_user(hourly(2))).await;
    let ann = greeted(&engine, HOME, "ann").await.unwrap();
    let send = |id: u64, peer: &str| {
        let mid = format!("0123456789abcdef-{id}");
        json!({"t": "send", "id": id, "peer": peer, "mid": mid, "content": "hello"})
    };
    for (id, peer) in [(2, "bob"), (3, "bob"), (4, "cat"), (5, "bob")] {
        let answer = ask(&ann, send(id, peer)).await;
        assert_eq!(code(&answer), 0, "{answer}");
    }
    let refused = ask(&ann, send(6, "dan")).await;
    assert_eq!(code(&refused), 4200);
    assert!(refused["msg"].as_str().unwrap().contains("rooms of this user"), "{refused}");
    assert_eq!(code(&ask(&ann, send(7, "cat")).await), 0, "what is there goes on");
}

#[tokio::test(start_paused = true)]
async fn user_stores_only_so_many_bytes() {
    let (engine, _) = engine(Allowances::none().bytes_per_user(hourly(10_000))).await;
    let ann = greeted(&engine, HOME, "ann").await.unwrap();
    ask(&ann, json!({"t": "create", "id": 2, "room": "tea"})).await;
    let send = |id: u64| {
        let mid = format!("0123456789abcdef-{id}");
        json!({"t": "send", "id": id, "room": "tea", "mid": mid, "content": "x".repeat(4000)})
    };
    assert_eq!(code(&ask(&ann, send(3)).await), 0);
    assert_eq!(code(&ask(&ann, send(4)).await), 0);
    assert_eq!(code(&ask(&ann, send(5)).await), 4200);
    let set =
        json!({"t": "put_state", "id": 6, "room": "tea", "key": "k", "value": "x".repeat(4000)});
    assert_eq!(code(&ask(&ann, set).await), 4200, "state is stored too");
    let members: Vec<_> = (0..100).map(|n| format!("u{n}")).collect();
    let create = json!({"t": "create", "id": 7, "room": "large", "members": members});
    assert_eq!(code(&ask(&ann, create).await), 4200, "so are members");
}

#[tokio::test(start_paused = true)]
async fn address_sends_only_so_many_commands() {
    let (engine, _) = engine(Allowances::none().commands_per_address(hourly(6))).await;
    let ann = greeted(&engine, HOME, "ann").await.unwrap();
    for kind in ["ping", "dance", "ping", "signal"] {
        assert_ne!(code(&ask(&ann, json!({"t": kind, "id": 2})).await), 4200, "{kind}");
    }
    assert_eq!(code(&ask(&ann, json!({"t": "ping", "id": 3})).await), 4200);
    assert_eq!(code(&greeted(&engine, HOME, "bob").await.unwrap_err()), 4200, "whoever it is");
    let hello = Bytes::from(json!({"t": "hello", "id": 1, "v": 1, "user": "bob"}).to_string());
    let refused = engine.call(peer(HOME), None, hello.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::RateLimited);
    engine.call(peer(AWAY), None, hello).await.unwrap();
}
