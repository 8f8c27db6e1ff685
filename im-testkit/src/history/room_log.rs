//! The checker's own copy of one room's log, and the sends to the room.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use im_core::wire::Content;
use im_core::{Cursor, Epoch, EventKind, MessageId, RoomId, Seq, Stamp, StateKey, UserId};

use super::verdict::{Rule, Tally};

/// 64 bits that represent kind and content of a message. Comparable within one run of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Returns the fingerprint of a sent or delivered content, which does not depend on the
    /// encoding.
    pub fn of(kind: &EventKind, content: &Content) -> Self {
        let mut hasher = DefaultHasher::new();
        kind.as_str().hash(&mut hasher);
        content.packed().hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Represents (sender, message id), or the sender alone for an event without an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn of(sender: &UserId, id: Option<&MessageId>) -> Self {
        let mut hasher = DefaultHasher::new();
        sender.as_str().hash(&mut hasher);
        id.map(MessageId::as_str).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The source of a statement about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Witness {
    Acknowledgement,
    Delivery,
    Store,
}

/// An entry of the log.
#[derive(Debug, Clone, Copy)]
struct LogEntry {
    key: Key,
    content: Fingerprint,
    stored: bool,
    has_id: bool,
}

/// One epoch of the room.
#[derive(Debug, Default)]
struct EpochLog {
    entries: HashMap<Seq, LogEntry>,
    /// The seq of each message.
    seqs: HashMap<Key, Seq>,
    last: Seq,
}

/// A message that was sent.
#[derive(Debug)]
struct Sent {
    sender: UserId,
    id: MessageId,
    content: Fingerprint,
    /// The number of its first attempt that was not refused.
    order: u64,
    acked: Option<Cursor>,
}

/// The bounds of the room in the reopened store.
#[derive(Debug, Clone, Copy)]
struct Stored {
    head: Cursor,
    first: Seq,
}

/// One room.
#[derive(Debug)]
pub(super) struct RoomLogCopy {
    room: RoomId,
    epochs: HashMap<Epoch, EpochLog>,
    sends: HashMap<Key, Sent>,
    next_order: u64,
    /// The epoch of the last ack.
    acked_epoch: Option<Epoch>,
    /// `Some(None)`: the store was read and has no such room.
    stored: Option<Option<Stored>>,
    /// The cursors of `gap` statuses: where history was said to begin.
    gaps: Vec<Cursor>,
    /// The newest acked stamp of each state key.
    pub(super) applied: BTreeMap<StateKey, Stamp>,
    /// The generation of the newest snapshot that any subscriber received.
    pub(super) generation: Option<u64>,
    /// Signals that were each sent once.
    pub(super) signals: HashSet<SignalKey>,
}

/// Sender and content of a signal.
pub(super) type SignalKey = (UserId, Fingerprint);

impl RoomLogCopy {
    pub(super) fn new(room: RoomId) -> Self {
        Self {
            room,
            epochs: HashMap::new(),
            sends: HashMap::new(),
            next_order: 0,
            acked_epoch: None,
            stored: None,
            gaps: Vec::new(),
            applied: BTreeMap::new(),
            generation: None,
            signals: HashSet::new(),
        }
    }

    pub(super) fn sent(&mut self, sender: &UserId, id: &MessageId, content: Fingerprint) {
        let order = self.next_order;
        let new = || Sent { sender: sender.clone(), id: id.clone(), content, order, acked: None };
        let sent = self.sends.entry(Key::of(sender, Some(id))).or_insert_with(new);
        if sent.order == order {
            self.next_order += 1;
        } else if sent.order == REFUSED {
            // Keep the content of the attempt that may have been stored.
            (sent.order, sent.content) = (order, content);
            self.next_order += 1;
        }
    }

    pub(super) fn refused(&mut self, sender: &UserId, id: &MessageId, content: Fingerprint) {
        if let Some(sent) = self.sends.get_mut(&Key::of(sender, Some(id)))
            && sent.acked.is_none()
            && sent.content == content
        {
            sent.order = REFUSED;
        }
    }

    pub(super) fn acked(
        &mut self,
        sender: &UserId,
        id: &MessageId,
        content: Fingerprint,
        at: Cursor,
        tally: &Tally,
    ) {
        self.acked_epoch = Some(at.epoch);
        let key = Key::of(sender, Some(id));
        self.witness(Witness::Acknowledgement, at, key, true, content, tally);
        match self.sends.get_mut(&key) {
            Some(sent) => sent.acked = Some(at),
            None => tally
                .add(Rule::Invented, || format!("{}: {id} was acked but never sent", self.room)),
        }
    }

    /// Compares an event with the copy. The first witness of an offset defines its entry; later
    /// ones must agree.
    pub(super) fn witness(
        &mut self,
        who: Witness,
        at: Cursor,
        key: Key,
        has_id: bool,
        content: Fingerprint,
        tally: &Tally,
    ) {
        let room = &self.room;
        let place = || format!("{room} {}/{}", at.epoch, at.seq);
        let epoch_log = self.epochs.entry(at.epoch).or_default();
        if let Some(entry) = epoch_log.entries.get_mut(&at.seq) {
            // If the store has another event there, the first one is not stored.
            entry.stored |= who == Witness::Store && entry.key == key;
            if entry.key != key {
                tally.add(Rule::Forked, || format!("{}: two different events", place()));
            } else if entry.content != content {
                let rule = if who == Witness::Acknowledgement {
                    Rule::ConflictAccepted
                } else {
                    Rule::Altered
                };
                tally.add(rule, || format!("{}: one message id with two contents", place()));
            }
            return;
        }
        epoch_log
            .entries
            .insert(at.seq, LogEntry { key, content, has_id, stored: who == Witness::Store });
        epoch_log.last = epoch_log.last.max(at.seq);
        if !has_id {
            return;
        }
        let first = *epoch_log.seqs.entry(key).or_insert(at.seq);
        if first != at.seq {
            tally.add(Rule::Duplicated, || format!("{}: the message of {first} again", place()));
        }
    }

    /// Records the bounds of the room in the store.
    pub(super) fn stored(&mut self, bounds: Option<(Cursor, Seq)>) {
        self.stored = Some(bounds.map(|(head, first)| Stored { head, first }));
    }

    pub(super) fn gap(&mut self, begins_after: Cursor) {
        self.gaps.push(begins_after);
    }

    /// Returns the greatest cursor that any witness named.
    pub(super) fn head(&self) -> Option<Cursor> {
        if let Some(Some(stored)) = self.stored {
            return Some(stored.head);
        }
        let epoch = self.acked_epoch.or_else(|| self.epochs.keys().next().copied())?;
        Some(Cursor {
            epoch,
            seq: self.epochs.get(&epoch).map_or(Seq::ZERO, |epoch_log| epoch_log.last),
        })
    }

    /// Checks what only the complete history shows.
    pub(super) fn close(&self, tally: &Tally) -> Counts {
        self.check_acked(tally);
        self.check_store(tally);
        self.check_gaps(tally);
        self.check_contents(tally);
        self.check_order(tally);
        Counts {
            sends: self.sends.len() as u64,
            acked: self.sends.values().filter(|sent| sent.acked.is_some()).count() as u64,
            stored: self
                .epochs
                .values()
                .flat_map(|epoch_log| epoch_log.entries.values())
                .filter(|entry| entry.stored)
                .count() as u64,
        }
    }

    fn check_acked(&self, tally: &Tally) {
        let Some(stored) = self.stored else { return };
        for sent in self.sends.values() {
            let Some(at) = sent.acked else { continue };
            let kept = stored.is_some_and(|stored| {
                at.epoch == stored.head.epoch && (at.seq < stored.first || self.is_stored(at))
            });
            if !kept {
                let detail = || {
                    format!("{}: {} was acked at {} and is not stored", self.room, sent.id, at.seq)
                };
                tally.add(Rule::Lost, detail);
            }
        }
    }

    fn is_stored(&self, at: Cursor) -> bool {
        self.epochs
            .get(&at.epoch)
            .and_then(|epoch_log| epoch_log.entries.get(&at.seq))
            .is_some_and(|entry| entry.stored)
    }

    fn check_store(&self, tally: &Tally) {
        let Some(Some(stored)) = self.stored else { return };
        let held = |epoch_log: &EpochLog| {
            epoch_log
                .entries
                .iter()
                .filter(|(seq, entry)| entry.stored && **seq >= stored.first)
                .count()
        };
        let held = self.epochs.get(&stored.head.epoch).map_or(0, held) as u64;
        let owed = stored.head.seq.since(stored.first.prev());
        tally.add_many(Rule::SilentGap, owed.saturating_sub(held), || {
            format!("{}: the store holds {held} of the {owed} events up to its head", self.room)
        });
    }

    fn check_gaps(&self, tally: &Tally) {
        let Some(Some(stored)) = self.stored else { return };
        for gap in &self.gaps {
            if gap.epoch == stored.head.epoch && gap.seq.next() > stored.first {
                let detail =
                    || format!("{}: a gap up to {} where nothing was trimmed", self.room, gap.seq);
                tally.add(Rule::PartialResume, detail);
            }
        }
    }

    fn check_contents(&self, tally: &Tally) {
        for (epoch, epoch_log) in &self.epochs {
            for (seq, entry) in epoch_log.entries.iter().filter(|(_, entry)| entry.has_id) {
                match self.sends.get(&entry.key) {
                    None => tally.add(Rule::Invented, || {
                        format!("{} {epoch}/{seq}: was never sent", self.room)
                    }),
                    Some(sent) if sent.content != entry.content => {
                        tally.add(Rule::Altered, || {
                            format!("{} {epoch}/{seq}: differs from what was sent", self.room)
                        });
                    }
                    Some(_) => {}
                }
            }
        }
    }

    /// Checks that the log has each sender's messages in the order of their first sends.
    fn check_order(&self, tally: &Tally) {
        for (epoch, epoch_log) in &self.epochs {
            let mut placed: Vec<_> = epoch_log
                .seqs
                .iter()
                .filter_map(|(key, seq)| {
                    self.sends.get(key).map(|sent| (&sent.sender, sent.order, *seq))
                })
                .filter(|(_, order, _)| *order != REFUSED)
                .collect();
            placed.sort_unstable();
            for pair in placed.windows(2) {
                let ((a, _, first), (b, _, second)) = (pair[0], pair[1]);
                if a == b && first > second {
                    let detail = || {
                        format!(
                            "{} {epoch}: {a}'s {second} was sent after {first} of the same sender",
                            self.room
                        )
                    };
                    tally.add(Rule::OutOfOrder, detail);
                }
            }
        }
    }
}

/// The order of a send of which every attempt was refused so far.
const REFUSED: u64 = u64::MAX;

/// The sums of one room.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) sends: u64,
    pub(super) acked: u64,
    pub(super) stored: u64,
}
