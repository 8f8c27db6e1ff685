//! The knobs of the transport.

use std::time::Duration;

use im_http::OriginPolicy;

/// The knobs of the transport. When a silent stream gets a heartbeat and how much waits for a reader is the engine's to
/// say; how long a write may take is the listener's ([`im_http::ListenerConfig`]).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SseConfig {
    /// Which pages may read. Pages of the same origin by default.
    pub origins: OriginPolicy,
    /// How long a browser waits before it takes up a stream that broke off (`retry:`). 1.5 s by default: soon, but not so
    /// soon that a server that restarts is met by all at once.
    pub retry: Duration,
    /// Bytes that are taken from the outbox at once. 16 KiB by default, as for WebSocket: a slow reader holds no more than
    /// this and what the HTTP server buffers beside its outbox. Worst case in memory: this and one frame per stream.
    pub max_write_bytes: usize,
}

impl Default for SseConfig {
    fn default() -> Self {
        Self {
            origins: OriginPolicy::SameOrigin,
            retry: Duration::from_millis(1500),
            max_write_bytes: 16 * 1024,
        }
    }
}

impl SseConfig {
    /// Sets [`Self::origins`].
    #[must_use]
    pub fn origins(mut self, origins: OriginPolicy) -> Self {
        self.origins = origins;
        self
    }

    /// Sets [`Self::retry`].
    #[must_use]
    pub fn retry(mut self, time: Duration) -> Self {
        self.retry = time;
        self
    }

    /// Sets [`Self::max_write_bytes`].
    #[must_use]
    pub fn max_write_bytes(mut self, bytes: usize) -> Self {
        self.max_write_bytes = bytes;
        self
    }
}
