//! One subscribed room: its cursor, and when to request it again.

use std::time::{Duration, Instant};

use im_core::Cursor;

use super::latest::RoomState;

/// A subscribed room.
#[derive(Debug)]
pub(super) struct Room {
    /// The cursor: the last event delivered to the application.
    pub(super) cursor: Cursor,
    /// The cursor in the server's checkpoint, as far as known. Never ahead of it.
    pub(super) confirmed: Option<Cursor>,
    pub(super) state: RoomState,
    /// How often the room was requested without success.
    pub(super) tries: u32,
}

impl Room {
    pub(super) fn at(cursor: Cursor, confirmed: Option<Cursor>) -> Self {
        Self { cursor, confirmed, state: RoomState::default(), tries: 0 }
    }

    /// Returns when to request the missing events. The first try is made at once; later ones wait,
    /// so that a server that cannot close a gap is not flooded.
    pub(super) fn missed(&mut self, now: Instant) -> Instant {
        let pause = if self.tries == 0 { 0 } else { 100 << self.tries.min(8) };
        self.tries = self.tries.saturating_add(1);
        now + Duration::from_millis(pause)
    }

    /// Returns when to retry after a retryable refusal: never at once, and not before `retry_after`
    /// is over.
    pub(super) fn refused(&mut self, now: Instant, retry_after: Option<Duration>) -> Instant {
        self.tries = self.tries.max(1);
        self.missed(now).max(now + retry_after.unwrap_or_default())
    }
}
