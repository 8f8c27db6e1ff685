//! Latest-wins state.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use im_core::id::new_generation;
use im_core::state::{Merge, StateLimits, StateMap};
use im_core::wire::StateUpdate;
use im_core::{NodeId, RoomId, Stamp, StateKey, UserId};

use crate::dialect::Dialect;
use crate::error::{Fault, Outcome};
use crate::link::{Columns, Link};
use crate::migrate::{STATE_GENERATION, read_number};
use crate::model;
use crate::statement::{MAX_ROWS, Statement, bounded_pieces};

impl<D: Dialect> Link<'_, D> {
    /// Merges updates, room by room in the order of their ids, each under a lock on its room.
    pub(crate) async fn merge_state(
        &mut self,
        updates: &[Arc<StateUpdate>],
        limits: &StateLimits,
    ) -> Outcome<()> {
        let mut by_room: BTreeMap<&RoomId, Vec<&Arc<StateUpdate>>> = BTreeMap::new();
        for update in updates {
            by_room.entry(&update.room).or_default().push(update);
        }
        for (room, updates) in by_room {
            self.merge_room(room, &updates, limits).await?;
        }
        Ok(())
    }

    async fn merge_room(
        &mut self,
        id: &RoomId,
        updates: &[&Arc<StateUpdate>],
        limits: &StateLimits,
    ) -> Outcome<()> {
        let lock = Statement::new("SELECT room FROM im_rooms WHERE id = ").text(id.as_str());
        let room = self.first(lock.sql(D::FOR_UPDATE), |row| row.int()).await?;
        let Some(room) = room else { return Ok(()) };
        self.change_state(room, id, |map| {
            let taken = |update: &&&Arc<StateUpdate>| {
                map.merge(Arc::clone(update), limits) == Merge::Applied
            };
            updates.iter().filter(taken).count()
        })
        .await
    }

    /// Changes the state of a room that is locked. `change` says how many changes that were.
    pub(crate) async fn change_state(
        &mut self,
        room: u64,
        id: &RoomId,
        change: impl FnOnce(&mut StateMap) -> usize + Send,
    ) -> Outcome<()> {
        let held = self.state(id).await?;
        let written: HashMap<StateKey, (Stamp, UserId)> = held
            .entries
            .iter()
            .map(|entry| (entry.key.clone(), (entry.stamp, entry.from.clone())))
            .collect();
        let mut map = StateMap::restore(held.entries, held.purged_stamp);
        let changes = change(&mut map);
        if changes == 0 {
            return Ok(());
        }
        // Who has set a key that is held has left a trace already.
        let known: HashSet<&UserId> = written.values().map(|(_, from)| from).collect();
        let fresh = map.iter().map(|entry| &entry.from).filter(|from| !known.contains(from));
        self.put_traces(room, id, fresh.cloned().collect()).await?;
        self.write_entries(room, &map, &written).await?;
        self.write_state_head(room, held.revision + changes as u64, map.purged_stamp()).await
    }

    async fn write_entries(
        &mut self,
        room: u64,
        map: &StateMap,
        written: &HashMap<StateKey, (Stamp, UserId)>,
    ) -> Outcome<()> {
        let gone: Vec<&StateKey> = written.keys().filter(|key| map.get(key).is_none()).collect();
        for piece in gone.chunks(MAX_ROWS) {
            let delete = Statement::new("DELETE FROM im_state WHERE room = ")
                .int(room)
                .sql(" AND name IN ")
                .list(piece, |s, key| s.text(key.as_str()));
            self.run(delete).await?;
        }
        let is_newer = |entry: &&Arc<StateUpdate>| match written.get(&entry.key) {
            Some((stamp, from)) => (*stamp, from) != (entry.stamp, &entry.from),
            None => true,
        };
        let newer = map.iter().filter(is_newer);
        let newer: Vec<(&Arc<StateUpdate>, Option<String>)> = newer
            .map(|entry| Ok((entry, entry.value.as_ref().map(model::content).transpose()?)))
            .collect::<Outcome<_>>()?;
        let columns = ["stamp_ms", "stamp_counter", "stamp_node", "sender", "value"];
        let update = D::on_conflict("room, name", &columns);
        let size = |(_, value): &(_, Option<String>)| value.as_ref().map_or(0, String::len);
        for piece in bounded_pieces(&newer, size) {
            let insert = Statement::new(
                "INSERT INTO im_state (room, name, stamp_ms, stamp_counter, stamp_node, sender, value) VALUES ",
            )
            .groups(piece, |row, (entry, value)| {
                put_stamp(row.int(room).text(entry.key.as_str()), Some(entry.stamp))
                    .text(entry.from.as_str())
                    .opt_text(value.as_deref())
            })
            .sql(&update);
            self.run(insert).await?;
        }
        Ok(())
    }

    async fn write_state_head(
        &mut self,
        room: u64,
        revision: u64,
        floor: Option<Stamp>,
    ) -> Outcome<()> {
        let columns = ["revision", "floor_ms", "floor_counter", "floor_node"];
        let insert = Statement::new(
            "INSERT INTO im_state_heads (room, revision, floor_ms, floor_counter, floor_node) VALUES ",
        )
        .group(|row| put_stamp(row.int(room).int(revision), floor))
        .sql(&D::on_conflict("room", &columns));
        self.run(insert).await.map(|_| ())
    }

    pub(crate) async fn begin_state(&mut self, node: NodeId) -> Outcome<u64> {
        let name = STATE_GENERATION;
        // Two nodes that begin at once go one after the other.
        let lock = Statement::new("SELECT value FROM im_numbers WHERE name = ").text(name);
        let held = self.first(lock.sql(D::FOR_UPDATE), |row| row.int()).await?;
        let mut generation = held.ok_or(Fault::Damaged("state generation"))?;
        let others = Statement::new("SELECT node FROM im_state_writers LIMIT 1");
        if self.first(others, |row: &mut Columns<'_, D>| row.int()).await?.is_some() {
            generation = new_generation();
            let update = Statement::new("UPDATE im_numbers SET value = ")
                .int(generation)
                .sql(" WHERE name = ")
                .text(name);
            self.run(update).await?;
        }
        let node = u64::from(node.0);
        let insert = Statement::new("INSERT INTO im_state_writers (node) VALUES ")
            .group(|row| row.int(node))
            .sql(&D::on_conflict("node", &["node"]));
        self.run(insert).await?;
        Ok(generation)
    }

    pub(crate) async fn state_generation(&mut self) -> Outcome<u64> {
        let held = read_number::<D>(self.0, STATE_GENERATION).await?;
        held.ok_or(Fault::Damaged("state generation"))
    }

    pub(crate) async fn end_state(&mut self, node: NodeId) -> Outcome<()> {
        let delete = Statement::new("DELETE FROM im_state_writers WHERE node = ");
        self.run(delete.int(u64::from(node.0))).await.map(|_| ())
    }
}

fn put_stamp<D: Dialect>(row: Statement<D>, stamp: Option<Stamp>) -> Statement<D> {
    row.opt_int(stamp.map(|stamp| stamp.ms.as_millis()))
        .opt_int(stamp.map(|stamp| u64::from(stamp.counter)))
        .opt_int(stamp.map(|stamp| u64::from(stamp.node.0)))
}
