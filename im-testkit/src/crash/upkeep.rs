//! SIGKILL during trims, deletions, erasures and imports.
//!
//! The worker reports each operation before it and after it, one line each. The operation in
//! progress at the kill may be done, half done or not done; the store must be whole in each case.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::sync::Arc;

use im_core::ports::{Appended, LogRange, Store};
use im_core::state::{
    Act, Append, Authority, IdempotencyKey, ImportedEvent, ImportedPart, ImportedRoom, Keep,
    Membership, NewEvent, RoomSeed, content_hash,
};
use im_core::wire::{Content, Limits, Map, PageFrom, Role, RoomKind, Value};
use im_core::{EventKind, MessageId, RoomId, Seq, Timestamp, UserId};

use super::random::Random;

const ROOMS: u64 = 5;
const USERS: u64 = 4;

fn room(n: u64) -> RoomId {
    name(RoomId::new(format!("room{n}")))
}

fn user(n: u64) -> UserId {
    name(UserId::new(format!("user{n}")))
}

#[allow(clippy::expect_used, reason = "the names above are valid")]
fn name<T, E: std::fmt::Debug>(made: Result<T, E>) -> T {
    made.expect("a valid name")
}

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    // The reader may be gone: the worker is about to be killed.
    let _ = writeln!(out, "{words}").and_then(|()| out.flush());
}

/// Writes, trims, deletes, erases and imports until the process is killed; reports on standard
/// output.
///
/// # Panics
///
/// If the store refuses an operation.
#[allow(clippy::panic, reason = "this is a test: it fails by panicking")]
pub async fn keeper(store: Arc<dyn Store>, seed: u64) -> ! {
    let mut random = Random::new(seed);
    loop {
        let (room, user) = (room(random.below(ROOMS)), user(random.below(USERS)));
        let result = match random.below(20) {
            0 => delete(&store, &room).await,
            1 => erase(&store, &user, 1 + random.below(40) as usize).await,
            2 => import(&store, &room, 1 + random.below(300)).await,
            3..=5 => trim(&store, &room, random.below(20), 1 + random.below(30) as usize).await,
            6 => store.purge(1 + random.below(200) as usize).await.map(|_| ()),
            _ => append(&store, &room, &user, random.below(4) == 0).await,
        };
        if let Err(error) = result {
            panic!("the store refused: {error:?}");
        }
    }
}

type Done = im_core::ports::StoreResult<()>;

async fn append(store: &Arc<dyn Store>, room: &RoomId, user: &UserId, long: bool) -> Done {
    let (id, kind) = (MessageId::random(), EventKind::message());
    let words = if long { "x".repeat(9_000) } else { format!("by {user}") };
    let value: Value = Map::from_iter([("text", words)]).into();
    let content = name(Content::new(&value, &Limits::default()));
    let key = Some(IdempotencyKey { id: id.clone(), hash: content_hash(&kind, &value) });
    let event = NewEvent { from: user.clone(), kind, content, idempotency_key: key };
    let members = vec![(user.clone(), Role::Owner)];
    let seed = Some(RoomSeed { kind: RoomKind::Group, open: true, members });
    let (authority, at) = (Authority::Service, Timestamp::from_millis(1));
    let append = Append {
        room: room.clone(),
        authority,
        act: Act::Post { event, seed },
        at,
        max_members: 99,
    };
    say(&format!("begin {room}"));
    for answer in store.append(vec![append]).await {
        if let Appended::Committed(event) = answer? {
            say(&format!("append {room} {} {} {user} {id}", event.epoch, event.seq));
        }
    }
    Ok(())
}

async fn trim(store: &Arc<dyn Store>, room: &RoomId, count: u64, limit: usize) -> Done {
    say(&format!("begin {room}"));
    let keep = Keep { count: Some(count), ..Keep::ALL };
    if let Some(trimmed) = store.trim(room, &keep, limit).await? {
        say(&format!("trim {room} {}", trimmed.first));
    }
    Ok(())
}

async fn delete(store: &Arc<dyn Store>, room: &RoomId) -> Done {
    say(&format!("begin {room}"));
    if store.delete_room(room).await? {
        say(&format!("delete {room}"));
    }
    Ok(())
}

async fn erase(store: &Arc<dyn Store>, user: &UserId, limit: usize) -> Done {
    say("begin *");
    while store.erase_user(user, limit).await?.more {}
    say(&format!("erase {user}"));
    Ok(())
}

async fn import(store: &Arc<dyn Store>, room: &RoomId, events: u64) -> Done {
    say(&format!("begin {room}"));
    if store.room(room).await?.is_some() {
        return Ok(());
    }
    let (kind, open, created) = (RoomKind::Group, false, Timestamp::from_millis(1));
    let new = ImportedRoom { id: room.clone(), kind, open, created, first: Seq::FIRST };
    let epoch = store.begin_import(new).await?;
    let imported = |n: u64| ImportedEvent {
        seq: name(Seq::new(n)),
        from: user(n % USERS),
        at: Timestamp::from_millis(n),
        kind: EventKind::message(),
        send: None,
        content: name(Content::text("imported", &Limits::default())),
    };
    let all: Vec<u64> = (1..=events).collect();
    for some in all.chunks(50) {
        let memberships = if some[0] == 1 {
            (0..USERS).map(|n| (user(n), Membership::Member(Role::Member))).collect()
        } else {
            Vec::new()
        };
        let events = some.iter().map(|n| imported(*n)).collect();
        store.import(room, epoch, ImportedPart { memberships, events }).await?;
    }
    store.finish_import(room, epoch).await?;
    say(&format!("import {room} {epoch} {events}"));
    Ok(())
}

/// The reports of the workers, and what must be stored because of them.
#[derive(Debug, Default)]
pub struct Retained {
    rooms: BTreeMap<String, RetainedRoom>,
    /// Epochs of rooms that were deleted.
    gone: HashSet<String>,
    /// The room of the operation in progress at the kill, or `*`.
    under_way: String,
    /// Number of lines read.
    pub lines: u64,
}

#[derive(Debug, Default, Clone)]
struct RetainedRoom {
    epoch: String,
    head: u64,
    first: u64,
    /// The seq of each send, by sender and id.
    sent: BTreeMap<(String, String), u64>,
    /// The seq up to which no event of an erased user remains.
    erased: BTreeMap<String, u64>,
}

impl Retained {
    /// Applies a line of a worker.
    pub fn on_line(&mut self, line: &str) {
        self.lines += 1;
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|n| n.parse().ok()).unwrap_or(0);
        match words.as_slice() {
            ["begin", what] => self.under_way = (*what).to_owned(),
            ["append", room, epoch, _, user, id] => {
                let room = self.room(room, epoch);
                room.head = number(3);
                room.sent.insert(((*user).to_owned(), (*id).to_owned()), number(3));
            }
            ["trim", room, _] => {
                if let Some(room) = self.rooms.get_mut(*room) {
                    room.first = number(2);
                }
            }
            ["delete", room] => {
                self.gone.extend(self.rooms.remove(*room).map(|room| room.epoch));
            }
            ["erase", user] => {
                for room in self.rooms.values_mut() {
                    room.erased.insert((*user).to_owned(), room.head);
                    room.sent.retain(|(sender, _), _| sender != user);
                }
            }
            ["import", room, epoch, _] => self.room(room, epoch).head = number(3),
            _ => {}
        }
        if words[0] != "begin" {
            self.under_way.clear();
        }
    }

    /// Returns the room. A changed epoch means that the operation in progress at a kill was done.
    fn room(&mut self, room: &str, epoch: &str) -> &mut RetainedRoom {
        let fresh =
            || RetainedRoom { epoch: epoch.to_owned(), first: 1, ..RetainedRoom::default() };
        let held = self.rooms.entry(room.to_owned()).or_insert_with(fresh);
        if held.epoch != epoch {
            self.gone.insert(std::mem::replace(held, fresh()).epoch);
        }
        held
    }

    /// Checks the whole store and returns the differences.
    ///
    /// # Panics
    ///
    /// If the store cannot be read.
    #[allow(clippy::expect_used, reason = "this is a test: it fails by panicking")]
    pub async fn check(&mut self, store: &Arc<dyn Store>) -> Vec<String> {
        let mut wrong = Vec::new();
        let records = store.rooms(None, 1_000).await.expect("rooms are listed");
        let listed: BTreeSet<String> = records.iter().map(|room| room.id.to_string()).collect();
        for (name, room) in &self.rooms {
            if !listed.contains(name) && !self.is_under_way(name) {
                wrong.push(format!("{name} of {} is missing", room.epoch));
            }
        }
        for record in &records {
            wrong.extend(self.check_room(store, record).await);
        }
        for user in (0..USERS).map(user) {
            for (room, ..) in store.rooms_of(&user, None, 1_000).await.expect("rooms are listed") {
                let membership = store.membership(&room, &user).await.expect("a membership");
                if !matches!(membership, Some(Membership::Member(_))) {
                    wrong.push(format!("{room} is listed for {user}, who is not a member"));
                }
            }
        }
        // The result of the operation in progress is known now: it is stored, or it is not.
        let is_done = |name: &String| name == &self.under_way || self.under_way == "*";
        let changed: Vec<String> =
            self.rooms.keys().filter(|name| is_done(name)).cloned().collect();
        for name in changed {
            let now = records.iter().find(|record| record.id.as_str() == name);
            let epoch = now.map(|record| record.epoch.to_string());
            match (self.rooms.get_mut(&name), now) {
                (Some(room), Some(now)) if epoch.as_ref() == Some(&room.epoch) => {
                    (room.head, room.first) = (now.head.get(), now.first.get());
                    if self.under_way == "*" {
                        // Of the user whose erasure was in progress, some records may remain.
                        room.sent.clear();
                    }
                }
                _ => {
                    self.gone.extend(self.rooms.remove(&name).map(|room| room.epoch));
                }
            }
        }
        self.under_way.clear();
        wrong
    }

    fn is_under_way(&self, room: &str) -> bool {
        self.under_way == room || self.under_way == "*"
    }

    #[allow(clippy::expect_used, reason = "this is a test: it fails by panicking")]
    async fn check_room(
        &self,
        store: &Arc<dyn Store>,
        record: &im_core::state::RoomRecord,
    ) -> Vec<String> {
        let (id, mut wrong) = (&record.id, Vec::new());
        let (epoch, under_way) = (record.epoch.to_string(), self.is_under_way(id.as_str()));
        if self.gone.contains(&epoch) {
            wrong.push(format!("{id} is present in its deleted epoch {epoch}"));
        }
        let from = PageFrom::After(Seq::ZERO);
        let range = LogRange { from, limit: 1 << 20, max_bytes: usize::MAX };
        let page = store.read(id, range).await.expect("a log is read").expect("an existing room");
        let seqs: Vec<u64> = page.events.iter().map(|event| event.seq.get()).collect();
        if !seqs.iter().copied().eq(record.first.get()..=record.head.get()) {
            wrong.push(format!("{id} has a gap: {} to {}, {seqs:?}", record.first, record.head));
        }
        let bytes: usize = page.events.iter().map(|event| event.content.packed().len()).sum();
        if bytes as u64 != record.bytes {
            wrong.push(format!("{id} counts {} bytes and has {bytes}", record.bytes));
        }
        let members = store.members(id, None, 1_000).await.expect("members are listed");
        if members.len() != record.members as usize {
            wrong.push(format!("{id} counts {} members: {members:?}", record.members));
        }
        let Some(kept) = self.rooms.get(id.as_str()).filter(|kept| kept.epoch == epoch) else {
            return wrong;
        };
        if record.head.get() < kept.head || (!under_way && record.first.get() != kept.first) {
            wrong.push(format!("{id} differs from the reports: {record:?} {kept:?}"));
        }
        for event in &page.events {
            let until = kept.erased.get(event.from.as_str());
            if until.is_some_and(|until| event.seq.get() <= *until) {
                wrong.push(format!("{id} {} still has the sender {}", event.seq, event.from));
            }
        }
        for ((user, mid), seq) in &kept.sent {
            let (user, mid) = (name(UserId::new(user)), name(MessageId::new(mid)));
            let sent = store.idempotency_record(id, &user, &mid).await.expect("a send is read");
            if sent.map(|sent| sent.seq.get()) != Some(*seq) && self.under_way != "*" {
                wrong.push(format!("{id} {seq} has no record for {mid} of {user}: {sent:?}"));
            }
        }
        wrong
    }
}
