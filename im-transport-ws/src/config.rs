//! The knobs of the transport.

use std::time::Duration;

/// The knobs of the transport. How large a message may be, how many connections there may be and when a silent one ends
/// is the engine's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WsConfig {
    /// Bytes that are taken from the outbox and written at once. 16 KiB by default: a hundred chat messages share a
    /// system call, and a slow reader holds no more than this beside its outbox. Worst case in memory: this and one
    /// frame per connection, while it is being written.
    pub max_write_bytes: usize,
    /// Pings and pongs that a peer may send within 10 s. 100 by default: clients ping every few seconds at most. A
    /// faster one is closed with `RateLimited`; commands have the engine's own limit.
    pub max_controls: u32,
    /// Bytes of frame headers, and of masks, that the fragments of one message may have. 16 KiB by default: some 2,000 fragments,
    /// while most clients send one. A message in more of them, also in empty ones that never end, is closed with `RateLimited`.
    pub max_framing_bytes: usize,
    /// How long a peer may take nothing of what is written to it until it counts as gone. 10 s by default. Beyond that time
    /// it has to take 500 bytes a second, so a page of 256 KiB may take nine minutes; worst case in memory: that page and
    /// [`Self::max_write_bytes`] per connection for as long.
    pub write_timeout: Duration,
    /// How long to wait for the peer's half of the closing handshake, or for a peer that closed only its own half to
    /// take the goodbye. 2 s by default: a few round trips. A peer that is gone holds a socket for no longer.
    pub close_timeout: Duration,
    /// How long the answer 101 may take to go out. 10 s by default.
    pub upgrade_timeout: Duration,
    /// Shortest time between two writes. None by default, so nothing is ever delayed. 50 ms, say, makes fewer and
    /// larger packets for those who prefer them; what is due meanwhile waits in the outbox, under its bound.
    pub write_interval: Duration,
}

impl Default for WsConfig {
    fn default() -> Self {
        Self {
            max_write_bytes: 16 * 1024,
            max_controls: 100,
            max_framing_bytes: 16 * 1024,
            write_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            upgrade_timeout: Duration::from_secs(10),
            write_interval: Duration::ZERO,
        }
    }
}

impl WsConfig {
    /// Sets [`Self::max_write_bytes`].
    #[must_use]
    pub fn max_write_bytes(mut self, bytes: usize) -> Self {
        self.max_write_bytes = bytes;
        self
    }

    /// Sets [`Self::max_controls`].
    #[must_use]
    pub fn max_controls(mut self, frames: u32) -> Self {
        self.max_controls = frames;
        self
    }

    /// Sets [`Self::max_framing_bytes`].
    #[must_use]
    pub fn max_framing_bytes(mut self, bytes: usize) -> Self {
        self.max_framing_bytes = bytes;
        self
    }

    /// Sets [`Self::write_timeout`].
    #[must_use]
    pub fn write_timeout(mut self, time: Duration) -> Self {
        self.write_timeout = time;
        self
    }

    /// Sets [`Self::close_timeout`].
    #[must_use]
    pub fn close_timeout(mut self, time: Duration) -> Self {
        self.close_timeout = time;
        self
    }

    /// Sets [`Self::upgrade_timeout`].
    #[must_use]
    pub fn upgrade_timeout(mut self, time: Duration) -> Self {
        self.upgrade_timeout = time;
        self
    }

    /// Sets [`Self::write_interval`].
    #[must_use]
    pub fn write_interval(mut self, time: Duration) -> Self {
        self.write_interval = time;
        self
    }
}
