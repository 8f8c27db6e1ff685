//! Bots that fight, so that the first visitor of the page finds a battle.

use std::time::Duration;

use im_core::engine::{Engine, Publish};
use im_core::wire::{Map, Target};
use im_core::{Code, UserId};

use crate::arena::Arena;
use crate::game::{FAMILIES, mix};

/// Names of the bots; they are assigned to the families in turn.
const NAMES: [&str; 8] =
    ["Bramble", "Pebble", "Soot", "Clover", "Fern", "Ripple", "Quill", "Stripe"];

/// Maximum number of bots.
pub const MOST: usize = NAMES.len();

/// Returns whether this name is a bot's.
pub fn is_bot(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Strikes at intervals while a client is connected. Ends when the engine drains.
pub async fn fight(engine: Engine, arena: Arena, number: usize) {
    let name = NAMES[number % NAMES.len()];
    let family = FAMILIES[number % FAMILIES.len()];
    let Ok(user) = UserId::new(name) else { return };
    for turn in 0_u64.. {
        let pause = 600 + mix(turn * 64 + number as u64) % 2_000;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if engine.connections() == 0 {
            continue;
        }
        let hit = Publish {
            to: Target::Room(arena.room().clone()),
            from: user.clone(),
            kind: arena.hit_kind().clone(),
            content: Map::from_iter([("family", family)]).into(),
            id: None,
        };
        match engine.publish(hit).await {
            Err(error) if error.code() == Code::Draining => return,
            Err(error) => tracing::debug!(%error, name, "a hit was not stored"),
            Ok(_) => {}
        }
    }
}
