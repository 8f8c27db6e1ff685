//! Session records and checkpoints in memory.

use std::collections::{BTreeSet, HashMap};

use crate::id::{Cursor, RoomId, SessionId, UserId};
use crate::state::{Checkpoint, SessionRecord};
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
}

/// A checkpoint in the least room: most follow a room or two, and a tree's node has room for eleven.
#[derive(Default)]
struct Packed {
    rev: u64,
    cursors: Box<[(RoomId, Cursor)]>,
}

impl Packed {
    fn of(checkpoint: Checkpoint) -> Self {
        Self { rev: checkpoint.rev, cursors: checkpoint.cursors.into_iter().collect() }
    }

    fn unpack(&self) -> Checkpoint {
        Checkpoint { rev: self.rev, cursors: self.cursors.iter().cloned().collect() }
    }
}

impl Sessions {
    pub(super) fn put(&mut self, mut record: SessionRecord) {
        let mut checkpoint = Packed::default();
        if let Some(old) = self.remove(&record.id) {
            record.revoked |= old.record.revoked;
            checkpoint = old.checkpoint;
        }
        if record.revoked {
            checkpoint = Packed::default();
        }
        let id = record.id.clone();
        let of_user =
            self.by_user.entry(record.user.clone()).or_insert_with(|| Vec::with_capacity(1));
        let at = of_user.partition_point(|held| *held < (record.created, id.clone()));
        of_user.insert(at, (record.created, id.clone()));
        self.by_expiry.insert((record.expires, id.clone()));
        self.entries.insert(id, Entry { record, checkpoint });
    }

    pub(super) fn get(&self, id: &SessionId) -> Option<SessionRecord> {
        self.entries.get(id).map(|entry| entry.record.clone())
    }

    pub(super) fn of_user(&self, user: &UserId, limit: usize) -> Vec<SessionRecord> {
        let ids = self.by_user.get(user).into_iter().flatten();
        ids.filter_map(|(_, id)| self.get(id))
            .filter(|record| !record.revoked)
            .take(limit)
            .collect()
    }

    pub(super) fn revoke(&mut self, id: &SessionId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.record.revoked = true;
            entry.checkpoint = Packed::default();
        }
    }

    pub(super) fn checkpoint(&self, id: &SessionId) -> Checkpoint {
        self.entries.get(id).map(|entry| entry.checkpoint.unpack()).unwrap_or_default()
    }

    pub(super) fn put_checkpoint(&mut self, id: &SessionId, checkpoint: Checkpoint) {
        if let Some(entry) = self.entries.get_mut(id)
            && !entry.record.revoked
            && checkpoint.rev >= entry.checkpoint.rev
        {
            entry.checkpoint = Packed::of(checkpoint);
        }
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
