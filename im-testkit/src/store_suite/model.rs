//! Random operations, compared with a model that derives everything from the events alone.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;

use im_core::ports::{Appended, LogRange, Store, StoreErrorKind, StoreResult};
use im_core::state::{
    Act, Append, ContentHash, IdempotencyRecord, Intent, Keep, Membership, Plan, PlanError,
    RoomRecord, View, plan,
};
use im_core::wire::{Event, MemberChange, PageFrom, Role, RoomKind};
use im_core::{Epoch, MessageId, RoomId, Seq, UserId};

use super::StoreFactory;
use super::fixture::*;

const SEQUENCES: u64 = 24;
const STEPS: usize = 60;

/// Random sequences of operations agree with a model. A failure prints its seed; `IM_SUITE_SEED`
/// runs that seed alone.
pub async fn random_operations_agree_with_the_model<F: StoreFactory>(factory: &F) {
    let chosen = std::env::var("IM_SUITE_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in chosen.map_or(0..SEQUENCES, |seed: u64| seed..seed + 1) {
        let _told = Recorded(seed);
        sequence(factory, seed).await;
    }
}

/// Prints the seed if the test fails.
struct Recorded(u64);

impl Drop for Recorded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with IM_SUITE_SEED={}", self.0);
        }
    }
}

async fn sequence<F: StoreFactory>(factory: &F, seed: u64) {
    let mut random = Random(seed);
    let (mut store, mut model) = (factory.open().await, Model::default());
    for step in 0..STEPS {
        let batch: Vec<Append> = (0..random.below(6)).map(|_| random.append(step)).collect();
        let answers = store.append(batch.clone()).await;
        assert_eq!(answers.len(), batch.len());
        for (append, answer) in batch.iter().zip(answers) {
            let expected = model.append(append, answer.as_ref().ok());
            assert_eq!(outcome(answer), expected, "step {step}: {append:?}");
        }
        model.upkeep(&store, &mut random, step).await;
        if random.below(8) == 0 {
            model.compare(&store, &mut random).await;
        }
        if random.below(40) == 0 && store.durability() != im_core::ports::Durability::Volatile {
            store =
                reopened(factory, store).await.expect("only volatile stores cannot be reopened");
        }
    }
    model.compare(&store, &mut random).await;
    store.close().await.unwrap();
}

/// The comparable part of an answer.
#[derive(Debug, PartialEq)]
enum Outcome {
    Committed(Event),
    Duplicate(Epoch, Seq, ContentHash),
    Failed(StoreErrorKind),
}

fn outcome(answer: StoreResult<Appended>) -> Outcome {
    match answer {
        Ok(Appended::Committed(event)) => Outcome::Committed(Event::clone(&event)),
        Ok(Appended::Duplicate { epoch, record }) => {
            Outcome::Duplicate(epoch, record.seq, record.hash)
        }
        Err(error) => Outcome::Failed(error.kind()),
    }
}

/// The model: of each room its creation and its events, trimmed ones included.
#[derive(Default)]
struct Model {
    rooms: BTreeMap<RoomId, ModelRoom>,
    /// All epochs that rooms have had.
    epochs: HashSet<Epoch>,
}

struct ModelRoom {
    kind: RoomKind,
    open: bool,
    /// Memberships after so many events: at the creation, or at the last erasure.
    base: (usize, BTreeMap<UserId, Membership>),
    log: Vec<(Event, Option<ContentHash>)>,
    /// The number of trimmed events.
    trimmed: usize,
    erased: u64,
}

impl ModelRoom {
    fn memberships(&self) -> BTreeMap<UserId, Membership> {
        let (from, mut memberships) = self.base.clone();
        for change in self.log[from..].iter().flat_map(|(event, _)| event.member_changes()) {
            match change {
                MemberChange::Joined(user, role) => {
                    memberships.insert(user, Membership::Member(role));
                }
                MemberChange::Banned(user) => {
                    memberships.insert(user, Membership::Banned);
                }
                MemberChange::Left(user)
                | MemberChange::Removed(user)
                | MemberChange::Unbanned(user) => {
                    memberships.remove(&user);
                }
            }
        }
        memberships
    }

    fn members(&self) -> Vec<(UserId, Role)> {
        let member = |(user, membership)| match membership {
            Membership::Member(role) => Some((user, role)),
            Membership::Banned => None,
        };
        self.memberships().into_iter().filter_map(member).collect()
    }

    fn record(&self) -> RoomRecord {
        let (first, _) = &self.log[0];
        RoomRecord {
            id: first.room.clone(),
            kind: self.kind,
            open: self.open,
            epoch: first.epoch,
            head: seq(self.log.len() as u64),
            first: seq(self.trimmed as u64 + 1),
            created: first.at,
            members: self.members().len() as u32,
            bytes: self.kept().map(|event| event.content.packed().len() as u64).sum(),
            erased: self.erased,
        }
    }

    fn kept(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.log[self.trimmed..].iter().map(|(event, _)| event)
    }

    fn erase(&mut self, user: &UserId) {
        let mut memberships = self.memberships();
        memberships.remove(user);
        self.base = (self.log.len(), memberships);
        for (at, (event, _)) in self.log.iter_mut().enumerate() {
            if let Some(new) = event.without(user) {
                *event = new;
                self.erased += u64::from(at >= self.trimmed);
            }
        }
    }

    fn sent(&self, from: &UserId, id: &MessageId) -> Option<IdempotencyRecord> {
        let found = |(event, _): &&(Event, _)| event.from == *from && event.id.as_ref() == Some(id);
        let (event, hash) = self.log.iter().find(found)?;
        Some(IdempotencyRecord { seq: event.seq, at: event.at, hash: (*hash)? })
    }
}

impl View for Model {
    type Error = Infallible;

    fn room(&self, room: &RoomId) -> Result<Option<RoomRecord>, Infallible> {
        Ok(self.rooms.get(room).map(ModelRoom::record))
    }

    fn membership(
        &self,
        room: &RoomRecord,
        user: &UserId,
    ) -> Result<Option<Membership>, Infallible> {
        Ok(self.rooms[&room.id].memberships().get(user).copied())
    }

    fn another_owner(&self, room: &RoomRecord, user: &UserId) -> Result<bool, Infallible> {
        let owner = Membership::Member(Role::Owner);
        let memberships = self.rooms[&room.id].memberships();
        Ok(memberships.iter().any(|(other, membership)| *membership == owner && other != user))
    }

    fn idempotency_record(
        &self,
        room: &RoomRecord,
        sender: &UserId,
        id: &MessageId,
    ) -> Result<Option<IdempotencyRecord>, Infallible> {
        Ok(self.rooms[&room.id].sent(sender, id))
    }
}

impl Model {
    /// Returns the expected answer. Only the epoch of a new room is the store's choice.
    fn append(&mut self, append: &Append, answer: Option<&Appended>) -> Outcome {
        let fresh = || match answer {
            Some(Appended::Committed(event)) => event.epoch,
            _ => Epoch { generation: 0, incarnation: 0 },
        };
        let commit = match plan(append, self, fresh) {
            Ok(Plan::Commit(commit)) => *commit,
            Ok(Plan::Duplicate { epoch, record }) => {
                return Outcome::Duplicate(epoch, record.seq, record.hash);
            }
            Err(PlanError::Refused(refusal)) => {
                return Outcome::Failed(StoreErrorKind::Refused(refusal));
            }
            Err(PlanError::Store(never)) => match never {},
        };
        let hash = commit.send.map(|(_, record)| record.hash);
        if !self.rooms.contains_key(&append.room) {
            assert!(self.epochs.insert(commit.event.epoch), "every room has its own epoch");
        }
        let seeded: BTreeMap<_, _> = match &append.act {
            Act::Post { seed: Some(seed), .. } => {
                let member =
                    |(user, role): &(UserId, Role)| (user.clone(), Membership::Member(*role));
                seed.members.iter().map(member).collect()
            }
            _ => BTreeMap::new(),
        };
        let room = self.rooms.entry(append.room.clone()).or_insert_with(|| ModelRoom {
            kind: commit.room.kind,
            open: commit.room.open,
            base: (0, seeded),
            log: Vec::new(),
            trimmed: 0,
            erased: 0,
        });
        room.log.push((commit.event.clone(), hash));
        Outcome::Committed(commit.event)
    }

    /// Trims, deletes or erases at random.
    async fn upkeep(&mut self, store: &Arc<dyn Store>, random: &mut Random, step: usize) {
        let room = random.room();
        match random.below(30) {
            0..=3 => {
                let keep = random.keep(step);
                let limit = 1 + random.below(9);
                let trimmed = store.trim(&room, &keep, limit).await.unwrap();
                let expected = self.rooms.get_mut(&room).map(|room| {
                    let mut record = room.record();
                    let oldest = room.kept().map(|event| {
                        Ok::<_, Infallible>((event.at, event.content.packed().len() as u64))
                    });
                    let Ok(trimmed) = record.trim(&keep, limit, oldest);
                    room.trimmed += trimmed.removed as usize;
                    trimmed
                });
                assert_eq!(trimmed, expected, "step {step}: {keep:?}");
            }
            4 => {
                let deleted = store.delete_room(&room).await.unwrap();
                assert_eq!(deleted, self.rooms.remove(&room).is_some(), "step {step}");
            }
            5 => {
                let (user, limit) = (random.user(), 1 + random.below(40));
                while store.erase_user(&user, limit).await.unwrap().more {}
                self.rooms.values_mut().for_each(|room| room.erase(&user));
            }
            6 | 7 => {
                store.purge(1 + random.below(20)).await.unwrap();
            }
            _ => {}
        }
    }

    /// Compares every operation of the store with the model.
    async fn compare(&self, store: &Arc<dyn Store>, random: &mut Random) {
        let records: Vec<_> = self.rooms.values().map(ModelRoom::record).collect();
        assert_eq!(store.rooms(None, 100).await.unwrap(), records);
        for name in Random::ROOMS.map(room).into_iter().chain(Random::directs()) {
            let expected = self.rooms.get(&name);
            assert_eq!(store.room(&name).await.unwrap(), expected.map(ModelRoom::record));
            let members = expected.map(ModelRoom::members).unwrap_or_default();
            assert_eq!(store.members(&name, None, 100).await.unwrap(), members);
            let Some(expected) = expected else { continue };
            let log: Vec<_> = whole_log(store, &name).await.iter().map(|e| (**e).clone()).collect();
            assert!(log.iter().eq(expected.kept()), "{name}");
            self.compare_page(store, &name, random).await;
            let memberships = expected.memberships();
            let listed = store.memberships(&name, None, 100).await.unwrap();
            assert!(listed.iter().map(|(user, membership)| (user, membership)).eq(&memberships));
            for user in Random::USERS.map(user) {
                let membership = store.membership(&name, &user).await.unwrap();
                assert_eq!(membership, memberships.get(&user).copied());
                for id in (0..Random::IDS).map(|n| mid(&n.to_string())) {
                    let sent = store.idempotency_record(&name, &user, &id).await.unwrap();
                    assert_eq!(sent, expected.sent(&user, &id), "{name} {user} {id}");
                }
            }
        }
        for user in Random::USERS.map(user) {
            let role_in = |room: &ModelRoom| room.members().into_iter().find(|(u, _)| *u == user);
            let member = |(id, room): (&RoomId, &ModelRoom)| {
                role_in(room).map(|(_, role)| (id.clone(), room.kind, role))
            };
            let expected: Vec<_> = self.rooms.iter().filter_map(member).collect();
            assert_eq!(store.rooms_of(&user, None, 100).await.unwrap(), expected);
        }
    }

    async fn compare_page(&self, store: &Arc<dyn Store>, room: &RoomId, random: &mut Random) {
        let room_kept = &self.rooms[room];
        let at = random.below(room_kept.log.len() + 3) as u64;
        let range = LogRange {
            from: if random.below(2) == 0 {
                PageFrom::After(seq(at))
            } else {
                PageFrom::Before(seq(at))
            },
            limit: 1 + random.below(6),
            max_bytes: random.below(100),
        };
        let events: Vec<&Event> = match range.from {
            PageFrom::After(at) => room_kept.kept().filter(|e| e.seq > at).collect(),
            PageFrom::Before(at) => room_kept.kept().rev().filter(|e| e.seq < at).collect(),
        };
        let mut bytes = 0;
        let fits = |(n, event): &(usize, &Event)| {
            bytes += event.content.packed().len();
            *n < range.limit && (*n == 0 || bytes <= range.max_bytes)
        };
        let expected: Vec<_> = events.into_iter().enumerate().take_while(fits).collect();
        let page = store.read(room, range).await.unwrap().unwrap();
        let found: Vec<_> = page.events.iter().map(|event| &**event).enumerate().collect();
        assert_eq!(found, expected, "{range:?}");
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    const USERS: [&'static str; 5] = ["ann", "bob", "eve", "a", "annb"];
    const ROOMS: [&'static str; 4] = ["r", "r1", "room", "rb"];
    const IDS: usize = 12;

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_of<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn user(&mut self) -> UserId {
        user(self.one_of(&Self::USERS))
    }

    fn role(&mut self) -> Role {
        self.one_of(&[Role::Reader, Role::Member, Role::Moderator, Role::Owner])
    }

    fn directs() -> Vec<RoomId> {
        let users = Self::USERS.map(user);
        let pairs =
            users.iter().enumerate().flat_map(|(n, a)| users[..n].iter().map(move |b| (a, b)));
        pairs.map(|(a, b)| RoomId::direct(a, b)).collect()
    }

    fn room(&mut self) -> RoomId {
        match self.below(3) {
            0 => self.one_of(&Self::directs()),
            _ => room(self.one_of(&Self::ROOMS)),
        }
    }

    fn keep(&mut self, step: usize) -> Keep {
        let mut keep = Keep::ALL;
        match self.below(3) {
            0 => keep.count = Some(self.below(20) as u64),
            1 => keep.bytes = Some(self.below(300) as u64),
            _ => keep.after = Some(at(self.below(step + 1) as u64 * 10)),
        }
        keep
    }

    fn append(&mut self, step: usize) -> Append {
        let (place, from) = (room(self.one_of(&Self::ROOMS)), self.user());
        let mut append = match self.below(10) {
            0 => {
                let kind = self.one_of(&[RoomKind::Group, RoomKind::Group, RoomKind::Channel]);
                let (owner, open) = (user(Self::USERS[0]), self.below(2) == 0);
                let role = self.role();
                let members = [(&owner, Role::Owner), (&from, role)];
                let several = if from == owner { 1 } else { 2 };
                create(&place, kind, open, &members[..several])
            }
            1..=3 => {
                let intent = self.intent();
                change(&place, &from, intent)
            }
            4 => {
                let other = self.user();
                if other == from { self.say(&place, &from) } else { direct(&from, &other, "hi") }
            }
            5 => {
                let other = self.user();
                self.say(&RoomId::direct(&from, &other), &from)
            }
            _ => self.say(&place, &from),
        };
        if self.below(4) == 0 {
            append = by_service(append);
        }
        append.at = at(step as u64 * 10);
        append.max_members = 4;
        append
    }

    /// Mostly uses one of a few ids, so that there are duplicates and conflicts.
    fn say(&mut self, room: &RoomId, from: &UserId) -> Append {
        let words = self.one_of(&["x", "y", ""]);
        match self.below(4) {
            0 => post(room, from, words),
            _ => keyed(room, from, words, &mid(&self.below(Self::IDS).to_string())),
        }
    }

    fn intent(&mut self) -> Intent {
        match self.below(7) {
            0 | 1 => Intent::Join,
            2 => Intent::Leave,
            3 => Intent::Add(self.user(), self.role()),
            4 => Intent::Remove(self.user()),
            5 => Intent::Ban(self.user()),
            _ => Intent::Unban(self.user()),
        }
    }
}
