//! The process that writes until it is killed or has written enough.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use im_core::ports::{Appended, Store, StoreError, StoreErrorKind};
use im_core::{MessageId, RoomId, UserId};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::beside::others;
use super::message::{LARGE, Line, Message, word};
use super::random::Random;

/// The load and the end of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterPlan {
    /// The seed of its choices and message ids.
    pub seed: u64,
    /// Number of concurrent senders. 32 by default.
    pub senders: u32,
    /// Number of rooms. 8 by default.
    pub rooms: u32,
    /// One in so many messages is large, some 26 kB; none if 0, which is the default.
    pub large: u32,
    /// When it ends. Never by default: it is killed.
    pub ends: Ends,
    /// Whether the store may fail for a while. Never by default.
    pub away: Away,
}

/// When a worker ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// It does not.
    Never,
    /// After so many acks, without closing the store.
    Abruptly(u64),
    /// After so many acks, with the store closed.
    Closed(u64),
}

/// Whether a store may fail for a while because its database is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// An error ends the worker.
    Never,
    /// Sends answered with `Unknown` are retried, and half of those answered with `Unavailable`;
    /// the other half must never be stored. Any other error ends the worker.
    AtTimes,
}

impl Away {
    /// Returns whether a worker tolerates the error.
    pub(super) fn explains(self, error: &StoreError) -> bool {
        let retryable =
            matches!(error.kind(), StoreErrorKind::Unavailable | StoreErrorKind::Unknown);
        self == Self::AtTimes && retryable
    }
}

impl WriterPlan {
    /// Returns the defaults with this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, senders: 32, rooms: 8, large: 0, ends: Ends::Never, away: Away::Never }
    }
}

/// The pause before a failed send is retried.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// The number of acks, and the wait for enough of them.
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

/// The body of a worker: writes to the store until the process is killed or the plan is fulfilled.
///
/// Reads the unanswered sends of the previous worker from standard input and retries them; reports
/// its sends and their answers.
///
/// # Panics
///
/// If the store fails in a way that the plan does not allow: only the kill may end a worker.
pub(super) async fn writer(store: Arc<dyn Store>, plan: WriterPlan) {
    Line::Ready.say();
    let enough = match plan.ends {
        Ends::Never => u64::MAX,
        Ends::Abruptly(count) | Ends::Closed(count) => count,
    };
    let count = Count { acknowledged: AtomicU64::new(0), enough, reached: Notify::new() };
    let count = Arc::new(count);
    let unanswered = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    let line = Outgoing { store: Arc::clone(&store), count: Arc::clone(&count), away: plan.away };
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..plan.senders {
        senders.spawn(sender(line.clone(), plan.clone(), number));
    }
    senders.spawn(others(Arc::clone(&store), plan.clone()));
    senders.spawn(async move {
        let text = unanswered.await.map(Result::unwrap_or_default).unwrap_or_default();
        let messages: Vec<_> = text.lines().filter_map(Message::parse).collect();
        for messages in messages.chunks(200) {
            line.send(messages, Times::Once).await;
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
    // The remaining tasks of the store must not continue to write.
    std::process::exit(0);
}

async fn sender(line: Outgoing, plan: WriterPlan, number: u32) -> Infallible {
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
        let twice = random.next().is_multiple_of(16);
        line.send(&messages, if twice { Times::Twice } else { Times::Once }).await;
        // A store that never waits would keep a worker from ending.
        tokio::task::yield_now().await;
    }
}

/// How often a message is sent at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    Once,
    /// Twice concurrently, as after a reconnect.
    Twice,
}

/// Messages without an ack, and the kinds of their errors.
type Failures = Vec<(Message, StoreErrorKind)>;

/// The senders' access to the store.
#[derive(Clone)]
struct Outgoing {
    store: Arc<dyn Store>,
    count: Arc<Count>,
    away: Away,
}

impl Outgoing {
    /// Sends messages and retries failed ones, until each is acked or ignored.
    async fn send(&self, messages: &[Message], times: Times) {
        let mut failures = match times {
            Times::Once => self.attempt(messages).await,
            Times::Twice => {
                let (one, other) = tokio::join!(self.attempt(messages), self.attempt(messages));
                both(one, other)
            }
        };
        while !failures.is_empty() {
            for (message, kind) in &failures {
                Line::Failed(message.clone(), word(*kind)).say();
            }
            sleep(PAUSE).await;
            failures.retain(|(message, kind)| !is_ignored(message, *kind));
            let again: Vec<Message> = failures.into_iter().map(|(message, _)| message).collect();
            again.iter().for_each(|message| Line::Try(message.clone()).say());
            failures = self.attempt(&again).await;
        }
    }

    async fn attempt(&self, messages: &[Message]) -> Failures {
        let mut failures = Vec::new();
        let answers = self.store.append(messages.iter().map(Message::append).collect()).await;
        for (message, answer) in messages.iter().zip(answers) {
            match answer {
                Ok(appended) => {
                    acknowledged(message, &appended).say();
                    self.count.add();
                }
                Err(error) if self.away.explains(&error) => {
                    failures.push((message.clone(), error.kind()));
                }
                Err(error) => failed(&error),
            }
        }
        failures
    }
}

/// Combines the failures of two concurrent sends: the outcome is unknown if either is.
fn both(one: Failures, other: Failures) -> Failures {
    let other: HashMap<_, _> = other.into_iter().collect();
    let in_doubt = |kinds: [StoreErrorKind; 2]| kinds.contains(&StoreErrorKind::Unknown);
    one.into_iter()
        .filter_map(|(message, kind)| {
            let second = *other.get(&message)?;
            let doubt = in_doubt([kind, second]);
            Some((message, if doubt { StoreErrorKind::Unknown } else { kind }))
        })
        .collect()
}

/// Returns whether a refused message is never retried: every other one, chosen by its id.
fn is_ignored(message: &Message, kind: StoreErrorKind) -> bool {
    let weight: u32 = message.id.as_str().bytes().map(u32::from).sum();
    kind == StoreErrorKind::Unavailable && weight.is_multiple_of(2)
}

/// Returns the line that reports an answer.
pub(super) fn acknowledged(message: &Message, appended: &Appended) -> Line {
    let (seq, epoch) = match appended {
        Appended::Committed(event) => (event.seq, event.epoch),
        Appended::Duplicate { epoch, record } => (record.seq, *epoch),
    };
    Line::Ack(message.clone(), seq.get(), epoch)
}

pub(super) fn failed(error: &StoreError) -> ! {
    panic!("the store failed: {error} ({})", word(error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message sent twice is of unknown outcome if one of the two sends is.
    #[test]
    fn resent_message_keeps_unknown_outcome() {
        let message = |n| Message::parse(&format!("room0 sender1 {n:016x}-1-2")).unwrap();
        let (unavailable, unknown) = (StoreErrorKind::Unavailable, StoreErrorKind::Unknown);
        let one = vec![(message(1), unavailable), (message(2), unavailable), (message(3), unknown)];
        let other = vec![(message(2), unknown), (message(3), unavailable), (message(4), unknown)];
        assert_eq!(both(one.clone(), other), [(message(2), unknown), (message(3), unknown)]);
        assert_eq!(both(one.clone(), one.clone()), one);
        assert_eq!(both(one, Vec::new()), []);
    }

    /// Half of the messages that surely were not written are ignored, and no others.
    #[test]
    fn only_unavailable_messages_are_ignored() {
        let messages = (0..64).map(|n| Message::parse(&format!("r s {n:016x}-1-2")).unwrap());
        let messages: Vec<_> = messages.collect();
        let let_be = |kind| messages.iter().filter(|message| is_ignored(message, kind)).count();
        assert_eq!(let_be(StoreErrorKind::Unavailable), 32);
        assert_eq!(let_be(StoreErrorKind::Unknown), 0);
    }

    /// The worker tolerates the errors of an absent database and no others.
    #[test]
    fn only_absent_database_is_tolerated() {
        let explains = |away: Away, kind| away.explains(&StoreError::new(kind, "why"));
        for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Unknown] {
            assert!(explains(Away::AtTimes, kind) && !explains(Away::Never, kind));
        }
        for kind in [StoreErrorKind::Full, StoreErrorKind::Corrupt, StoreErrorKind::Closed] {
            assert!(!explains(Away::AtTimes, kind));
        }
    }
}
