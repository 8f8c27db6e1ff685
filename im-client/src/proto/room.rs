//! One room that is followed: where it is, and when to ask for it again.

use std::time::{Duration, Instant};

use im_core::Cursor;

use super::latest::RoomState;

/// A room that is followed.
#[derive(Debug)]
pub(super) struct Room {
    /// The last event that was handed to the application.
    pub(super) cursor: Cursor,
    /// What the server's checkpoint holds, as far as known. Never more than the truth.
    pub(super) confirmed: Option<Cursor>,
    pub(super) state: RoomState,
    /// How often it was asked for in vain.
    pub(super) tries: u32,
}

impl Room {
    pub(super) fn at(cursor: Cursor, confirmed: Option<Cursor>) -> Self {
        Self { cursor, confirmed, state: RoomState::default(), tries: 0 }
    }

    /// When to ask for what is missing. The first try is made at once; later ones wait, so that a server that cannot
    /// fill a gap is not flooded.
    pub(super) fn missed(&mut self, now: Instant) -> Instant {
        let pause = if self.tries == 0 { 0 } else { 100 << self.tries.min(8) };
        self.tries = self.tries.saturating_add(1);
        now + Duration::from_millis(pause)
    }

    /// When to ask again after a refusal that may pass: never at once, and not before `retry_after` is over.
    pub(super) fn refused(&mut self, now: Instant, retry_after: Option<Duration>) -> Instant {
        self.tries = self.tries.max(1);
        self.missed(now).max(now + retry_after.unwrap_or_default())
    }
}
