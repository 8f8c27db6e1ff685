//! A room with subscribers on this node: the recent part of its log, its subscribers, and its
//! state.
//!
//! Events are applied at head + 1 only, in any order of arrival; gaps are repaired from the store
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

/// Bounds of a room's memory, and the budgets that all rooms share.
#[derive(Debug)]
pub(crate) struct WindowBounds {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    pub(crate) all_bytes: usize,
    /// Bytes in all windows, of every form of their events.
    pub(crate) used: AtomicUsize,
    /// Budget of keyed state of all rooms, in bytes.
    pub(crate) state_bytes: usize,
    /// Bytes of keyed state of all rooms.
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
    /// Events committed while the head was being read.
    before_load: Vec<Arc<Outgoing>>,
    /// Indexed by id, so that a subscriber's index does not change.
    subscribers: Vec<Option<Subscriber>>,
    free: Vec<usize>,
    state: RoomState,
    /// Whether a task is repairing a gap from the store.
    repairing: bool,
    /// Whether the room was removed from the map and must not be used any more.
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
    /// Bytes of buffered early events in the sequencer, including duplicates of them.
    early: usize,
    /// An event was added since the last check for idle windows.
    touched: bool,
    /// The number of events in the log changed by erasures.
    erased: u64,
}

/// An entry of a room's list: a subscribed outbox.
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

/// The outcome of adding a subscriber.
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
    /// Events before the high watermark are missing: the caller repairs the gap. Not the status
    /// `gap`, which reports trimmed events.
    GapDetected,
    /// The event is of another epoch: the caller reads the head again.
    OtherEpoch,
}

/// The result of a read of the window after a cursor.
#[derive(Debug)]
pub(crate) enum WindowRead {
    /// These events.
    Events(Vec<Arc<Outgoing>>),
    /// Nothing: the cursor is at the head.
    AtHead(Seq),
    /// The window begins after the cursor: read the store.
    Miss,
    /// The cursor is of another epoch.
    OtherEpoch,
}

/// Maximum early events buffered while their predecessors are missing.
const EARLY_EVENTS: usize = 1024;

impl Room {
    pub(crate) fn new(id: RoomId, windows: Arc<WindowBounds>) -> Self {
        let inner = Mutex::default();
        Self { id, inner, loaded: OnceCell::new(), windows }
    }

    pub(crate) fn id(&self) -> &RoomId {
        &self.id
    }

    /// Initialises the room from the store; its state is of this generation.
    pub(crate) fn load(
        &self,
        record: &RoomRecord,
        head: Head,
        state: StateSnapshot,
        generation: u64,
        limits: &StateLimits,
    ) -> Applied {
        let mut inner = self.inner.lock();
        // A generation set meanwhile is newer.
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
            // Only one event requests the repair; its request must not be lost.
            if wanted == Applied::InSync {
                wanted = applied;
            }
        }
        wanted
    }

    /// The head, as far as it was applied here.
    pub(crate) fn head(&self) -> Option<Cursor> {
        self.inner.lock().log.as_ref().map(Log::head)
    }

    /// The number of events in the log changed by erasures, as far as is known here.
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

    /// Removes an ended subscription from the list, unless the same outbox has subscribed again at
    /// this index.
    pub(crate) fn remove_subscriber(&self, subscriber_id: usize, outbox: &Arc<Outbox>) {
        let mut inner = self.inner.lock();
        let is_it = |r: &Subscriber| {
            Arc::ptr_eq(&r.outbox, outbox) && !outbox.is_subscribed(r.subscription(self))
        };
        if inner.subscribers.get(subscriber_id).and_then(Option::as_ref).is_some_and(is_it) {
            inner.free_subscriber(subscriber_id);
        }
    }

    /// Returns whether it has no subscribers.
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

    /// Applies an event committed on any node, and fans out all events that are in order.
    pub(crate) fn apply(&self, item: Arc<Outgoing>) -> Applied {
        self.apply_locked(&mut self.inner.lock(), item)
    }

    /// Applies an event read from the log while [`Room::erased`] returned `erased`. Returns `false`
    /// after an erasure in between: the event may be stale, so read it again.
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
            // It is read from the store together with its missing predecessors.
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

    /// Raises the high watermark: the log extends to `head` at least.
    pub(crate) fn raise_high_watermark(&self, head: Seq) -> Applied {
        let mut inner = self.inner.lock();
        if let Some(log) = &mut inner.log {
            log.sequencer.raise_high_watermark(head);
        }
        inner.gap_state()
    }

    /// Ends a repair. Returns whether another gap is to be repaired.
    pub(crate) fn repair_done(&self) -> Applied {
        let mut inner = self.inner.lock();
        inner.repairing = false;
        inner.gap_state()
    }

    /// Ends a failed repair; the next event or head check starts another.
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

    /// Empties a window without events since the last call.
    pub(crate) fn empty_idle_window(&self) {
        let mut inner = self.inner.lock();
        let Some(log) = &mut inner.log else { return };
        if !std::mem::take(&mut log.touched) {
            log.window = VecDeque::new();
            self.windows.used.fetch_sub(std::mem::take(&mut log.bytes), Ordering::Relaxed);
        }
    }

    /// Returns the window's events after `cursor`, up to about `max_bytes`.
    pub(crate) fn read_window(&self, cursor: Cursor, max_bytes: usize) -> WindowRead {
        let inner = self.inner.lock();
        let Some(log) = &inner.log else { return WindowRead::Miss };
        if cursor.epoch != log.cursor_epoch.epoch {
            return WindowRead::OtherEpoch;
        }
        let head = log.sequencer.head();
        if cursor.seq >= head {
            return if log.sequencer.high_watermark() > head {
                WindowRead::Miss
            } else {
                WindowRead::AtHead(head)
            };
        }
        // The window ends at the head, so the position is found by counting back from there.
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

    /// Returns whether the log is of this epoch and retains this event, as far as is known here.
    pub(crate) fn retains(&self, cursor: Cursor) -> bool {
        let inner = self.inner.lock();
        let epoch = |log: &Log| log.cursor_epoch.epoch;
        inner.log.as_ref().is_some_and(|log| epoch(log) == cursor.epoch && log.first <= cursor.seq)
    }

    /// Returns whether non-members may read it.
    pub(crate) fn is_open_to_strangers(&self) -> bool {
        self.inner.lock().log.as_ref().is_some_and(|log| log.open)
    }

    /// The current subscribers.
    pub(crate) fn subscribers(&self) -> Vec<Subscriber> {
        self.inner.lock().subscribers.iter().flatten().cloned().collect()
    }

    /// Trims the window of this epoch's log: events before the first retained one, `first`, are
    /// dropped.
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

    /// Updates the number of events changed by erasures. If it changed, cached and enqueued events
    /// of the log are dropped and read again.
    pub(crate) fn rewritten(&self, erased: u64) {
        let mut inner = self.inner.lock();
        let Some(log) = inner.log.as_mut().filter(|log| log.erased != erased) else { return };
        log.erased = erased;
        log.window.clear();
        self.windows.used.fetch_sub(std::mem::take(&mut log.bytes), Ordering::Relaxed);
        let (head, high_watermark) = (log.sequencer.head(), log.sequencer.high_watermark());
        log.early = 0;
        log.sequencer = Sequencer::new(head, EARLY_EVENTS);
        log.sequencer.raise_high_watermark(high_watermark);
        inner.subscribers.iter().flatten().for_each(|subscriber| {
            subscriber.outbox.read_again(subscriber.subscription(self), erased)
        });
    }

    /// Restarts all subscribers at the head or at the first retained event, since the room's epoch
    /// changed, its tail was lost, or the events after the local head were trimmed.
    ///
    /// `checked` are the subscribers with access. If there are others by now, this does nothing and
    /// returns `false`: check them too.
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

    /// Enqueues an ephemeral message for every subscriber.
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

    /// Returns an index of the list to the free ones.
    fn free_index(&mut self, subscriber_id: usize) {
        self.free.push(subscriber_id);
        if self.subscribers.len() == self.free.len() {
            self.subscribers = Vec::new();
            self.free = Vec::new();
        }
    }

    /// Returns whether the caller has to repair a gap.
    fn gap_state(&mut self) -> Applied {
        let missing = self
            .log
            .as_ref()
            .is_some_and(|log| log.sequencer.high_watermark() > log.sequencer.head());
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
