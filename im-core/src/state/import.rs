//! Import of a room that was exported from another store.

use crate::id::{Epoch, EventKind, MessageId, RoomId, Seq, UserId};
use crate::time::Timestamp;
use crate::wire::{Content, Event, RoomKind};

use super::append::Refusal;
use super::dedup::{ContentHash, IdempotencyRecord};
use super::room::{Membership, RoomRecord};

/// The properties of a room to be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedRoom {
    /// Its id.
    pub id: RoomId,
    /// Its kind.
    pub kind: RoomKind,
    /// Whether anyone may join.
    pub open: bool,
    /// When it was created.
    pub created: Timestamp,
    /// The seq of the first event of the import; at least 1. If it is greater, the events before it
    /// count as trimmed.
    pub first: Seq,
}

/// A part of the import. Empty parts do nothing.
#[derive(Debug, Clone, Default)]
pub struct ImportedPart {
    /// Memberships. Each user once in the whole import.
    pub memberships: Vec<(UserId, Membership)>,
    /// The next events, in their order.
    pub events: Vec<ImportedEvent>,
}

/// An event of the import.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedEvent {
    /// Its seq, which must be the next one: a part that is sent twice is refused.
    pub seq: Seq,
    /// The sender.
    pub from: UserId,
    /// The time of acceptance.
    pub at: Timestamp,
    /// The kind of the event.
    pub kind: EventKind,
    /// The id that the sender chose, and the hash of what was submitted: the store recognises a
    /// retry.
    pub send: Option<(MessageId, ContentHash)>,
    /// The content.
    pub content: Content,
}

impl ImportedRoom {
    /// The room before its first part, in an epoch of its own.
    pub fn begin(&self, epoch: Epoch) -> RoomRecord {
        let first = self.first.max(Seq::FIRST);
        RoomRecord {
            id: self.id.clone(),
            kind: self.kind,
            open: self.open,
            epoch,
            head: first.prev(),
            first,
            created: self.created,
            members: 0,
            bytes: 0,
            erased: 0,
        }
    }
}

/// The writes of one event of an import: see [`RoomRecord::import`].
pub type ImportedCommit = (Event, Option<(MessageId, IdempotencyRecord)>);

impl RoomRecord {
    /// Adds the next event of an import. Returns what to write in one commit with the record.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotNext`] if it is not the next one, [`Refusal::Exhausted`] at [`Seq::MAX`].
    pub fn import(&mut self, new: ImportedEvent) -> Result<ImportedCommit, Refusal> {
        let next = self.head.next();
        if next >= Seq::MAX {
            return Err(Refusal::Exhausted);
        }
        if new.seq != next {
            return Err(Refusal::NotNext);
        }
        let ImportedEvent { seq, from, at, kind, send, content } = new;
        self.head = seq;
        self.bytes = self.bytes.saturating_add(content.packed().len() as u64);
        let id = send.as_ref().map(|(id, _)| id.clone());
        let send = send.map(|(id, hash)| (id, IdempotencyRecord { seq, at, hash }));
        let (room, epoch) = (self.id.clone(), self.epoch);
        Ok((Event { room, epoch, seq, from, at, kind, id, content }, send))
    }
}
