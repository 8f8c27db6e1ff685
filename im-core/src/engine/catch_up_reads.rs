//! Store reads for catch-up: each page once for all subscribers that need it, and few at a time.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::id::{Cursor, RoomId, Seq};
use crate::ports::{LogRange, Store};
use crate::wire::PageFrom;

use super::metrics;
use super::outbox::CatchUp;
use super::outgoing::Outgoing;
use super::page_cache::PageCache;

/// A page that several subscribers share.
#[derive(Debug, Clone)]
pub(crate) struct SharedPage {
    pub(crate) head: Cursor,
    pub(crate) first: Seq,
    /// Consecutive events.
    pub(crate) events: Vec<Arc<Outgoing>>,
}

impl SharedPage {
    /// The events after this seq.
    pub(crate) fn after(&self, seq: Seq) -> &[Arc<Outgoing>] {
        let is_before = |item: &Arc<Outgoing>| item.as_event().is_some_and(|e| e.seq <= seq);
        &self.events[self.events.partition_point(is_before)..]
    }
}

/// `None` if there is no such room. The error is a text, since it is shared.
type SharedPageResult = Result<Option<Arc<SharedPage>>, Arc<str>>;
type SharedRead = Shared<BoxFuture<'static, SharedPageResult>>;

/// The room, the cursor after which its log is read, and the subscriber's count of erasures: no
/// page from before an erasure is returned.
type Wanted = (RoomId, Cursor, u64);

/// The reads in progress.
pub(crate) struct CatchUpReads {
    reads: Arc<Mutex<HashMap<Wanted, SharedRead>>>,
    permits: Arc<Semaphore>,
    /// Reads continue when all callers were dropped, so that they release their permits.
    tasks: TaskTracker,
    page: usize,
    page_bytes: usize,
    cache: Arc<PageCache>,
}

impl CatchUpReads {
    /// Limits reads to `at_once` concurrent ones, each of a page of at most `page` events and about
    /// `page_bytes` bytes; pages of at most `cache_bytes` bytes are cached.
    pub(crate) fn new(
        tasks: TaskTracker,
        at_once: usize,
        (page, page_bytes): (usize, usize),
        cache_bytes: usize,
    ) -> Self {
        Self {
            reads: Arc::default(),
            permits: Arc::new(Semaphore::new(at_once.max(1))),
            tasks,
            page,
            page_bytes,
            cache: Arc::new(PageCache::new(cache_bytes)),
        }
    }

    /// Returns a cached page that contains the event after the subscriber's cursor. It may begin
    /// before that event.
    pub(crate) fn cached(&self, catch_up: &CatchUp) -> Option<Arc<SharedPage>> {
        // The cache may still contain trimmed events; then the store determines where the log
        // continues.
        let next = Cursor { seq: catch_up.after.seq.next(), ..catch_up.after };
        let retained = catch_up.room.retains(next);
        retained
            .then(|| self.cache.find(catch_up.room.id(), catch_up.after, catch_up.erased))
            .flatten()
    }

    /// Reads a page from the store that begins with the event after the subscriber's cursor, if
    /// there is one.
    pub(crate) async fn read(
        &self,
        store: &Arc<dyn Store>,
        catch_up: &CatchUp,
    ) -> SharedPageResult {
        let key = (catch_up.room.id().clone(), catch_up.after, catch_up.erased);
        let read =
            self.reads.lock().entry(key.clone()).or_insert_with(|| self.start(store, key)).clone();
        read.await
    }

    fn start(&self, store: &Arc<dyn Store>, key: Wanted) -> SharedRead {
        ::metrics::counter!(metrics::CATCH_UP_READS).increment(1);
        let (store, permits, reads) = (store.clone(), self.permits.clone(), self.reads.clone());
        let cache = self.cache.clone();
        let from = PageFrom::After(key.1.seq);
        let range = LogRange { from, limit: self.page, max_bytes: self.page_bytes };
        let read = self.tasks.spawn(async move {
            // The semaphore is never closed; without a permit the read would merely be unlimited.
            let _permit = permits.acquire().await;
            // A panic in the store must not block all later reads of this page.
            let read = AssertUnwindSafe(store.read(&key.0, range)).catch_unwind().await;
            let shared = match read {
                Ok(Ok(page)) => Ok(page.map(|page| {
                    let events = page.events.into_iter().map(Outgoing::event).collect();
                    Arc::new(SharedPage { head: page.head, first: page.first, events })
                })),
                Ok(Err(error)) => Err(error.to_string().into()),
                Err(_) => Err("the store panicked".into()),
            };
            // The count of erasures is valid in this epoch only.
            if let Ok(Some(page)) = &shared
                && page.head.epoch == key.1.epoch
            {
                cache.insert(&key.0, key.2, page);
            }
            // From here on a new subscriber starts a new read, which may find more.
            reads.lock().remove(&key);
            shared
        });
        async move { read.await.unwrap_or_else(|e| Err(e.to_string().into())) }.boxed().shared()
    }
}
