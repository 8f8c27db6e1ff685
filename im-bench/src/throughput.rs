//! `im-bench throughput`: acknowledged sends a second at the engine's in-process API, with group commit and without.
//!
//! Many tasks, each sending its next message when the last one was acknowledged; the rooms have no readers, so that what is
//! measured is the way to the store and back. A second run, on a new store, commits each send by itself: what group commit
//! gains is the ratio of the two.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use im_core::engine::{Engine, EngineConfig, Publish};
use im_core::ports::{Durability, Unlimited};
use im_core::state::RoomSeed;
use im_core::wire::{Role, RoomKind, Target};
use im_core::{MessageId, RoomId, UserId};
use im_stores::{StoreAddress, Tuning};

/// What `im-bench throughput` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where to keep things: memory, sled:PATH, sqlite:PATH, postgres://…, mysql://…. It must be empty or new.
    #[arg(long)]
    store: StoreAddress,
    /// Tasks that send at the same time.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    senders: u32,
    /// Rooms that they share.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    rooms: u32,
    /// Bytes of text in a message.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Seconds of each run, after one second to warm up.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Appends in one commit; more than one value makes a run for each, in turn, on the same database.
    #[arg(long, value_delimiter = ',', default_value = "512,1")]
    batch: Vec<usize>,
}

/// What one run gave.
struct Run {
    batch: usize,
    a_second: f64,
    times: Histogram<u64>,
}

/// Measures and prints.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut runs = Vec::new();
    for (turn, batch) in options.batch.iter().enumerate() {
        let run = measure(&options, turn, *batch).await?;
        println!(
            "batches of up to {:4}: {:9.0} acknowledged/s; half in {:.2?}, 99 of 100 in {:.2?}",
            run.batch,
            run.a_second,
            Duration::from_micros(run.times.value_at_quantile(0.5)),
            Duration::from_micros(run.times.value_at_quantile(0.99)),
        );
        runs.push(run);
    }
    if let [first, .., last] = runs.as_slice() {
        println!(
            "{} to {}: {:.1} times as many",
            first.batch,
            last.batch,
            first.a_second / last.a_second
        );
    }
    Ok(())
}

async fn measure(options: &Options, turn: usize, batch: usize) -> Result<Run> {
    let store = options.store.open_tuned(Tuning::default().max_batch(batch)).await?;
    if turn == 0 {
        let promise = match store.durability() {
            Durability::Volatile => "kept in memory",
            Durability::ProcessCrash => "survives a kill of the process",
            Durability::PowerLoss => "survives a power loss",
        };
        println!(
            "{}: {promise}; {} senders, {} rooms",
            options.store, options.senders, options.rooms
        );
    }
    let limiter = Arc::new(Unlimited);
    // A lane hands over what has queued in one call, which a store never takes apart.
    let config = EngineConfig::default().append_batch(batch);
    let engine = Engine::builder().allow_anonymous().store(store.clone()).rate_limiter(limiter);
    let engine = engine.config(config).start().await?;
    let service = UserId::new("bench")?;
    let room = |n: u32| RoomId::new(format!("run{turn}-room{n}"));
    for n in 0..options.rooms {
        let members = vec![(service.clone(), Role::Owner)];
        let seed = RoomSeed { kind: RoomKind::Group, open: true, members };
        engine.create_room(room(n)?, seed, &service).await?;
    }
    let begin = Instant::now() + Duration::from_secs(1);
    let end = begin + Duration::from_secs(options.seconds);
    let mut senders = Vec::new();
    for n in 0..options.senders {
        let sender = Sender {
            engine: engine.clone(),
            room: room(n % options.rooms)?,
            user: UserId::new(format!("user{n}"))?,
            text: "x".repeat(options.size),
        };
        senders.push(tokio::spawn(sender.send(begin, end)));
    }
    let mut times = Histogram::<u64>::new(3)?;
    for sender in senders {
        times.add(sender.await??)?;
    }
    engine.drain(Duration::from_secs(5)).await;
    store.close().await?;
    ensure!(!times.is_empty(), "nothing was acknowledged");
    Ok(Run { batch, a_second: times.len() as f64 / options.seconds as f64, times })
}

struct Sender {
    engine: Engine,
    room: RoomId,
    user: UserId,
    text: String,
}

impl Sender {
    /// Sends one after another. Gives the microseconds that each took that was acknowledged between `begin` and `end`.
    async fn send(self, begin: Instant, end: Instant) -> Result<Histogram<u64>> {
        let mut times = Histogram::<u64>::new(3)?;
        loop {
            let publish =
                Publish::text(Target::Room(self.room.clone()), self.user.clone(), &self.text)
                    .id(MessageId::now_v7());
            let sent = Instant::now();
            self.engine.publish(publish).await.context("a send was refused")?;
            let now = Instant::now();
            if now >= end {
                return Ok(times);
            }
            if now >= begin {
                times.record(u64::try_from((now - sent).as_micros())?)?;
            }
        }
    }
}
