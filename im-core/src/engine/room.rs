//! A room with subscribers on this node: the recent part of its log, its subscribers, and its state.
//!
//! Events are applied at head + 1 only, whatever order they arrive in; gaps are repaired from the store
//! ([`super::core`]'s `repair_gap`). A room without subscribers is not in memory.

mod state;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::id::{Cursor, Epoch, RoomId, Seq};
use crate::ports::{Head, StateSnapshot};
use crate::state::{RoomRecord, Sequencer, StateLimits, answer};
use crate::wire::Status;

use super::outbox::{EnqueueOutcome, Outbox, SubscriptionRef, SubscriptionStart};
use super::outgoing::{Outgoing, open_to_strangers};
use state::RoomState;
pub(crate) use state::StateHold;

/// Bounds of what rooms hold, and the budgets that all share.
#[derive(Debug)]
pub(crate) struct WindowBounds {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    pub(crate) all_bytes: usize,
    /// Bytes in all windows, of every form of their events.
    pub(crate) used: AtomicUsize,
    /// Bytes of keyed state that all rooms may hold.
    pub(crate) state_bytes: usize,
    /// Bytes of keyed state that they hold.
    pub(crate) state_used: AtomicUsize,
}

/// A room with subscribers on this node.
#[derive(Debug)]
pub(crate) struct Room {
    id: RoomId,
    inner: Mutex<Inner>,
    /// Set once the head was read from the store.
    pub(crate) loaded: OnceCell<()>,
    windows: Arc<WindowBounds>,
}

#[derive(Debug, Default)]
struct Inner {
    log: Option<Log>,
    /// Events that were committed while the head was being read.
    before_load: Vec<Arc<Outgoing>>,
    /// By id, so that a subscriber's index does not change.
    subscribers: Vec<Option<Subscriber>>,
    free: Vec<usize>,
    state: RoomState,
    /// Whether a task is repairing a gap from the store.
    repairing: bool,
    /// Whether the room was taken off the map and must not be used any more.
    retired: bool,
}

/// The recent part of the log.
///
/// Invariant: the window's events are consecutive and end at the sequencer's head.
#[derive(Debug)]
struct Log {
    cursor_epoch: Cursor,
    open: bool,
    sequencer: Sequencer<Arc<Outgoing>>,
    window: VecDeque<Arc<Outgoing>>,
    /// Bytes in the window, of every form of its events.
    bytes: usize,
    /// The first event that the store retains, as far as is known here.
    first: Seq,
    /// Bytes of events that the sequencer holds back, and of duplicates of them.
    early: usize,
    /// An event was kept since the last look for idle windows.
    touched: bool,
    /// Of the events in the log, how many were changed by erasures.
    erased: u64,
}

/// An entry of a room's list: an outbox that is subscribed.
#[derive(Debug, Clone)]
pub(crate) struct Subscriber {
    pub(crate) outbox: Arc<Outbox>,
    /// Id of the subscription in the outbox.
    pub(crate) subscription_id: u32,
    /// Index in the room's list.
    pub(crate) subscriber_id: usize,
}

impl Subscriber {
    pub(crate) fn subscription<'a>(&self, room: &'a Room) -> SubscriptionRef<'a> {
        SubscriptionRef {
            room,
            subscriber_id: self.subscriber_id,
            subscription_id: self.subscription_id,
        }
    }
}

/// What came of adding a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubscribeOutcome {
    /// The outbox is subscribed.
    Subscribed,
    /// The room was retired: it has to be activated again.
    RoomRetired,
    /// The connection has ended.
    Closed,
}

/// State of a room's window after an event was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The head is the high watermark.
    InSync,
    /// Events before the high watermark are missing: the caller repairs the gap. Not the status `gap`, which says that events
    /// were trimmed.
    GapDetected,
    /// The event is of another epoch: the caller reads the head again.
    OtherEpoch,
}

/// What a read of the window found after a cursor.
#[derive(Debug)]
pub(crate) enum WindowRead {
    /// These events.
    Events(Vec<Arc<Outgoing>>),
    /// Nothing: the cursor is at the head.
    AtHead(Seq),
    /// The window begins later: it has to be read from the store.
    Miss,
    /// The cursor is of another epoch.
    OtherEpoch,
}

/// Events that a room holds back while something before them is missing.
const EARLY_EVENTS: usize = 1024;

impl Room {
    pub(crate) fn new(id: RoomId, windows: Arc<WindowBounds>) -> Self {
        let inner = Mutex::default();
        Self { id, inner, loaded: OnceCell::new(), windows }
    }

    pub(crate) fn id(&self) -> &RoomId {
        &self.id
    }

    /// Takes what the store said of the room; its state is of this generation.
    pub(crate) fn load(
        &self,
        record: &RoomRecord,
        head: Head,
        state: StateSnapshot,
        generation: u64,
        limits: &StateLimits,
    ) -> Applied {
        let mut inner = self.inner.lock();
        // If it was set meanwhile, that is newer.
        inner.state.generation.get_or_insert(generation);
        inner.log = Some(Log {
            cursor_epoch: head.cursor,
            open: open_to_strangers(record),
            sequencer: Sequencer::new(head.cursor.seq, EARLY_EVENTS),
            window: VecDeque::new(),
            bytes: 0,
            first: head.first,
            early: 0,
            touched: false,
            erased: head.erased,
        });
        inner.merge_stored(self, state, limits);
        let mut wanted = Applied::InSync;
        for item in std::mem::take(&mut inner.before_load) {
            let applied = self.apply_locked(&mut inner, item);
            // A repair is asked for once; what asks for it must not be lost.
            if wanted == Applied::InSync {
                wanted = applied;
            }
        }
        wanted
    }

    /// Where the log ends, as far as it was applied here.
    pub(crate) fn head(&self) -> Option<Cursor> {
        self.inner.lock().log.as_ref().map(Log::head)
    }

    /// Of the events in the log, how many were changed by erasures, as far as is known here.
    pub(crate) fn erased(&self) -> u64 {
        self.inner.lock().log.as_ref().map_or(0, |log| log.erased)
    }

    // ---- subscribers ----

    /// Adds a subscriber that starts at `start`.
    pub(crate) fn add_subscriber(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        start: SubscriptionStart,
    ) -> SubscribeOutcome {
        let mut inner = self.inner.lock();
        if inner.retired {
            return SubscribeOutcome::RoomRetired;
        }
        let unknown = Cursor { seq: Seq::ZERO, ..start.cursor };
        let (head, erased) =
            inner.log.as_ref().map_or((unknown, 0), |log| (log.head(), log.erased));
        let subscriber_id = inner.free.pop().unwrap_or_else(|| {
            inner.subscribers.push(None);
            inner.subscribers.len() - 1
        });
        let in_sync = start.state_digest.is_some_and(|held| held == inner.state_digest());
        match outbox.subscribe(self.clone(), subscriber_id, start, head, erased, in_sync) {
            Some(subscription_id) => {
                inner.subscribers[subscriber_id] =
                    Some(Subscriber { outbox: outbox.clone(), subscription_id, subscriber_id });
                SubscribeOutcome::Subscribed
            }
            None => {
                inner.free_index(subscriber_id);
                SubscribeOutcome::Closed
            }
        }
    }

    /// Takes a subscriber that has unsubscribed off the list; not one of the same outbox that has subscribed again there.
    pub(crate) fn remove_subscriber(&self, subscriber_id: usize, outbox: &Arc<Outbox>) {
        let mut inner = self.inner.lock();
        let is_it = |r: &Subscriber| {
            Arc::ptr_eq(&r.outbox, outbox) && !outbox.is_subscribed(r.subscription(self))
        };
        if inner.subscribers.get(subscriber_id).and_then(Option::as_ref).is_some_and(is_it) {
            inner.free_subscriber(subscriber_id);
        }
    }

    /// Whether it has no subscribers.
    pub(crate) fn is_idle(&self) -> bool {
        let inner = self.inner.lock();
        inner.subscribers.len() == inner.free.len() && !inner.repairing
    }

    /// Retires the room if it has no subscribers. Called under the map's lock.
    pub(crate) fn retire_if_idle(&self) -> bool {
        let mut inner = self.inner.lock();
        let idle = inner.subscribers.len() == inner.free.len() && !inner.repairing;
        inner.retired |= idle;
        idle
    }

    // ---- events ----

    /// Takes an event that was committed, here or elsewhere, and fans out what is in order.
    pub(crate) fn apply(&self, item: Arc<Outgoing>) -> Applied {
        self.apply_locked(&mut self.inner.lock(), item)
    }

    /// The same for an event that was read from the log while [`Room::erased`] gave `erased`. `false` if there was an erasure
    /// since, which the event may be from before: read it again.
    pub(crate) fn apply_read(&self, item: Arc<Outgoing>, erased: u64) -> bool {
        let mut inner = self.inner.lock();
        let is_as_read = inner.log.as_ref().is_some_and(|log| log.erased == erased);
        if is_as_read {
            self.apply_locked(&mut inner, item);
        }
        is_as_read
    }

    fn apply_locked(&self, inner: &mut Inner, item: Arc<Outgoing>) -> Applied {
        let Some(event) = item.as_event() else { return Applied::InSync };
        let Some(log) = &mut inner.log else {
            let held: usize = inner.before_load.iter().map(|early| early.held()).sum();
            if inner.before_load.len() < EARLY_EVENTS && held < self.windows.bytes {
                inner.before_load.push(item);
            }
            return Applied::InSync;
        };
        if event.epoch != log.cursor_epoch.epoch {
            return Applied::OtherEpoch;
        }
        let (seq, size) = (event.seq, item.held());
        if seq <= log.sequencer.head().next() {
            log.sequencer.push(seq, item);
        } else if log.early + size <= self.windows.bytes {
            log.early += size;
            log.sequencer.push(seq, item);
        } else {
            // It is read from the store with what is missing before it.
            log.sequencer.raise_high_watermark(seq);
        }
        while let Some(item) = inner.log.as_mut().and_then(|log| log.sequencer.pop()) {
            self.add_to_window(inner, &item);
            inner.fan_out(self, &item);
        }
        if let Some(log) = inner.log.as_mut().filter(|log| !log.sequencer.holds_back()) {
            log.early = 0;
        }
        inner.gap_state()
    }

    /// The log goes up to `head` at least.
    pub(crate) fn raise_high_watermark(&self, head: Seq) -> Applied {
        let mut inner = self.inner.lock();
        if let Some(log) = &mut inner.log {
            log.sequencer.raise_high_watermark(head);
        }
        inner.gap_state()
    }

    /// A repair has ended. Returns whether another gap is to be repaired.
    pub(crate) fn repair_done(&self) -> Applied {
        let mut inner = self.inner.lock();
        inner.repairing = false;
        inner.gap_state()
    }

    /// A repair has failed; the next event or head check starts another.
    pub(crate) fn repair_failed(&self) {
        self.inner.lock().repairing = false;
    }

    fn add_to_window(&self, inner: &mut Inner, item: &Arc<Outgoing>) {
        let Some(log) = &mut inner.log else { return };
        log.touched = true;
        log.window.push_back(item.clone());
        log.bytes += item.held();
        self.windows.used.fetch_add(item.held(), Ordering::Relaxed);
        let over = |log: &Log| {
            let all = self.windows.used.load(Ordering::Relaxed) > self.windows.all_bytes;
            let own = log.window.len() > self.windows.events || log.bytes > self.windows.bytes;
            all || (own && log.window.len() > 1)
        };
        while over(log) {
            let Some(old) = log.window.pop_front() else { break };
            log.bytes -= old.held();
            self.windows.used.fetch_sub(old.held(), Ordering::Relaxed);
        }
    }

    /// Empties a window in which nothing was kept since this was called last.
    pub(crate) fn empty_idle_window(&self) {
        let mut inner = self.inner.lock();
        let Some(log) = &mut inner.log else { return };
        if !std::mem::take(&mut log.touched) {
            log.window = VecDeque::new();
            self.windows.used.fetch_sub(std::mem::take(&mut log.bytes), Ordering::Relaxed);
        }
    }

    /// What the window has after `cursor`, up to about `max_bytes`.
    pub(crate) fn read_window(&self, cursor: Cursor, max_bytes: usize) -> WindowRead {
        let inner = self.inner.lock();
        let Some(log) = &inner.log else { return WindowRead::Miss };
        if cursor.epoch != log.cursor_epoch.epoch {
            return WindowRead::OtherEpoch;
        }
        let head = log.sequencer.head();
        if cursor.seq >= head {
            return if log.sequencer.known() > head {
                WindowRead::Miss
            } else {
                WindowRead::AtHead(head)
            };
        }
        // The window ends at the head, so events are found by counting back from there.
        let missing = head.since(cursor.seq);
        let Some(begin) = (log.window.len() as u64).checked_sub(missing) else {
            return WindowRead::Miss;
        };
        let mut bytes = 0;
        let fits = |item: &&Arc<Outgoing>| {
            let first = bytes == 0;
            bytes += item.size;
            first || bytes <= max_bytes
        };
        WindowRead::Events(
            log.window.iter().skip(begin as usize).take_while(fits).cloned().collect(),
        )
    }

    /// Whether the log is of this epoch and still has this event, as far as is known here.
    pub(crate) fn retains(&self, cursor: Cursor) -> bool {
        let inner = self.inner.lock();
        let epoch = |log: &Log| log.cursor_epoch.epoch;
        inner.log.as_ref().is_some_and(|log| epoch(log) == cursor.epoch && log.first <= cursor.seq)
    }

    /// Whether strangers may read it.
    pub(crate) fn is_open_to_strangers(&self) -> bool {
        self.inner.lock().log.as_ref().is_some_and(|log| log.open)
    }

    /// Its subscribers now.
    pub(crate) fn subscribers(&self) -> Vec<Subscriber> {
        self.inner.lock().subscribers.iter().flatten().cloned().collect()
    }

    /// The first retained event of this epoch's log is `first`: earlier events leave the window.
    pub(crate) fn trim_window(&self, epoch: Epoch, first: Seq) {
        let mut inner = self.inner.lock();
        let Some(log) = inner.log.as_mut().filter(|log| log.cursor_epoch.epoch == epoch) else {
            return;
        };
        log.first = log.first.max(first);
        let is_gone = |item: &Arc<Outgoing>| item.as_event().is_some_and(|event| event.seq < first);
        let mut freed = 0;
        while log.window.front().is_some_and(is_gone) {
            freed += log.window.pop_front().map_or(0, |item| item.held());
        }
        log.bytes -= freed;
        self.windows.used.fetch_sub(freed, Ordering::Relaxed);
    }

    /// `erased` events of the log were changed by erasures. If that is news, what is held of it here is read again.
    pub(crate) fn rewritten(&self, erased: u64) {
        let mut inner = self.inner.lock();
        let Some(log) = inner.log.as_mut().filter(|log| log.erased != erased) else { return };
        log.erased = erased;
        log.window.clear();
        self.windows.used.fetch_sub(std::mem::take(&mut log.bytes), Ordering::Relaxed);
        let (head, high_watermark) = (log.sequencer.head(), log.sequencer.known());
        log.early = 0;
        log.sequencer = Sequencer::new(head, EARLY_EVENTS);
        log.sequencer.raise_high_watermark(high_watermark);
        inner.subscribers.iter().flatten().for_each(|subscriber| {
            subscriber.outbox.read_again(subscriber.subscription(self), erased)
        });
    }

    /// The room's epoch changed, its tail was lost, or the events after its head here were trimmed: all subscribers are reset to
    /// the head, or to the first retained event. `checked` are the subscribers with access. If there are others by now,
    /// nothing is done and `false` is returned: check them too.
    pub(crate) fn restart(&self, record: &RoomRecord, head: Head, checked: &[Subscriber]) -> bool {
        let mut inner = self.inner.lock();
        let is_checked = |subscriber: &Subscriber| {
            checked.iter().any(|other| Arc::ptr_eq(&other.outbox, &subscriber.outbox))
        };
        if !inner.subscribers.iter().flatten().all(is_checked) {
            return false;
        }
        let Some(log) = &mut inner.log else { return true };
        let from = log.cursor_epoch.epoch;
        let (status, to) = answer(log.head(), head.cursor, head.first);
        if status == Status::Ok {
            // Another call has done it.
            return true;
        }
        self.windows.used.fetch_sub(std::mem::take(&mut log.bytes), Ordering::Relaxed);
        log.cursor_epoch = to;
        log.open = open_to_strangers(record);
        log.early = 0;
        log.sequencer = Sequencer::new(to.seq, EARLY_EVENTS);
        log.sequencer.raise_high_watermark(head.cursor.seq);
        log.window.clear();
        log.first = head.first;
        log.erased = head.erased;
        if from != to.epoch {
            inner.state.clear(&self.windows);
        }
        let subscribers = inner.subscribers.iter().flatten();
        subscribers.for_each(|subscriber| {
            subscriber.outbox.restart(subscriber.subscription(self), from, status, to, head);
        });
        true
    }

    /// Enqueues a signal for every subscriber.
    pub(crate) fn signal(&self, item: &Arc<Outgoing>) {
        let inner = self.inner.lock();
        inner
            .subscribers
            .iter()
            .flatten()
            .for_each(|subscriber| subscriber.outbox.signal(item.clone()));
    }
}

impl Log {
    fn head(&self) -> Cursor {
        Cursor { epoch: self.cursor_epoch.epoch, seq: self.sequencer.head() }
    }
}

impl Inner {
    fn fan_out(&mut self, room: &Room, item: &Arc<Outgoing>) {
        let open = self.log.as_ref().is_some_and(|log| log.open);
        let mut gone = Vec::new();
        for subscriber in self.subscribers.iter().flatten() {
            if subscriber.outbox.enqueue_live(subscriber.subscription(room), item, open)
                == EnqueueOutcome::AccessLost
            {
                gone.push(subscriber.subscriber_id);
            }
        }
        gone.into_iter().for_each(|subscriber_id| self.free_subscriber(subscriber_id));
    }

    fn free_subscriber(&mut self, subscriber_id: usize) {
        if self.subscribers.get_mut(subscriber_id).and_then(Option::take).is_some() {
            self.free_index(subscriber_id);
        }
    }

    /// An index of the list is free.
    fn free_index(&mut self, subscriber_id: usize) {
        self.free.push(subscriber_id);
        if self.subscribers.len() == self.free.len() {
            self.subscribers = Vec::new();
            self.free = Vec::new();
        }
    }

    /// Whether the caller has to repair a gap.
    fn gap_state(&mut self) -> Applied {
        let missing =
            self.log.as_ref().is_some_and(|log| log.sequencer.known() > log.sequencer.head());
        if missing && !self.repairing {
            self.repairing = true;
            Applied::GapDetected
        } else {
            Applied::InSync
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let inner = self.inner.get_mut();
        inner.state.clear(&self.windows);
        if let Some(log) = &inner.log {
            self.windows.used.fetch_sub(log.bytes, Ordering::Relaxed);
        }
    }
}
