//! Tasks that publish through the engine's API.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use im_core::engine::{Engine, EngineConfig, Publish};
use im_core::ports::Unlimited;
use im_core::state::RoomSeed;
use im_core::wire::{Role, RoomKind, Target};
use im_core::{MessageId, RoomId, UserId};
use im_stores::{StoreAddress, Tuning};

use super::{Options, Run, Span, Times, Turn, promise};

/// Opens the store and sends for the configured time.
pub(super) async fn measure(options: &Options, store: &StoreAddress, turn: Turn) -> Result<Run> {
    let store = store.open_tuned(Tuning::default().max_batch(turn.batch)).await?;
    if turn.nth == 0 {
        println!("an acked send {}", promise(store.durability()));
    }
    let limiter = Arc::new(Unlimited);
    // A shard sends its queue in one call, which a store never splits.
    let config = EngineConfig::default().append_batch(turn.batch);
    let engine = Engine::builder().allow_anonymous().store(store.clone()).rate_limiter(limiter);
    let engine = engine.config(config).start().await?;
    let service = UserId::new("bench")?;
    for n in 0..options.rooms {
        let members = vec![(service.clone(), Role::Owner)];
        let seed = RoomSeed { kind: RoomKind::Group, open: true, members };
        engine.create_room(turn.room(n)?, seed, &service).await?;
    }
    let span = Span::from_now(options);
    let mut senders = Vec::new();
    for n in 0..options.senders {
        let sender = Sender {
            engine: engine.clone(),
            room: turn.room(n % options.rooms)?,
            user: UserId::new(format!("user{n}"))?,
            text: "x".repeat(options.size),
        };
        senders.push(tokio::spawn(sender.send(span)));
    }
    let mut times = Histogram::<u64>::new(3)?;
    for sender in senders {
        times.add(sender.await??)?;
    }
    engine.drain(Duration::from_secs(5)).await;
    store.close().await?;
    Run::new(turn, times, &span)
}

struct Sender {
    engine: Engine,
    room: RoomId,
    user: UserId,
    text: String,
}

impl Sender {
    /// Sends one message after another.
    async fn send(self, span: Span) -> Result<Histogram<u64>> {
        let mut times = Times::new(span)?;
        loop {
            let publish =
                Publish::text(Target::Room(self.room.clone()), self.user.clone(), &self.text)
                    .id(MessageId::now_v7());
            let sent = Instant::now();
            self.engine.publish(publish).await.context("a send was refused")?;
            if !times.acknowledged(sent)? {
                return Ok(times.times);
            }
        }
    }
}
