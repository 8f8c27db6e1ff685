//! The subscribed rooms: their cursors, and the cursors that the server has confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use im_core::state::{Arrival, arrival};
use im_core::wire::{CommandBody, Event, RoomStatus, Snapshot, StateUpdate, Status};
use im_core::{CommandId, Cursor, RoomId};

use super::cursors::frames;
use super::latest::RoomState;
use super::pending_requests::{Kind, PendingRequests};
use super::room::Room;

/// The retryable codes: 41xx and 42xx.
const RETRYABLE: Range<u16> = 4100..4300;

/// All subscribed rooms.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    map: BTreeMap<RoomId, Room>,
    /// The rooms with a gap, and when to request them.
    gaps: BTreeMap<RoomId, Instant>,
    /// Those of `gaps` that a `resume` named which was refused retryably: to be requested together
    /// again.
    refused: BTreeSet<RoomId>,
    /// The command that decides about each room.
    requests: PendingRequests,
    /// The revision of the server's checkpoint that the confirmed cursors belong to.
    rev: Option<u64>,
    /// Whether that checkpoint may still contain a room that was denied since.
    has_stray: bool,
    /// Whether the session's checkpoint may contain rooms at all.
    may_hold: bool,
    /// Events since the last checkpoint.
    unconfirmed: u32,
    last_event: Option<Instant>,
    last_checkpoint: Option<Instant>,
}

/// The effect of a status.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// Nothing that the application needs to know.
    Quiet,
    /// The application must be notified.
    Notify(RoomStatus),
}

impl Rooms {
    /// Starts with cursors that were saved elsewhere, and the revision that they differ from.
    ///
    /// `may_hold`: whether there is a session whose checkpoint may contain other rooms.
    pub(crate) fn saved(cursors: Vec<(RoomId, Cursor)>, may_hold: bool) -> Self {
        let map =
            cursors.into_iter().map(|(room, cursor)| (room, Room::at(cursor, None))).collect();
        Self { map, may_hold, ..Self::default() }
    }

    pub(super) fn cursors(&self) -> Vec<(RoomId, Cursor)> {
        self.map.iter().map(|(room, held)| (room.clone(), held.cursor)).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.map.len() + self.gaps.len() + self.refused.len() + self.requests.len()
    }

    pub(super) fn remove(&mut self, room: &RoomId) {
        self.map.remove(room);
        self.gaps.remove(room);
        self.refused.remove(room);
    }

    pub(super) fn rev(&self) -> Option<u64> {
        self.rev
    }

    /// Sets the revision of the server's checkpoint.
    pub(super) fn learn_rev(&mut self, rev: u64) {
        self.rev = Some(self.rev.map_or(rev, |known| known.max(rev)));
    }

    /// Drops all knowledge of the server's checkpoint.
    pub(super) fn drop_checkpoint(&mut self) {
        self.rev = None;
        self.has_stray = false;
        self.map.values_mut().for_each(|room| room.confirmed = None);
    }

    /// Records an unanswered call of the application to subscribe.
    pub(super) fn call_subscribe(&mut self, room: &RoomId, by: CommandId) {
        self.may_hold = true;
        self.requests.call(room, by, Kind::Subscribe);
    }

    /// Removes the room at the application's call. Earlier requests about it do not count any more.
    pub(super) fn call_unsubscribe(&mut self, room: &RoomId, by: CommandId) {
        self.remove(room);
        self.requests.call(room, by, Kind::Unsubscribe);
    }

    /// Records that a call of the application was answered; `order` is its write number.
    pub(super) fn call_returned(&mut self, room: &RoomId, by: CommandId, order: u64) {
        self.requests.close(room, by, order);
    }

    /// Records that a call of the application decides about the room, whatever the outcome of
    /// earlier ones.
    pub(super) fn call_done(&mut self, room: &RoomId, order: u64) {
        self.requests.done(room, order);
    }

    /// Whether a retry of this command would undo a later one that was carried out.
    pub(super) fn undoes(&self, body: &CommandBody, order: u64) -> bool {
        match body {
            CommandBody::Subscribe { room, .. } | CommandBody::Unsubscribe { room } => {
                self.requests.is_undone(room, order)
            }
            _ => false,
        }
    }

    /// Records that the server's checkpoint may contain a room that is not subscribed here, or lack
    /// one that is.
    pub(super) fn distrust_checkpoint(&mut self) {
        self.has_stray = true;
    }

    /// Drops requests that no late answer can be about; `oldest` returns the write number of the
    /// first unanswered one.
    pub(super) fn release(&mut self, oldest: impl FnOnce() -> Option<u64>) {
        self.requests.release(oldest);
    }

    /// Handles the end of the connection: drops all requests except the application's own, which
    /// are retried.
    pub(super) fn cut(&mut self, is_pending: impl Fn(CommandId) -> bool) {
        if self.has_stray {
            // With the revision, the resume would include a denied room, which may be accessible
            // again by then.
            self.drop_checkpoint();
        }
        self.map.values_mut().for_each(|room| room.tries = 0);
        self.gaps.clear();
        self.refused.clear();
        self.requests.cut(is_pending);
    }

    /// Whether the event is the next one of its room; if so, the cursor moves to it. Otherwise it
    /// is redelivered and dropped, or a gap is recorded, to be repaired.
    pub(super) fn take(&mut self, now: Instant, event: &Event) -> bool {
        let Some(room) = self.map.get_mut(&event.room) else { return false };
        let arrival = if event.epoch == room.cursor.epoch {
            arrival(room.cursor.seq, event.seq)
        } else {
            Arrival::Gap
        };
        match arrival {
            Arrival::Next => {
                room.cursor.seq = event.seq;
                room.tries = 0;
                self.unconfirmed = self.unconfirmed.saturating_add(1);
                self.last_event = Some(now);
                true
            }
            Arrival::Seen => false,
            Arrival::Gap => {
                if !self.requests.is_own(&event.room) && !self.gaps.contains_key(&event.room) {
                    self.gaps.insert(event.room.clone(), room.missed(now));
                }
                false
            }
        }
    }

    /// Records that an event of this room was dropped unread: the room will be requested again.
    pub(super) fn dropped(&mut self, now: Instant, room: &RoomId) {
        if self.map.contains_key(room) && !self.requests.is_own(room) {
            self.gaps.entry(room.clone()).or_insert(now);
        }
    }

    pub(super) fn update(&mut self, update: Arc<StateUpdate>) -> Option<Arc<StateUpdate>> {
        self.map.get_mut(&update.room)?.state.update(update)
    }

    pub(super) fn snapshot(&mut self, part: Snapshot) -> Option<Vec<Arc<StateUpdate>>> {
        self.map.get_mut(&part.room)?.state.snapshot(part)
    }

    /// Sets the generation of the server's state. Returns the rooms whose state was of another one
    /// and was dropped.
    pub(super) fn generation(&mut self, generation: u64) -> Vec<RoomId> {
        let dropped = self
            .map
            .iter_mut()
            .filter_map(|(id, room)| room.state.generation(generation).then(|| id.clone()));
        dropped.collect()
    }

    /// Returns the rooms to request now, each with its cursor. The caller confirms with
    /// [`Rooms::requested`]. A room with an unanswered call of the application waits for that
    /// answer, which may move its cursor.
    pub(super) fn gaps(&self, now: Instant) -> Vec<(RoomId, Cursor)> {
        let due = self.gaps.iter().filter(|(id, at)| **at <= now && !self.requests.is_called(id));
        due.filter_map(|(id, _)| Some((id.clone(), self.map.get(id)?.cursor))).collect()
    }

    /// Returns when the next room is to be requested.
    pub(super) fn next_gap(&self) -> Option<Instant> {
        let due = self.gaps.iter().filter(|(id, _)| !self.requests.is_called(id));
        due.map(|(_, at)| *at).min()
    }

    /// Whether the room is to be requested by `resume`, with the others that were refused with it.
    pub(super) fn is_refused(&self, room: &RoomId) -> bool {
        self.refused.contains(room)
    }

    /// Records that a command of the client itself requests `room`.
    pub(super) fn requested(&mut self, room: &RoomId, by: CommandId) {
        self.gaps.remove(room);
        self.refused.remove(room);
        self.requests.ask(room, by);
    }

    /// Records that a command of the client itself requests all rooms without another request.
    pub(super) fn requested_rest(&mut self, by: CommandId) {
        self.map.keys().for_each(|room| self.requests.ask_too(room, by));
    }

    /// Handles rooms that the command's answer left out: each is requested by itself, a little
    /// later.
    pub(super) fn unanswered(&mut self, now: Instant, by: CommandId, order: u64) {
        self.ask_again(by, order, |room| room.missed(now));
    }

    /// Handles a retryable refusal of the command: its rooms are requested again after
    /// `retry_after` at the earliest, by a `resume` if the command was one.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        (by, order): (CommandId, u64),
        retry_after: Option<Duration>,
        was_resume: bool,
    ) {
        let rooms = self.ask_again(by, order, |room| room.refused(now, retry_after));
        if was_resume {
            self.refused.extend(rooms.into_iter().filter(|room| self.map.contains_key(room)));
        }
    }

    fn ask_again(
        &mut self,
        by: CommandId,
        order: u64,
        when: impl Fn(&mut Room) -> Instant,
    ) -> Vec<RoomId> {
        let rooms = self.requests.open(by);
        for id in &rooms {
            self.requests.close(id, by, order);
            if let Some(room) = self.map.get_mut(id) {
                self.gaps.insert(id.clone(), when(room));
            }
        }
        rooms
    }

    /// Whether the answer to `by` still counts for the room.
    pub(super) fn counts(&mut self, room: &RoomId, by: CommandId, order: u64) -> bool {
        self.requests.counts(room, by, order)
    }

    /// Returns the cursors to name in a resume, in frames of bounded size: those that differ from
    /// the checkpoint, or all if the checkpoint is not known. If there are none, one empty frame is
    /// returned: the checkpoint may contain rooms that were unsubscribed meanwhile.
    pub(super) fn to_resume(&self) -> Vec<Vec<(RoomId, Cursor)>> {
        let differs = |room: &Room| self.rev.is_none() || room.confirmed != Some(room.cursor);
        let mut frames = frames(self.cursors_if(differs));
        if frames.is_empty() && (self.may_hold || self.rev.is_some()) {
            frames.push(Vec::new());
        }
        frames
    }

    /// Returns the cursors to confirm in a checkpoint.
    pub(super) fn to_confirm(&self) -> Vec<Vec<(RoomId, Cursor)>> {
        frames(self.cursors_if(|room| room.confirmed != Some(room.cursor)))
    }

    fn cursors_if(&self, wanted: impl Fn(&Room) -> bool) -> impl Iterator<Item = (RoomId, Cursor)> {
        let rooms = self.map.iter().filter(move |(_, room)| wanted(room));
        rooms.map(|(id, room)| (id.clone(), room.cursor))
    }

    /// Whether a checkpoint is due: after `events` events, and `idle` after the one before; or
    /// after `idle` without events.
    pub(super) fn checkpoint_due(&self, now: Instant, events: u32, idle: Duration) -> bool {
        let rested = self.last_checkpoint.is_none_or(|at| at + idle <= now);
        (rested && self.unconfirmed >= events.max(1))
            || self.idle_since(idle).is_some_and(|at| at <= now)
    }

    /// Returns when `idle` has passed since the last unconfirmed event.
    pub(super) fn idle_since(&self, idle: Duration) -> Option<Instant> {
        if self.unconfirmed == 0 { None } else { self.last_event.map(|at| at + idle) }
    }

    /// Records that a checkpoint was sent; later events belong to the next one.
    pub(super) fn checkpoint_sent(&mut self, now: Instant) {
        (self.unconfirmed, self.last_checkpoint) = (0, Some(now));
    }

    /// Records that the server has stored these cursors by the command `by`. If another command
    /// about the same room is pending, the stored cursor is not known.
    pub(super) fn confirmed(&mut self, cursors: &[(RoomId, Cursor)], by: CommandId, rev: u64) {
        for (id, cursor) in cursors {
            if let Some(room) = self.map.get_mut(id)
                && !self.requests.is_asked_by_another(id, by)
            {
                room.confirmed = Some(*cursor);
            }
        }
        self.learn_rev(rev);
    }

    /// Handles the answer to a `subscribe` of the application: the cursor moves to the answer's,
    /// even backwards.
    pub(super) fn subscribed(&mut self, now: Instant, status: &RoomStatus) -> Change {
        if self.keeps(now, status) {
            return Change::Quiet;
        }
        self.gaps.remove(&status.room);
        self.refused.remove(&status.room);
        match status.cursor {
            Some(cursor) if status.status != Status::Denied => {
                let kept =
                    self.map.remove(&status.room).filter(|room| room.cursor.epoch == cursor.epoch);
                let mut room = Room::at(cursor, Some(cursor));
                room.state = kept.map(|room| room.state).unwrap_or_default();
                self.map.insert(status.room.clone(), room);
            }
            _ => self.remove(&status.room),
        }
        if status.status == Status::Ok { Change::Quiet } else { Change::Notify(status.clone()) }
    }

    /// Handles an answer to the client's own command `by`. A room that is unknown here comes from a
    /// session that another client began, and becomes a subscription.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        by: CommandId,
        order: u64,
        status: RoomStatus,
    ) -> Change {
        if !self.requests.counts(&status.room, by, order) {
            return Change::Quiet;
        }
        self.requests.close(&status.room, by, order);
        match self.map.get_mut(&status.room) {
            // The application has called meanwhile, or was refused before: the answer to its call
            // decides.
            None if self.requests.is_called(&status.room) || status.cursor.is_none() => {
                Change::Quiet
            }
            None => self.subscribed(now, &status),
            Some(room) => {
                room.confirmed = status.cursor.or(room.confirmed);
                self.change(now, status)
            }
        }
    }

    /// Applies a new status of a room. The cursor never moves back within an epoch: redelivered
    /// events are dropped.
    pub(super) fn moved(&mut self, now: Instant, status: RoomStatus) -> Change {
        let change = self.change(now, status);
        self.has_stray |=
            matches!(&change, Change::Notify(status) if status.status == Status::Denied);
        change
    }

    /// Keeps a room whose `denied` is retryable, to be requested again with its cursor. Returns
    /// whether it did.
    fn keeps(&mut self, now: Instant, status: &RoomStatus) -> bool {
        let passes = status.status == Status::Denied
            && status.code.is_some_and(|code| RETRYABLE.contains(&code));
        let Some(room) = self.map.get_mut(&status.room).filter(|_| passes) else { return false };
        // The server's checkpoint may have lost the room, so the next resume must name it.
        room.confirmed = None;
        if !self.requests.is_own(&status.room) && !self.gaps.contains_key(&status.room) {
            self.gaps.insert(status.room.clone(), room.refused(now, None));
        }
        true
    }

    fn change(&mut self, now: Instant, status: RoomStatus) -> Change {
        if self.keeps(now, &status) {
            return Change::Quiet;
        }
        let Some(room) = self.map.get_mut(&status.room) else { return Change::Quiet };
        let Some(cursor) = status.cursor.filter(|_| status.status != Status::Denied) else {
            self.remove(&status.room);
            return Change::Notify(status);
        };
        if cursor.epoch == room.cursor.epoch {
            // Within an epoch only a log that ends before the cursor moves it back: any other
            // status is a redelivery.
            let is_repeat = status.status != Status::Reset || status.head >= room.cursor.seq;
            if is_repeat && cursor.seq <= room.cursor.seq {
                return Change::Quiet;
            }
            if status.status == Status::Ok {
                // Continuing from further ahead without a gap status would be a silent gap.
                let at = room.missed(now);
                self.gaps.entry(status.room).or_insert(at);
                return Change::Quiet;
            }
        } else {
            room.state = RoomState::default();
        }
        room.cursor = cursor;
        Change::Notify(status)
    }
}
