//! Updates that come late, on purpose: what was published before is sent to the engine once more with its old stamp, and the
//! engine has to refuse it.

use std::collections::VecDeque;

use im_core::engine::Engine;
use im_core::wire::{Map, Value};
use im_core::{Code, Result, RoomId, Stamp, StateKey, UserId};

/// Updates that are remembered.
const REMEMBERED: usize = 32;
/// Late ones for each blow that asks for them.
const FOR_EACH: usize = 2;
/// Late ones at a time, however many blows there were.
const AT_ONCE: usize = 16;

/// What was published lately, and what became of it the second time.
#[derive(Debug, Default)]
pub struct Late {
    published: VecDeque<(StateKey, Value, Stamp)>,
    wanted: usize,
    sent: u32,
    refused: u32,
}

impl Late {
    /// A blow fell. `wanted`: whether its player wants to see late updates.
    pub fn asked(&mut self, wanted: bool) {
        if wanted {
            self.wanted = (self.wanted + FOR_EACH).min(AT_ONCE);
        }
    }

    /// This was published.
    pub fn remember(&mut self, key: StateKey, value: Value, stamp: Stamp) {
        self.published.push_back((key, value, stamp));
        if self.published.len() > REMEMBERED {
            self.published.pop_front();
        }
    }

    /// Sends as many old updates as were asked for, the newer of them before the older. Says how many.
    ///
    /// # Errors
    ///
    /// What the engine says but for [`Code::Stale`], which is counted.
    pub async fn resend(&mut self, engine: &Engine, room: &RoomId, from: &UserId) -> Result<usize> {
        // The newest of each of the two keys would be no late one.
        let old = self.published.len().saturating_sub(2);
        let wanted = std::mem::take(&mut self.wanted).min(old);
        for turn in 0..wanted {
            let (key, value, stamp) = &self.published[old - 1 - turn];
            self.sent = self.sent.saturating_add(1);
            match engine.put_state(room, key, Some(value), from, Some(*stamp)).await {
                Err(error) if error.code() == Code::Stale => {
                    self.refused = self.refused.saturating_add(1);
                }
                Err(error) => return Err(error),
                Ok(_) => tracing::error!(%stamp, "a late update was taken for a new one"),
            }
        }
        Ok(wanted)
    }

    /// The counts, to be published.
    pub fn value(&self) -> Value {
        Map::from_iter([("sent", self.sent), ("refused", self.refused)]).into()
    }
}
