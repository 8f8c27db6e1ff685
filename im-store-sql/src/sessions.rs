//! Sessions, what they follow, and their tickets.

use std::collections::BTreeMap;

use im_core::state::{
    Checkpoint, CheckpointChange, SecretHash, SessionHead, SessionRecord, SubscriptionRecord,
    Ticket, Unchanged,
};
use im_core::{Cursor, DeviceId, Epoch, RoomId, Seq, SessionId, Timestamp, UserId};

use crate::dialect::Dialect;
use crate::error::{Fault, Outcome};
use crate::link::{Columns, Link};
use crate::model;
use crate::statement::{MAX_ROWS, Statement, pieces};

const SESSION: &str =
    "t.id, t.user_id, t.device_id, t.secret_hash, t.created_at, t.expires_at, t.attached";

fn session<D: Dialect>(row: &mut Columns<'_, D>) -> Outcome<SessionRecord> {
    let (id, user, device) = (row.text()?, row.text()?, row.text()?);
    Ok(SessionRecord {
        id: model::made("session", SessionId::new(id))?,
        user: model::made("user", UserId::new(user))?,
        device: model::made("device", DeviceId::new(device))?,
        secret: model::secret(row)?,
        created: Timestamp::from_millis(row.int()?),
        expires: Timestamp::from_millis(row.int()?),
        fencing_token: row.int()?,
    })
}

impl<D: Dialect> Link<'_, D> {
    pub(crate) async fn open_session(&mut self, record: &SessionRecord) -> Outcome<()> {
        self.end_session(&record.id).await?;
        let insert = Statement::new(
            "INSERT INTO im_sessions (id, user_id, device_id, secret_hash, created_at, expires_at, attached, revision) \
             VALUES ",
        )
        .group(|row| {
            row.text(record.id.as_str())
                .text(record.user.as_str())
                .text(record.device.as_str())
                .bytes(record.secret.as_bytes())
                .int(record.created.as_millis())
                .int(record.expires.as_millis())
                .int(record.fencing_token)
                .int(0)
        });
        self.run(insert).await.map(|_| ())
    }

    pub(crate) async fn session(&mut self, id: &SessionId) -> Outcome<Option<SessionRecord>> {
        let select = format!("SELECT {SESSION} FROM im_sessions t WHERE t.id = ");
        self.first(Statement::new(&select).text(id.as_str()), session).await
    }

    pub(crate) async fn sessions_of(
        &mut self,
        user: &UserId,
        limit: usize,
    ) -> Outcome<Vec<SessionRecord>> {
        let select = format!("SELECT {SESSION} FROM im_sessions t WHERE t.user_id = ");
        let select = Statement::new(&select)
            .text(user.as_str())
            .sql(" ORDER BY t.created_at, t.id")
            .limit(limit);
        self.all(select, session).await
    }

    pub(crate) async fn attach_session(
        &mut self,
        id: &SessionId,
        expires: Timestamp,
    ) -> Outcome<Option<u64>> {
        let update =
            Statement::new("UPDATE im_sessions SET attached = attached + 1, expires_at = ")
                .int(expires.as_millis())
                .sql(" WHERE id = ")
                .text(id.as_str());
        self.run(update).await?;
        let select =
            Statement::new("SELECT attached FROM im_sessions WHERE id = ").text(id.as_str());
        self.first(select, |row| row.int()).await
    }

    pub(crate) async fn touch_session(
        &mut self,
        id: &SessionId,
        expires: Timestamp,
    ) -> Outcome<()> {
        let update = Statement::new("UPDATE im_sessions SET expires_at = ")
            .int(expires.as_millis())
            .sql(" WHERE id = ")
            .text(id.as_str());
        self.run(update).await.map(|_| ())
    }

    pub(crate) async fn end_session(&mut self, id: &SessionId) -> Outcome<()> {
        self.end_sessions(std::slice::from_ref(id)).await
    }

    pub(crate) async fn end_sessions(&mut self, ids: &[SessionId]) -> Outcome<()> {
        for piece in ids.chunks(MAX_ROWS) {
            for of in
                ["im_sessions WHERE id", "im_followed WHERE session", "im_tickets WHERE session"]
            {
                let delete = Statement::new(&format!("DELETE FROM {of} IN "))
                    .list(piece, |s, id| s.text(id.as_str()));
                self.run(delete).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn session_heads(
        &mut self,
        ids: &[SessionId],
    ) -> Outcome<Vec<Option<SessionHead>>> {
        let mut found = std::collections::HashMap::new();
        for piece in ids.chunks(MAX_ROWS) {
            let select =
                Statement::new("SELECT id, attached, revision FROM im_sessions WHERE id IN ")
                    .list(piece, |s, id| s.text(id.as_str()));
            let read = |row: &mut Columns<'_, D>| {
                Ok((row.text()?, SessionHead { fencing_token: row.int()?, rev: row.int()? }))
            };
            found.extend(self.all(select, read).await?);
        }
        Ok(ids.iter().map(|id| found.get(id.as_str()).copied()).collect())
    }

    pub(crate) async fn checkpoint(&mut self, id: &SessionId) -> Outcome<Checkpoint> {
        Ok(self.held_checkpoint(id, "").await?.unwrap_or_default())
    }

    /// One view of revision and rooms; `None` if there is no such session.
    async fn held_checkpoint(&mut self, id: &SessionId, lock: &str) -> Outcome<Option<Checkpoint>> {
        if !lock.is_empty() {
            // Who locks the session first reads what the one before has committed.
            let select = Statement::new("SELECT revision FROM im_sessions WHERE id = ");
            self.first(select.text(id.as_str()).sql(lock), |row| row.int()).await?;
        }
        let select = Statement::new(
            "SELECT s.revision, f.room_id, f.generation, f.incarnation, f.seq, f.since FROM im_sessions s \
             LEFT JOIN im_followed f ON f.session = s.id WHERE s.id = ",
        )
        .text(id.as_str());
        let mut held = None;
        self.each(select, |row| {
            let rev = row.int()?;
            let held = held.get_or_insert_with(|| Checkpoint { rev, rooms: BTreeMap::new() });
            if let Some(room) = row.opt_text()? {
                let room = model::made("room", RoomId::new(room))?;
                held.rooms.insert(room, followed(row)?);
            }
            Ok(std::ops::ControlFlow::Continue(()))
        })
        .await?;
        Ok(held)
    }

    pub(crate) async fn change_checkpoint(
        &mut self,
        id: &SessionId,
        change: &CheckpointChange,
    ) -> Outcome<Result<u64, Unchanged>> {
        let Some(before) = self.held_checkpoint(id, D::FOR_UPDATE).await? else {
            return Ok(Err(Unchanged::NoSession));
        };
        let mut after = before.clone();
        let changed = after.apply(change);
        if let Ok(rev) = changed {
            self.write_checkpoint(id, &before, &after).await?;
            let update = Statement::new("UPDATE im_sessions SET revision = ")
                .int(rev)
                .sql(" WHERE id = ")
                .text(id.as_str());
            self.run(update).await?;
        }
        Ok(changed)
    }

    /// Writes what differs.
    async fn write_checkpoint(
        &mut self,
        id: &SessionId,
        before: &Checkpoint,
        after: &Checkpoint,
    ) -> Outcome<()> {
        let gone: Vec<&RoomId> =
            before.rooms.keys().filter(|room| !after.rooms.contains_key(*room)).collect();
        for piece in gone.chunks(MAX_ROWS) {
            let delete = Statement::new("DELETE FROM im_followed WHERE session = ")
                .text(id.as_str())
                .sql(" AND room_id IN ")
                .list(piece, |s, room| s.text(room.as_str()));
            self.run(delete).await?;
        }
        let moved: Vec<(&RoomId, &SubscriptionRecord)> = after
            .rooms
            .iter()
            .filter(|(room, now)| before.rooms.get(*room) != Some(*now))
            .collect();
        let update =
            D::on_conflict("session, room_id", &["generation", "incarnation", "seq", "since"]);
        for piece in pieces(&moved) {
            let insert = Statement::new(
                "INSERT INTO im_followed (session, room_id, generation, incarnation, seq, since) VALUES ",
            )
            .groups(piece, |row, (room, SubscriptionRecord { cursor, since })| {
                row.text(id.as_str())
                    .text(room.as_str())
                    .int(cursor.epoch.generation)
                    .int(cursor.epoch.incarnation)
                    .int(cursor.seq.get())
                    .int(*since)
            })
            .sql(&update);
            self.run(insert).await?;
        }
        Ok(())
    }

    pub(crate) async fn put_ticket(&mut self, id: &SessionId, ticket: &Ticket) -> Outcome<()> {
        // The lock keeps the session from ending in between.
        let select = Statement::new("SELECT revision FROM im_sessions WHERE id = ");
        let held = self.first(select.text(id.as_str()).sql(D::FOR_UPDATE), |row| row.int()).await?;
        if held.is_none() {
            return Ok(());
        }
        let columns = ["secret_hash", "open_until", "opened", "device_id", "claims", "expires_at"];
        let insert = Statement::new(
            "INSERT INTO im_tickets (session, secret_hash, open_until, opened, device_id, claims, expires_at) VALUES ",
        )
        .group(|row| {
            row.text(id.as_str())
                .bytes(ticket.secret.as_bytes())
                .int(ticket.open_until.as_millis())
                .int(u64::from(ticket.opened))
                .opt_text(ticket.device.as_ref().map(DeviceId::as_str))
                .bytes(&ticket.claims)
                .opt_int(ticket.expires.map(Timestamp::as_millis))
        })
        .sql(&D::on_conflict("session", &columns));
        self.run(insert).await.map(|_| ())
    }

    pub(crate) async fn open_ticket(
        &mut self,
        id: &SessionId,
        secret: &SecretHash,
    ) -> Outcome<bool> {
        let update =
            Statement::new("UPDATE im_tickets SET opened = 1 WHERE opened = 0 AND session = ")
                .text(id.as_str())
                .sql(" AND secret_hash = ")
                .bytes(secret.as_bytes());
        Ok(self.run(update).await? > 0)
    }

    pub(crate) async fn ticket(&mut self, id: &SessionId) -> Outcome<Option<Ticket>> {
        let select = Statement::new(
            "SELECT t.secret_hash, t.open_until, t.opened, t.device_id, t.claims, t.expires_at FROM im_tickets t \
             WHERE t.session = ",
        )
        .text(id.as_str());
        self.first(select, |row| {
            let (secret, open_until) = (model::secret(row)?, Timestamp::from_millis(row.int()?));
            let (opened, device) = (row.int()? != 0, row.opt_text()?);
            let device = device.map(|id| model::made("device", DeviceId::new(id))).transpose()?;
            let (claims, expires) = (row.bytes()?.into(), row.opt_int()?);
            let expires = expires.map(Timestamp::from_millis);
            Ok(Ticket { secret, open_until, opened, device, claims, expires })
        })
        .await
    }

    pub(crate) async fn sweep_sessions(&mut self, now: Timestamp, limit: usize) -> Outcome<usize> {
        let select = Statement::new("SELECT id FROM im_sessions WHERE expires_at < ")
            .int(now.as_millis())
            .sql(" ORDER BY expires_at")
            .limit(limit)
            .sql(D::FOR_UPDATE);
        let read = |row: &mut Columns<'_, D>| model::made("session", SessionId::new(row.text()?));
        let expired = self.all(select, read).await?;
        self.end_sessions(&expired).await?;
        Ok(expired.len())
    }
}

fn followed<D: Dialect>(row: &mut Columns<'_, D>) -> Outcome<SubscriptionRecord> {
    let epoch = Epoch { generation: row.int()?, incarnation: row.int()? };
    let seq = Seq::new(row.int()?).map_err(|_| Fault::Damaged("cursor"))?;
    Ok(SubscriptionRecord { cursor: Cursor { epoch, seq }, since: row.int()? })
}
