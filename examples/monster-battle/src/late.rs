//! Late updates, on purpose: state that was published before is sent again with its old stamp, and
//! the engine has to refuse it.

use std::collections::VecDeque;

use im_core::engine::Engine;
use im_core::wire::{Map, Value};
use im_core::{Code, Result, RoomId, Stamp, StateKey, UserId};

/// Updates that are kept.
const REMEMBERED: usize = 32;
/// Late updates per hit that asks for them.
const FOR_EACH: usize = 2;
/// Maximum of late updates at a time.
const AT_ONCE: usize = 16;

/// Recently published updates, and the results of sending them again.
#[derive(Debug, Default)]
pub struct Late {
    published: VecDeque<(StateKey, Value, Stamp)>,
    wanted: usize,
    sent: u32,
    refused: u32,
}

impl Late {
    /// Records a hit. `wanted`: whether its player wants to see late updates.
    pub fn asked(&mut self, wanted: bool) {
        if wanted {
            self.wanted = (self.wanted + FOR_EACH).min(AT_ONCE);
        }
    }

    /// Records a published update.
    pub fn remember(&mut self, key: StateKey, value: Value, stamp: Stamp) {
        self.published.push_back((key, value, stamp));
        if self.published.len() > REMEMBERED {
            self.published.pop_front();
        }
    }

    /// Sends as many old updates as were asked for, newer ones first. Returns their number.
    ///
    /// # Errors
    ///
    /// Errors of the engine except [`Code::Stale`], which is counted.
    pub async fn resend(&mut self, engine: &Engine, room: &RoomId, from: &UserId) -> Result<usize> {
        // The newest update of each of the two keys would not be stale.
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
                Ok(_) => tracing::error!(%stamp, "a late update was accepted"),
            }
        }
        Ok(wanted)
    }

    /// Returns the counts as a state value.
    pub fn value(&self) -> Value {
        Map::from_iter([("sent", self.sent), ("refused", self.refused)]).into()
    }
}
