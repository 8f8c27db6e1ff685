//! The process that writes until it is killed.

use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;

use im_core::ports::{Appended, Store, StoreError};
use im_core::state::{
    Act, Append, Base, CheckpointChange, Guard, NewEvent, RoomSeed, SecretHash, SendKey,
    SessionRecord, content_hash,
};
use im_core::wire::{Content, Limits, Map, Role, RoomKind, Secret, StateUpdate, Value};
use im_core::{
    Cursor, DeviceId, Epoch, EventKind, MessageId, NodeId, RoomId, Seq, SessionId, Stamp, StateKey,
    Timestamp, UserId,
};

use super::random::Random;

/// The store is open; writing begins.
pub(super) const READY: &str = "ready;";

/// What every line ends with: one that lacks it was cut by the kill.
pub(super) const END: char = ';';

/// How much a worker does at once.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WriterPlan {
    /// As [`run`](super::run) gave it. Message ids are made from it.
    pub seed: u64,
    /// Senders at the same time. 32 by default.
    pub senders: u32,
    /// Rooms they send to. 8 by default.
    pub rooms: u32,
}

impl WriterPlan {
    /// The defaults, from this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, senders: 32, rooms: 8 }
    }
}

/// A message that is to be sent, and all of it follows from these three.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Message {
    pub(super) room: RoomId,
    pub(super) sender: UserId,
    pub(super) id: MessageId,
}

impl Message {
    /// Reads what [`Message`]'s own text says, and what follows it.
    pub(super) fn parse(text: &str) -> Option<(Self, Option<u64>)> {
        let mut words = text.split(' ');
        let room = RoomId::new(words.next()?).ok()?;
        let sender = UserId::new(words.next()?).ok()?;
        let id = MessageId::new(words.next()?).ok()?;
        let seq = words.next().map(str::parse).transpose().ok()?;
        Some((Self { room, sender, id }, seq))
    }

    /// What it says. One in thirty is long, so that stores that cut records have to.
    pub(super) fn value(&self) -> Value {
        let id = self.id.as_str();
        let weight: u32 = id.bytes().map(u32::from).sum();
        let filler = if weight.is_multiple_of(30) { 400 } else { 2 };
        Map::from_iter([("text", id.repeat(filler))]).into()
    }

    fn append(&self) -> Append {
        let (kind, value) = (EventKind::message(), self.value());
        let hash = content_hash(&kind, &value);
        let content = Content::new(&value, &Limits::default())
            .unwrap_or_else(|e| panic!("a message of the worker's own is too large: {e}"));
        let key = Some(SendKey { id: self.id.clone(), hash });
        let event = NewEvent { from: self.sender.clone(), kind, content, key };
        let members = vec![(self.sender.clone(), Role::Owner)];
        let seed = Some(RoomSeed { kind: RoomKind::Group, open: true, members });
        let at = Timestamp::from_millis(1);
        let act = Act::Post { event, seed };
        Append { room: self.room.clone(), guard: Guard::Trusted, act, at, max_members: 10 }
    }
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.room, self.sender, self.id)
    }
}

/// Writes to the store until the process is killed: the body of a worker. Reads from standard input what the worker
/// before it got no answer for, and sends that again; says on standard output what it sends and what is answered.
///
/// # Panics
///
/// If the store fails: nothing but the kill should end a worker.
pub async fn writer(store: Arc<dyn Store>, plan: WriterPlan) -> Infallible {
    say(READY.trim_end_matches(END));
    let unanswered = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..plan.senders {
        senders.spawn(sender(Arc::clone(&store), plan.clone(), number));
    }
    senders.spawn(others(Arc::clone(&store), plan));
    senders.spawn(async move {
        let text = unanswered.await.map(Result::unwrap_or_default).unwrap_or_default();
        let messages: Vec<_> = text.lines().filter_map(Message::parse).map(|(m, _)| m).collect();
        for message in messages.chunks(200) {
            send(&*store, message).await;
        }
        std::future::pending().await
    });
    match senders.join_next().await {
        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        _ => std::future::pending().await,
    }
}

/// One line, in one piece. The reader is gone: so is the reason to go on.
fn say(line: impl std::fmt::Display) {
    let line = format!("{line}{END}\n");
    let mut out = std::io::stdout().lock();
    if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(3);
    }
}

async fn sender(store: Arc<dyn Store>, plan: WriterPlan, number: u32) -> Infallible {
    let mut random = Random::new(plan.seed ^ u64::from(number).rotate_left(32));
    let sender = UserId::new(format!("sender{number}")).unwrap_or_else(|e| panic!("{e}"));
    let mut count = 0_u64;
    loop {
        let how_many = if random.next().is_multiple_of(4) { 1 + random.next() % 6 } else { 1 };
        let mut messages = Vec::new();
        for _ in 0..how_many {
            count += 1;
            let room = random.next() % u64::from(plan.rooms);
            let room = RoomId::new(format!("room{room}")).unwrap_or_else(|e| panic!("{e}"));
            let id = MessageId::new(format!("{:016x}-{number}-{count}", plan.seed));
            let id = id.unwrap_or_else(|e| panic!("{e}"));
            messages.push(Message { room, sender: sender.clone(), id });
        }
        messages.iter().for_each(|message| say(format_args!("try {message}")));
        if random.next().is_multiple_of(16) {
            // Sent twice at the same time, as after a reconnect.
            tokio::join!(send(&*store, &messages), send(&*store, &messages));
        } else {
            send(&*store, &messages).await;
        }
    }
}

async fn send(store: &dyn Store, messages: &[Message]) {
    let answers = store.append(messages.iter().map(Message::append).collect()).await;
    for (message, answer) in messages.iter().zip(answers) {
        let seq = match answer {
            Ok(Appended::Committed(event)) => event.seq,
            Ok(Appended::Repeated { record, .. }) => record.seq,
            Err(error) => failed(&error),
        };
        say(format_args!("ack {message} {seq}"));
    }
}

fn failed(error: &StoreError) -> ! {
    panic!("the store failed: {error} ({:?})", error.kind())
}

/// Sessions, checkpoints and state beside the messages. They are not checked; they are in the way.
async fn others(store: Arc<dyn Store>, plan: WriterPlan) -> Infallible {
    let mut random = Random::new(!plan.seed);
    loop {
        let (a, b) = (random.next(), random.next());
        let written = match a % 3 {
            0 => store.open_session(session(b)).await,
            1 => {
                let base = if b % 9 == 0 { Base::Empty } else { Base::Held };
                let epoch = Epoch { generation: 1, incarnation: 1 };
                let room = RoomId::new(format!("room{}", b % 7)).ok();
                let cursor = Cursor { epoch, seq: Seq::ZERO };
                let change = CheckpointChange {
                    base,
                    unfollow: vec![],
                    follow: room.map(|room| (room, cursor)).into_iter().collect(),
                    confirm: vec![],
                    max_rooms: 100,
                };
                store.change_checkpoint(&session(b).id, change).await.map(drop)
            }
            _ => store.merge_state(vec![state(&plan, b)]).await,
        };
        if let Err(error) = written {
            failed(&error);
        }
    }
}

fn session(number: u64) -> SessionRecord {
    let id = format!("session{}", number % 50);
    let made = || {
        Some(SessionRecord {
            id: SessionId::new(id).ok()?,
            user: UserId::new("sender0").ok()?,
            device: DeviceId::new("device").ok()?,
            secret: SecretHash::of(&Secret::new("secret")),
            created: Timestamp::from_millis(1),
            expires: Timestamp::from_millis(number % 1000),
            attached: 1,
        })
    };
    made().unwrap_or_else(|| panic!("a session of the worker's own is not legal"))
}

fn state(plan: &WriterPlan, number: u64) -> Arc<StateUpdate> {
    let stamp =
        Stamp { ms: Timestamp::from_millis(number % (1 << 50)), counter: 0, node: NodeId(1) };
    let made = || {
        Some(StateUpdate {
            room: RoomId::new(format!("room{}", number % u64::from(plan.rooms))).ok()?,
            key: StateKey::new(format!("key{}", number % 30)).ok()?,
            stamp,
            from: UserId::new("sender0").ok()?,
            value: Content::text("value", &Limits::default()).ok(),
        })
    };
    Arc::new(made().unwrap_or_else(|| panic!("an update of the worker's own is not legal")))
}
