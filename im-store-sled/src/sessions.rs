//! Writes of sessions and checkpoints.

use im_core::ports::StoreResult;
use im_core::state::{Checkpoint, SessionRecord};
use im_core::{SessionId, Timestamp};

use crate::error::reading;
use crate::txn::{Sight, Txn};
use crate::{keys, record};

impl Txn<'_> {
    fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>> {
        let bytes = self.get(&keys::session(id))?;
        bytes.map(|bytes| record::read_session(id, &bytes)).transpose()
    }

    pub(crate) fn put_session(&mut self, mut session: SessionRecord) -> StoreResult<()> {
        self.needs_sync();
        let old = self.session(&session.id)?;
        if let Some(old) = &old {
            session.revoked |= old.revoked;
            if (old.created, &old.user) != (session.created, &session.user) {
                let key = keys::session_of(&old.user, old.created, &old.id);
                self.put(key, None, Sight::Kept)?;
            }
            if old.expires != session.expires {
                self.put(keys::expiry(old.expires, &old.id), None, Sight::Kept)?;
            }
        }
        if session.revoked {
            self.put_record(&keys::checkpoint(&session.id), None, Sight::Kept)?;
        }
        let nothing = || Some(Vec::new());
        let of_user = keys::session_of(&session.user, session.created, &session.id);
        self.put(of_user, nothing(), Sight::Kept)?;
        self.put(keys::expiry(session.expires, &session.id), nothing(), Sight::Kept)?;
        let key = keys::session(&session.id);
        self.put(key, Some(record::session(&session)), Sight::Kept)
    }

    pub(crate) fn revoke_session(&mut self, id: &SessionId) -> StoreResult<()> {
        match self.session(id)? {
            Some(session) if !session.revoked => {
                self.put_session(SessionRecord { revoked: true, ..session })
            }
            _ => Ok(()),
        }
    }

    /// A checkpoint that a power loss takes costs its client a longer resume and nothing else: it is not synced.
    pub(crate) fn put_checkpoint(&mut self, id: &SessionId, new: &Checkpoint) -> StoreResult<()> {
        if self.session(id)?.is_none_or(|session| session.revoked) {
            return Ok(());
        }
        let key = keys::checkpoint(id);
        if self.checkpoint_rev(&key)?.is_some_and(|rev| rev > new.rev) {
            return Ok(());
        }
        self.put_record(&key, Some(&record::checkpoint(new)), Sight::Kept)
    }

    fn checkpoint_rev(&self, key: &[u8]) -> StoreResult<Option<u64>> {
        let Some(first) = self.get(key)? else { return Ok(None) };
        // The rev stands at the beginning, in the first part.
        record::read_number(crate::parts::open(&first)?.0).map(Some)
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
        self.put_record(&keys::checkpoint(&session.id), None, Sight::Kept)
    }
}
