//! The rooms that are followed: how far each has arrived, and how far the server knows that.

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

/// The codes with which the same may succeed later: 41xx and 42xx.
const RETRYABLE: Range<u16> = 4100..4300;

/// All rooms that are followed.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    map: BTreeMap<RoomId, Room>,
    /// The rooms in which something is missing, and from when on to ask for it.
    gaps: BTreeMap<RoomId, Instant>,
    /// Those of them that a `resume` named which was refused for now: to be asked for together again.
    refused: BTreeSet<RoomId>,
    /// The command that decides where each room is.
    requests: PendingRequests,
    /// The revision of the server's checkpoint to which the confirmed cursors belong.
    rev: Option<u64>,
    /// Whether that checkpoint may still have a room that was denied since.
    has_stray: bool,
    /// Whether the session's checkpoint may hold rooms at all.
    may_hold: bool,
    /// Events since the last checkpoint.
    unconfirmed: u32,
    last_event: Option<Instant>,
    last_checkpoint: Option<Instant>,
}

/// What a status changed.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// Nothing that the application need know.
    Quiet,
    /// The application must be told.
    Notify(RoomStatus),
}

impl Rooms {
    /// Starts with cursors that were kept elsewhere, and the revision that they differ from.
    ///
    /// `may_hold`: whether there is a session whose checkpoint may hold others.
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

    /// The server told its checkpoint's revision.
    pub(super) fn learn_rev(&mut self, rev: u64) {
        self.rev = Some(self.rev.map_or(rev, |known| known.max(rev)));
    }

    /// Nothing is known of the server's checkpoint any more.
    pub(super) fn drop_checkpoint(&mut self) {
        self.rev = None;
        self.has_stray = false;
        self.map.values_mut().for_each(|room| room.confirmed = None);
    }

    /// The application calls for the room, and has no answer yet.
    pub(super) fn call_subscribe(&mut self, room: &RoomId, by: CommandId) {
        self.may_hold = true;
        self.requests.call(room, by, Kind::Subscribe);
    }

    /// The application leaves the room. Nothing that was asked about it before counts any more.
    pub(super) fn call_unsubscribe(&mut self, room: &RoomId, by: CommandId) {
        self.remove(room);
        self.requests.call(room, by, Kind::Unsubscribe);
    }

    /// A call of the application's is answered; `order` is its place among all that were written.
    pub(super) fn call_returned(&mut self, room: &RoomId, by: CommandId, order: u64) {
        self.requests.close(room, by, order);
    }

    /// A call of the application's decides where the room is, whatever becomes of earlier ones.
    pub(super) fn call_done(&mut self, room: &RoomId, order: u64) {
        self.requests.done(room, order);
    }

    /// Whether this command, written again, would undo a later one that was carried out.
    pub(super) fn undoes(&self, body: &CommandBody, order: u64) -> bool {
        match body {
            CommandBody::Subscribe { room, .. } | CommandBody::Unsubscribe { room } => {
                self.requests.is_undone(room, order)
            }
            _ => false,
        }
    }

    /// The server's checkpoint may hold a room that is not subscribed here, or miss one that is.
    pub(super) fn distrust_checkpoint(&mut self) {
        self.has_stray = true;
    }

    /// Forgets questions that no late answer can be about; `oldest` gives the place of the first that waits for one.
    pub(super) fn release(&mut self, oldest: impl FnOnce() -> Option<u64>) {
        self.requests.release(oldest);
    }

    /// The connection is gone, and with it every question about a room but the application's own, which are asked again.
    pub(super) fn cut(&mut self, is_pending: impl Fn(CommandId) -> bool) {
        if self.has_stray {
            // With the revision, a room that may be read again by then would come back, unasked.
            self.drop_checkpoint();
        }
        self.map.values_mut().for_each(|room| room.tries = 0);
        self.gaps.clear();
        self.refused.clear();
        self.requests.cut(is_pending);
    }

    /// Whether the event is the next one of its room; the cursor moves to it if so. Otherwise it is a repeat, or a gap
    /// is noted and will be asked for.
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

    /// Something of this room had to be dropped unseen: ask for it later.
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

    /// The server's state has this generation. Gives the rooms whose state was dropped, because it had another one.
    pub(super) fn generation(&mut self, generation: u64) -> Vec<RoomId> {
        let dropped = self
            .map
            .iter_mut()
            .filter_map(|(id, room)| room.state.generation(generation).then(|| id.clone()));
        dropped.collect()
    }

    /// Rooms to ask for again now, each with its cursor. The caller says with [`Rooms::requested`] by which command. One that
    /// the application calls for waits for that answer, which may place it elsewhere.
    pub(super) fn gaps(&self, now: Instant) -> Vec<(RoomId, Cursor)> {
        let due = self.gaps.iter().filter(|(id, at)| **at <= now && !self.requests.is_called(id));
        due.filter_map(|(id, _)| Some((id.clone(), self.map.get(id)?.cursor))).collect()
    }

    /// When the next room is to be asked for again.
    pub(super) fn next_gap(&self) -> Option<Instant> {
        let due = self.gaps.iter().filter(|(id, _)| !self.requests.is_called(id));
        due.map(|(_, at)| *at).min()
    }

    /// Whether the room is to be asked for by `resume`, with the others that were refused with it.
    pub(super) fn is_refused(&self, room: &RoomId) -> bool {
        self.refused.contains(room)
    }

    /// A command of the client's own asks where `room` is.
    pub(super) fn requested(&mut self, room: &RoomId, by: CommandId) {
        self.gaps.remove(room);
        self.refused.remove(room);
        self.requests.ask(room, by);
    }

    /// A command of the client's own asks where all rooms are that nothing else asks for.
    pub(super) fn requested_rest(&mut self, by: CommandId) {
        self.map.keys().for_each(|room| self.requests.ask_too(room, by));
    }

    /// The command's answer left rooms out: ask for each by itself, a little later.
    pub(super) fn unanswered(&mut self, now: Instant, by: CommandId, order: u64) {
        self.ask_again(by, order, |room| room.missed(now));
    }

    /// The command was refused for now: ask for its rooms again, `retry_after` later at the earliest, by a `resume` if it
    /// was one.
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

    /// Whether what the answer to `by` says about the room still counts.
    pub(super) fn counts(&mut self, room: &RoomId, by: CommandId, order: u64) -> bool {
        self.requests.counts(room, by, order)
    }

    /// The cursors to name in a resume, in frames of bounded size: those that differ from the checkpoint, or all if
    /// that is not known.
    /// If there is none, one frame says so: the checkpoint may hold rooms that were left meanwhile.
    pub(super) fn to_resume(&self) -> Vec<Vec<(RoomId, Cursor)>> {
        let differs = |room: &Room| self.rev.is_none() || room.confirmed != Some(room.cursor);
        let mut frames = frames(self.cursors_if(differs));
        if frames.is_empty() && (self.may_hold || self.rev.is_some()) {
            frames.push(Vec::new());
        }
        frames
    }

    /// The cursors to confirm in a checkpoint.
    pub(super) fn to_confirm(&self) -> Vec<Vec<(RoomId, Cursor)>> {
        frames(self.cursors_if(|room| room.confirmed != Some(room.cursor)))
    }

    fn cursors_if(&self, wanted: impl Fn(&Room) -> bool) -> impl Iterator<Item = (RoomId, Cursor)> {
        let rooms = self.map.iter().filter(move |(_, room)| wanted(room));
        rooms.map(|(id, room)| (id.clone(), room.cursor))
    }

    /// Whether a checkpoint is due: after `events` events, and `idle` after the one before; or after `idle` without events.
    pub(super) fn checkpoint_due(&self, now: Instant, events: u32, idle: Duration) -> bool {
        let rested = self.last_checkpoint.is_none_or(|at| at + idle <= now);
        (rested && self.unconfirmed >= events.max(1))
            || self.idle_since(idle).is_some_and(|at| at <= now)
    }

    /// When it has been quiet for `idle` after an event that is not confirmed yet.
    pub(super) fn idle_since(&self, idle: Duration) -> Option<Instant> {
        if self.unconfirmed == 0 { None } else { self.last_event.map(|at| at + idle) }
    }

    /// A checkpoint is on its way; what comes now belongs to the next one.
    pub(super) fn checkpoint_sent(&mut self, now: Instant) {
        (self.unconfirmed, self.last_checkpoint) = (0, Some(now));
    }

    /// The server has kept these cursors, as the command `by` wished. Where another command is about the same room, it is
    /// not known which of them was kept last.
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

    /// The answer to a `subscribe` of the application: it wants to be where the answer says, even if it was further.
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

    /// An answer to what the client itself asked with the command `by`. Rooms that it does not know are new to it, from
    /// a session that somebody else began: it follows them.
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
            // The application has called for it meanwhile, or was refused it before: that call's answer says where it is.
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

    /// A room answers in another way from now on, or again. The cursor never goes back within an epoch: what the server
    /// repeats is dropped.
    pub(super) fn moved(&mut self, now: Instant, status: RoomStatus) -> Change {
        let change = self.change(now, status);
        self.has_stray |=
            matches!(&change, Change::Notify(status) if status.status == Status::Denied);
        change
    }

    /// Keeps a room that is `denied` for now only, to be asked for again with its cursor. Returns whether it did.
    fn keeps(&mut self, now: Instant, status: &RoomStatus) -> bool {
        let passes = status.status == Status::Denied
            && status.code.is_some_and(|code| RETRYABLE.contains(&code));
        let Some(room) = self.map.get_mut(&status.room).filter(|_| passes) else { return false };
        // The server's checkpoint may have lost it: the next resume names it.
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
            // Within an epoch only a log that ends before the cursor takes a subscriber back: any other is a repeat.
            let is_repeat = status.status != Status::Reset || status.head >= room.cursor.seq;
            if is_repeat && cursor.seq <= room.cursor.seq {
                return Change::Quiet;
            }
            if status.status == Status::Ok {
                // To go on from further ahead, and say that all is well, would be a silent hole.
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
