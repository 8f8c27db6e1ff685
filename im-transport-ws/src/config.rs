//! Configuration of the transport.

use std::time::Duration;

/// Configuration of the transport. The engine bounds the size of a message, the number of
/// connections and the idle time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WsConfig {
    /// Maximum bytes taken from the outbox for one write. 16 KiB by default: a hundred chat
    /// messages share a system call, and a slow peer holds no more than this besides its outbox.
    /// Worst case in memory: this and one frame per connection during a write.
    pub max_write_bytes: usize,
    /// Maximum of pings and pongs of a peer within 10 s. 100 by default: clients ping every few
    /// seconds at most. Above it the connection is closed with `RateLimited`; the engine limits
    /// commands separately.
    pub max_controls: u32,
    /// Maximum bytes of frame headers and masks for the fragments of one message. 16 KiB by
    /// default: some 2,000 fragments, while most clients send one. A message with more fragments,
    /// also empty ones without end, is closed with `RateLimited`.
    pub max_framing_bytes: usize,
    /// How long a peer may read nothing while bytes wait to be written, until it counts as gone. 10
    /// s by default. Beyond that time it must read 500 bytes a second, so a page of 256 KiB may
    /// take nine minutes. Worst case in memory: that page and [`Self::max_write_bytes`] per
    /// connection for as long.
    pub write_timeout: Duration,
    /// How long to wait for the peer's half of the closing handshake, or for a peer that ended only
    /// its own half to read the disconnect. 2 s by default: a few round trips. A peer that is gone
    /// holds its socket for no longer.
    pub close_timeout: Duration,
    /// How long the response 101 may take to be written. 10 s by default.
    pub upgrade_timeout: Duration,
    /// Shortest time between two writes. Zero by default, so that nothing is delayed. 50 ms, for
    /// example, produces fewer and larger packets; meanwhile frames wait in the outbox, within its
    /// bound.
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
