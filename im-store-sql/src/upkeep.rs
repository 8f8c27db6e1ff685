//! Trimming, deleting and purging.

use std::convert::Infallible;

use im_core::state::{Keep, RoomRecord, Trimmed};
use im_core::{RoomId, Seq, Timestamp};

use crate::dialect::Dialect;
use crate::error::Outcome;
use crate::link::Link;
use crate::model;
use crate::statement::Statement;

/// Rows that one call of a purge or an erasure looks at at most: some tens of milliseconds, for which others wait.
pub(crate) const ROWS: usize = 4096;
/// Events that a trim looks at beyond the first, when that one goes.
const SOME: usize = 64;

impl<D: Dialect> Link<'_, D> {
    pub(crate) async fn lock_room(&mut self, id: &RoomId) -> Outcome<Option<RoomRecord>> {
        let select = format!("SELECT {} FROM im_rooms t WHERE t.id = ", model::ROOM);
        let select = Statement::new(&select).text(id.as_str()).sql(D::FOR_UPDATE);
        self.first(select, model::room).await
    }

    /// Looks at the oldest event first, then at as many as have gone before, until one stays: so it reads no more than
    /// about twice of what it removes.
    pub(crate) async fn trim(
        &mut self,
        id: &RoomId,
        keep: &Keep,
        limit: usize,
    ) -> Outcome<Option<Trimmed>> {
        let Some(held) = self.lock_room(id).await? else { return Ok(None) };
        let mut oldest: Vec<(Timestamp, u64)> = Vec::new();
        let (mut room, mut trimmed) = decide(&held, keep, limit, &oldest);
        let mut at_end = keep.after.is_none() && !keep.drops_some(&held);
        while !at_end && trimmed.removed == oldest.len() as u64 {
            let next = if oldest.is_empty() { 1 } else { oldest.len().max(SOME) };
            // One beyond the limit says that there is more.
            let next = next.min(limit.max(1).saturating_add(1) - oldest.len());
            let found = self.sizes(&held, oldest.len(), next).await?;
            at_end = found.len() < next;
            oldest.extend(found);
            (room, trimmed) = decide(&held, keep, limit, &oldest);
        }
        if trimmed.removed > 0 {
            self.drop_contents(&held, room.first).await?;
            self.update_room(crate::put::ROOMS, &room).await?;
        }
        Ok(Some(trimmed))
    }

    /// Removes the events of `held` before `first`. The receipts of those that were sent under an id stay.
    async fn drop_contents(&mut self, held: &RoomRecord, first: Seq) -> Outcome<()> {
        let room = held.epoch.incarnation;
        // Whether it has a hash and not whether it has an id: there is an index of the ids, and SQLite would use it.
        let no_receipt = |all: Statement<D>| all.sql(" AND content_hash IS NULL");
        self.remove_messages(room, (held.first, first), no_receipt).await?;
        let emptied = Statement::new("UPDATE im_messages SET content = NULL, bytes = 0")
            .of_room(room, held.first, first)
            .sql(" AND content_hash IS NOT NULL");
        self.run(emptied).await.map(|_| ())
    }

    /// Times and sizes of `count` events after the first `skip` that are kept.
    async fn sizes(
        &mut self,
        room: &RoomRecord,
        skip: usize,
        count: usize,
    ) -> Outcome<Vec<(Timestamp, u64)>> {
        let from = room.first.plus(skip as u64);
        let until = from.plus(count as u64);
        let select = Statement::new("SELECT sent_at, bytes FROM im_messages")
            .of_room(room.epoch.incarnation, from, until)
            .sql(" ORDER BY seq");
        self.all(select, |row| Ok((Timestamp::from_millis(row.int()?), row.int()?))).await
    }

    /// The room is gone with its row. What it held is to be purged.
    pub(crate) async fn delete_room(&mut self, id: &RoomId) -> Outcome<bool> {
        // One that is being finished becomes a room: so this comes first.
        self.drop_import(id).await?;
        let Some(room) = self.lock_room(id).await? else { return Ok(false) };
        let room = room.epoch.incarnation;
        for table in ["im_rooms", "im_state_heads"] {
            let delete = Statement::new(&format!("DELETE FROM {table} WHERE room = "));
            self.run(delete.int(room)).await?;
        }
        self.doom(room).await?;
        Ok(true)
    }

    /// Drops an import that was not finished.
    pub(crate) async fn drop_import(&mut self, id: &RoomId) -> Outcome<()> {
        let select = Statement::new("SELECT room FROM im_imports WHERE id = ").text(id.as_str());
        let held = self.first(select.sql(D::FOR_UPDATE), |row| row.int()).await?;
        let Some(room) = held else { return Ok(()) };
        let delete = Statement::new("DELETE FROM im_imports WHERE room = ");
        self.run(delete.int(room)).await?;
        self.doom(room).await
    }

    async fn doom(&mut self, room: u64) -> Outcome<()> {
        let insert =
            Statement::new("INSERT INTO im_doomed (room) VALUES ").group(|row| row.int(room));
        self.run(insert).await.map(|_| ())
    }

    pub(crate) async fn purge(&mut self, limit: usize) -> Outcome<bool> {
        let mut left = limit.clamp(1, ROWS);
        let select =
            |lock| Statement::new("SELECT room FROM im_doomed ORDER BY room LIMIT 1").sql(lock);
        while left > 0 {
            let doomed = self.first(select(D::FOR_UPDATE), |row| row.int()).await?;
            let Some(room) = doomed else { break };
            self.purge_room(room, &mut left).await?;
            if left > 0 {
                let delete = Statement::new("DELETE FROM im_doomed WHERE room = ");
                self.run(delete.int(room)).await?;
                left -= 1;
            }
        }
        Ok(self.first(select(""), |row| row.int()).await?.is_some())
    }

    async fn purge_room(&mut self, room: u64, left: &mut usize) -> Outcome<()> {
        let of_room = |s: Statement<D>| s.sql("room = ").int(room);
        self.drop_messages(room, left).await?;
        self.drop_first("im_members", "user_id", of_room, left).await?;
        self.drop_first("im_state", "name", of_room, left).await
    }

    async fn drop_messages(&mut self, room: u64, left: &mut usize) -> Outcome<()> {
        while *left > 0 {
            let Some(first) = self.first_row(room, Seq::ZERO).await? else { break };
            let until = first.plus(*left as u64);
            let gone = self.remove_messages(room, (first, until), |all| all).await?;
            *left = left.saturating_sub(usize::try_from(gone).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    /// Removes as many of the rows that `which` gives as may go, the first ones by `key`. `LIMIT` in a `DELETE` is not
    /// known everywhere.
    pub(crate) async fn drop_first(
        &mut self,
        table: &str,
        key: &str,
        which: impl Fn(Statement<D>) -> Statement<D> + Send,
        left: &mut usize,
    ) -> Outcome<()> {
        if *left == 0 {
            return Ok(());
        }
        let last = which(Statement::new(&format!("SELECT {key} FROM {table} WHERE ")))
            .sql(&format!(" ORDER BY {key} LIMIT 1 OFFSET "))
            .int(*left as u64 - 1);
        let last = self.first(last, |row| row.text()).await?;
        let mut delete = which(Statement::new(&format!("DELETE FROM {table} WHERE ")));
        if let Some(last) = last {
            delete = delete.sql(&format!(" AND {key} <= ")).text(&last);
        }
        let gone = self.run(delete).await?;
        *left = left.saturating_sub(usize::try_from(gone).unwrap_or(usize::MAX));
        Ok(())
    }
}

/// What a trim makes of the room if these are its oldest events.
fn decide(
    held: &RoomRecord,
    keep: &Keep,
    limit: usize,
    oldest: &[(Timestamp, u64)],
) -> (RoomRecord, Trimmed) {
    let mut room = held.clone();
    let Ok(trimmed) = room.trim(keep, limit, oldest.iter().copied().map(Ok::<_, Infallible>));
    (room, trimmed)
}
