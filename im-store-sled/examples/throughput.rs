//! Appends a second: many tasks, each waiting for its own acknowledgement, with group commit and without.
//!
//! `cargo run --release -p im-store-sled --example throughput [FOLDER]`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use im_core::ports::{RoomLog, Store};
use im_core::state::{Act, Append, Guard, NewEvent, RoomSeed, SendKey, content_hash};
use im_core::wire::{Content, Limits, Map, Role, RoomKind, Value};
use im_core::{EventKind, MessageId, RoomId, Timestamp, UserId};
use im_store_sled::{SledConfig, SledStore};

const TASKS: usize = 256;
const ROOMS: usize = 64;
const FOR: Duration = Duration::from_secs(5);

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = match std::env::args_os().nth(1) {
        Some(path) => tempfile::tempdir_in(path)?,
        None => tempfile::tempdir()?,
    };
    println!("{TASKS} tasks, {ROOMS} rooms, messages of 100 bytes, {FOR:?} each");
    for max_batch in [512, 1] {
        measure(&folder.path().join(max_batch.to_string()), max_batch).await?;
    }
    Ok(())
}

async fn measure(path: &Path, max_batch: usize) -> Result<(), Failure> {
    let config = SledConfig::new(path).max_batch(max_batch);
    let store = Arc::new(SledStore::open(config).await?);
    let end = Instant::now() + FOR;
    let tasks = (0..TASKS).map(|task| tokio::spawn(send(Arc::clone(&store), task, end)));
    let mut times = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        times.extend(task.await??);
    }
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    let a_second = times.len() as f64 / FOR.as_secs_f64();
    println!(
        "batches of up to {max_batch:3}: {a_second:8.0} appends/s, half in {:.2?}, 99 of 100 in {:.2?}",
        at(50),
        at(99)
    );
    store.close().await?;
    Ok(())
}

/// Sends one after another until the end. Gives the time that each took.
async fn send(store: Arc<SledStore>, task: usize, end: Instant) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let message = message(task)?;
        let started = Instant::now();
        for answer in store.append(vec![message]).await {
            answer?;
        }
        times.push(started.elapsed());
    }
    Ok(times)
}

fn message(task: usize) -> Result<Append, Failure> {
    let kind = EventKind::message();
    let value: Value = Map::from_iter([("text", "x".repeat(92))]).into();
    let key = SendKey { id: MessageId::random(), hash: content_hash(&kind, &value) };
    let from = UserId::new(format!("user{task}"))?;
    let content = Content::new(&value, &Limits::default())?;
    let members = vec![(from.clone(), Role::Owner)];
    let event = NewEvent { from, kind, content, key: Some(key) };
    let seed = Some(RoomSeed { kind: RoomKind::Group, open: true, members });
    Ok(Append {
        room: RoomId::new(format!("room{}", task % ROOMS))?,
        guard: Guard::Trusted,
        act: Act::Post { event, seed },
        at: Timestamp::from_millis(1_700_000_000_000),
        max_members: 10,
    })
}
