//! The bytes of pending acks, of each connection and of all together.
//!
//! An ack counts from when it is encoded until the transport has written it
//! ([`Connection::release`], or the end of an [`Acks`](super::Acks) chunk). A connection at its
//! bound executes no further command: that is the back-pressure. A command whose ack may be large
//! reserves that much before it reads anything, so that pages being built count as well; if the
//! budget of all connections has no capacity for it, it waits a moment and is then refused.
//!
//! [`Connection::release`]: super::Connection::release

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::code::Code;
use crate::error::{Error, Result};
use crate::wire::CommandBody;

use super::config::EngineConfig;

/// Maximum wait of a command for capacity in the budget.
const PATIENCE: Duration = Duration::from_secs(2);
/// Retry delay in the refusal of a command for lack of capacity.
const COME_BACK: Duration = Duration::from_secs(1);
/// Maximum bytes of a room's status, and of a session's entry: ids, numbers and names of fields.
const ENTRY: usize = 512;

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The budget that the acks of all connections share.
#[derive(Debug)]
pub(crate) struct AckBudget {
    /// Bytes of one connection at which its next command waits.
    pub(crate) bytes: usize,
    all_bytes: usize,
    /// Bytes of a page while it is built.
    page_bytes: usize,
    used: AtomicUsize,
    /// Notified when bytes were freed.
    freed: Notify,
    /// Limits the pages encoded concurrently.
    encoding: Semaphore,
}

/// A reserved part of the budget; freed on drop.
#[derive(Debug)]
pub(crate) struct Reserved {
    budget: Arc<AckBudget>,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.remove(self.bytes);
    }
}

impl AckBudget {
    pub(crate) fn new(config: &EngineConfig) -> Self {
        Self {
            bytes: config.ack_bytes.max(1),
            all_bytes: config.acks_bytes.max(1),
            // The content read, and its encoding.
            page_bytes: config.max_page_bytes.saturating_mul(2),
            used: AtomicUsize::new(0),
            freed: Notify::new(),
            encoding: Semaphore::new(cores().div_ceil(2)),
        }
    }

    /// Waits for a turn at encoding a page. At most half of the cores, rounded up, encode pages;
    /// further requests wait without occupying a core. So other work continues, however many pages
    /// are requested.
    pub(crate) async fn turn_to_encode(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.encoding.acquire().await.ok()
    }

    /// Bytes pending or reserved now.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns whether the budget of all connections is spent.
    pub(crate) fn is_full(&self) -> bool {
        self.used() >= self.all_bytes
    }

    /// Returns whether so little is left that connections without write progress are disconnected.
    pub(crate) fn is_tight(&self) -> bool {
        self.used().saturating_add(self.page_bytes) >= self.all_bytes / 4 * 3
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            self.freed.notify_one();
        }
    }

    /// Reserves the maximum size of the ack of `body`.
    ///
    /// # Errors
    ///
    /// As [`AckBudget::reserve`].
    pub(crate) async fn reserve_for(
        self: &Arc<Self>,
        body: &CommandBody,
        config: &EngineConfig,
    ) -> Result<Reserved> {
        self.reserve(self.most(body, config)).await
    }

    /// Reserves the maximum size of the statuses of `rooms` rooms.
    ///
    /// # Errors
    ///
    /// As [`AckBudget::reserve`].
    pub(crate) async fn reserve_statuses(self: &Arc<Self>, rooms: usize) -> Result<Reserved> {
        self.reserve(rooms.saturating_mul(ENTRY)).await
    }

    /// Reserves `bytes`, or the whole budget if that is less.
    ///
    /// # Errors
    ///
    /// [`Code::Overloaded`] if there was no capacity for them within the wait.
    async fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reserved> {
        let bytes = bytes.min(self.all_bytes);
        if let Some(reserved) = self.try_reserve(bytes) {
            return Ok(reserved);
        }
        let waiting = async {
            loop {
                self.freed.notified().await;
                if let Some(reserved) = self.try_reserve(bytes) {
                    // There may be capacity for the next waiting command.
                    self.freed.notify_one();
                    return reserved;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(reserved) => Ok(reserved),
            Err(_) => Err(Error::of(Code::Overloaded, "page").retry_after(COME_BACK)),
        }
    }

    fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        let fits = |used: usize| {
            used.checked_add(bytes).filter(|sum| *sum <= self.all_bytes || bytes == 0)
        };
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Reserved { budget: self.clone(), bytes })
    }

    /// Maximum bytes of a command's ack while it is built; 0 for commands with small acks.
    fn most(&self, body: &CommandBody, config: &EngineConfig) -> usize {
        match body {
            CommandBody::History { .. }
            | CommandBody::Members { .. }
            | CommandBody::Rooms { .. } => self.page_bytes,
            CommandBody::Sessions => config.max_sessions_per_user.saturating_mul(ENTRY),
            // `resume` reserves its part once it knows its rooms.
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RoomId;
    use crate::wire::PageFrom;

    fn history() -> CommandBody {
        let from = PageFrom::Before(crate::id::Seq::MAX);
        CommandBody::History { room: RoomId::new("tea").unwrap(), epoch: None, from, limit: 10 }
    }

    #[tokio::test(start_paused = true)]
    async fn page_waits_for_freed_bytes() {
        let config = EngineConfig::default().max_page_bytes(100).acks_bytes(300);
        let budget = Arc::new(AckBudget::new(&config));
        let first = budget.reserve_for(&history(), &config).await.unwrap();
        assert_eq!(budget.used(), 200);
        let asked = history();
        let (second, ()) = tokio::join!(budget.reserve_for(&asked, &config), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(first);
        });
        assert_eq!(budget.used(), 200);
        drop(second.unwrap());
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn page_without_room_is_refused_retryably() {
        let config = EngineConfig::default().max_page_bytes(100).acks_bytes(300);
        let budget = Arc::new(AckBudget::new(&config));
        budget.add(200);
        let refused = budget.reserve_for(&history(), &config).await.unwrap_err();
        assert_eq!(refused.code(), Code::Overloaded);
        assert!(refused.is_retryable() && refused.delay().is_some());
        drop(budget.reserve_for(&CommandBody::Ping, &config).await.unwrap());
        assert_eq!(budget.used(), 200);
    }
}
