//! The times and rates in `wire/SPEC.md` are the defaults of the code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use im_client::Config;
use im_core::Timestamp;
use im_core::engine::{Connection, Engine, EngineConfig, Peer};
use im_core::ports::{Credentials, ManualClock};
use im_core::wire::Encoding;
use im_http::{ListenerConfig, UplinkConfig};
use im_transport_longpoll::LongPollConfig;
use im_transport_ws::WsConfig;
use serde_json::{Value, json};

/// Returns the text from this heading to the next one of its level, with single spaces.
fn section(heading: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/SPEC.md");
    let spec = std::fs::read_to_string(path).unwrap();
    let (_, rest) = spec.split_once(&format!("\n{heading}\n")).expect("the heading is there");
    rest.split("\n## ").next().unwrap().to_owned()
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

/// Returns the first and the second cell of a table's rows.
fn rows(section: &str) -> Vec<(String, String)> {
    let table = section.lines().filter(|line| line.starts_with("| "));
    let cells = table.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect());
    cells.map(|cells: Vec<&str>| (cells[0].to_owned(), cells[1].to_owned())).skip(1).collect()
}

#[test]
fn timeouts_printed_are_the_defaults() {
    let (engine, listener) = (EngineConfig::default(), ListenerConfig::default());
    let (client, ws) = (Config::default(), WsConfig::default());
    let hold = LongPollConfig::default().max_hold;
    let body = UplinkConfig::default().body_timeout;
    assert_eq!(body, listener.body_timeout, "one rule for every body");
    let days = engine.session_ttl.as_secs() / (24 * 3600);
    assert_eq!(client.connect_timeout, client.ping_timeout);
    let stall = format!(
        "{} on a WebSocket, {} over plain HTTP",
        seconds(ws.write_timeout),
        seconds(listener.write_timeout)
    );
    let idle = format!("`idle_ms`; {} for the answer to a ping", seconds(client.ping_timeout));
    let keep_alive =
        format!("{}, named by `Keep-Alive: timeout=…`", seconds(listener.idle_timeout));
    let said = [
        ("from the connection to `hello`", seconds(engine.handshake_timeout)),
        ("silence of a client", format!("`idle_ms`, {}", seconds(engine.idle_timeout))),
        ("a client takes nothing", stall),
        ("the body of a request", format!("{}, and a second for every 500 bytes", seconds(body))),
        ("the head of a request", seconds(listener.header_timeout)),
        ("the hold of a poll", format!("`hold`, {} at most", seconds(hold))),
        ("an idle connection", keep_alive),
        ("a session that no connection", format!("{days} days")),
        ("client: to connect", format!("SHOULD be {}", seconds(client.connect_timeout))),
        ("client: silence of the server on a WebSocket", format!("SHOULD be {idle}")),
    ];
    let rows = rows(&section("## Time-outs"));
    for (what, default) in said {
        let row = rows.iter().filter(|(first, _)| first.contains(what)).collect::<Vec<_>>();
        assert_eq!(row.len(), 1, "{what}: {row:?}");
        assert!(row[0].1.starts_with(&default), "{what}: {default}, and not {}", row[0].1);
    }
    let heartbeat = section("## Heartbeat");
    let pings = format!("more than {} protocol pings and pongs", ws.max_controls);
    let quiet = format!("nothing was sent or heard for {} (by default)", seconds(engine.heartbeat));
    assert!(heartbeat.contains(&pings) && heartbeat.contains(&quiet), "{pings}; {quiet}");
}

/// An engine whose clock does not advance until it is set, and a client of it.
async fn stopped() -> (Arc<ManualClock>, Connection) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
    let builder = Engine::builder().allow_anonymous().clock(clock.clone());
    let credentials = Credentials::default();
    let peer = Peer { transport: "test", encoding: Encoding::Json, address: None, credentials };
    let connection = builder.start().await.unwrap().accept(peer).unwrap();
    (clock, connection)
}

async fn ask(connection: &Connection, command: Value) -> Value {
    connection.submit(Bytes::from(command.to_string())).await;
    let batch = connection.next(1 << 16).await;
    connection.release(batch.id);
    serde_json::from_slice(&batch.frames[0]).unwrap()
}

/// Returns how many pings are accepted before one is refused.
async fn tokens(connection: &Connection) -> u64 {
    let mut tokens = 0;
    while ask(connection, json!({"t": "ping", "id": 9})).await["t"] == "ok" {
        tokens += 1;
    }
    tokens
}

#[tokio::test(start_paused = true)]
async fn rate_printed_is_the_default() {
    let (clock, connection) = stopped().await;
    let hello = json!({"t": "hello", "id": 1, "v": 1, "user": "ann"});
    let welcome = ask(&connection, hello).await;
    let at_once = tokens(&connection).await + 1;
    clock.set(Timestamp::from_millis(1_001_000));
    let a_second = tokens(&connection).await;
    let rate = section("### Rate and window").replace('\n', " ");
    let thousands = |n: u64| format!("{},{:03}", n / 1000, n % 1000);
    let words = format!("a user has {} tokens and earns {a_second} a second", thousands(at_once));
    assert!(rate.contains(&words), "{words}");
    let config = EngineConfig::default();
    let flood = format!("only after {} frames (by default)", thousands(config.max_flood.into()));
    assert!(rate.contains(&flood), "{flood}");
    let slowed = "beyond 256 frames, or four times `limits.in_flight`";
    assert!(config.max_in_flight * 4 <= 256 && rate.contains(slowed), "{slowed}");
    // Two were refused before.
    let begun = tokio::time::Instant::now();
    for _ in 2..256 {
        assert_eq!(ask(&connection, json!({"t": "ping", "id": 9})).await["code"], 4200);
    }
    let at_once = begun.elapsed();
    for _ in 0..10 {
        assert_eq!(ask(&connection, json!({"t": "ping", "id": 9})).await["code"], 4200);
    }
    let pause = (begun.elapsed() - at_once) / 10;
    let pauses = format!("the server may pause for {} ms after each", pause.as_millis());
    assert!(at_once < pause && rate.contains(&pauses), "{at_once:?}, {pauses}");
    // The welcome contains the other numbers of the table of time-outs.
    assert_eq!(welcome["idle_ms"], config.idle_timeout.as_millis() as u64);
    let ticket = ask(&connection, json!({"t": "ticket", "id": 2})).await;
    assert_eq!(ticket["code"], 4200, "all tokens are spent");
    clock.set(Timestamp::from_millis(1_002_000));
    let ticket = ask(&connection, json!({"t": "ticket", "id": 3})).await;
    let within = Duration::from_millis(ticket["within_ms"].as_u64().unwrap());
    let printed =
        format!("| server: a ticket that was not used | `within_ms`, {} |", seconds(within));
    assert!(section("## Time-outs").contains(&printed), "{printed}");
}
