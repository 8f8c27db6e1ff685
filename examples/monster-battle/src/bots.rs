//! Families that fight by themselves, so that the first who opens the page finds a battle.

use std::time::Duration;

use im_core::engine::{Engine, Publish};
use im_core::wire::{Map, Target};
use im_core::{Code, UserId};

use crate::arena::Arena;
use crate::game::{FAMILIES, mix};

/// Their names; a family each, in turn.
const NAMES: [&str; 8] =
    ["Bramble", "Pebble", "Soot", "Clover", "Fern", "Ripple", "Quill", "Stripe"];

/// How many there can be.
pub const MOST: usize = NAMES.len();

/// Whether this name is a bot's.
pub fn is_bot(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Strikes now and then, as long as somebody is there to see it. Ends with the engine.
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
            Err(error) => tracing::debug!(%error, name, "a blow went nowhere"),
            Ok(_) => {}
        }
    }
}
