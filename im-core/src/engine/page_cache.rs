//! Pages of logs, cached for the subscribers that catch up behind the first one.
//!
//! Subscribers that fall behind in one room read the same events one after another. Without the
//! cache each of them costs the store its own reads, and the more subscribers are behind, the less
//! capacity the store has for appends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::id::{Cursor, Epoch, RoomId, Seq};

use super::catch_up_reads::SharedPage;
use super::metrics;

/// Cached pages, the least recently used evicted first.
///
/// Invariant: `bytes` is the sum of the pages' sizes and at most `max_bytes`; every page is in
/// `used` exactly once.
#[derive(Debug)]
pub(crate) struct PageCache {
    max_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By log, then by the seq of the first event.
    pages: HashMap<Log, BTreeMap<Seq, CachedPage>>,
    /// The page that was used at each turn.
    used: BTreeMap<u64, (Log, Seq)>,
    turn: u64,
    bytes: usize,
}

/// The log of a page. After an erasure `erased` differs, and older pages are not found any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Log {
    room: RoomId,
    epoch: Epoch,
    erased: u64,
}

#[derive(Debug)]
struct CachedPage {
    page: Arc<SharedPage>,
    last: Seq,
    bytes: usize,
    turn: u64,
}

impl PageCache {
    /// Creates a cache of at most `max_bytes` bytes.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, inner: Mutex::default() }
    }

    /// Returns the page that contains the event after `after`, read while the room counted `erased`
    /// erasures.
    pub(crate) fn find(
        &self,
        room: &RoomId,
        after: Cursor,
        erased: u64,
    ) -> Option<Arc<SharedPage>> {
        let log = Log { room: room.clone(), epoch: after.epoch, erased };
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let next = after.seq.next();
        let (first, held) = inner.pages.get_mut(&log)?.range_mut(..=next).next_back()?;
        if held.last < next {
            return None;
        }
        inner.used.remove(&held.turn);
        inner.turn += 1;
        held.turn = inner.turn;
        let (page, first) = (held.page.clone(), *first);
        inner.used.insert(inner.turn, (log, first));
        ::metrics::counter!(metrics::PAGE_CACHE_HITS).increment(1);
        Some(page)
    }

    /// Caches a page. A page that ends at the head is not cached: it grows, and the hot window has
    /// its end.
    pub(crate) fn insert(&self, room: &RoomId, erased: u64, page: &Arc<SharedPage>) {
        let seq = |event: Option<&Arc<super::outgoing::Outgoing>>| {
            event.and_then(|item| item.as_event()).map(|event| event.seq)
        };
        let (Some(first), Some(last)) = (seq(page.events.first()), seq(page.events.last())) else {
            return;
        };
        let bytes = page.events.iter().map(|item| item.held()).sum::<usize>();
        if last >= page.head.seq || bytes > self.max_bytes {
            return;
        }
        let log = Log { room: room.clone(), epoch: page.head.epoch, erased };
        let mut inner = self.inner.lock();
        inner.remove(&log, first);
        inner.turn += 1;
        let turn = inner.turn;
        inner.bytes += bytes;
        inner.used.insert(turn, (log.clone(), first));
        let held = CachedPage { page: page.clone(), last, bytes, turn };
        inner.pages.entry(log).or_default().insert(first, held);
        while inner.bytes > self.max_bytes {
            let Some((log, first)) = inner.used.values().next().cloned() else { break };
            inner.remove(&log, first);
        }
        ::metrics::gauge!(metrics::PAGE_CACHE_BYTES).set(inner.bytes as f64);
    }
}

impl Inner {
    fn remove(&mut self, log: &Log, first: Seq) {
        let Some(pages) = self.pages.get_mut(log) else { return };
        if let Some(held) = pages.remove(&first) {
            self.used.remove(&held.turn);
            self.bytes -= held.bytes;
        }
        if pages.is_empty() {
            self.pages.remove(log);
        }
    }
}

#[cfg(test)]
mod tests;
