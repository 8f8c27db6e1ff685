//! Session records and checkpoints in memory.

use std::collections::{BTreeSet, HashMap};

use crate::id::{RoomId, SessionId, UserId};
use crate::state::{
    Checkpoint, CheckpointChange, SecretHash, SessionHead, SessionRecord, SubscriptionRecord,
    Ticket, Unchanged,
};
use crate::time::Timestamp;

/// All sessions.
///
/// Invariant: both indices hold exactly what `entries` holds.
#[derive(Default)]
pub(super) struct Sessions {
    entries: HashMap<SessionId, Entry>,
    by_user: HashMap<UserId, Vec<(Timestamp, SessionId)>>,
    by_expiry: BTreeSet<(Timestamp, SessionId)>,
}

struct Entry {
    record: SessionRecord,
    checkpoint: Packed,
    ticket: Option<Box<Ticket>>,
}

/// A checkpoint in the least room: most follow a room or two, and a tree's node has room for eleven.
#[derive(Default)]
struct Packed {
    rev: u64,
    rooms: Box<[(RoomId, SubscriptionRecord)]>,
}

impl Packed {
    fn of(checkpoint: Checkpoint) -> Self {
        Self { rev: checkpoint.rev, rooms: checkpoint.rooms.into_iter().collect() }
    }

    fn unpack(&self) -> Checkpoint {
        Checkpoint { rev: self.rev, rooms: self.rooms.iter().cloned().collect() }
    }
}

impl Sessions {
    pub(super) fn open(&mut self, record: SessionRecord) {
        self.remove(&record.id);
        let of_user =
            self.by_user.entry(record.user.clone()).or_insert_with(|| Vec::with_capacity(1));
        let place = (record.created, record.id.clone());
        of_user.insert(of_user.partition_point(|held| *held < place), place);
        self.by_expiry.insert((record.expires, record.id.clone()));
        let checkpoint = Packed::default();
        self.entries.insert(record.id.clone(), Entry { record, checkpoint, ticket: None });
    }

    pub(super) fn get(&self, id: &SessionId) -> Option<SessionRecord> {
        self.entries.get(id).map(|entry| entry.record.clone())
    }

    pub(super) fn of_user(&self, user: &UserId, limit: usize) -> Vec<SessionRecord> {
        let ids = self.by_user.get(user).into_iter().flatten();
        ids.filter_map(|(_, id)| self.get(id)).take(limit).collect()
    }

    pub(super) fn attach(&mut self, id: &SessionId, expires: Timestamp) -> Option<u64> {
        self.touch(id, expires);
        let record = &mut self.entries.get_mut(id)?.record;
        record.fencing_token += 1;
        Some(record.fencing_token)
    }

    pub(super) fn touch(&mut self, id: &SessionId, expires: Timestamp) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        self.by_expiry.remove(&(entry.record.expires, id.clone()));
        self.by_expiry.insert((expires, id.clone()));
        entry.record.expires = expires;
    }

    pub(super) fn head(&self, id: &SessionId) -> Option<SessionHead> {
        let entry = self.entries.get(id)?;
        Some(SessionHead { fencing_token: entry.record.fencing_token, rev: entry.checkpoint.rev })
    }

    pub(super) fn checkpoint(&self, id: &SessionId) -> Checkpoint {
        self.entries.get(id).map(|entry| entry.checkpoint.unpack()).unwrap_or_default()
    }

    pub(super) fn change_checkpoint(
        &mut self,
        id: &SessionId,
        change: &CheckpointChange,
    ) -> Result<u64, Unchanged> {
        let entry = self.entries.get_mut(id).ok_or(Unchanged::NoSession)?;
        let mut checkpoint = entry.checkpoint.unpack();
        let rev = checkpoint.apply(change)?;
        entry.checkpoint = Packed::of(checkpoint);
        Ok(rev)
    }

    pub(super) fn put_ticket(&mut self, id: &SessionId, ticket: Ticket) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.ticket = Some(Box::new(ticket));
        }
    }

    pub(super) fn open_ticket(&mut self, id: &SessionId, secret: &SecretHash) -> bool {
        let held = self.entries.get_mut(id).and_then(|entry| entry.ticket.as_deref_mut());
        match held {
            Some(ticket) if ticket.secret == *secret && !ticket.opened => {
                ticket.opened = true;
                true
            }
            _ => false,
        }
    }

    pub(super) fn ticket(&self, id: &SessionId) -> Option<Ticket> {
        self.entries.get(id)?.ticket.as_deref().cloned()
    }

    pub(super) fn end(&mut self, id: &SessionId) {
        self.remove(id);
    }

    pub(super) fn sweep(&mut self, now: Timestamp, limit: usize) -> usize {
        let expired = self.by_expiry.iter().take_while(|(expires, _)| *expires < now);
        let expired: Vec<SessionId> = expired.take(limit).map(|(_, id)| id.clone()).collect();
        expired.iter().filter_map(|id| self.remove(id)).count()
    }

    fn remove(&mut self, id: &SessionId) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        let record = &entry.record;
        self.by_expiry.remove(&(record.expires, id.clone()));
        if let Some(ids) = self.by_user.get_mut(&record.user) {
            ids.retain(|(_, held)| held != id);
            if ids.is_empty() {
                self.by_user.remove(&record.user);
            }
        }
        Some(entry)
    }
}
