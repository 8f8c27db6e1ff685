//! The knobs of the transport.

use std::time::Duration;

/// Whether streams are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gzip {
    /// Where the request says that its client can read it (`Accept-Encoding`), as every browser does.
    #[default]
    WhenAsked,
    /// Never.
    Never,
}

/// The knobs of the transport. When a silent stream gets a heartbeat and how much waits for a reader is the engine's to
/// say; how long a write may take is the listener's ([`im_http::ListenerConfig`]).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SseConfig {
    /// How long a browser waits before it takes up a stream that broke off (`retry:`). 1.5 s by default: soon, but not so
    /// soon that a server that restarts is met by all at once.
    pub retry: Duration,
    /// Bytes that are taken from the outbox at once. 16 KiB by default, as for WebSocket: a slow reader holds no more than
    /// this and what the HTTP server buffers beside its outbox. Worst case in memory: this and one frame per stream.
    pub max_write_bytes: usize,
    /// Whether streams are compressed. Where the client can read it, by default: what comes down shrinks to a third or so.
    /// Each write is flushed, heartbeats included, so nothing is held back. Costs some 30 microseconds of a processor for each write
    /// to each stream. Worst case in memory: 4 KiB per stream, and a third of a MB for each thread of the runtime.
    ///
    /// What is compressed betrays something by its length, in spite of TLS: whoever sees the length of what goes over the network, and
    /// can write into a room that the reader follows, may guess at what came down just before and see whether it became
    /// shorter. Credentials, secrets and tickets never come down a stream; contents of other rooms do. Where those must be
    /// hidden from such a person: [`Gzip::Never`].
    pub gzip: Gzip,
}

impl Default for SseConfig {
    fn default() -> Self {
        Self {
            retry: Duration::from_millis(1500),
            max_write_bytes: 16 * 1024,
            gzip: Gzip::WhenAsked,
        }
    }
}

impl SseConfig {
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

    /// Sets [`Self::gzip`].
    #[must_use]
    pub fn gzip(mut self, gzip: Gzip) -> Self {
        self.gzip = gzip;
        self
    }
}
