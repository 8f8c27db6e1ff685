//! The knobs.

use std::path::PathBuf;
use std::time::Duration;

use im_core::state::StateLimits;

/// How a [`SledStore`](crate::SledStore) is opened.
///
/// ```
/// use im_store_sled::SledConfig;
/// let config = SledConfig::new("data").cache_bytes(16 << 20);
/// assert_eq!(config.max_batch, 512);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SledConfig {
    /// The folder. Made if it is not there; otherwise it must be empty or hold a store of this kind.
    pub path: PathBuf,
    /// Bytes of sled's page cache. 64 MiB by default, where sled's own default is 1 GiB. sled counts the size on disk:
    /// the worst case in memory is about twice this.
    pub cache_bytes: u64,
    /// Appends and other writes in one commit. 512 by default: enough that the sync is a small part of the cost, few
    /// enough that a commit takes some milliseconds.
    pub max_batch: usize,
    /// Bytes of content in one commit, but never fewer than one call's. 1 MiB by default.
    pub max_batch_bytes: usize,
    /// How long a commit waits for more writes to join it. Zero by default: while one commit syncs, the next one
    /// gathers, and that alone makes batches under load. A delay helps only where syncs are dear and load is uneven.
    pub commit_delay: Duration,
    /// Bytes of writes that wait for a commit, some 500 of overhead for each counted in. 16 MiB by default. When it is
    /// reached, callers wait for their place.
    pub queue_bytes: usize,
    /// Look-ups at the same time, each on a thread for blocking work. 8 by default; the others wait for their turn. Beside
    /// them, pages of logs, members and rooms are read by half of the cores, but by no more than this.
    pub max_reads: usize,
    /// How much state a room may hold. An update beyond it is discarded, so these should be no smaller than the
    /// engine's.
    pub state_limits: StateLimits,
}

impl SledConfig {
    /// The defaults, in this folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            cache_bytes: 64 << 20,
            max_batch: 512,
            max_batch_bytes: 1 << 20,
            commit_delay: Duration::ZERO,
            queue_bytes: 16 << 20,
            max_reads: 8,
            state_limits: StateLimits::default(),
        }
    }

    /// Sets [`SledConfig::cache_bytes`].
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets [`SledConfig::max_batch`]; at least 1.
    #[must_use]
    pub fn max_batch(mut self, count: usize) -> Self {
        self.max_batch = count.max(1);
        self
    }

    /// Sets [`SledConfig::max_batch_bytes`].
    #[must_use]
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// Sets [`SledConfig::commit_delay`].
    #[must_use]
    pub fn commit_delay(mut self, delay: Duration) -> Self {
        self.commit_delay = delay;
        self
    }

    /// Sets [`SledConfig::queue_bytes`].
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Sets [`SledConfig::max_reads`]; at least 1.
    #[must_use]
    pub fn max_reads(mut self, count: usize) -> Self {
        self.max_reads = count.max(1);
        self
    }

    /// Sets [`SledConfig::state_limits`].
    #[must_use]
    pub fn state_limits(mut self, limits: StateLimits) -> Self {
        self.state_limits = limits;
        self
    }
}
