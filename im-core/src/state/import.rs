//! Putting a room into a store that was taken out of another one.

use crate::id::{Epoch, EventKind, MessageId, RoomId, Seq, UserId};
use crate::time::Timestamp;
use crate::wire::{Content, Event, RoomKind};

use super::append::Refusal;
use super::dedup::{ContentHash, IdempotencyRecord};
use super::room::{Membership, RoomRecord};

/// What a room that is to be imported is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedRoom {
    /// Its id.
    pub id: RoomId,
    /// Its kind.
    pub kind: RoomKind,
    /// Whether anyone may join.
    pub open: bool,
    /// When it was made.
    pub created: Timestamp,
    /// The seq of the first event that will come; at least 1. Beyond that, what stood before it is told as trimmed.
    pub first: Seq,
}

/// A part of it. Empty parts do nothing.
#[derive(Debug, Clone, Default)]
pub struct ImportedPart {
    /// Who stands to it, and how. Each user once in the whole import.
    pub memberships: Vec<(UserId, Membership)>,
    /// The events that come next, in their order.
    pub events: Vec<ImportedEvent>,
}

/// One of its events.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedEvent {
    /// Its place, which must be the next one: so a part that is handed over twice is noticed.
    pub seq: Seq,
    /// Who sent it.
    pub from: UserId,
    /// When it was accepted.
    pub at: Timestamp,
    /// What sort of event.
    pub kind: EventKind,
    /// The id that its sender chose, and the hash of what was submitted: a retry is known again.
    pub send: Option<(MessageId, ContentHash)>,
    /// What it says.
    pub content: Content,
}

impl ImportedRoom {
    /// The room before its first part, in a life of its own.
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

/// What an event of an import writes: see [`RoomRecord::import`].
pub type ImportedCommit = (Event, Option<(MessageId, IdempotencyRecord)>);

impl RoomRecord {
    /// Takes the next event of an import. Gives what is to be written in one commit with the record.
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
