//! Erasing users.

use im_core::ports::StoreResult;
use im_core::state::{Erased, Membership, RoomRecord};
use im_core::{RoomId, Seq, UserId};

use crate::error::{damaged, reading};
use crate::state::Draft;
use crate::txn::{Sight, Txn};
use crate::upkeep::ROWS;
use crate::{keys, record};

/// What one call may still look at, and what it has done.
struct Step {
    left: usize,
    events: u64,
    /// State that was changed, by incarnation: kept once nothing can fail any more.
    states: Vec<(u64, Draft)>,
}

/// Where a user may be found.
struct Found {
    incarnation: u64,
    room: RoomId,
    next: Seq,
}

impl Txn<'_> {
    /// Goes through the rooms where the user may be found, by their traces. An event is written anew in place, and
    /// readers may see it before it is kept: what they must not see again they have seen before.
    pub(crate) fn erase_user(&mut self, user: &UserId, limit: usize) -> StoreResult<Erased> {
        self.needs_sync();
        let mut step = Step { left: limit.clamp(1, ROWS), events: 0, states: Vec::new() };
        self.erase_sessions(user, &mut step)?;
        if step.left > 0 && self.delete_room(&RoomId::inbox(user))? {
            step.left -= 1;
        }
        for row in self.handle.db.scan_prefix(keys::traces(user)) {
            if step.left == 0 {
                break;
            }
            let (key, value) = row.map_err(reading)?;
            let incarnation = keys::last_number(&key).ok_or_else(|| damaged("trace"))?;
            let (room, next) = record::read_trace(&value)?;
            self.erase_in(user, &Found { incarnation, room, next }, &mut step)?;
        }
        self.states.extend(step.states);
        Ok(Erased { events: step.events, more: step.left == 0 })
    }

    fn erase_sessions(&mut self, user: &UserId, step: &mut Step) -> StoreResult<()> {
        let prefix = keys::sessions_of(user);
        for row in self.handle.db.scan_prefix(&prefix).keys().take(step.left) {
            let key = row.map_err(reading)?;
            let id = key.get(prefix.len() + 8..).and_then(|id| std::str::from_utf8(id).ok());
            let id = id.and_then(|id| im_core::SessionId::new(id).ok());
            self.end_session(&id.ok_or_else(|| damaged("session"))?)?;
            step.left -= 1;
        }
        Ok(())
    }

    fn erase_in(&mut self, user: &UserId, found: &Found, step: &mut Step) -> StoreResult<()> {
        let incarnation = found.incarnation;
        let is_it = |room: &RoomRecord| room.epoch.incarnation == incarnation;
        let live = self.room(&found.room)?.filter(is_it);
        let is_live = live.is_some();
        let room = match live {
            Some(room) => Some(room),
            None => self.draft(&found.room)?.filter(is_it),
        };
        // What is doomed goes by itself.
        let Some(mut room) = room else {
            step.left -= 1;
            return self.put(keys::trace(user, incarnation), None, Sight::AtOnce);
        };
        if let Some(Membership::Member(_)) = self.membership_in(incarnation, user)? {
            room.members = room.members.saturating_sub(1);
        }
        self.put(keys::membership(incarnation, user), Some(record::membership(None)), Sight::Kept)?;
        if let Some(draft) = self.erase_state(&room, user)? {
            step.states.push((incarnation, draft));
        }
        let next = self.erase_events(user, &mut room, found.next, step)?;
        let at_end = next > room.head;
        if at_end {
            self.erase_sends(user, incarnation, step)?;
        }
        if at_end && step.left > 0 {
            step.left -= 1;
            self.put(keys::membership(incarnation, user), None, Sight::Kept)?;
            self.forget(incarnation, &found.room, user)?;
        } else {
            let trace = record::trace(&found.room, next);
            self.put(keys::trace(user, incarnation), Some(trace), Sight::AtOnce)?;
        }
        if is_live { self.put_room(room) } else { self.put_draft(&room) }
    }

    /// Those that are left: of events that were trimmed.
    fn erase_sends(&mut self, user: &UserId, incarnation: u64, step: &mut Step) -> StoreResult<()> {
        let prefix = keys::idempotency_records_of(incarnation, user);
        for row in self.handle.db.scan_prefix(prefix).keys().take(step.left) {
            self.put(row.map_err(reading)?.to_vec(), None, Sight::Kept)?;
            step.left -= 1;
        }
        Ok(())
    }

    /// Goes on from `next`, as far as it may, and takes the record of a send with its event: an event that has an id is not
    /// to be without one. Gives where to go on from.
    fn erase_events(
        &mut self,
        user: &UserId,
        room: &mut RoomRecord,
        next: Seq,
        step: &mut Step,
    ) -> StoreResult<Seq> {
        let mut next = next.max(room.first);
        while next <= room.head && step.left > 0 {
            step.left -= 1;
            let key = keys::event(room.epoch.incarnation, next);
            let bytes =
                self.record(&key)?.ok_or_else(|| damaged("log: an event is missing; it"))?;
            let event = record::read_event(&room.id, room.epoch, next, &bytes)?;
            if let Some(new) = event.without(user) {
                room.replace(&event, &new);
                if let (Some(id), None) = (&event.id, &new.id) {
                    let sent = keys::sent(room.epoch.incarnation, user, id);
                    self.put(sent, None, Sight::Kept)?;
                }
                self.put_record(&key, Some(&record::event(&new)), Sight::AtOnce)?;
                step.events += 1;
            }
            next = next.next();
        }
        Ok(next)
    }
}
