//! A room that somebody on this node follows: the recent part of its log, who reads it, and its state.
//!
//! Events are applied at head + 1 only, whatever order they arrive in; what is missing is filled from the store
//! ([`super::engine`]'s `fill`). A room that nobody follows is not in memory.

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

use super::outbox::{Offered, Outbox, Seat, Start};
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

/// A room that somebody on this node follows.
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
    /// By slot, so that a reader's place does not move.
    readers: Vec<Option<Reader>>,
    free: Vec<usize>,
    state: RoomState,
    /// Whether a task is filling the log from the store.
    filling: bool,
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
    /// Bytes of events that the sequencer holds back, and of repeats of them.
    early: usize,
    /// An event was kept since the last look for idle windows.
    touched: bool,
    /// Of the events in the log, how many were changed by erasures.
    erased: u64,
}

/// Somebody who reads a room.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) outbox: Arc<Outbox>,
    /// The room's place in the reader's list.
    pub(crate) slot: u32,
    /// The reader's place in the room's list.
    pub(crate) at: usize,
}

impl Reader {
    pub(crate) fn seat<'a>(&self, room: &'a Room) -> Seat<'a> {
        Seat { room, at: self.at, slot: self.slot }
    }
}

/// What came of adding a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It reads.
    Reads,
    /// The room has left the map: find it anew.
    Retired,
    /// The reader has gone.
    Gone,
}

/// What became of an event that a room was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The log is whole as far as it is known.
    Level,
    /// Events are missing; the caller has to see that they are filled in.
    Fill,
    /// The event belongs to another life of the room; the caller has to read its head anew.
    OtherEpoch,
}

/// What the window has after a cursor.
#[derive(Debug)]
pub(crate) enum Recent {
    /// These events.
    Events(Vec<Arc<Outgoing>>),
    /// Nothing: the cursor is at the head.
    Level(Seq),
    /// The window begins later; ask the store.
    Cold,
    /// The cursor is of another life of the room.
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
        // If it was renewed meanwhile, that is newer.
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
        let mut wanted = Applied::Level;
        for item in std::mem::take(&mut inner.before_load) {
            let applied = self.apply_locked(&mut inner, item);
            // A fill is asked for once; what asks for it must not be forgotten.
            if wanted == Applied::Level {
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

    // ---- readers ----

    /// Adds a reader, who begins at `start`.
    pub(crate) fn add_subscriber(self: &Arc<Self>, outbox: &Arc<Outbox>, start: Start) -> Added {
        let mut inner = self.inner.lock();
        if inner.retired {
            return Added::Retired;
        }
        let unknown = Cursor { seq: Seq::ZERO, ..start.from };
        let (head, erased) =
            inner.log.as_ref().map_or((unknown, 0), |log| (log.head(), log.erased));
        let at = inner.free.pop().unwrap_or_else(|| {
            inner.readers.push(None);
            inner.readers.len() - 1
        });
        let level = start.state.is_some_and(|held| held == inner.state_digest());
        match outbox.follow(self.clone(), at, start, head, erased, level) {
            Some(slot) => {
                inner.readers[at] = Some(Reader { outbox: outbox.clone(), slot, at });
                Added::Reads
            }
            None => {
                inner.give_back(at);
                Added::Gone
            }
        }
    }

    /// Takes the reader, who has stopped following, off the list; not one of the same outbox who has begun anew there.
    pub(crate) fn remove_subscriber(&self, at: usize, outbox: &Arc<Outbox>) {
        let mut inner = self.inner.lock();
        let is_it = |r: &Reader| Arc::ptr_eq(&r.outbox, outbox) && !outbox.follows(r.seat(self));
        if inner.readers.get(at).and_then(Option::as_ref).is_some_and(is_it) {
            inner.free_subscriber(at);
        }
    }

    /// Whether nobody reads it.
    pub(crate) fn is_idle(&self) -> bool {
        let inner = self.inner.lock();
        inner.readers.len() == inner.free.len() && !inner.filling
    }

    /// Takes the room out of use if nobody reads it. Called under the map's lock.
    pub(crate) fn retire_if_idle(&self) -> bool {
        let mut inner = self.inner.lock();
        let idle = inner.readers.len() == inner.free.len() && !inner.filling;
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
        let Some(event) = item.as_event() else { return Applied::Level };
        let Some(log) = &mut inner.log else {
            let held: usize = inner.before_load.iter().map(|early| early.held()).sum();
            if inner.before_load.len() < EARLY_EVENTS && held < self.windows.bytes {
                inner.before_load.push(item);
            }
            return Applied::Level;
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
            self.keep(inner, &item);
            inner.fan_out(self, &item);
        }
        if let Some(log) = inner.log.as_mut().filter(|log| !log.sequencer.holds_back()) {
            log.early = 0;
        }
        inner.gap_state()
    }

    /// Takes note that the log goes at least up to `head`.
    pub(crate) fn raise_high_watermark(&self, head: Seq) -> Applied {
        let mut inner = self.inner.lock();
        if let Some(log) = &mut inner.log {
            log.sequencer.raise_high_watermark(head);
        }
        inner.gap_state()
    }

    /// A fill has ended. Says whether there is more to fill.
    pub(crate) fn repair_done(&self) -> Applied {
        let mut inner = self.inner.lock();
        inner.filling = false;
        inner.gap_state()
    }

    /// A fill has failed; the next event or head check starts another.
    pub(crate) fn repair_failed(&self) {
        self.inner.lock().filling = false;
    }

    fn keep(&self, inner: &mut Inner, item: &Arc<Outgoing>) {
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
    pub(crate) fn recent(&self, cursor: Cursor, max_bytes: usize) -> Recent {
        let inner = self.inner.lock();
        let Some(log) = &inner.log else { return Recent::Cold };
        if cursor.epoch != log.cursor_epoch.epoch {
            return Recent::OtherEpoch;
        }
        let head = log.sequencer.head();
        if cursor.seq >= head {
            return if log.sequencer.high_watermark() > head {
                Recent::Cold
            } else {
                Recent::Level(head)
            };
        }
        // The window ends at the head, so places are found by counting back from there.
        let missing = head.since(cursor.seq);
        let Some(begin) = (log.window.len() as u64).checked_sub(missing) else {
            return Recent::Cold;
        };
        let mut bytes = 0;
        let fits = |item: &&Arc<Outgoing>| {
            let first = bytes == 0;
            bytes += item.size;
            first || bytes <= max_bytes
        };
        Recent::Events(log.window.iter().skip(begin as usize).take_while(fits).cloned().collect())
    }

    /// Whether the log is of this epoch and still has this event, as far as is known here.
    pub(crate) fn retains(&self, at: Cursor) -> bool {
        let inner = self.inner.lock();
        let epoch = |log: &Log| log.cursor_epoch.epoch;
        inner.log.as_ref().is_some_and(|log| epoch(log) == at.epoch && log.first <= at.seq)
    }

    /// Whether strangers may read it.
    pub(crate) fn is_open_to_strangers(&self) -> bool {
        self.inner.lock().log.as_ref().is_some_and(|log| log.open)
    }

    /// Who reads it now.
    pub(crate) fn readers(&self) -> Vec<Reader> {
        self.inner.lock().readers.iter().flatten().cloned().collect()
    }

    /// The log of this life begins at `first`: what the window has from before goes.
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

    /// So many events of the log were changed by erasures. If that is news, what is held of it here is read anew.
    pub(crate) fn rewritten(&self, erased: u64) {
        let mut inner = self.inner.lock();
        let Some(log) = inner.log.as_mut().filter(|log| log.erased != erased) else { return };
        log.erased = erased;
        log.window.clear();
        self.windows.used.fetch_sub(std::mem::take(&mut log.bytes), Ordering::Relaxed);
        let (head, known) = (log.sequencer.head(), log.sequencer.high_watermark());
        log.early = 0;
        log.sequencer = Sequencer::new(head, EARLY_EVENTS);
        log.sequencer.raise_high_watermark(known);
        inner
            .readers
            .iter()
            .flatten()
            .for_each(|reader| reader.outbox.read_again(reader.seat(self), erased));
    }

    /// The room is in another life, has lost its end, or has lost what comes next here: everybody starts again, from the
    /// head, or from where the log begins now. `checked` are the readers who may still read it. If there are others by
    /// now, nothing is done: check them too.
    pub(crate) fn restart(&self, record: &RoomRecord, head: Head, checked: &[Reader]) -> bool {
        let mut inner = self.inner.lock();
        let is_checked = |reader: &Reader| {
            checked.iter().any(|other| Arc::ptr_eq(&other.outbox, &reader.outbox))
        };
        if !inner.readers.iter().flatten().all(is_checked) {
            return false;
        }
        let Some(log) = &mut inner.log else { return true };
        let from = log.cursor_epoch.epoch;
        let (status, to) = answer(log.head(), head.cursor, head.first);
        if status == Status::Ok {
            // Somebody else has seen to it.
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
        let readers = inner.readers.iter().flatten();
        readers.for_each(|reader| {
            reader.outbox.restart(reader.seat(self), from, status, to, head);
        });
        true
    }

    /// Hands a signal to every reader.
    pub(crate) fn signal(&self, item: &Arc<Outgoing>) {
        let inner = self.inner.lock();
        inner.readers.iter().flatten().for_each(|reader| reader.outbox.signal(item.clone()));
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
        for reader in self.readers.iter().flatten() {
            if reader.outbox.offer(reader.seat(room), item, open) == Offered::Gone {
                gone.push(reader.at);
            }
        }
        gone.into_iter().for_each(|at| self.free_subscriber(at));
    }

    fn free_subscriber(&mut self, at: usize) {
        if self.readers.get_mut(at).and_then(Option::take).is_some() {
            self.give_back(at);
        }
    }

    /// A place on the list is free.
    fn give_back(&mut self, at: usize) {
        self.free.push(at);
        if self.readers.len() == self.free.len() {
            self.readers = Vec::new();
            self.free = Vec::new();
        }
    }

    /// Whether the caller has to start a fill.
    fn gap_state(&mut self) -> Applied {
        let missing = self
            .log
            .as_ref()
            .is_some_and(|log| log.sequencer.high_watermark() > log.sequencer.head());
        if missing && !self.filling {
            self.filling = true;
            Applied::Fill
        } else {
            Applied::Level
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
