//! Sessions, checkpoints, tickets.

use crate::id::{SessionId, UserId};
use crate::ports::StoreResult;
use crate::state::{
    Checkpoint, CheckpointChange, SecretHash, SessionHead, SessionRecord, Ticket, Unchanged,
};
use crate::time::Timestamp;

use super::look::Reader;
use super::write::Writer;
use super::{keys, record};

/// A session, and the revision of its checkpoint.
type Kept = (SessionRecord, u64);

impl Reader<'_> {
    fn kept(&self, id: &SessionId) -> StoreResult<Option<Kept>> {
        let session = self.rows.get(&keys::session(id))?;
        session.map(|session| record::unpack("session", &session)).transpose()
    }

    pub(super) fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>> {
        Ok(self.kept(id)?.map(|(session, _)| session))
    }

    pub(super) fn sessions_of(
        &self,
        user: &UserId,
        limit: usize,
    ) -> StoreResult<Vec<SessionRecord>> {
        let prefix = keys::sessions_of(user);
        self.list(&prefix, None, limit, |key, _| {
            // Behind the time of its beginning.
            self.session(&keys::id_at(key, prefix.len() + 8)?)
        })
    }

    pub(super) fn session_head(&self, id: &SessionId) -> StoreResult<Option<SessionHead>> {
        Ok(self
            .kept(id)?
            .map(|(session, rev)| SessionHead { fencing_token: session.fencing_token, rev }))
    }

    pub(super) fn checkpoint(&self, id: &SessionId) -> StoreResult<Checkpoint> {
        let rooms = self.rows.get(&keys::checkpoint(id))?;
        let (Some((_, rev)), Some(rooms)) = (self.kept(id)?, rooms) else {
            return Ok(Checkpoint::default());
        };
        Ok(Checkpoint { rev, rooms: record::read_subscription(&rooms)? })
    }

    pub(super) fn ticket(&self, id: &SessionId) -> StoreResult<Option<Ticket>> {
        let ticket = self.rows.get(&keys::ticket(id))?;
        ticket.map(|ticket| record::read_ticket(&ticket)).transpose()
    }
}

impl Writer<'_> {
    pub(super) fn open_session(&mut self, session: &SessionRecord) -> StoreResult<()> {
        self.end_session(&session.id)?;
        self.note(&keys::session_of(&session.user, session.created, &session.id))?;
        self.put_session(session, 0)
    }

    fn put_session(&mut self, session: &SessionRecord, rev: u64) -> StoreResult<()> {
        self.note(&keys::expiry(session.expires, &session.id))?;
        self.put(&keys::session(&session.id), &(session, rev))
    }

    pub(super) fn attach_session(
        &mut self,
        id: &SessionId,
        expires: Timestamp,
    ) -> StoreResult<Option<u64>> {
        self.move_session(id, expires, 1)
    }

    pub(super) fn touch_session(&mut self, id: &SessionId, expires: Timestamp) -> StoreResult<()> {
        self.move_session(id, expires, 0).map(drop)
    }

    /// Moves the expiry, and counts so many new connections.
    fn move_session(
        &mut self,
        id: &SessionId,
        expires: Timestamp,
        connections: u64,
    ) -> StoreResult<Option<u64>> {
        let Some((session, rev)) = self.look().kept(id)? else { return Ok(None) };
        self.rows.remove(&keys::expiry(session.expires, id))?;
        let attached = session.fencing_token + connections;
        self.put_session(&SessionRecord { expires, fencing_token: attached, ..session }, rev)?;
        Ok(Some(attached))
    }

    /// `false` if there is none.
    pub(super) fn end_session(&mut self, id: &SessionId) -> StoreResult<bool> {
        let Some(session) = self.look().session(id)? else { return Ok(false) };
        self.rows.remove(&keys::session_of(&session.user, session.created, id))?;
        self.rows.remove(&keys::expiry(session.expires, id))?;
        for key in [keys::session(id), keys::checkpoint(id), keys::ticket(id)] {
            self.rows.remove(&key)?;
        }
        Ok(true)
    }

    pub(super) fn change_checkpoint(
        &mut self,
        id: &SessionId,
        change: &CheckpointChange,
    ) -> StoreResult<Result<u64, Unchanged>> {
        let Some((session, _)) = self.look().kept(id)? else {
            return Ok(Err(Unchanged::NoSession));
        };
        let mut checkpoint = self.look().checkpoint(id)?;
        let changed = checkpoint.apply(change);
        if let Ok(rev) = changed {
            self.rows.put(&keys::checkpoint(id), &record::followed(&checkpoint.rooms)?)?;
            self.put_session(&session, rev)?;
        }
        Ok(changed)
    }

    pub(super) fn put_ticket(&mut self, id: &SessionId, ticket: &Ticket) -> StoreResult<()> {
        match self.look().session(id)? {
            Some(_) => self.rows.put(&keys::ticket(id), &record::ticket(ticket)?),
            None => Ok(()),
        }
    }

    pub(super) fn open_ticket(&mut self, id: &SessionId, secret: &SecretHash) -> StoreResult<bool> {
        match self.look().ticket(id)? {
            Some(ticket) if ticket.secret == *secret && !ticket.opened => {
                self.put_ticket(id, &Ticket { opened: true, ..ticket })?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    pub(super) fn sweep_sessions(&mut self, now: Timestamp, limit: usize) -> StoreResult<usize> {
        let expired = self.first_keys(keys::EXPIRIES..&keys::expiries_from(now), limit)?;
        let mut swept = 0;
        for key in expired {
            // Behind the byte of its kind and the time.
            swept += usize::from(self.end_session(&keys::id_at(&key, 9)?)?);
        }
        Ok(swept)
    }
}
