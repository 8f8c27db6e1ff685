//! Logs, members, dedup and state of the rooms in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::Arc;

use crate::id::{Cursor, Epoch, MessageId, RoomId, Seq, UserId};
use crate::ports::{Appended, Head, LogPage, LogRange, StateSnapshot, StoreResult};
use crate::state::{
    Append, Authority, Commit, IdempotencyRecord, Membership, Merge, Plan, PlanError, RoomRecord,
    StateLimits, StateMap, View, plan,
};
use crate::wire::{Event, PageFrom, Role, RoomKind, StateUpdate};

/// All rooms.
///
/// Invariants: `names` are the keys of `rooms`; `of_user` holds at least the rooms that a user is a member of; `traces`
/// holds a trace wherever a room, draft or doomed room has seen the user.
pub(super) struct Rooms {
    pub(super) generation: u64,
    /// How many rooms were made; the last one's incarnation.
    pub(super) incarnations: u64,
    pub(super) rooms: HashMap<RoomId, Room>,
    pub(super) names: BTreeSet<RoomId>,
    pub(super) of_user: HashMap<UserId, BTreeSet<RoomId>>,
    /// By incarnation.
    pub(super) traces: HashMap<UserId, BTreeMap<u64, Trace>>,
    /// Rooms under import.
    pub(super) drafts: HashMap<RoomId, Room>,
    /// What is to be purged.
    pub(super) doomed: Vec<Room>,
}

/// A user has been in a room, written to it, or been named in it.
pub(super) struct Trace {
    pub(super) room: RoomId,
    /// What stands before this was erased.
    pub(super) next: Seq,
}

pub(super) struct Room {
    pub(super) record: RoomRecord,
    /// Those from `record.first` to `record.head`.
    pub(super) events: VecDeque<Arc<Event>>,
    pub(super) memberships: BTreeMap<UserId, Membership>,
    /// Everybody who may be found in it.
    pub(super) seen: BTreeSet<UserId>,
    pub(super) sent: BTreeMap<(UserId, MessageId), IdempotencyRecord>,
    pub(super) state: StateMap,
    pub(super) state_revision: u64,
}

impl Rooms {
    pub(super) fn new(generation: u64) -> Self {
        Self {
            generation,
            incarnations: 0,
            rooms: HashMap::new(),
            names: BTreeSet::new(),
            of_user: HashMap::new(),
            traces: HashMap::new(),
            drafts: HashMap::new(),
            doomed: Vec::new(),
        }
    }

    /// Decides and does one append. Keeps at most `keep` events in a room.
    pub(super) fn append(&mut self, append: &Append, keep: usize) -> StoreResult<Appended> {
        match plan(append, &*self, || self.fresh()) {
            Ok(Plan::Commit(commit)) => {
                // Whoever acts on their own authority was seen when they came in.
                let author = match &append.authority {
                    Authority::User(user) if *user == commit.event.from => Author::Seen,
                    _ => Author::Unknown,
                };
                Ok(Appended::Committed(self.commit(*commit, author, keep)))
            }
            Ok(Plan::Duplicate { epoch, record }) => Ok(Appended::Duplicate { epoch, record }),
            Err(PlanError::Refused(refusal)) => Err(refusal.into()),
            Err(PlanError::Store(never)) => match never {},
        }
    }

    /// The epoch of the next room.
    pub(super) fn fresh(&self) -> Epoch {
        Epoch { generation: self.generation, incarnation: self.incarnations + 1 }
    }

    fn commit(&mut self, commit: Commit, author: Author, keep: usize) -> Arc<Event> {
        let Commit { event, room: record, memberships, send } = commit;
        let event = Arc::new(event);
        self.incarnations = self.incarnations.max(record.epoch.incarnation);
        for (user, membership) in &memberships {
            index(&mut self.of_user, user, &record.id, *membership);
        }
        let names = &mut self.names;
        let room = self.rooms.entry(record.id.clone()).or_insert_with(|| {
            names.insert(record.id.clone());
            Room::new(record.clone())
        });
        room.record = record;
        if author == Author::Unknown {
            room.see(&mut self.traces, &event.from);
        }
        for (user, membership) in memberships {
            room.see(&mut self.traces, &user);
            match membership {
                Some(membership) => room.memberships.insert(user, membership),
                None => room.memberships.remove(&user),
            };
        }
        if let Some((id, record)) = send {
            room.sent.insert((event.from.clone(), id), record);
        }
        room.push(Arc::clone(&event), keep);
        event
    }

    pub(super) fn read(&self, room: &RoomId, range: LogRange) -> Option<LogPage> {
        self.rooms.get(room).map(|room| room.read(range))
    }

    pub(super) fn head(&self, room: &RoomId) -> Option<Head> {
        self.rooms.get(room).map(|room| Head {
            cursor: room.cursor(),
            first: room.record.first,
            state_revision: room.state_revision,
            erased: room.record.erased,
        })
    }

    pub(super) fn sent(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> Option<IdempotencyRecord> {
        self.rooms.get(room)?.sent.get(&(sender.clone(), id.clone())).copied()
    }

    pub(super) fn record(&self, room: &RoomId) -> Option<RoomRecord> {
        self.rooms.get(room).map(|room| room.record.clone())
    }

    pub(super) fn membership(&self, room: &RoomId, user: &UserId) -> Option<Membership> {
        self.rooms.get(room)?.memberships.get(user).copied()
    }

    pub(super) fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Vec<(UserId, Role)> {
        let Some(room) = self.rooms.get(room) else { return Vec::new() };
        let member = |(user, membership): (&UserId, &Membership)| match membership {
            Membership::Member(role) => Some((user.clone(), *role)),
            Membership::Banned => None,
        };
        room.memberships
            .range((beyond(after), Bound::Unbounded))
            .filter_map(member)
            .take(limit)
            .collect()
    }

    pub(super) fn of_user(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Vec<(RoomId, RoomKind, Role)> {
        let Some(rooms) = self.of_user.get(user) else { return Vec::new() };
        let role_in = |id: &RoomId| {
            let room = self.rooms.get(id)?;
            match room.memberships.get(user)? {
                Membership::Member(role) => Some((id.clone(), room.record.kind, *role)),
                Membership::Banned => None,
            }
        };
        rooms.range((beyond(after), Bound::Unbounded)).filter_map(role_in).take(limit).collect()
    }

    pub(super) fn all(&self, after: Option<&RoomId>, limit: usize) -> Vec<RoomRecord> {
        let names = self.names.range((beyond(after), Bound::Unbounded));
        names.filter_map(|id| self.record(id)).take(limit).collect()
    }

    pub(super) fn memberships(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Vec<(UserId, Membership)> {
        let Some(room) = self.rooms.get(room) else { return Vec::new() };
        let memberships = room.memberships.range((beyond(after), Bound::Unbounded));
        memberships.map(|(user, membership)| (user.clone(), *membership)).take(limit).collect()
    }

    pub(super) fn merge(&mut self, update: Arc<StateUpdate>, limits: &StateLimits) {
        let Some(room) = self.rooms.get_mut(&update.room) else { return };
        let from = update.from.clone();
        if room.state.merge(update, limits) == Merge::Applied {
            room.state_revision += 1;
            room.see(&mut self.traces, &from);
        }
    }

    pub(super) fn state(&self, room: &RoomId) -> StateSnapshot {
        let snapshot = |room: &Room| StateSnapshot {
            revision: room.state_revision,
            entries: room.state.iter().cloned().collect(),
            purged_stamp: room.state.purged_stamp(),
        };
        self.rooms.get(room).map(snapshot).unwrap_or_default()
    }
}

/// Whether it is known that the store has seen who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Author {
    Seen,
    Unknown,
}

/// Notes whether a room is one of the user's.
pub(super) fn index(
    of_user: &mut HashMap<UserId, BTreeSet<RoomId>>,
    user: &UserId,
    room: &RoomId,
    membership: Option<Membership>,
) {
    if matches!(membership, Some(Membership::Member(_))) {
        of_user.entry(user.clone()).or_default().insert(room.clone());
    } else if let Some(rooms) = of_user.get_mut(user) {
        rooms.remove(room);
        if rooms.is_empty() {
            of_user.remove(user);
        }
    }
}

fn beyond<T>(after: Option<&T>) -> Bound<&T> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}

impl View for Rooms {
    type Error = Infallible;

    fn room(&self, room: &RoomId) -> Result<Option<RoomRecord>, Infallible> {
        Ok(self.record(room))
    }

    fn membership(
        &self,
        room: &RoomRecord,
        user: &UserId,
    ) -> Result<Option<Membership>, Infallible> {
        Ok(self.membership(&room.id, user))
    }

    fn another_owner(&self, room: &RoomRecord, user: &UserId) -> Result<bool, Infallible> {
        let owner = Membership::Member(Role::Owner);
        let memberships = self.rooms.get(&room.id).into_iter().flat_map(|room| &room.memberships);
        Ok(memberships.into_iter().any(|(other, membership)| *membership == owner && other != user))
    }

    fn idempotency_record(
        &self,
        room: &RoomRecord,
        sender: &UserId,
        id: &MessageId,
    ) -> Result<Option<IdempotencyRecord>, Infallible> {
        Ok(self.sent(&room.id, sender, id))
    }
}

impl Room {
    pub(super) fn new(record: RoomRecord) -> Self {
        Self {
            record,
            events: VecDeque::new(),
            memberships: BTreeMap::new(),
            seen: BTreeSet::new(),
            sent: BTreeMap::new(),
            state: StateMap::default(),
            state_revision: 0,
        }
    }

    /// The user may be found in this room from now on.
    pub(super) fn see(
        &mut self,
        traces: &mut HashMap<UserId, BTreeMap<u64, Trace>>,
        user: &UserId,
    ) {
        if self.seen.contains(user) {
            return;
        }
        self.seen.insert(user.clone());
        let trace = Trace { room: self.record.id.clone(), next: Seq::ZERO };
        let incarnation = self.record.epoch.incarnation;
        traces.entry(user.clone()).or_default().insert(incarnation, trace);
    }

    fn cursor(&self) -> Cursor {
        Cursor { epoch: self.record.epoch, seq: self.record.head }
    }

    fn push(&mut self, event: Arc<Event>, keep: usize) {
        self.events.push_back(event);
        while self.events.len() > keep {
            let Some(old) = self.events.pop_front() else { break };
            self.record.first = self.record.first.next();
            self.record.bytes = self.record.bytes.saturating_sub(size(&old));
        }
    }

    fn read(&self, range: LogRange) -> LogPage {
        let events = match range.from {
            PageFrom::After(seq) => page(self.events.range(self.place(seq.next())..), range),
            PageFrom::Before(seq) => page(self.events.range(..self.place(seq)).rev(), range),
        };
        LogPage { head: self.cursor(), first: self.record.first, events }
    }

    /// Where in `events` the first event stands whose seq is `seq` or greater.
    pub(super) fn place(&self, seq: Seq) -> usize {
        // Consecutive seqs: the difference is the place.
        let offset = seq.get().saturating_sub(self.record.first.get());
        usize::try_from(offset).unwrap_or(usize::MAX).min(self.events.len())
    }
}

/// What an event counts for.
pub(super) fn size(event: &Event) -> u64 {
    event.content.packed().len() as u64
}

/// As many of `events` as fit, but at least one.
fn page<'a>(events: impl Iterator<Item = &'a Arc<Event>>, range: LogRange) -> Vec<Arc<Event>> {
    let mut bytes = 0_usize;
    let mut taken = Vec::new();
    for event in events.take(range.limit.max(1)) {
        bytes = bytes.saturating_add(event.content.packed().len());
        if bytes > range.max_bytes && !taken.is_empty() {
            break;
        }
        taken.push(Arc::clone(event));
    }
    taken
}
