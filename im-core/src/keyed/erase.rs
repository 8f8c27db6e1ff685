//! Erasing users.

use crate::id::{RoomId, Seq, UserId};
use crate::ports::StoreResult;
use crate::state::{Erased, Membership, RoomRecord};

use super::database::Way;
use super::look::{ENOUGH, ON};
use super::write::{Writer, bounded};
use super::{keys, record};

/// What one call may still look at, and what it has done.
struct Step {
    left: usize,
    events: u64,
}

/// Where a user may be found.
struct Trace {
    incarnation: u64,
    room: RoomId,
    /// What stands before this was erased.
    next: Seq,
}

impl Writer<'_> {
    /// Goes through the rooms where the user may be found, by their traces.
    pub(super) fn erase_user(&mut self, user: &UserId, limit: usize) -> StoreResult<Erased> {
        let mut step = Step { left: bounded(limit), events: 0 };
        for session in self.look().sessions_of(user, step.left)? {
            self.end_session(&session.id)?;
            step.left -= 1;
        }
        if step.left > 0 && self.delete_room(&RoomId::inbox(user))? {
            step.left -= 1;
        }
        let traces = self.look().list(&keys::traces(user), None, step.left, |key, trace| {
            let (room, next) = record::unpack("trace", trace)?;
            Ok(Some(Trace { incarnation: keys::last_number(key)?, room, next }))
        })?;
        for trace in traces {
            if step.left == 0 {
                break;
            }
            self.erase_in(user, &trace, &mut step)?;
        }
        Ok(Erased { events: step.events, more: step.left == 0 })
    }

    fn erase_in(&mut self, user: &UserId, trace: &Trace, step: &mut Step) -> StoreResult<()> {
        let incarnation = trace.incarnation;
        let is_it = |room: &RoomRecord| room.epoch.incarnation == incarnation;
        let (live, draft) = (self.look().room(&trace.room)?, self.look().draft(&trace.room)?);
        let (key, room) = match (live.filter(is_it), draft.filter(is_it)) {
            (Some(room), _) => (keys::room(&room.id), Some(room)),
            (None, draft) => (keys::draft(&trace.room), draft),
        };
        let Some(mut room) = room else {
            // It is to be purged, and its events with it.
            step.left -= 1;
            return self.forget(incarnation, &trace.room, user);
        };
        if let Some(membership) = self.look().membership_in(incarnation, user)? {
            let was_member = matches!(membership, Membership::Member(_));
            room.members = room.members.saturating_sub(u32::from(was_member));
            self.put_membership(&room, user, None)?;
        }
        self.erase_state(&room, user)?;
        let (next, done) = self.erase_events(user, &mut room, trace.next, step)?;
        self.put(&key, &room)?;
        if done {
            // Those that are left: of events that were trimmed.
            self.drop_rows(&keys::idempotency_records_of(incarnation, user), &mut step.left)?;
        }
        if !done || step.left == 0 {
            return self.put(&keys::trace(user, incarnation), &(&room.id, next));
        }
        step.left -= 1;
        self.forget(incarnation, &room.id, user)
    }

    /// Goes on from `next`, and takes the record of a send with its event. Gives what is to come after this, and whether that is nothing: then something is left of the
    /// step.
    fn erase_events(
        &mut self,
        user: &UserId,
        room: &mut RoomRecord,
        mut next: Seq,
        step: &mut Step,
    ) -> StoreResult<(Seq, bool)> {
        let (id, epoch) = (room.id.clone(), room.epoch);
        let from = keys::event(epoch.incarnation, next.max(room.first));
        let to = keys::after_all(&keys::events(epoch.incarnation));
        let (mut changed, mut sends) = (Vec::new(), Vec::new());
        self.rows.walk(&from..&to, Way::Forwards, &mut |key, value| {
            if step.left == 0 {
                return ENOUGH;
            }
            step.left -= 1;
            let seq = Seq::new(keys::last_number(key)?).map_err(|_| record::damaged("seq"))?;
            let event = record::read_event(&id, epoch, seq, value)?;
            if let Some(new) = event.without(user) {
                room.replace(&event, &new);
                if new.id.is_none() {
                    sends.extend(event.id);
                }
                changed.push(new);
            }
            next = seq.next();
            ON
        })?;
        step.events += changed.len() as u64;
        changed.iter().try_for_each(|event| self.put_event(event))?;
        let sent = |id| keys::sent(epoch.incarnation, user, &id);
        sends.into_iter().try_for_each(|id| self.rows.remove(&sent(id)))?;
        Ok((next, step.left > 0))
    }
}
