//! Writes of sessions and checkpoints.

use im_core::ports::StoreResult;
use im_core::state::{CheckpointChange, SecretHash, SessionRecord, Ticket, Unchanged};
use im_core::{SessionId, Timestamp};

use crate::error::reading;
use crate::txn::{Sight, Txn};
use crate::{keys, record};

impl Txn<'_> {
    fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>> {
        let bytes = self.get(&keys::session(id))?;
        bytes.map(|bytes| record::read_session(id, &bytes)).transpose()
    }

    pub(crate) fn open_session(&mut self, session: &SessionRecord) -> StoreResult<()> {
        self.end_session(&session.id)?;
        self.needs_sync();
        let of_user = keys::session_of(&session.user, session.created, &session.id);
        self.put(of_user, Some(Vec::new()), Sight::Kept)?;
        self.put(keys::expiry(session.expires, &session.id), Some(Vec::new()), Sight::Kept)?;
        let key = keys::session(&session.id);
        self.put(key, Some(record::session(session)), Sight::Kept)
    }

    /// A number that a power loss takes was given to a connection that is gone with it: it is not synced.
    pub(crate) fn attach_session(
        &mut self,
        id: &SessionId,
        expires: Timestamp,
    ) -> StoreResult<Option<u64>> {
        let Some(mut session) = self.session(id)? else { return Ok(None) };
        session.fencing_token += 1;
        self.write_session(&session, expires)?;
        Ok(Some(session.fencing_token))
    }

    pub(crate) fn touch_session(&mut self, id: &SessionId, expires: Timestamp) -> StoreResult<()> {
        match self.session(id)? {
            Some(session) => self.write_session(&session, expires),
            None => Ok(()),
        }
    }

    /// Writes a session that is there, with another expiry.
    fn write_session(&mut self, session: &SessionRecord, expires: Timestamp) -> StoreResult<()> {
        self.put(keys::expiry(session.expires, &session.id), None, Sight::Kept)?;
        self.put(keys::expiry(expires, &session.id), Some(Vec::new()), Sight::Kept)?;
        let session = SessionRecord { expires, ..session.clone() };
        self.put(keys::session(&session.id), Some(record::session(&session)), Sight::Kept)
    }

    pub(crate) fn end_session(&mut self, id: &SessionId) -> StoreResult<()> {
        match self.session(id)? {
            Some(session) => {
                self.needs_sync();
                self.remove_session(&session)
            }
            None => Ok(()),
        }
    }

    pub(crate) fn change_checkpoint(
        &mut self,
        id: &SessionId,
        change: &CheckpointChange,
    ) -> StoreResult<Result<u64, Unchanged>> {
        if self.session(id)?.is_none() {
            return Ok(Err(Unchanged::NoSession));
        }
        let key = keys::checkpoint(id);
        let held = self.record(&key)?;
        let held = held.map(|bytes| record::read_checkpoint(&bytes)).transpose()?;
        let mut checkpoint = held.unwrap_or_default();
        let changed = checkpoint.apply(change);
        if changed.is_ok() {
            self.put_record(&key, Some(&record::checkpoint(&checkpoint)), Sight::Kept)?;
        }
        Ok(changed)
    }

    pub(crate) fn sweep_sessions(&mut self, now: Timestamp, limit: usize) -> StoreResult<usize> {
        let expired = keys::EXPIRIES.to_vec()..keys::expiries_until(now);
        let mut swept = 0;
        for row in self.handle.db.range(expired) {
            if swept == limit {
                break;
            }
            let (key, _) = row.map_err(reading)?;
            let id = key.get(9..).and_then(|id| std::str::from_utf8(id).ok());
            let id = id.and_then(|id| SessionId::new(id).ok());
            let id = id.ok_or_else(|| crate::error::damaged("session"))?;
            // An earlier write of this commit may have moved it on.
            match self.session(&id)? {
                Some(session) if session.expires < now => self.remove_session(&session)?,
                _ => continue,
            }
            swept += 1;
        }
        Ok(swept)
    }

    fn remove_session(&mut self, session: &SessionRecord) -> StoreResult<()> {
        let of_user = keys::session_of(&session.user, session.created, &session.id);
        self.put(of_user, None, Sight::Kept)?;
        self.put(keys::expiry(session.expires, &session.id), None, Sight::Kept)?;
        self.put(keys::session(&session.id), None, Sight::Kept)?;
        self.put_record(&keys::ticket(&session.id), None, Sight::Kept)?;
        self.put_record(&keys::checkpoint(&session.id), None, Sight::Kept)
    }

    pub(crate) fn open_ticket(&mut self, id: &SessionId, secret: &SecretHash) -> StoreResult<bool> {
        let Some(bytes) = self.record(&keys::ticket(id))? else { return Ok(false) };
        let ticket = record::read_ticket(&bytes)?;
        if ticket.opened || ticket.secret != *secret {
            return Ok(false);
        }
        self.put_ticket(id, &Ticket { opened: true, ..ticket })?;
        Ok(true)
    }

    /// A ticket that a power loss takes is asked for again: it is not synced.
    pub(crate) fn put_ticket(&mut self, id: &SessionId, ticket: &Ticket) -> StoreResult<()> {
        match self.session(id)? {
            Some(_) => {
                self.put_record(&keys::ticket(id), Some(&record::ticket(ticket)), Sight::Kept)
            }
            None => Ok(()),
        }
    }
}
