//! The recorder for senders and the reopened store.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use im_core::ports::{LogRange, RoomLog, StoreResult};
use im_core::wire::{Event, PageFrom};
use im_core::{Cursor, MessageId, RoomId, Seq, Stamp, StateKey, UserId};
use parking_lot::{Mutex, RwLock};

use super::room_log::{Fingerprint, Key, RoomLogCopy, Witness};
use super::subscriber::Subscriber;
use super::verdict::{Tally, Verdict};

/// Records a history and judges it. Clones share the record; usable from many threads at once.
#[derive(Debug, Clone, Default)]
pub struct Checker(Arc<Record>);

/// The state that all parts of a checker share.
#[derive(Debug, Default)]
pub(super) struct Record {
    rooms: RwLock<HashMap<RoomId, Arc<Mutex<RoomLogCopy>>>>,
    pub(super) tally: Tally,
    pub(super) deliveries: AtomicU64,
}

impl Record {
    pub(super) fn room(&self, room: &RoomId) -> Arc<Mutex<RoomLogCopy>> {
        if let Some(log) = self.rooms.read().get(room) {
            return log.clone();
        }
        let new = || Arc::new(Mutex::new(RoomLogCopy::new(room.clone())));
        self.rooms.write().entry(room.clone()).or_insert_with(new).clone()
    }
}

impl Checker {
    /// Creates a checker without a history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a send. Call it before the bytes leave, for each attempt: the order of the first
    /// calls is the order that the log must have.
    pub fn sent(&self, sender: &UserId, room: &RoomId, id: &MessageId, content: Fingerprint) {
        self.0.room(room).lock().sent(sender, id, content);
    }

    /// Records an ack: the content is stored at `at`. Call it for first sends and duplicates alike.
    pub fn acked(
        &self,
        sender: &UserId,
        room: &RoomId,
        id: &MessageId,
        content: Fingerprint,
        at: Cursor,
    ) {
        self.0.room(room).lock().acked(sender, id, content, at, &self.0.tally);
    }

    /// Records a retryable or final refusal: this attempt stored nothing. A retry has the place in
    /// the sender order of the new attempt. Not to be called if the outcome is unknown.
    pub fn refused(&self, sender: &UserId, room: &RoomId, id: &MessageId, content: Fingerprint) {
        self.0.room(room).lock().refused(sender, id, content);
    }

    /// Records the stamp of a state key from the ack of `put_state` or `remove_state`.
    pub fn state_applied(&self, room: &RoomId, key: &StateKey, stamp: Stamp) {
        let log = self.0.room(room);
        let mut log = log.lock();
        let newest = log.applied.entry(key.clone()).or_insert(stamp);
        *newest = stamp.max(*newest);
    }

    /// Records a signal that is sent once, before the bytes leave, with content that no other
    /// signal has: no subscriber may receive it twice. Signals that were not recorded are ignored,
    /// since two of them may be equal.
    pub fn signal_sent(&self, sender: &UserId, room: &RoomId, content: Fingerprint) {
        self.0.room(room).lock().signals.insert((sender.clone(), content));
    }

    /// Records that written-behind state may be lost, after a kill of the server. Drops the acked
    /// stamps.
    pub fn state_may_be_lost(&self) {
        for log in self.0.rooms.read().values() {
            log.lock().applied.clear();
        }
    }

    /// Creates a subscriber; `name` identifies it in the report.
    pub fn subscriber(&self, name: impl Into<String>) -> Subscriber {
        Subscriber::new(name.into(), self.0.clone())
    }

    /// Records a room of the reopened store: its head, its first retained event, and events, in one
    /// call or page by page.
    pub fn stored(
        &self,
        room: &RoomId,
        head: Cursor,
        first: Seq,
        events: impl IntoIterator<Item = impl Borrow<Event>>,
    ) {
        let log = self.0.room(room);
        let mut log = log.lock();
        log.stored(Some((head, first)));
        for event in events {
            let event = event.borrow();
            let key = Key::of(&event.from, event.id.as_ref());
            let content = Fingerprint::of(&event.kind, &event.content);
            let at = Cursor { epoch: event.epoch, seq: event.seq };
            log.witness(Witness::Store, at, key, event.id.is_some(), content, &self.0.tally);
        }
    }

    /// Records that the reopened store has no such room.
    pub fn not_stored(&self, room: &RoomId) {
        self.0.room(room).lock().stored(None);
    }

    /// Returns all rooms of the history.
    pub fn rooms(&self) -> Vec<RoomId> {
        self.0.rooms.read().keys().cloned().collect()
    }

    /// Returns the last event of a room that any witness named: a subscriber in sync must reach it.
    pub fn head(&self, room: &RoomId) -> Option<Cursor> {
        self.0.rooms.read().get(room)?.lock().head()
    }

    /// Judges the history. Finish or drop all subscribers first.
    pub fn finish(self) -> Verdict {
        let mut verdict =
            Verdict { deliveries: self.0.deliveries.load(Ordering::Relaxed), ..Verdict::default() };
        for log in self.0.rooms.read().values() {
            let counts = log.lock().close(&self.0.tally);
            verdict.sends += counts.sends;
            verdict.acked += counts.acked;
            verdict.stored += counts.stored;
        }
        (verdict.broken, verdict.examples) = self.0.tally.read();
        verdict
    }
}

/// Reads every room of the history back from a store, page by page.
///
/// # Errors
///
/// If the store fails.
pub async fn read_back(checker: &Checker, store: &(impl RoomLog + ?Sized)) -> StoreResult<()> {
    for room in checker.rooms() {
        let mut after = Seq::ZERO;
        loop {
            let range = LogRange { from: PageFrom::After(after), limit: 1000, max_bytes: 4 << 20 };
            let Some(page) = store.read(&room, range).await? else {
                checker.not_stored(&room);
                break;
            };
            let last = page.events.last().map(|event| event.seq);
            checker.stored(&room, page.head, page.first, page.events);
            match last {
                Some(last) if last > after => after = last,
                _ => break,
            }
        }
    }
    Ok(())
}
