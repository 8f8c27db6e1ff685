//! Logs, members, dedup and state of the rooms in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::Arc;

use crate::id::{Cursor, Epoch, MessageId, RoomId, Seq, UserId};
use crate::ports::{Appended, Head, LogPage, LogRange, StateSnapshot, StoreResult};
use crate::state::{
    Append, Commit, Merge, Plan, PlanError, RoomRecord, SendRecord, Standing, StateLimits,
    StateMap, View, plan,
};
use crate::wire::{Event, PageFrom, Role, RoomKind, StateUpdate};

/// All rooms.
///
/// Invariant: `of_user` holds exactly the standings of members.
pub(super) struct Rooms {
    generation: u64,
    /// How many rooms were made; the last one's incarnation.
    incarnations: u64,
    rooms: HashMap<RoomId, Room>,
    of_user: HashMap<UserId, BTreeMap<RoomId, (RoomKind, Role)>>,
}

struct Room {
    record: RoomRecord,
    /// Those from `record.first` to `record.head`.
    events: VecDeque<Arc<Event>>,
    standings: BTreeMap<UserId, Standing>,
    sent: BTreeMap<(UserId, MessageId), SendRecord>,
    state: StateMap,
    state_revision: u64,
}

impl Rooms {
    pub(super) fn new(generation: u64) -> Self {
        Self { generation, incarnations: 0, rooms: HashMap::new(), of_user: HashMap::new() }
    }

    /// Decides and does one append. Keeps at most `keep` events in a room.
    pub(super) fn append(&mut self, append: &Append, keep: usize) -> StoreResult<Appended> {
        let fresh = || Epoch { generation: self.generation, incarnation: self.incarnations + 1 };
        match plan(append, &*self, fresh) {
            Ok(Plan::Commit(commit)) => Ok(Appended::Committed(self.commit(*commit, keep))),
            Ok(Plan::Repeated { epoch, record }) => Ok(Appended::Repeated { epoch, record }),
            Err(PlanError::Refused(refusal)) => Err(refusal.into()),
            Err(PlanError::Store(never)) => match never {},
        }
    }

    fn commit(&mut self, commit: Commit, keep: usize) -> Arc<Event> {
        let Commit { event, room: record, standings, send } = commit;
        let event = Arc::new(event);
        self.incarnations = self.incarnations.max(record.epoch.incarnation);
        for (user, standing) in &standings {
            self.index(user, &record, *standing);
        }
        let room = self.rooms.entry(record.id.clone()).or_insert_with(|| Room::new(record.clone()));
        room.record = record;
        for (user, standing) in standings {
            match standing {
                Some(standing) => room.standings.insert(user, standing),
                None => room.standings.remove(&user),
            };
        }
        if let Some((id, record)) = send {
            room.sent.insert((event.from.clone(), id), record);
        }
        room.push(Arc::clone(&event), keep);
        event
    }

    fn index(&mut self, user: &UserId, room: &RoomRecord, standing: Option<Standing>) {
        if let Some(Standing::Member(role)) = standing {
            self.of_user
                .entry(user.clone())
                .or_default()
                .insert(room.id.clone(), (room.kind, role));
        } else if let Some(rooms) = self.of_user.get_mut(user) {
            rooms.remove(&room.id);
            if rooms.is_empty() {
                self.of_user.remove(user);
            }
        }
    }

    pub(super) fn read(&self, room: &RoomId, range: LogRange) -> Option<LogPage> {
        self.rooms.get(room).map(|room| room.read(range))
    }

    pub(super) fn head(&self, room: &RoomId) -> Option<Head> {
        self.rooms.get(room).map(|room| Head {
            cursor: room.cursor(),
            first: room.record.first,
            state_revision: room.state_revision,
        })
    }

    pub(super) fn sent(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> Option<SendRecord> {
        self.rooms.get(room)?.sent.get(&(sender.clone(), id.clone())).copied()
    }

    pub(super) fn record(&self, room: &RoomId) -> Option<RoomRecord> {
        self.rooms.get(room).map(|room| room.record.clone())
    }

    pub(super) fn standing(&self, room: &RoomId, user: &UserId) -> Option<Standing> {
        self.rooms.get(room)?.standings.get(user).copied()
    }

    pub(super) fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Vec<(UserId, Role)> {
        let Some(room) = self.rooms.get(room) else { return Vec::new() };
        let member = |(user, standing): (&UserId, &Standing)| match standing {
            Standing::Member(role) => Some((user.clone(), *role)),
            Standing::Banned => None,
        };
        room.standings
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
        let rooms = rooms.range((beyond(after), Bound::Unbounded));
        rooms.map(|(id, (kind, role))| (id.clone(), *kind, *role)).take(limit).collect()
    }

    pub(super) fn merge(&mut self, update: Arc<StateUpdate>, limits: &StateLimits) {
        if let Some(room) = self.rooms.get_mut(&update.room)
            && room.state.merge(update, limits) == Merge::Taken
        {
            room.state_revision += 1;
        }
    }

    pub(super) fn state(&self, room: &RoomId) -> StateSnapshot {
        let snapshot = |room: &Room| StateSnapshot {
            revision: room.state_revision,
            entries: room.state.iter().cloned().collect(),
            floor: room.state.floor(),
        };
        self.rooms.get(room).map(snapshot).unwrap_or_default()
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

    fn standing(&self, room: &RoomRecord, user: &UserId) -> Result<Option<Standing>, Infallible> {
        Ok(self.standing(&room.id, user))
    }

    fn sent(
        &self,
        room: &RoomRecord,
        sender: &UserId,
        id: &MessageId,
    ) -> Result<Option<SendRecord>, Infallible> {
        Ok(self.sent(&room.id, sender, id))
    }
}

impl Room {
    fn new(record: RoomRecord) -> Self {
        Self {
            record,
            events: VecDeque::new(),
            standings: BTreeMap::new(),
            sent: BTreeMap::new(),
            state: StateMap::default(),
            state_revision: 0,
        }
    }

    fn cursor(&self) -> Cursor {
        Cursor { epoch: self.record.epoch, seq: self.record.head }
    }

    fn push(&mut self, event: Arc<Event>, keep: usize) {
        self.events.push_back(event);
        while self.events.len() > keep {
            self.events.pop_front();
            self.record.first = self.record.first.next();
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
    fn place(&self, seq: Seq) -> usize {
        // Consecutive seqs: the difference is the place.
        let offset = seq.get().saturating_sub(self.record.first.get());
        usize::try_from(offset).unwrap_or(usize::MAX).min(self.events.len())
    }
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
