//! Erasing users.

use im_core::state::{Erased, Membership, RoomRecord, StateLimits};
use im_core::{EventKind, RoomId, Seq, UserId};

use crate::dialect::Dialect;
use crate::error::Outcome;
use crate::link::Link;
use crate::model;
use crate::put::{IMPORTS, ROOMS};
use crate::statement::Statement;
use crate::upkeep::ROWS;

/// What one call may still look at, and what it has done.
struct Step {
    left: usize,
    events: u64,
}

impl<D: Dialect> Link<'_, D> {
    /// Goes through the rooms where the user may be found: where they have a row among the members. It goes with the last
    /// of what is erased there.
    pub(crate) async fn erase_user(
        &mut self,
        user: &UserId,
        limit: usize,
        limits: &StateLimits,
    ) -> Outcome<Erased> {
        let mut step = Step { left: limit.clamp(1, ROWS), events: 0 };
        let sessions = self.sessions_of(user, step.left).await?;
        step.left -= sessions.len();
        let sessions: Vec<_> = sessions.into_iter().map(|session| session.id).collect();
        self.end_sessions(&sessions).await?;
        if step.left > 0 && self.delete_room(&RoomId::inbox(user)).await? {
            step.left -= 1;
        }
        let rooms = Statement::new("SELECT room FROM im_members WHERE user_id = ")
            .text(user.as_str())
            .sql(" ORDER BY room_id, room")
            .limit(step.left);
        for room in self.all(rooms, |row| row.int()).await? {
            if step.left == 0 {
                break;
            }
            self.erase_in(user, room, &mut step, limits).await?;
        }
        Ok(Erased { events: step.events, more: step.left == 0 })
    }

    async fn erase_in(
        &mut self,
        user: &UserId,
        number: u64,
        step: &mut Step,
        limits: &StateLimits,
    ) -> Outcome<()> {
        // What is doomed goes by itself.
        let Some((table, mut room)) = self.lock_number(number).await? else {
            step.left -= 1;
            return self.drop_trace(user, number).await;
        };
        let Some((membership, next)) = self.trace(user, number).await? else {
            step.left -= 1;
            return Ok(());
        };
        if let Some(Membership::Member(_)) = membership {
            room.members = room.members.saturating_sub(1);
        }
        if table == ROOMS {
            self.erase_state(user, &room, limits).await?;
        }
        let next = self.erase_events(user, &mut room, next, step).await?;
        self.update_room(table, &room).await?;
        if next > room.head && step.left > 0 {
            step.left -= 1;
            return self.drop_trace(user, number).await;
        }
        let update = Statement::new("UPDATE im_members SET standing = ")
            .text(model::membership(None))
            .sql(", next_seq = ")
            .int(next.get())
            .sql(" WHERE room = ")
            .int(number)
            .sql(" AND user_id = ")
            .text(user.as_str());
        self.run(update).await.map(|_| ())
    }

    /// Locks the room with this number, or the import. One that is finished meanwhile is found as a room.
    async fn lock_number(&mut self, number: u64) -> Outcome<Option<(&'static str, RoomRecord)>> {
        for table in [IMPORTS, ROOMS] {
            let select = format!("SELECT {} FROM {table} t WHERE t.room = ", model::ROOM);
            let select = Statement::new(&select).int(number).sql(D::FOR_UPDATE);
            if let Some(room) = self.first(select, model::room).await? {
                return Ok(Some((table, room)));
            }
        }
        Ok(None)
    }

    /// How the user stands, and from where on events are to be looked at.
    async fn trace(
        &mut self,
        user: &UserId,
        room: u64,
    ) -> Outcome<Option<(Option<Membership>, Seq)>> {
        let select = Statement::new("SELECT standing, next_seq FROM im_members WHERE room = ")
            .int(room)
            .sql(" AND user_id = ")
            .text(user.as_str());
        let read = |row: &mut crate::link::Columns<'_, D>| {
            let membership = model::read_membership(&row.text()?)?;
            Ok((membership, model::made("seq", Seq::new(row.int()?))?))
        };
        self.first(select, read).await
    }

    async fn drop_trace(&mut self, user: &UserId, room: u64) -> Outcome<()> {
        let delete = Statement::new("DELETE FROM im_members WHERE room = ")
            .int(room)
            .sql(" AND user_id = ")
            .text(user.as_str());
        self.run(delete).await.map(|_| ())
    }

    async fn erase_state(
        &mut self,
        user: &UserId,
        room: &RoomRecord,
        limits: &StateLimits,
    ) -> Outcome<()> {
        let number = room.epoch.incarnation;
        let some = Statement::new("SELECT name FROM im_state WHERE room = ")
            .int(number)
            .sql(" AND sender = ")
            .text(user.as_str())
            .sql(" LIMIT 1");
        if self.first(some, |row| row.text()).await?.is_none() {
            return Ok(());
        }
        self.change_state(number, &room.id, |map| map.erase(user, limits)).await
    }

    /// Goes on from `next`, as far as it may. Gives where to go on from.
    async fn erase_events(
        &mut self,
        user: &UserId,
        room: &mut RoomRecord,
        next: Seq,
        step: &mut Step,
    ) -> Outcome<Seq> {
        let (number, end) = (room.epoch.incarnation, room.head.next());
        let mut next = next;
        while step.left > 0 {
            let Some(from) = self.first_row(number, next).await? else { return Ok(end) };
            // Of what was trimmed nothing is left but receipts.
            let trimmed = from < room.first;
            let until = if trimmed { room.first } else { end };
            let count = until.get().saturating_sub(from.get()).min(step.left as u64);
            step.left -= usize::try_from(count).unwrap_or(step.left);
            next = model::made("seq", Seq::new(from.get() + count))?;
            if trimmed {
                self.erase_idempotency_records(user, number, from, next).await?;
            } else {
                step.events += self.erase_kept_events(user, room, from, next).await?;
            }
        }
        Ok(next)
    }

    /// Of those from `from` to before `next`, which were trimmed.
    async fn erase_idempotency_records(
        &mut self,
        user: &UserId,
        room: u64,
        from: Seq,
        next: Seq,
    ) -> Outcome<()> {
        let theirs = |all: Statement<D>| all.sql(" AND sender = ").text(user.as_str());
        self.remove_messages(room, (from, next), theirs).await.map(|_| ())
    }

    /// Of those from `from` to before `next`, which are kept. Says how many changed.
    async fn erase_kept_events(
        &mut self,
        user: &UserId,
        room: &mut RoomRecord,
        from: Seq,
        next: Seq,
    ) -> Outcome<u64> {
        let select = Statement::new(&format!("SELECT {} FROM im_messages m", model::MESSAGE))
            .of_room(room.epoch.incarnation, from, next)
            .sql(" AND (sender = ")
            .text(user.as_str())
            .sql(" OR kind = ")
            .text(EventKind::members().as_str())
            .sql(")");
        let (id, epoch, mut changed) = (room.id.clone(), room.epoch, Vec::new());
        self.each(select, |row| {
            if let Some(event) = model::event(row, &id, epoch)?
                && let Some(new) = event.without(user)
            {
                room.replace(&event, &new);
                changed.push(new);
            }
            Ok(std::ops::ControlFlow::Continue(()))
        })
        .await?;
        // What a user sent under an id loses it, and with it the hash.
        let columns = ["sender", "kind", "content", "bytes", "message_id", "content_hash"];
        let (receipts, others): (Vec<_>, Vec<_>) =
            changed.iter().map(|event| (event, None)).partition(|(event, _)| event.id.is_some());
        for (rows, columns) in [(receipts, &columns[..4]), (others, &columns)] {
            self.replace_messages(&rows, columns).await?;
        }
        Ok(changed.len() as u64)
    }
}
