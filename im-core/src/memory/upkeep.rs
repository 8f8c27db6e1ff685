//! Trimming, deleting and erasing in memory. Each call does a bounded part, as every store has to.

use std::ops::Bound;
use std::sync::Arc;

use crate::id::{MessageId, RoomId, UserId};
use crate::state::{Erased, Keep, Membership, StateLimits, Trimmed};

use super::rooms::{Room, Rooms, Trace, index, size};
use super::sessions::Sessions;

impl Rooms {
    pub(super) fn trim(&mut self, room: &RoomId, keep: &Keep, limit: usize) -> Option<Trimmed> {
        let Room { record, events, .. } = self.rooms.get_mut(room)?;
        let oldest =
            events.iter().map(|event| Ok::<_, std::convert::Infallible>((event.at, size(event))));
        let Ok(trimmed) = record.trim(keep, limit, oldest);
        // As many as there were events to look at.
        events.drain(..trimmed.removed as usize);
        Some(trimmed)
    }

    pub(super) fn delete(&mut self, room: &RoomId) -> bool {
        self.doomed.extend(self.drafts.remove(room));
        self.names.remove(room);
        let deleted = self.rooms.remove(room);
        let existed = deleted.is_some();
        self.doomed.extend(deleted);
        existed
    }

    pub(super) fn purge(&mut self, limit: usize) -> bool {
        let mut left = limit.max(1);
        while left > 0 {
            let Some(mut room) = self.doomed.pop() else { return false };
            if !self.purge_room(&mut room, &mut left) {
                self.doomed.push(room);
            }
        }
        !self.doomed.is_empty()
    }

    /// Takes a room apart; `true` once nothing is left of it.
    fn purge_room(&mut self, room: &mut Room, left: &mut usize) -> bool {
        while *left > 0 {
            *left -= 1;
            if room.events.pop_front().is_some() || room.sent.pop_first().is_some() {
                continue;
            }
            if let Some((user, _)) = room.memberships.pop_first() {
                // A new room under this id, or one under import, may have the user by now.
                let id = &room.record.id;
                let membership = |room: Option<&Room>| room?.memberships.get(&user).copied();
                let is_member = |now: &Membership| matches!(now, Membership::Member(_));
                let now = membership(self.rooms.get(id)).filter(is_member);
                let now = now.or_else(|| membership(self.drafts.get(id)));
                index(&mut self.of_user, &user, id, now);
            } else if let Some(user) = room.seen.pop_first() {
                self.drop_trace(&user, room.record.epoch.incarnation);
            } else {
                return true;
            }
        }
        false
    }

    fn drop_trace(&mut self, user: &UserId, incarnation: u64) {
        if let Some(traces) = self.traces.get_mut(user) {
            traces.remove(&incarnation);
            if traces.is_empty() {
                self.traces.remove(user);
            }
        }
    }

    pub(super) fn erase(
        &mut self,
        user: &UserId,
        sessions: &mut Sessions,
        limit: usize,
        limits: &StateLimits,
    ) -> Erased {
        let mut step = Step { left: limit.max(1), events: 0 };
        let ended = sessions.of_user(user, step.left);
        ended.iter().for_each(|session| sessions.end(&session.id));
        step.left -= ended.len();
        if self.delete(&RoomId::inbox(user)) {
            step.left = step.left.saturating_sub(1);
        }
        while step.left > 0 {
            let Some((incarnation, trace)) =
                self.traces.get(user).and_then(|traces| traces.first_key_value())
            else {
                break;
            };
            let (incarnation, room) = (*incarnation, trace.room.clone());
            if self.erase_in(user, incarnation, &room, &mut step, limits) {
                self.drop_trace(user, incarnation);
                step.left = step.left.saturating_sub(1);
            }
        }
        let more = self.traces.contains_key(user) || !sessions.of_user(user, 1).is_empty();
        Erased { events: step.events, more }
    }

    /// Erases the user in one room; `true` once nothing is left of them there.
    fn erase_in(
        &mut self,
        user: &UserId,
        incarnation: u64,
        id: &RoomId,
        step: &mut Step,
        limits: &StateLimits,
    ) -> bool {
        let is_it = |room: &&mut Room| room.record.epoch.incarnation == incarnation;
        let found = match self.rooms.get_mut(id).filter(is_it) {
            Some(room) => Some(room),
            None => self.drafts.get_mut(id).filter(is_it),
        };
        // What is doomed goes by itself.
        let Some(room) = found else { return true };
        if let Some(membership) = room.memberships.remove(user) {
            let was_member = matches!(membership, Membership::Member(_));
            room.record.members -= u32::from(was_member && room.record.members > 0);
            index(&mut self.of_user, user, id, None);
        }
        while step.left > 0 && drop_idempotency_records(room, user) {
            step.left -= 1;
        }
        room.state_revision += room.state.erase(user, limits) as u64;
        let trace = self.traces.get_mut(user).and_then(|traces| traces.get_mut(&incarnation));
        let Some(trace) = trace else { return true };
        if step.left == 0 || !erase_events(room, user, trace, step) {
            return false;
        }
        room.seen.remove(user);
        true
    }
}

/// What one call may still look at, and what it has done.
struct Step {
    left: usize,
    events: u64,
}

/// Goes on from where the trace says; `true` at the head.
fn erase_events(room: &mut Room, user: &UserId, trace: &mut Trace, step: &mut Step) -> bool {
    let from = room.place(trace.next);
    let Room { record, events, .. } = room;
    for event in events.range_mut((Bound::Included(from), Bound::Unbounded)) {
        if step.left == 0 {
            return false;
        }
        step.left -= 1;
        if let Some(new) = event.without(user) {
            record.replace(event, &new);
            *event = Arc::new(new);
            step.events += 1;
        }
        trace.next = event.seq.next();
    }
    true
}

/// Removes one record of a send; `false` if the sender has none.
fn drop_idempotency_records(room: &mut Room, sender: &UserId) -> bool {
    let first = room.sent.range((sender.clone(), MessageId::least())..).next();
    let found = first.map(|(key, _)| key.clone()).filter(|(of, _)| of == sender);
    found.is_some_and(|key| room.sent.remove(&key).is_some())
}
