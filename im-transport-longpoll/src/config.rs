//! Configuration of the transport.

use std::time::Duration;

/// Configuration of the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LongPollConfig {
    /// Maximum time that a poll is held without frames, also if the client requests more. 25 s by
    /// default: proxies often time out at 30 s. Whole seconds.
    pub max_hold: Duration,
    /// Maximum bytes of frames per response, with at least one frame. 64 KiB by default: if many
    /// clients catch up, others wait only for responses of this size to be built and read. Worst
    /// case in memory: twice this for each response during its write, because the frames are
    /// joined.
    pub max_response_bytes: usize,
    /// How long a downlink is kept after a poll. 30 s by default: a long poller polls again within
    /// a few seconds, a short poller within its interval. Zero keeps none.
    pub linger: Duration,
    /// Maximum of kept downlinks. 10,000 by default; beyond it a downlink is not kept, and its next
    /// poll reads the store. Worst case in memory: some 2 KB each, and their outboxes, which the
    /// engine bounds in total.
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
