//! The knobs of the transport.

use std::time::Duration;

/// The knobs of the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LongPollConfig {
    /// How long a poll is held while there is nothing to hand out, also where the client wishes for longer. 25 s by
    /// default: proxies often cut off at 30 s. Whole seconds.
    pub max_hold: Duration,
    /// Bytes of frames delivered at once, and one frame at least. 64 KiB by default: where many catch up, others wait for
    /// no more than that to be made and read. Worst case in memory: twice this for each answer while it is written, since
    /// the frames are joined.
    pub max_response_bytes: usize,
    /// How long a downlink is kept after a poll. 30 s by default: a client that polls on comes back within a few seconds,
    /// a short poller within its interval. None at all if zero.
    pub linger: Duration,
    /// Downlinks kept at the same time. 10,000 by default; beyond that no further one is kept, and its next poll reads the
    /// store. Worst case in memory: some 2 KB each, and its outbox, of which all together have the engine's bound.
    pub max_kept: usize,
}

impl Default for LongPollConfig {
    fn default() -> Self {
        Self {
            max_hold: Duration::from_secs(25),
            max_response_bytes: 64 * 1024,
            linger: Duration::from_secs(30),
            max_kept: 10_000,
        }
    }
}

impl LongPollConfig {
    /// Sets [`Self::max_hold`].
    #[must_use]
    pub fn max_hold(mut self, time: Duration) -> Self {
        self.max_hold = time;
        self
    }

    /// Sets [`Self::max_response_bytes`].
    #[must_use]
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// Sets [`Self::linger`].
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }

    /// Sets [`Self::max_kept`].
    #[must_use]
    pub fn max_kept(mut self, downlinks: usize) -> Self {
        self.max_kept = downlinks;
        self
    }
}
