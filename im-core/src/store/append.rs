//! Appends: those of one room are planned one on top of the other and become one commit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OwnedMutexGuard;

use crate::backend::{Answer, BackendResult, Commit, Found, LogAct, LogChange, Read};
use crate::id::{Epoch, MessageId, RoomId, UserId};
use crate::ports::{Appended, StoreError, StoreErrorKind, StoreResult};
use crate::state::{
    self, Act, Append, Authority, ContentHash, IdempotencyRecord, Membership, PlanError,
    RoomRecord, plan,
};
use crate::wire::{Event, Role};

use super::cache::Known;
use super::column::{Changed, Columnar, Rev};
use super::log::{entry, send_record};
use super::rooms::member_key;
use super::tables::{BY_ID, MemberRow, Record, RoomRow, StateHeadRow};
use super::{BackendStore, MOST_ATTEMPTS, bump, contended, feed, pause, put_change};

/// In how many batches duplicates are looked for after one was met: those of whoever comes back after a cut come together.
const WARY: u32 = 64;

/// In how many batches duplicates are still looked for before they are planned.
#[derive(Debug, Default)]
pub(super) struct Wary(AtomicU32);

/// The appends of one room.
struct Batch {
    id: RoomId,
    appends: Vec<Append>,
    /// Where their answers go.
    places: Vec<usize>,
    known: OwnedMutexGuard<Known>,
    /// A number for the room, if it may have to be made.
    number: Option<u64>,
}

/// What a rule needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Need {
    Room,
    Number,
    Member(UserId),
    Send(UserId, MessageId),
}

/// What appends make of a room.
struct Draft<'a> {
    known: &'a Known,
    /// Whether sends are looked up before they are planned.
    wary: bool,
    epoch: Option<Epoch>,
    generation: u64,
    room: Option<RoomRecord>,
    owners: u32,
    moved: HashMap<UserId, Option<Membership>>,
    traced: HashSet<UserId>,
    events: Vec<(Arc<Event>, Option<ContentHash>)>,
    sends: HashMap<(UserId, MessageId), IdempotencyRecord>,
}

/// A commit, and the answers if it is made.
struct Drafted {
    commit: Option<Commit>,
    results: Vec<StoreResult<Appended>>,
    room: Option<RoomRow>,
    moved: HashMap<UserId, Option<Membership>>,
    traced: HashSet<UserId>,
}

impl BackendStore {
    pub(super) async fn append(&self, appends: Vec<Append>) -> Vec<StoreResult<Appended>> {
        let mut results: Vec<Option<StoreResult<Appended>>> =
            appends.iter().map(|_| None).collect();
        let mut batches = self.lock_rooms(appends).await;
        for attempt in 0..MOST_ATTEMPTS {
            if batches.is_empty() {
                break;
            }
            pause(attempt).await;
            batches = self.try_append(batches, &mut results).await;
        }
        let missing = |result: Option<_>| result.unwrap_or_else(|| Err(contended()));
        results.into_iter().map(missing).collect()
    }

    /// In the order of the ids, so that two callers never wait for each other.
    async fn lock_rooms(&self, appends: Vec<Append>) -> Vec<Batch> {
        let mut rooms: BTreeMap<RoomId, (Vec<Append>, Vec<usize>)> = BTreeMap::new();
        for (place, append) in appends.into_iter().enumerate() {
            let room = rooms.entry(append.room.clone()).or_default();
            room.0.push(append);
            room.1.push(place);
        }
        let mut batches = Vec::with_capacity(rooms.len());
        for (id, (appends, places)) in rooms {
            let known = self.cache.lock(&id).await;
            batches.push(Batch { id, appends, places, known, number: None });
        }
        batches
    }

    /// Plans and commits each room's appends. Returns those that are to be tried again.
    async fn try_append(
        &self,
        mut batches: Vec<Batch>,
        results: &mut [Option<StoreResult<Appended>>],
    ) -> Vec<Batch> {
        let mut drafts = match self.draft_all(&mut batches).await {
            Ok(drafts) => drafts,
            Err(error) => {
                batches.iter_mut().for_each(|batch| batch.fail(&error, results));
                return Vec::new();
            }
        };
        let commits: Vec<_> = drafts.iter_mut().filter_map(|draft| draft.commit.take()).collect();
        let made =
            if commits.is_empty() { Vec::new() } else { self.committer.commit(commits).await };
        let (mut made, mut again) = (made.into_iter(), Vec::new());
        for (mut batch, draft) in batches.into_iter().zip(drafts) {
            if draft.room.is_none() {
                match self.still_holds(&mut batch).await {
                    Ok(true) => batch.finish(draft.results, results),
                    Ok(false) => again.push(batch),
                    Err(error) => batch.fail(&error, results),
                }
                continue;
            }
            let is_done = self.settle(&mut batch, draft, made.next(), results);
            if !is_done {
                again.push(batch);
            }
        }
        again
    }

    /// Whether what is known of a room is what is stored: no guard says so where nothing is committed.
    async fn still_holds(&self, batch: &mut Batch) -> StoreResult<bool> {
        let Some(read) = batch.read(&Need::Room) else { return Ok(false) };
        let Some(Found::Record(row)) = self.backend.read(vec![read]).await?.pop() else {
            return Ok(false);
        };
        let fresh = row.map(|row| RoomRow::from_row(&row)).transpose()?;
        let version = |room: &Option<RoomRow>| room.as_ref().map(|room| (room.room, room.rev));
        let holds = batch.known.room.as_ref().map(version) == Some(version(&fresh));
        if !holds {
            batch.known.refresh(fresh);
        }
        Ok(holds)
    }

    /// Whether the appends of a batch have their answers.
    fn settle(
        &self,
        batch: &mut Batch,
        draft: Drafted,
        answer: Option<BackendResult<Answer>>,
        results: &mut [Option<StoreResult<Appended>>],
    ) -> bool {
        match answer {
            Some(Ok(Answer::Applied(applied))) => {
                let known = &mut batch.known;
                let rev = Rev(applied.revisions.first().copied().unwrap_or_default());
                let changed = applied.place.map(crate::backend::FeedPlace::to_datum);
                let changed = Changed(changed.unwrap_or_default());
                known.room = Some(draft.room.map(|room| RoomRow { rev, changed, ..room }));
                for user in draft.traced {
                    known.members.insert(user, Some(None));
                }
                for (user, membership) in draft.moved {
                    known.members.insert(user, Some(membership));
                }
                batch.finish(draft.results, results);
                true
            }
            Some(Ok(Answer::Conflict { guard: Some(0) | None, fresh })) => {
                match fresh.map(|row| RoomRow::from_row(&row)).transpose() {
                    Ok(fresh) => batch.known.refresh(fresh),
                    Err(_) => batch.known.clear(),
                }
                false
            }
            Some(Ok(Answer::Duplicate { send, .. })) => {
                self.wary.0.store(WARY, Ordering::Relaxed);
                if let Some((sender, id, record)) = send_record(&send) {
                    batch.known.sends.insert((sender, id), Some(record));
                    return false;
                }
                batch.fail(&StoreError::new(StoreErrorKind::Corrupt, "a send is damaged"), results);
                true
            }
            Some(Ok(Answer::Conflict { .. } | Answer::Skipped)) => {
                batch.known.clear();
                false
            }
            Some(Err(error)) => {
                batch.fail(&error.into(), results);
                true
            }
            None => {
                let words = "the backend has not answered";
                batch.fail(&StoreError::new(StoreErrorKind::Unknown, words), results);
                true
            }
        }
    }

    /// Plans all batches, and reads what that needs.
    async fn draft_all(&self, batches: &mut [Batch]) -> StoreResult<Vec<Drafted>> {
        let wary = self.wary.0.load(Ordering::Relaxed);
        if wary > 0 {
            self.wary.0.store(wary - 1, Ordering::Relaxed);
        }
        loop {
            let (mut drafts, mut reads, mut needs) = (Vec::new(), Vec::new(), Vec::new());
            for (at, batch) in batches.iter().enumerate() {
                match batch.draft(self.generation, wary > 0) {
                    Ok(draft) => drafts.push(draft),
                    Err(lacks) => needs.extend(lacks.into_iter().map(|need| (at, need))),
                }
            }
            if needs.is_empty() {
                return Ok(drafts);
            }
            for (at, need) in &needs {
                match batches[*at].read(need) {
                    Some(read) => reads.push(read),
                    None => batches[*at].number = Some(self.room_number().await?),
                }
            }
            needs.retain(|(_, need)| *need != Need::Number);
            let found =
                if reads.is_empty() { Vec::new() } else { self.backend.read(reads).await? };
            for ((at, need), found) in needs.into_iter().zip(found) {
                batches[at].learn(need, found)?;
            }
        }
    }
}

impl Batch {
    fn finish(
        &mut self,
        answers: Vec<StoreResult<Appended>>,
        results: &mut [Option<StoreResult<Appended>>],
    ) {
        self.known.bound();
        for (place, answer) in self.places.iter().zip(answers) {
            results[*place] = Some(answer);
        }
    }

    /// None of the appends was made, as far as is known.
    fn fail(&mut self, error: &StoreError, results: &mut [Option<StoreResult<Appended>>]) {
        self.known.clear();
        for place in &self.places {
            results[*place] = Some(Err(StoreError::new(error.kind(), error.to_string())));
        }
    }

    /// Plans the appends, or says what has to be known for that.
    fn draft(&self, generation: u64, wary: bool) -> Result<Drafted, Vec<Need>> {
        let Some(room) = &self.known.room else { return Err(vec![Need::Room]) };
        let lacks = self.lacks(wary);
        if !lacks.is_empty() {
            return Err(lacks);
        }
        let epoch = |number| Epoch { generation, incarnation: number };
        let mut draft = Draft {
            known: &self.known,
            wary,
            epoch: self.number.map(epoch),
            generation,
            room: room.as_ref().map(|row| row.record(generation)),
            owners: room.as_ref().map_or(0, |row| row.owners),
            moved: HashMap::new(),
            traced: HashSet::new(),
            events: Vec::new(),
            sends: HashMap::new(),
        };
        let mut results = Vec::with_capacity(self.appends.len());
        for append in &self.appends {
            results.push(draft.decide(append).map_err(|need| vec![need])?);
        }
        Ok(draft.finish(room.as_ref(), results))
    }

    /// What the appends are going to ask for, as far as that can be seen.
    fn lacks(&self, wary: bool) -> Vec<Need> {
        let (mut lacks, mut users) = (Vec::new(), HashSet::new());
        let is_there = matches!(self.known.room, Some(Some(_)));
        if !is_there {
            return lacks;
        }
        for append in &self.appends {
            if let Authority::User(user) = &append.authority {
                users.insert(user);
            }
            match &append.act {
                Act::Post { event, .. } => {
                    users.insert(&event.from);
                    if let (Some(key), true) = (&event.idempotency_key, wary) {
                        let send = (event.from.clone(), key.id.clone());
                        if !self.known.sends.contains_key(&send) {
                            lacks.push(Need::Send(send.0, send.1));
                        }
                    }
                }
                Act::Change { by, intent } => {
                    users.insert(by);
                    users.extend(intent.target());
                }
                // It exists, so this may be its owner again.
                Act::Create { seed, .. } => users.extend(seed.members.iter().map(|(user, _)| user)),
            }
        }
        users.retain(|user| !self.known.members.contains_key(*user));
        lacks.extend(users.into_iter().cloned().map(Need::Member));
        lacks
    }

    fn read(&self, need: &Need) -> Option<Read> {
        let room = self.known.room.as_ref().and_then(Option::as_ref).map(|room| room.room);
        match need {
            Need::Room => {
                let values = vec![self.id.to_datum()];
                Some(Read::Find { table: RoomRow::TABLE, index: BY_ID, values })
            }
            Need::Member(user) => {
                Some(Read::Get { table: MemberRow::TABLE, key: member_key(room?, user) })
            }
            Need::Send(sender, id) => Some(Read::Send {
                log: room?.cast_signed(),
                sender: sender.to_datum(),
                id: id.to_datum(),
            }),
            Need::Number => None,
        }
    }

    fn learn(&mut self, need: Need, found: Found) -> StoreResult<()> {
        let Found::Record(row) = found else { return Ok(()) };
        let known = &mut self.known;
        match need {
            Need::Room => {
                known.clear();
                known.room = Some(row.map(|row| RoomRow::from_row(&row)).transpose()?);
            }
            Need::Member(user) => {
                let row = row.map(|row| MemberRow::from_row(&row)).transpose()?;
                known.members.insert(user, row.map(|row| row.membership()));
            }
            Need::Send(sender, id) => {
                let record = row.as_ref().and_then(|row| send_record(row));
                known.sends.insert((sender, id), record.map(|(_, _, record)| record));
            }
            Need::Number => {}
        }
        Ok(())
    }
}

impl Draft<'_> {
    fn decide(&mut self, append: &Append) -> Result<StoreResult<Appended>, Need> {
        if self.room.is_none() && self.epoch.is_none() && makes_room(append) {
            return Err(Need::Number);
        }
        // A room is made only where its number was taken.
        let fresh = self.epoch.unwrap_or(Epoch { generation: self.generation, incarnation: 0 });
        match plan(append, self, || fresh) {
            Ok(state::Plan::Commit(commit)) => Ok(Ok(Appended::Committed(self.take(*commit)))),
            Ok(state::Plan::Duplicate { epoch, record }) => {
                Ok(Ok(Appended::Duplicate { epoch, record }))
            }
            Err(PlanError::Refused(refusal)) => match self.overlooked(append) {
                // A duplicate is one, whatever its sender may do by now.
                Some((sender, id)) => Err(Need::Send(sender, id)),
                None => Ok(Err(refusal.into())),
            },
            Err(PlanError::Store(need)) => Err(need),
        }
    }

    /// The send that an append might be a duplicate of, if it was not looked up.
    fn overlooked(&self, append: &Append) -> Option<(UserId, MessageId)> {
        self.known.room.as_ref()?.as_ref()?;
        let Act::Post { event, .. } = &append.act else { return None };
        let send = (event.from.clone(), event.idempotency_key.as_ref()?.id.clone());
        let is_known = self.known.sends.contains_key(&send) || self.sends.contains_key(&send);
        (!is_known).then_some(send)
    }

    fn take(&mut self, commit: state::Commit) -> Arc<Event> {
        let state::Commit { event, room, memberships, send } = commit;
        let event = Arc::new(event);
        for (user, membership) in memberships {
            let was = self.held(&user).flatten();
            self.owners += u32::from(is_owner(membership));
            self.owners = self.owners.saturating_sub(u32::from(is_owner(was)));
            self.moved.insert(user, membership);
        }
        if self.held(&event.from).is_none() {
            self.traced.insert(event.from.clone());
        }
        let hash = send.as_ref().map(|(_, record)| record.hash);
        if let Some((id, record)) = send {
            self.sends.insert((event.from.clone(), id), record);
        }
        self.room = Some(room);
        self.events.push((Arc::clone(&event), hash));
        event
    }

    /// The membership of a user who has a record.
    fn held(&self, user: &UserId) -> Option<Option<Membership>> {
        if let Some(membership) = self.moved.get(user) {
            return Some(*membership);
        }
        if self.traced.contains(user) {
            return Some(None);
        }
        self.known.members.get(user).copied().flatten()
    }

    fn finish(self, held: Option<&RoomRow>, results: Vec<StoreResult<Appended>>) -> Drafted {
        let Self { room, owners, moved, traced, events, .. } = self;
        let (Some(record), false) = (&room, events.is_empty()) else {
            return Drafted { commit: None, results, room: None, moved, traced };
        };
        let members_rev = held.map_or(0, |held| held.members_rev) + u64::from(!moved.is_empty());
        let row = RoomRow { owners, members_rev, ..RoomRow::of(record, held) };
        let mut commit = Commit {
            guards: vec![bump(&row, held.map(|held| held.rev))],
            touched: vec![feed::appended(&row, events.len(), !moved.is_empty())],
            ..Commit::default()
        };
        if held.is_none() {
            let state = StateHeadRow::empty(row.room);
            commit.guards.push(bump(&state, None));
            commit.changes.push(put_change(&state));
        }
        let entries = events.iter().map(|(event, hash)| entry(event, *hash).to_row()).collect();
        let log = row.room.cast_signed();
        commit.log = Some(LogChange { log, act: LogAct::Append(entries) });
        let traces =
            traced.iter().filter(|user| !moved.contains_key(*user)).map(|user| (user, &None));
        let members = moved.iter().chain(traces);
        let member = |(user, membership): (&UserId, &Option<Membership>)| {
            put_change(&MemberRow::of(row.room, &row.id, user, *membership))
        };
        commit.changes.extend(members.map(member));
        commit.changes.push(put_change(&row));
        Drafted { commit: Some(commit), results, room: Some(row), moved, traced }
    }
}

impl state::View for Draft<'_> {
    type Error = Need;

    fn room(&self, _room: &RoomId) -> Result<Option<RoomRecord>, Need> {
        Ok(self.room.clone())
    }

    fn membership(&self, _room: &RoomRecord, user: &UserId) -> Result<Option<Membership>, Need> {
        let is_new = !matches!(self.known.room, Some(Some(_)));
        if let Some(membership) = self.held(user) {
            return Ok(membership);
        }
        if is_new || self.known.members.contains_key(user) {
            return Ok(None);
        }
        Err(Need::Member(user.clone()))
    }

    fn another_owner(&self, _room: &RoomRecord, user: &UserId) -> Result<bool, Need> {
        let own = u32::from(is_owner(self.held(user).flatten()));
        Ok(self.owners > own)
    }

    fn idempotency_record(
        &self,
        _room: &RoomRecord,
        sender: &UserId,
        id: &MessageId,
    ) -> Result<Option<IdempotencyRecord>, Need> {
        let send = (sender.clone(), id.clone());
        if let Some(record) = self.sends.get(&send) {
            return Ok(Some(*record));
        }
        match self.known.sends.get(&send) {
            Some(record) => Ok(*record),
            None if self.wary && matches!(self.known.room, Some(Some(_))) => {
                Err(Need::Send(send.0, send.1))
            }
            // If it is a duplicate after all, the backend finds out.
            None => Ok(None),
        }
    }
}

impl StateHeadRow {
    /// That of a room without state.
    pub(super) fn empty(room: u64) -> Self {
        Self {
            room,
            revision: 0,
            purged_ms: None,
            purged_counter: None,
            purged_node: None,
            rev: Rev::default(),
        }
    }
}

fn makes_room(append: &Append) -> bool {
    matches!(append.act, Act::Create { .. } | Act::Post { seed: Some(_), .. })
}

fn is_owner(membership: Option<Membership>) -> bool {
    membership == Some(Membership::Member(Role::Owner))
}
