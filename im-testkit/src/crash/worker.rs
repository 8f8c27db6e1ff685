//! The process that writes until it is killed, or until it has written enough.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use im_core::ports::{Appended, Store, StoreError};
use im_core::state::{Base, CheckpointChange, SecretHash, SessionRecord};
use im_core::wire::{Content, Limits, Secret, StateUpdate};
use im_core::{
    Cursor, DeviceId, Epoch, MessageId, NodeId, RoomId, Seq, SessionId, Stamp, StateKey, Timestamp,
    UserId,
};
use tokio::sync::Notify;

use super::message::{LARGE, Line, Message, word};
use super::random::Random;

/// How much a worker does at once, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterPlan {
    /// Where its choices come from. Message ids are made from it.
    pub seed: u64,
    /// Senders at the same time. 32 by default.
    pub senders: u32,
    /// Rooms they send to. 8 by default.
    pub rooms: u32,
    /// One in so many messages is large, some 26 kB; none if 0, which is the default.
    pub large: u32,
    /// When it ends. Never by default: it is killed.
    pub ends: Ends,
}

/// When a worker ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// It does not.
    Never,
    /// After so many acknowledgements, without closing the store.
    Abruptly(u64),
    /// After so many acknowledgements, with the store closed.
    Closed(u64),
}

impl WriterPlan {
    /// The defaults, from this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, senders: 32, rooms: 8, large: 0, ends: Ends::Never }
    }
}

/// How many sends were acknowledged, and who waits for enough of them.
struct Count {
    acknowledged: AtomicU64,
    enough: u64,
    reached: Notify,
}

impl Count {
    fn add(&self) {
        if self.acknowledged.fetch_add(1, Ordering::SeqCst) + 1 >= self.enough {
            self.reached.notify_one();
        }
    }
}

/// Writes to the store until the process is killed, or until the plan says that it is enough: the body of a worker. Reads
/// from standard input what the worker before it got no answer for, and sends that again; says what it sends and what
/// is answered.
///
/// # Panics
///
/// If the store fails: nothing but the kill should end a worker.
pub(super) async fn writer(store: Arc<dyn Store>, plan: WriterPlan) {
    Line::Ready.say();
    let enough = match plan.ends {
        Ends::Never => u64::MAX,
        Ends::Abruptly(count) | Ends::Closed(count) => count,
    };
    let count = Count { acknowledged: AtomicU64::new(0), enough, reached: Notify::new() };
    let count = Arc::new(count);
    let unanswered = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..plan.senders {
        senders.spawn(sender(Arc::clone(&store), Arc::clone(&count), plan.clone(), number));
    }
    senders.spawn(others(Arc::clone(&store), plan.clone()));
    let (again, counted) = (Arc::clone(&store), Arc::clone(&count));
    senders.spawn(async move {
        let text = unanswered.await.map(Result::unwrap_or_default).unwrap_or_default();
        let messages: Vec<_> = text.lines().filter_map(Message::parse).collect();
        for message in messages.chunks(200) {
            send(&*again, &counted, message).await;
        }
        std::future::pending().await
    });
    tokio::select! {
        ended = senders.join_next() => match ended {
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            _ => std::future::pending().await,
        },
        () = count.reached.notified() => {}
    }
    if matches!(plan.ends, Ends::Closed(_)) {
        senders.shutdown().await;
        if let Err(error) = store.close().await {
            failed(&error);
        }
        Line::Closed.say();
    }
    // What is left of the store must not go on writing.
    std::process::exit(0);
}

async fn sender(
    store: Arc<dyn Store>,
    count: Arc<Count>,
    plan: WriterPlan,
    number: u32,
) -> Infallible {
    let mut random = Random::new(plan.seed ^ u64::from(number).rotate_left(32));
    let sender = UserId::new(format!("sender{number}")).unwrap_or_else(|e| panic!("{e}"));
    let mut sent = 0_u64;
    loop {
        let how_many = if random.next().is_multiple_of(4) { 1 + random.next() % 6 } else { 1 };
        let mut messages = Vec::new();
        for _ in 0..how_many {
            sent += 1;
            let room = random.next() % u64::from(plan.rooms);
            let room = RoomId::new(format!("room{room}")).unwrap_or_else(|e| panic!("{e}"));
            let large = plan.large > 0 && random.next().is_multiple_of(u64::from(plan.large));
            let end = if large { LARGE.to_string() } else { String::new() };
            let id = MessageId::new(format!("{:016x}-{number}-{sent}{end}", plan.seed));
            let id = id.unwrap_or_else(|e| panic!("{e}"));
            messages.push(Message { room, sender: sender.clone(), id });
        }
        messages.iter().for_each(|message| Line::Try(message.clone()).say());
        if random.next().is_multiple_of(16) {
            // Sent twice at the same time, as after a reconnect.
            tokio::join!(send(&*store, &count, &messages), send(&*store, &count, &messages));
        } else {
            send(&*store, &count, &messages).await;
        }
    }
}

async fn send(store: &dyn Store, count: &Count, messages: &[Message]) {
    let answers = store.append(messages.iter().map(Message::append).collect()).await;
    for (message, answer) in messages.iter().zip(answers) {
        match answer {
            Ok(appended) => acknowledged(message, &appended).say(),
            Err(error) => failed(&error),
        }
        count.add();
    }
}

/// What is said of an answer.
pub(super) fn acknowledged(message: &Message, appended: &Appended) -> Line {
    let (seq, epoch) = match appended {
        Appended::Committed(event) => (event.seq, event.epoch),
        Appended::Repeated { epoch, record } => (record.seq, *epoch),
    };
    Line::Ack(message.clone(), seq.get(), epoch)
}

fn failed(error: &StoreError) -> ! {
    panic!("the store failed: {error} ({})", word(error.kind()))
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
