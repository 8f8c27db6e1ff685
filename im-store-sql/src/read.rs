//! What readers ask for. Each page is one statement, and so one view of the database.

use std::ops::ControlFlow;
use std::sync::Arc;

use im_core::ports::{Head, LogPage, LogRange, StateSnapshot};
use im_core::state::{IdempotencyRecord, Membership, RoomRecord};
use im_core::wire::{PageFrom, Role, RoomKind};
use im_core::{Cursor, Epoch, MessageId, RoomId, Seq, UserId};

use crate::dialect::Dialect;
use crate::error::{Fault, Outcome};
use crate::link::{Columns, Link};
use crate::model;
use crate::runs::{OF_RUN, RUN};
use crate::statement::{MAX_ROWS, Statement};

impl<D: Dialect> Link<'_, D> {
    pub(crate) async fn room(&mut self, id: &RoomId) -> Outcome<Option<RoomRecord>> {
        let select = format!("SELECT {} FROM im_rooms t WHERE t.id = ", model::ROOM);
        self.first(Statement::new(&select).text(id.as_str()), model::room).await
    }

    pub(crate) async fn rooms(
        &mut self,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Outcome<Vec<RoomRecord>> {
        let select = format!("SELECT {} FROM im_rooms t WHERE t.id > ", model::ROOM);
        let select = Statement::new(&select)
            .text(after.map_or("", RoomId::as_str))
            .sql(" ORDER BY t.id")
            .limit(limit);
        self.all(select, model::room).await
    }

    pub(crate) async fn page(&mut self, id: &RoomId, range: LogRange) -> Outcome<Option<LogPage>> {
        // Below any number that a sum with a seq could leave the columns' range by.
        let limit = range.limit.clamp(1, 1 << 31);
        let select = Statement::new(&format!(
            "SELECT r.generation, r.room, r.head_seq, r.first_seq, {} FROM im_rooms r",
            model::MESSAGE
        ));
        let (select, order) = match range.from {
            PageFrom::After(seq) => (after(select, seq.get(), limit as u64), ""),
            PageFrom::Before(seq) => (before(select, seq.get(), limit as u64), " DESC"),
        };
        let order = match D::RUNS {
            true => format!("u.part{order}, m.place{order}"),
            false => format!("m.seq{order}"),
        };
        let select = select
            .sql(" WHERE r.id = ")
            .text(id.as_str())
            .sql(&format!(" ORDER BY {order}"))
            .limit(limit);
        let (mut page, mut bytes) = (None, 0_usize);
        self.each(select, |row| {
            let epoch = Epoch { generation: row.int()?, incarnation: row.int()? };
            let head = model::made("seq", Seq::new(row.int()?))?;
            let first = model::made("seq", Seq::new(row.int()?))?;
            let page: &mut LogPage = page.get_or_insert_with(|| LogPage {
                head: Cursor { epoch, seq: head },
                first,
                events: Vec::new(),
            });
            let Some(event) = model::event(row, id, epoch)? else {
                return Ok(ControlFlow::Continue(()));
            };
            bytes = bytes.saturating_add(event.content.packed().len());
            if bytes > range.max_bytes && !page.events.is_empty() {
                return Ok(ControlFlow::Break(()));
            }
            page.events.push(Arc::new(event));
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(page)
    }

    pub(crate) async fn heads(&mut self, rooms: &[RoomId]) -> Outcome<Vec<Option<Head>>> {
        let mut found = std::collections::HashMap::new();
        for piece in rooms.chunks(MAX_ROWS) {
            let select = Statement::new(
                "SELECT r.id, r.generation, r.room, r.head_seq, r.first_seq, r.erased, s.revision FROM im_rooms r \
                 LEFT JOIN im_state_heads s ON s.room = r.room WHERE r.id IN ",
            )
            .list(piece, |s, id| s.text(id.as_str()));
            found.extend(self.all(select, head).await?);
        }
        Ok(rooms.iter().map(|room| found.get(room.as_str()).copied()).collect())
    }

    pub(crate) async fn sent(
        &mut self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> Outcome<Option<IdempotencyRecord>> {
        let select = Statement::new(&format!(
            "SELECT {} FROM im_messages t JOIN im_rooms r ON r.room = t.room WHERE r.id = ",
            model::RECEIPT
        ))
        .text(room.as_str())
        .sql(" AND t.sender = ")
        .text(sender.as_str())
        .sql(" AND t.message_id = ")
        .text(id.as_str());
        self.first(select, model::receipt).await
    }

    pub(crate) async fn membership(
        &mut self,
        room: &RoomId,
        user: &UserId,
    ) -> Outcome<Option<Membership>> {
        let select = Statement::new(
            "SELECT m.standing FROM im_members m JOIN im_rooms r ON r.room = m.room WHERE r.id = ",
        )
        .text(room.as_str())
        .sql(" AND m.user_id = ")
        .text(user.as_str());
        Ok(self.first(select, |row| model::read_membership(&row.text()?)).await?.flatten())
    }

    pub(crate) async fn memberships(
        &mut self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Outcome<Vec<(UserId, Membership)>> {
        let select = Statement::new(
            "SELECT m.user_id, m.standing FROM im_members m JOIN im_rooms r ON r.room = m.room WHERE r.id = ",
        )
        .text(room.as_str())
        .sql(" AND m.standing <> 'none' AND m.user_id > ")
        .text(after.map_or("", UserId::as_str))
        .sql(" ORDER BY m.user_id")
        .limit(limit);
        self.all(select, |row| {
            let user = model::made("user", UserId::new(row.text()?))?;
            let membership = model::read_membership(&row.text()?)?;
            Ok((user, membership.ok_or(Fault::Damaged("membership"))?))
        })
        .await
    }

    pub(crate) async fn members(
        &mut self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Outcome<Vec<(UserId, Role)>> {
        let select = Statement::new(
            "SELECT m.user_id, m.standing FROM im_members m JOIN im_rooms r ON r.room = m.room WHERE r.id = ",
        )
        .text(room.as_str())
        .sql(" AND m.standing NOT IN ('banned', 'none') AND m.user_id > ")
        .text(after.map_or("", UserId::as_str))
        .sql(" ORDER BY m.user_id")
        .limit(limit);
        self.all(select, |row| {
            let user = model::made("user", UserId::new(row.text()?))?;
            Ok((user, model::read_role(&row.text()?)?))
        })
        .await
    }

    pub(crate) async fn rooms_of(
        &mut self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Outcome<Vec<(RoomId, RoomKind, Role)>> {
        let select = Statement::new(
            "SELECT m.room_id, r.kind, m.standing FROM im_members m JOIN im_rooms r ON r.room = m.room \
             WHERE m.user_id = ",
        )
        .text(user.as_str())
        .sql(" AND m.standing NOT IN ('banned', 'none') AND m.room_id > ")
        .text(after.map_or("", RoomId::as_str))
        .sql(" ORDER BY m.room_id")
        .limit(limit);
        self.all(select, |row| {
            let room = model::made("room", RoomId::new(row.text()?))?;
            Ok((room, model::read_kind(&row.text()?)?, model::read_role(&row.text()?)?))
        })
        .await
    }

    /// Those of these users (each with the number of a room) who have a row, and how they stand.
    pub(crate) async fn find_memberships(
        &mut self,
        wanted: &[(u64, UserId)],
    ) -> Outcome<Vec<((u64, UserId), Option<Membership>)>> {
        let mut found = Vec::new();
        for piece in wanted.chunks(MAX_ROWS) {
            let select = Statement::look_up(
                "t.room, t.user_id, t.standing",
                "im_members",
                &["room", "user_id"],
                piece,
                |statement, (room, user)| statement.int(*room).text(user.as_str()),
            );
            let read = |row: &mut Columns<'_, D>| {
                let (room, user) = (row.int()?, row.text()?);
                let user = model::made("user", UserId::new(user))?;
                Ok(((room, user), model::read_membership(&row.text()?)?))
            };
            found.extend(self.all(select, read).await?);
        }
        Ok(found)
    }

    /// Owners of the room with this number, as many as may have changed in one transaction.
    pub(crate) async fn find_owners(&mut self, room: u64) -> Outcome<Vec<UserId>> {
        let select = Statement::new("SELECT t.user_id FROM im_members t WHERE t.room = ")
            .int(room)
            .sql(" AND t.standing = 'owner'")
            .limit(MAX_ROWS);
        self.all(select, |row| model::made("user", UserId::new(row.text()?))).await
    }

    /// Those of these sends (each with the number of a room) that were made.
    pub(crate) async fn find_idempotency_records(
        &mut self,
        wanted: &[(u64, UserId, MessageId)],
    ) -> Outcome<Vec<((u64, UserId, MessageId), IdempotencyRecord)>> {
        let mut found = Vec::new();
        for piece in wanted.chunks(MAX_ROWS) {
            let select = Statement::look_up(
                &format!("t.room, t.sender, t.message_id, {}", model::RECEIPT),
                "im_messages",
                &["message_id", "sender", "room"],
                piece,
                |statement, (room, sender, id)| {
                    statement.text(id.as_str()).text(sender.as_str()).int(*room)
                },
            );
            let read = |row: &mut Columns<'_, D>| {
                let (room, sender, id) = (row.int()?, row.text()?, row.text()?);
                let sender = model::made("sender", UserId::new(sender))?;
                let id = model::made("message id", MessageId::new(id))?;
                Ok(((room, sender, id), model::receipt(row)?))
            };
            found.extend(self.all(select, read).await?);
        }
        Ok(found)
    }

    pub(crate) async fn state(&mut self, id: &RoomId) -> Outcome<StateSnapshot> {
        let select = Statement::new(&format!(
            "SELECT h.revision, h.floor_ms, h.floor_counter, h.floor_node, {} FROM im_rooms r \
             JOIN im_state_heads h ON h.room = r.room LEFT JOIN im_state t ON t.room = r.room WHERE r.id = ",
            model::STATE
        ))
        .text(id.as_str());
        let mut snapshot = StateSnapshot::default();
        self.each(select, |row| {
            snapshot.revision = row.int()?;
            snapshot.purged_stamp = model::stamp(row)?;
            snapshot.entries.extend(model::update(row, id)?.map(Arc::new));
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        snapshot.entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(snapshot)
    }
}

// Servers sort all rows that match before they give the first: so no more than a page may match. A log is dense, and its
// ends stand in the room's row.

/// Joins those of a page after `seq`.
fn after<D: Dialect>(select: Statement<D>, seq: u64, limit: u64) -> Statement<D> {
    let edge = |s: Statement<D>| {
        s.sql("CASE WHEN r.first_seq > ").int(seq).sql(" THEN r.first_seq - 1 ELSE ").int(seq)
    };
    let first = |s| edge(s).sql(" END + 1");
    let last = |s| edge(s).sql(" END + ").int(limit);
    join(select, first, last)
}

/// Joins those of a page before `seq`.
fn before<D: Dialect>(select: Statement<D>, seq: u64, limit: u64) -> Statement<D> {
    let edge = |s: Statement<D>| {
        s.sql("CASE WHEN r.head_seq < ").int(seq).sql(" THEN r.head_seq + 1 ELSE ").int(seq)
    };
    let first = |s| edge(s).sql(" END - ").int(limit);
    let last = |s| edge(s).sql(" END - 1");
    join(select, first, last).sql(" AND m.seq >= r.first_seq")
}

/// Joins the messages of `r` from the seq that `first` gives up to the one that `last` gives. Of a run some of whose messages are
/// not among them, a row without a message may be given behind those that are.
fn join<D: Dialect>(
    select: Statement<D>,
    first: impl Fn(Statement<D>) -> Statement<D>,
    last: impl Fn(Statement<D>) -> Statement<D>,
) -> Statement<D> {
    let select = if D::RUNS {
        let runs = first(select.sql(" LEFT JOIN im_runs u ON u.room = r.room AND u.part >= ("));
        let runs = last(runs.sql(&format!(") / {RUN} AND u.part <= (")));
        runs.sql(&format!(") / {RUN} LEFT JOIN im_messages m ON {OF_RUN}"))
    } else {
        select.sql(" LEFT JOIN im_messages m ON m.room = r.room")
    };
    last(first(select.sql(" AND m.seq >= ")).sql(" AND m.seq <= "))
}

fn head<D: Dialect>(row: &mut Columns<'_, D>) -> Outcome<(String, Head)> {
    let id = row.text()?;
    let epoch = Epoch { generation: row.int()?, incarnation: row.int()? };
    let seq = model::made("seq", Seq::new(row.int()?))?;
    let first = model::made("seq", Seq::new(row.int()?))?;
    let (erased, state_revision) = (row.int()?, row.opt_int()?.unwrap_or(0));
    Ok((id, Head { cursor: Cursor { epoch, seq }, first, state_revision, erased }))
}
