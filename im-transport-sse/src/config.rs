//! Configuration of the transport.

use std::time::Duration;

/// Whether streams are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gzip {
    /// If the request accepts it (`Accept-Encoding`), as that of every browser does.
    #[default]
    WhenAsked,
    /// Never.
    Never,
}

/// Configuration of the transport. The engine sets the heartbeat interval and bounds the outbox;
/// the listener bounds the time of a write ([`im_http::ListenerConfig`]).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SseConfig {
    /// How long a browser waits before it resumes a broken stream (`retry:`). 1.5 s by default:
    /// short, but long enough that the clients of a restarting server do not all return at once.
    pub retry: Duration,
    /// Maximum bytes taken from the outbox at once. 16 KiB by default, as for WebSocket: a slow
    /// subscriber holds no more than this and the buffers of the HTTP server, besides its outbox.
    /// Worst case in memory: this and one frame per stream.
    pub max_write_bytes: usize,
    /// Whether streams are compressed. By default if the client accepts it: the stream shrinks to
    /// about a third. Each write is flushed, heartbeats included, so nothing is held back. Costs
    /// some 30 microseconds of CPU for each write to each stream. Worst case in memory: 4 KiB per
    /// stream, and a third of a MB for each thread of the runtime.
    ///
    /// The length of compressed data leaks information about its content, in spite of TLS. An
    /// attacker who observes the lengths on the network, and can write into a room of the
    /// subscriber, may guess recent content and see whether the data became shorter. Credentials,
    /// secrets and tickets are never sent on a stream; contents of other rooms are. To hide those
    /// from such an attacker, use [`Gzip::Never`].
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
