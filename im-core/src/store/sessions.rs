//! Sessions, their checkpoints and their tickets. The session's record guards all three.

use std::collections::BTreeMap;

use crate::backend::{Answer, Change, Commit, GuardAct, Range, SyncLevel};
use crate::id::{Cursor, Epoch, RoomId, SessionId, UserId};
use crate::ports::StoreResult;
use crate::state::{
    Base, Checkpoint, CheckpointChange, Followed, SecretHash, SessionHead, SessionRecord, Ticket,
    Unchanged,
};
use crate::time::Timestamp;

use super::column::{Columnar, Rev};
use super::tables::{BY_EXPIRY, BY_USER, Record, SessionRow, SubscriptionRow, TicketRow};
use super::view::{Ruled, View};
use super::{BackendStore, Plan, bump, put_change};

impl BackendStore {
    pub(super) async fn open_session(&self, record: SessionRecord) -> StoreResult<()> {
        self.act(|view| {
            let held: Option<SessionRow> = view.get(key(&record.id))?;
            let row = SessionRow::of(&record);
            let mut commit = held.as_ref().map(end).unwrap_or_default();
            commit.guards = vec![bump(&row, held.map(|held| held.rev))];
            commit.changes.push(put_change(&row));
            Ok(Plan::write(commit, ()))
        })
        .await
    }

    pub(super) async fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>> {
        self.look(|view| Ok(view.get::<SessionRow>(key(id))?.map(SessionRow::into_record))).await
    }

    pub(super) async fn sessions_of(
        &self,
        user: &UserId,
        limit: usize,
    ) -> StoreResult<Vec<SessionRecord>> {
        let rows = self.look(|view| sessions_of(view, user, limit)).await?;
        Ok(rows.into_iter().map(SessionRow::into_record).collect())
    }

    /// Moves the expiry, and counts so many new connections. Returns how many there have been.
    pub(super) async fn move_session(
        &self,
        id: &SessionId,
        expires: Timestamp,
        connections: u64,
    ) -> StoreResult<Option<u64>> {
        self.act(|view| {
            let Some(held) = view.get::<SessionRow>(key(id))? else {
                return Ok(Plan::nothing(None));
            };
            let fencing_token = held.fencing_token + connections;
            let row = SessionRow { expires_at: expires, fencing_token, ..held };
            Ok(Plan::write(unsynced(&row, Vec::new()), Some(fencing_token)))
        })
        .await
    }

    pub(super) async fn end_session(&self, id: &SessionId) -> StoreResult<()> {
        self.act(|view| {
            let held: Option<SessionRow> = view.get(key(id))?;
            Ok(held.map_or(Plan::nothing(()), |held| Plan::write(end(&held), ())))
        })
        .await
    }

    pub(super) async fn session_heads(
        &self,
        ids: &[SessionId],
    ) -> StoreResult<Vec<Option<SessionHead>>> {
        let head =
            |row: SessionRow| SessionHead { attached: row.fencing_token, rev: row.checkpoint_rev };
        self.look(|view| {
            let rows = view.get_all::<SessionRow>(ids.iter().map(key).collect())?;
            Ok(rows.into_iter().map(|row| row.map(head)).collect())
        })
        .await
    }

    pub(super) async fn checkpoint(&self, id: &SessionId) -> StoreResult<Checkpoint> {
        self.look(|view| {
            let Some(session) = view.get::<SessionRow>(key(id))? else {
                return Ok(Checkpoint::default());
            };
            let rooms = view.range::<SubscriptionRow>(subscriptions(id))?;
            let rooms = rooms.into_iter().map(SubscriptionRow::into_entry).collect();
            Ok(Checkpoint { rev: session.checkpoint_rev, rooms })
        })
        .await
    }

    pub(super) async fn change_checkpoint(
        &self,
        id: &SessionId,
        change: CheckpointChange,
    ) -> StoreResult<Result<u64, Unchanged>> {
        self.act(|view| {
            let Some(session) = view.get::<SessionRow>(key(id))? else {
                return Ok(Plan::nothing(Err(Unchanged::NoSession)));
            };
            let rev = session.checkpoint_rev;
            if matches!(change.base, Base::Rev(base) if base != rev) {
                return Ok(Plan::nothing(Err(Unchanged::Stale)));
            }
            let before = affected(view, id, &change)?;
            let mut after = Checkpoint { rev, rooms: before.clone() };
            let rev = match after.apply(&change) {
                Ok(rev) => rev,
                Err(unchanged) => return Ok(Plan::nothing(Err(unchanged))),
            };
            let changes = differences(id, &before, &after.rooms);
            let row = SessionRow { checkpoint_rev: rev, ..session };
            Ok(Plan::write(unsynced(&row, changes), Ok(rev)))
        })
        .await
    }

    pub(super) async fn put_ticket(&self, id: &SessionId, ticket: Ticket) -> StoreResult<()> {
        self.act(|view| {
            let Some(session) = view.get::<SessionRow>(key(id))? else {
                return Ok(Plan::nothing(()));
            };
            let ticket = put_change(&TicketRow::of(id, &ticket));
            Ok(Plan::write(synced(&session, vec![ticket]), ()))
        })
        .await
    }

    pub(super) async fn open_ticket(
        &self,
        id: &SessionId,
        secret: &SecretHash,
    ) -> StoreResult<bool> {
        self.act(|view| {
            let Some(session) = view.get::<SessionRow>(key(id))? else {
                return Ok(Plan::nothing(false));
            };
            match view.get::<TicketRow>(key(id))? {
                Some(ticket) if ticket.secret_hash == *secret && !ticket.opened => {
                    let ticket = put_change(&TicketRow { opened: true, ..ticket });
                    Ok(Plan::write(synced(&session, vec![ticket]), true))
                }
                _ => Ok(Plan::nothing(false)),
            }
        })
        .await
    }

    pub(super) async fn ticket(&self, id: &SessionId) -> StoreResult<Option<Ticket>> {
        self.look(|view| Ok(view.get::<TicketRow>(key(id))?.map(TicketRow::into_ticket))).await
    }

    /// Each session is a commit of its own, so one that is used meanwhile stays.
    pub(super) async fn sweep_sessions(&self, now: Timestamp, limit: usize) -> StoreResult<usize> {
        let expired = Range::of(SessionRow::TABLE, Vec::new())
            .by(BY_EXPIRY)
            .before(vec![now.to_datum()])
            .limit(limit);
        let expired = self.look(|view| view.range::<SessionRow>(expired.clone())).await?;
        self.end_sessions(&expired).await
    }

    /// Returns how many were ended: those that have not changed since they were read.
    pub(super) async fn end_sessions(&self, sessions: &[SessionRow]) -> StoreResult<usize> {
        if sessions.is_empty() {
            return Ok(0);
        }
        let mut ended = 0;
        for answer in self.committer.commit(sessions.iter().map(end).collect()).await {
            ended += usize::from(matches!(answer?, Answer::Applied(_)));
        }
        Ok(ended)
    }
}

pub(super) fn sessions_of(view: &View, user: &UserId, limit: usize) -> Ruled<Vec<SessionRow>> {
    let range = Range::of(SessionRow::TABLE, vec![user.to_datum()]).by(BY_USER);
    view.range(range.limit(limit))
}

fn key(id: &SessionId) -> crate::backend::Row {
    vec![id.to_datum()]
}

fn subscriptions(id: &SessionId) -> Range {
    Range::of(SubscriptionRow::TABLE, key(id))
}

/// A commit that puts a session, and makes other changes that it guards.
fn synced(row: &SessionRow, mut changes: Vec<Change>) -> Commit {
    changes.push(put_change(row));
    Commit { guards: vec![bump(row, Some(row.rev))], changes, ..Commit::default() }
}

fn unsynced(row: &SessionRow, changes: Vec<Change>) -> Commit {
    Commit { sync: SyncLevel::Unsynced, ..synced(row, changes) }
}

/// A commit that removes a session with its checkpoint and ticket.
fn end(row: &SessionRow) -> Commit {
    let id = key(&row.id);
    let changes = vec![
        Change::Remove { table: SessionRow::TABLE, key: id.clone() },
        Change::RemoveRange {
            table: SubscriptionRow::TABLE,
            prefix: id.clone(),
            from: None,
            to: None,
        },
        Change::Remove { table: TicketRow::TABLE, key: id.clone() },
    ];
    let guard = super::guard(SessionRow::TABLE, id, Some(row.rev), GuardAct::Bump);
    Commit { guards: vec![guard], changes, ..Commit::default() }
}

type Rooms = BTreeMap<RoomId, Followed>;

/// The subscriptions that a change is about: those that it names, or all where it counts them or drops them.
fn affected(view: &View, id: &SessionId, change: &CheckpointChange) -> Ruled<Rooms> {
    let rows = if change.follow.is_empty() && change.base != Base::Empty {
        let named = change.unfollow.iter().chain(change.confirm.iter().map(|(room, _)| room));
        let keys = named.map(|room| vec![id.to_datum(), room.to_datum()]).collect();
        view.get_all::<SubscriptionRow>(keys)?.into_iter().flatten().collect()
    } else {
        view.range::<SubscriptionRow>(subscriptions(id))?
    };
    Ok(rows.into_iter().map(SubscriptionRow::into_entry).collect())
}

fn differences(id: &SessionId, before: &Rooms, after: &Rooms) -> Vec<Change> {
    let gone = before.keys().filter(|room| !after.contains_key(*room)).map(|room| Change::Remove {
        table: SubscriptionRow::TABLE,
        key: vec![id.to_datum(), room.to_datum()],
    });
    let put = after.iter().filter(|(room, entry)| before.get(*room) != Some(*entry));
    let put = put.map(|(room, entry)| put_change(&SubscriptionRow::of(id, room, entry)));
    gone.chain(put).collect()
}

impl SessionRow {
    fn of(record: &SessionRecord) -> Self {
        Self {
            id: record.id.clone(),
            user_id: record.user.clone(),
            device_id: record.device.clone(),
            secret_hash: record.secret,
            created_at: record.created,
            expires_at: record.expires,
            fencing_token: record.attached,
            checkpoint_rev: 0,
            rev: Rev::default(),
        }
    }

    fn into_record(self) -> SessionRecord {
        SessionRecord {
            id: self.id,
            user: self.user_id,
            device: self.device_id,
            secret: self.secret_hash,
            created: self.created_at,
            expires: self.expires_at,
            attached: self.fencing_token,
        }
    }
}

impl SubscriptionRow {
    fn of(session: &SessionId, room: &RoomId, entry: &Followed) -> Self {
        let Cursor { epoch, seq } = entry.cursor;
        Self {
            session_id: session.clone(),
            room_id: room.clone(),
            generation: epoch.generation,
            room: epoch.incarnation,
            seq,
            since: entry.since,
        }
    }

    fn into_entry(self) -> (RoomId, Followed) {
        let epoch = Epoch { generation: self.generation, incarnation: self.room };
        let cursor = Cursor { epoch, seq: self.seq };
        (self.room_id, Followed { cursor, since: self.since })
    }
}

impl TicketRow {
    fn of(session: &SessionId, ticket: &Ticket) -> Self {
        Self {
            session_id: session.clone(),
            secret_hash: ticket.secret,
            open_until: ticket.open_until,
            opened: ticket.opened,
            device_id: ticket.device.clone(),
            claims: ticket.claims.clone(),
            expires_at: ticket.expires,
        }
    }

    fn into_ticket(self) -> Ticket {
        Ticket {
            secret: self.secret_hash,
            open_until: self.open_until,
            opened: self.opened,
            device: self.device_id,
            claims: self.claims,
            expires: self.expires_at,
        }
    }
}
