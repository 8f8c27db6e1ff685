//! Latest-wins state of rooms. Its head record guards it, and is made and removed with the room.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::{Change, Commit, GuardAct, Range, SyncLevel};
use crate::id::{NodeId, RoomId, StateKey, UserId, new_generation};
use crate::ports::{StateSnapshot, StoreResult};
use crate::state::{Merge, StateLimits, StateMap};
use crate::time::{Stamp, Timestamp};
use crate::wire::StateUpdate;

use super::column::{Columnar, Rev};
use super::import::traces;
use super::rooms::room;
use super::tables::{MetaRow, Name, Record, RoomRow, StateHeadRow, StateRow, StateWriterRow};
use super::view::{Ruled, View};
use super::{BackendStore, Plan, bump, guard, put_change};

/// A room's state while it is changed.
pub(super) struct Draft {
    pub(super) map: StateMap,
    head: StateHeadRow,
    /// What is stored.
    stored: BTreeMap<StateKey, Arc<StateUpdate>>,
}

impl BackendStore {
    /// One commit for each room.
    pub(super) async fn merge_state(&self, updates: &[Arc<StateUpdate>]) -> StoreResult<()> {
        let mut rooms: BTreeMap<&RoomId, Vec<&Arc<StateUpdate>>> = BTreeMap::new();
        for update in updates {
            rooms.entry(&update.room).or_default().push(update);
        }
        for (id, updates) in rooms {
            self.act(|view| merge(view, id, &updates, &self.state_limits)).await?;
        }
        Ok(())
    }

    pub(super) async fn state(&self, id: &RoomId) -> StoreResult<StateSnapshot> {
        self.look(|view| {
            let Some(room) = room(view, id)? else { return Ok(StateSnapshot::default()) };
            let Some(draft) = Draft::read(view, &room.id, room.room)? else {
                return Ok(StateSnapshot::default());
            };
            Ok(StateSnapshot {
                revision: draft.head.revision,
                entries: draft.stored.into_values().collect(),
                purged_stamp: draft.map.purged_stamp(),
            })
        })
        .await
    }

    /// A node begins to write state. Returns the generation: another one if a node has not ended properly.
    pub(super) async fn begin_state(&self, node: NodeId) -> StoreResult<u64> {
        self.act(|view| {
            let writers: Vec<StateWriterRow> =
                view.range(Range::of(StateWriterRow::TABLE, Vec::new()).limit(1))?;
            let held = generation(view)?;
            let value = match &held {
                Some(held) if writers.is_empty() => held.value,
                _ => new_generation(),
            };
            let row = MetaRow { name: GENERATION.into(), value, rev: Rev::default() };
            let commit = Commit {
                guards: vec![bump(&row, held.map(|held| held.rev))],
                changes: vec![put_change(&row), put_change(&StateWriterRow { node })],
                ..Commit::default()
            };
            Ok(Plan::write(commit, value))
        })
        .await
    }

    pub(super) async fn state_generation(&self) -> StoreResult<u64> {
        self.look(|view| Ok(generation(view)?.map_or(0, |held| held.value))).await
    }

    pub(super) async fn end_state(&self, node: NodeId) -> StoreResult<()> {
        self.act(|view| {
            let key = vec![node.to_datum()];
            let Some(held) = generation(view)? else { return Ok(Plan::nothing(())) };
            if view.get::<StateWriterRow>(key.clone())?.is_none() {
                return Ok(Plan::nothing(()));
            }
            let commit = Commit {
                guards: vec![bump(&held, Some(held.rev))],
                changes: vec![Change::Remove { table: StateWriterRow::TABLE, key }],
                ..Commit::default()
            };
            Ok(Plan::write(commit, ()))
        })
        .await
    }
}

/// The number that says whether state may have been lost.
const GENERATION: &str = "state_generation";

fn generation(view: &View) -> Ruled<Option<MetaRow>> {
    view.get(vec![Name::from(GENERATION).into()])
}

fn merge(
    view: &View,
    id: &RoomId,
    updates: &[&Arc<StateUpdate>],
    limits: &StateLimits,
) -> Ruled<Plan<()>> {
    let Some(room) = room(view, id)? else { return Ok(Plan::nothing(())) };
    let Some(mut draft) = Draft::read(view, id, room.room)? else { return Ok(Plan::nothing(())) };
    let mut senders: Vec<UserId> = Vec::new();
    for update in updates {
        if draft.map.merge(Arc::clone(update), limits) == Merge::Applied {
            draft.head.revision += 1;
            senders.push(update.from.clone());
        }
    }
    senders.sort();
    senders.dedup();
    let Some(mut commit) = draft.commit(room.room) else { return Ok(Plan::nothing(())) };
    commit.sync = SyncLevel::Unsynced;
    senders.retain(|sender| !sender.is_erased());
    let traces = traces(view, id, room.room, &senders)?;
    if !traces.is_empty() {
        let key = vec![room.room.to_datum()];
        commit.guards.push(guard(RoomRow::TABLE, key, Some(room.rev), GuardAct::Check));
        commit.changes.extend(traces);
    }
    Ok(Plan::write(commit, ()))
}

impl Draft {
    /// The state of a room; `None`: it has no head record, since the room is not there any more.
    pub(super) fn read(view: &View, id: &RoomId, room: u64) -> Ruled<Option<Self>> {
        let key = vec![room.to_datum()];
        let Some(head) = view.get::<StateHeadRow>(key.clone())? else { return Ok(None) };
        let rows: Vec<StateRow> = view.range(Range::of(StateRow::TABLE, key))?;
        let entries = rows.into_iter().map(|row| Arc::new(row.into_update(id)));
        let stored: BTreeMap<_, _> = entries.map(|entry| (entry.key.clone(), entry)).collect();
        let map = StateMap::restore(stored.values().cloned(), head.purged());
        Ok(Some(Self { map, head, stored }))
    }

    /// Unsets what a user has put.
    pub(super) fn erase(&mut self, user: &UserId, limits: &StateLimits) {
        self.head.revision += self.map.erase(user, limits) as u64;
    }

    /// What is to be written; `None`: nothing changed.
    pub(super) fn commit(mut self, room: u64) -> Option<Commit> {
        let mut changes = Vec::new();
        for entry in self.map.iter() {
            let stored = self.stored.get(&entry.key);
            if stored.is_none_or(|stored| !Arc::ptr_eq(stored, entry)) {
                changes.push(put_change(&StateRow::of(room, entry)));
            }
        }
        for key in self.stored.keys().filter(|key| self.map.get(key).is_none()) {
            let key = vec![room.to_datum(), key.to_datum()];
            changes.push(Change::Remove { table: StateRow::TABLE, key });
        }
        if changes.is_empty() && self.head.purged() == self.map.purged_stamp() {
            return None;
        }
        let guard = bump(&self.head, Some(self.head.rev));
        self.head.purge(self.map.purged_stamp());
        changes.push(put_change(&self.head));
        Some(Commit { guards: vec![guard], changes, ..Commit::default() })
    }
}

impl StateHeadRow {
    /// The greatest stamp of a tombstone that was purged.
    fn purged(&self) -> Option<Stamp> {
        let (ms, counter, node) = (self.purged_ms?, self.purged_counter?, self.purged_node?);
        Some(Stamp { ms: Timestamp::from_millis(ms), counter, node })
    }

    fn purge(&mut self, stamp: Option<Stamp>) {
        self.purged_ms = stamp.map(|stamp| stamp.ms.as_millis());
        self.purged_counter = stamp.map(|stamp| stamp.counter);
        self.purged_node = stamp.map(|stamp| stamp.node);
    }
}

impl StateRow {
    fn of(room: u64, update: &StateUpdate) -> Self {
        Self {
            room,
            name: update.key.clone(),
            sender: update.from.clone(),
            stamp_ms: update.stamp.ms.as_millis(),
            stamp_counter: update.stamp.counter,
            stamp_node: update.stamp.node,
            value: update.value.clone(),
        }
    }

    fn into_update(self, room: &RoomId) -> StateUpdate {
        let ms = Timestamp::from_millis(self.stamp_ms);
        StateUpdate {
            room: room.clone(),
            key: self.name,
            stamp: Stamp { ms, counter: self.stamp_counter, node: self.stamp_node },
            from: self.sender,
            value: self.value,
        }
    }
}
