//! Reads of the store for readers who lag: each page once, however many want it, and few at a time.

use std::collections::HashMap;
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
use super::outbox::Lag;
use super::outgoing::Outgoing;

/// A page that several readers share.
#[derive(Debug, Clone)]
pub(crate) struct ColdPage {
    pub(crate) head: Cursor,
    pub(crate) first: Seq,
    pub(crate) events: Vec<Arc<Outgoing>>,
}

/// `None` if there is no such room; the error in words, since it is shared.
type ColdResult = Result<Option<Arc<ColdPage>>, Arc<str>>;
type Flight = Shared<BoxFuture<'static, ColdResult>>;

/// The room, the event after which its log is read, and what the reader knows of erasures: nobody is given a page that was
/// read before one.
type Wanted = (RoomId, Seq, u64);

/// Reads under way.
pub(crate) struct ColdReads {
    flights: Arc<Mutex<HashMap<Wanted, Flight>>>,
    permits: Arc<Semaphore>,
    /// Reads go on when whoever asked has gone away, so that they give back what they hold.
    tasks: TaskTracker,
    page: usize,
    page_bytes: usize,
}

impl ColdReads {
    /// At most `at_once` reads, each of a page of at most `page` events and about `page_bytes` bytes.
    pub(crate) fn new(tasks: TaskTracker, at_once: usize, page: usize, page_bytes: usize) -> Self {
        Self {
            flights: Arc::default(),
            permits: Arc::new(Semaphore::new(at_once.max(1))),
            tasks,
            page,
            page_bytes,
        }
    }

    /// The events that the reader lacks.
    pub(crate) async fn read(&self, store: &Arc<dyn Store>, lag: &Lag) -> ColdResult {
        let key = (lag.room.id().clone(), lag.after.seq, lag.erased);
        let flight = self
            .flights
            .lock()
            .entry(key.clone())
            .or_insert_with(|| self.start(store, key))
            .clone();
        flight.await
    }

    fn start(&self, store: &Arc<dyn Store>, key: Wanted) -> Flight {
        ::metrics::counter!(metrics::COLD_READS).increment(1);
        let (store, permits, flights) = (store.clone(), self.permits.clone(), self.flights.clone());
        let range =
            LogRange { from: PageFrom::After(key.1), limit: self.page, max_bytes: self.page_bytes };
        let read = self.tasks.spawn(async move {
            // The semaphore is never closed; without a permit the read would merely not be limited.
            let _permit = permits.acquire().await;
            let read = store.read(&key.0, range).await;
            // From here on a new reader starts a new read, which may find more.
            flights.lock().remove(&key);
            match read {
                Ok(page) => Ok(page.map(|page| {
                    let events = page.events.into_iter().map(Outgoing::event).collect();
                    Arc::new(ColdPage { head: page.head, first: page.first, events })
                })),
                Err(error) => Err(error.to_string().into()),
            }
        });
        async move { read.await.unwrap_or_else(|e| Err(e.to_string().into())) }.boxed().shared()
    }
}
