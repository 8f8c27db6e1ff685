//! The rooms that are followed: how far each has arrived, and how far the server knows that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use im_core::state::{Offer, offer};
use im_core::wire::{Event, RoomStatus, Snapshot, StateUpdate, Status};
use im_core::{CommandId, Cursor, RoomId};

use super::latest::RoomState;

/// Cursors in one frame: together with the longest ids they fit into any server's message.
const CURSORS_PER_FRAME: usize = 500;
const CURSOR_BYTES_PER_FRAME: usize = 40 * 1024;

/// A room that is followed.
#[derive(Debug)]
pub(super) struct Room {
    /// The last event that was handed to the application.
    pub(super) cursor: Cursor,
    /// What the server's checkpoint holds, as far as known. Never more than the truth.
    confirmed: Option<Cursor>,
    pub(super) state: RoomState,
    /// The command whose answer will say where the room stands.
    asked: Option<CommandId>,
    /// How often it was asked for in vain.
    tries: u32,
}

impl Room {
    fn at(cursor: Cursor, confirmed: Option<Cursor>) -> Self {
        Self { cursor, confirmed, state: RoomState::default(), asked: None, tries: 0 }
    }

    /// When to ask for what is missing. The first try is made at once; later ones wait, so that a server that cannot
    /// fill a hole is not flooded.
    fn missed(&mut self, now: Instant) -> Instant {
        let pause = if self.tries == 0 { 0 } else { 100 << self.tries.min(8) };
        self.tries = self.tries.saturating_add(1);
        now + Duration::from_millis(pause)
    }
}

/// All rooms that are followed.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    map: BTreeMap<RoomId, Room>,
    /// The rooms in which something is missing, and from when on to ask for it.
    holes: BTreeMap<RoomId, Instant>,
    /// The revision of the server's checkpoint to which the confirmed cursors belong.
    rev: Option<u64>,
    /// Whether that checkpoint may still have a room that was denied since.
    has_stray: bool,
    /// Events since the last checkpoint.
    fresh: u32,
    last_event: Option<Instant>,
}

/// What a status changed.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// Nothing that the application need know.
    Quiet,
    /// The application must be told.
    Tell(RoomStatus),
}

impl Rooms {
    /// Starts with cursors that were kept elsewhere, and the revision that they differ from.
    pub(crate) fn saved(cursors: Vec<(RoomId, Cursor)>) -> Self {
        let map =
            cursors.into_iter().map(|(room, cursor)| (room, Room::at(cursor, None))).collect();
        Self { map, ..Self::default() }
    }

    pub(super) fn cursors(&self) -> Vec<(RoomId, Cursor)> {
        self.map.iter().map(|(room, held)| (room.clone(), held.cursor)).collect()
    }

    pub(super) fn contains(&self, room: &RoomId) -> bool {
        self.map.contains_key(room)
    }

    pub(super) fn remove(&mut self, room: &RoomId) {
        self.map.remove(room);
        self.holes.remove(room);
    }

    pub(super) fn rev(&self) -> Option<u64> {
        self.rev
    }

    /// The server told its checkpoint's revision.
    pub(super) fn learn_rev(&mut self, rev: u64) {
        self.rev = Some(self.rev.map_or(rev, |known| known.max(rev)));
    }

    /// Nothing is known of the server's checkpoint any more.
    pub(super) fn forget_checkpoint(&mut self) {
        self.rev = None;
        self.has_stray = false;
        self.map.values_mut().for_each(|room| room.confirmed = None);
    }

    /// The connection is gone, and with it every question about a room.
    pub(super) fn cut(&mut self) {
        if self.has_stray {
            // With the revision, a room that may be read again by then would come back, unasked.
            self.forget_checkpoint();
        }
        for room in self.map.values_mut() {
            (room.asked, room.tries) = (None, 0);
        }
        self.holes.clear();
    }

    /// Whether the event is the next one of its room; the cursor moves to it if so. Otherwise it is a repeat, or a hole
    /// is noted and will be asked for.
    pub(super) fn take(&mut self, now: Instant, event: &Event) -> bool {
        let Some(room) = self.map.get_mut(&event.room) else { return false };
        let offered = if event.epoch == room.cursor.epoch {
            offer(room.cursor.seq, event.seq)
        } else {
            Offer::Hole
        };
        match offered {
            Offer::Take => {
                room.cursor.seq = event.seq;
                room.tries = 0;
                self.fresh = self.fresh.saturating_add(1);
                self.last_event = Some(now);
                true
            }
            Offer::Old => false,
            Offer::Hole => {
                if room.asked.is_none() && !self.holes.contains_key(&event.room) {
                    self.holes.insert(event.room.clone(), room.missed(now));
                }
                false
            }
        }
    }

    /// Something of this room had to be dropped unseen: ask for it later.
    pub(super) fn dropped(&mut self, now: Instant, room: &RoomId) {
        if self.map.get(room).is_some_and(|held| held.asked.is_none()) {
            self.holes.entry(room.clone()).or_insert(now);
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

    /// Rooms to ask for again now, each with its cursor. The caller says with [`Rooms::asked`] by which command.
    pub(super) fn holes(&self, now: Instant) -> Vec<(RoomId, Cursor)> {
        let due = self.holes.iter().filter(|(_, at)| **at <= now);
        due.filter_map(|(id, _)| Some((id.clone(), self.map.get(id)?.cursor))).collect()
    }

    /// When the next room is to be asked for again.
    pub(super) fn next_hole(&self) -> Option<Instant> {
        self.holes.values().min().copied()
    }

    /// A command asks where `room` stands.
    pub(super) fn asked(&mut self, room: &RoomId, by: CommandId) {
        self.holes.remove(room);
        if let Some(room) = self.map.get_mut(room) {
            room.asked = Some(by);
        }
    }

    /// A command asks where all rooms stand that nothing else asks for.
    pub(super) fn asked_rest(&mut self, by: CommandId) {
        self.map.values_mut().for_each(|room| _ = room.asked.get_or_insert(by));
    }

    /// The command was refused, or its answer left rooms out: ask for each by itself, a little later.
    pub(super) fn unanswered(&mut self, now: Instant, by: CommandId) {
        for (id, room) in self.map.iter_mut().filter(|(_, room)| room.asked == Some(by)) {
            room.asked = None;
            self.holes.insert(id.clone(), room.missed(now));
        }
    }

    /// The cursors to name in a resume, in frames of bounded size: those that differ from the checkpoint, or all if
    /// that is not known.
    pub(super) fn to_resume(&self) -> Vec<Vec<(RoomId, Cursor)>> {
        let differs = |room: &Room| self.rev.is_none() || room.confirmed != Some(room.cursor);
        frames(self.map.iter().filter(|(_, room)| differs(room)))
    }

    /// The cursors to confirm in a checkpoint.
    pub(super) fn to_confirm(&self) -> Vec<Vec<(RoomId, Cursor)>> {
        frames(self.map.iter().filter(|(_, room)| room.confirmed != Some(room.cursor)))
    }

    /// Whether a checkpoint is due after `events` events.
    pub(super) fn checkpoint_due(&self, now: Instant, events: u32, idle: Duration) -> bool {
        self.fresh >= events.max(1) || self.idle_since(idle).is_some_and(|at| at <= now)
    }

    /// When it has been quiet for `idle` after an event that is not confirmed yet.
    pub(super) fn idle_since(&self, idle: Duration) -> Option<Instant> {
        if self.fresh == 0 { None } else { self.last_event.map(|at| at + idle) }
    }

    /// A checkpoint is on its way; what comes now belongs to the next one.
    pub(super) fn checkpoint_sent(&mut self) {
        self.fresh = 0;
    }

    /// The server has kept these cursors.
    pub(super) fn confirmed(&mut self, cursors: &[(RoomId, Cursor)], rev: u64) {
        for (id, cursor) in cursors {
            if let Some(room) = self.map.get_mut(id) {
                room.confirmed = Some(*cursor);
            }
        }
        self.learn_rev(rev);
    }

    /// The answer to a `sub` of the application: it wants to be where the answer says, even if it was further.
    pub(super) fn follow(&mut self, status: &RoomStatus) -> Change {
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
        if status.status == Status::Ok { Change::Quiet } else { Change::Tell(status.clone()) }
    }

    /// An answer to what the client itself asked with the command `by`. Rooms that it does not know are new to it, from
    /// a session that somebody else began: it follows them.
    pub(super) fn answered(&mut self, now: Instant, by: CommandId, status: RoomStatus) -> Change {
        match self.map.get_mut(&status.room) {
            None => self.follow(&status),
            // Another command asks for this room as well, with a cursor that is further: its answer counts.
            Some(room) if room.asked.is_some_and(|asked| asked != by) => Change::Quiet,
            Some(room) => {
                room.asked = None;
                room.confirmed = status.cursor.or(room.confirmed);
                self.change(now, status)
            }
        }
    }

    /// A room answers in another way from now on, or again. The cursor never goes back within an epoch: what the server
    /// repeats is dropped.
    pub(super) fn moved(&mut self, now: Instant, status: RoomStatus) -> Change {
        self.has_stray |= status.status == Status::Denied && self.contains(&status.room);
        self.change(now, status)
    }

    /// `ok` never moves the cursor forward: the events up to a cursor beyond it have not arrived, and are asked for.
    fn change(&mut self, now: Instant, status: RoomStatus) -> Change {
        let Some(room) = self.map.get_mut(&status.room) else { return Change::Quiet };
        match (status.status, status.cursor) {
            (Status::Denied, _) => self.remove(&status.room),
            (Status::Ok | Status::Gap, Some(cursor)) if is_behind(cursor, room.cursor) => {
                return Change::Quiet;
            }
            (Status::Ok, None) => return Change::Quiet,
            (Status::Ok, Some(cursor)) if cursor.epoch == room.cursor.epoch => {
                if room.asked.is_none() && !self.holes.contains_key(&status.room) {
                    self.holes.insert(status.room, room.missed(now));
                }
                return Change::Quiet;
            }
            (_, Some(cursor)) => {
                if cursor.epoch != room.cursor.epoch {
                    room.state = RoomState::default();
                }
                room.cursor = cursor;
            }
            (_, None) => {}
        }
        Change::Tell(status)
    }
}

/// Whether the cursor lies at or before the place where the room is.
fn is_behind(cursor: Cursor, place: Cursor) -> bool {
    cursor.epoch == place.epoch && cursor.seq <= place.seq
}

fn frames<'a>(rooms: impl Iterator<Item = (&'a RoomId, &'a Room)>) -> Vec<Vec<(RoomId, Cursor)>> {
    let (mut frames, mut bytes) = (Vec::<Vec<_>>::new(), 0);
    for (id, room) in rooms {
        // Both halves of the epoch, the seq, and what stands around them.
        let size = id.as_str().len() * 2 + 64;
        bytes += size;
        match frames.last_mut() {
            Some(frame) if frame.len() < CURSORS_PER_FRAME && bytes <= CURSOR_BYTES_PER_FRAME => {
                frame.push((id.clone(), room.cursor));
            }
            _ => {
                bytes = size;
                frames.push(vec![(id.clone(), room.cursor)]);
            }
        }
    }
    frames
}
