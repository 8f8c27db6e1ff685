//! The recorder that senders and the reopened store report to.

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

/// Takes down a history and judges it. Clones share it; it may be used from many threads at once.
#[derive(Debug, Clone, Default)]
pub struct Checker(Arc<Record>);

/// What all parts of a checker share.
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
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `sender` is about to send this. Call it before the bytes leave, for each attempt; the order of the first calls is
    /// the order that the log must keep.
    pub fn sent(&self, sender: &UserId, room: &RoomId, id: &MessageId, content: Fingerprint) {
        self.0.room(room).lock().sent(sender, id, content);
    }

    /// The send of this content was acknowledged: it stands at `at`. Call it for first sends and for repeats alike.
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

    /// The send of this content was refused for good or for now: nothing was kept by this attempt. If it is sent again,
    /// it has the place in its sender's order that the new attempt has. Not to be called where the outcome is unknown.
    pub fn refused(&self, sender: &UserId, room: &RoomId, id: &MessageId, content: Fingerprint) {
        self.0.room(room).lock().refused(sender, id, content);
    }

    /// A state key has this stamp now: the answer to `put_state` or `remove_state`.
    pub fn state_applied(&self, room: &RoomId, key: &StateKey, stamp: Stamp) {
        let log = self.0.room(room);
        let mut log = log.lock();
        let newest = log.applied.entry(key.clone()).or_insert(stamp);
        *newest = stamp.max(*newest);
    }

    /// `sender` is about to send this signal, once, and no other that says the same: nobody may get it twice. Signals that
    /// were not announced so are not looked at, since two of them may be alike.
    pub fn signal_sent(&self, sender: &UserId, room: &RoomId, content: Fingerprint) {
        self.0.room(room).lock().signals.insert((sender.clone(), content));
    }

    /// State that was written behind may have been lost: the server was killed. Forgets the stamps acknowledged so far.
    pub fn state_may_be_lost(&self) {
        for log in self.0.rooms.read().values() {
            log.lock().applied.clear();
        }
    }

    /// A subscriber, by whatever name helps to find it again in the report.
    pub fn subscriber(&self, name: impl Into<String>) -> Subscriber {
        Subscriber::new(name.into(), self.0.clone())
    }

    /// What the reopened store holds of a room: its head, its first kept event, and events, in one call or, page by
    /// page, in several.
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

    /// The reopened store has no such room.
    pub fn not_stored(&self, room: &RoomId) {
        self.0.room(room).lock().stored(None);
    }

    /// The rooms that were mentioned.
    pub fn rooms(&self) -> Vec<RoomId> {
        self.0.rooms.read().keys().cloned().collect()
    }

    /// A room's last event, as far as anybody has seen it: where a subscriber that is whole must come to.
    pub fn head(&self, room: &RoomId) -> Option<Cursor> {
        self.0.rooms.read().get(room)?.lock().head()
    }

    /// Judges what was taken down. Finish or drop all subscribers first.
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

/// Reads every room that was mentioned back from a store, page by page.
///
/// # Errors
///
/// The store's own.
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
