//! Appending: authorised commands become events here, and only here.
//!
//! Each lane is a task with a share of the rooms. It drains what waits, hands it to the store in one call, and for every
//! event that was committed: applies it to its room (which fans it out), tells the other nodes, and answers the sender.
//! So one room's events leave in their order, and a connection that goes away takes nothing with it.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{CommandId, EventKind, RoomId, Seq, UserId};
use crate::ports::{Appended, BusMessage};
use crate::state::{Act, Append, Guard};
use crate::wire::{Content, Event, Map, MemberChange, Reply, SendReceipt, Signal, Target, encode};

use super::connection::Conn;
use super::core::Core;
use super::metrics;
use super::outgoing::Outgoing;

/// Somebody who waits for an append.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A client's command.
    Command(Arc<Conn>, CommandId),
    /// A caller in this process.
    Caller(oneshot::Sender<Result<SendReceipt>>),
}

/// An append and who waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) append: Append,
    pub(crate) waiter: Waiter,
}

/// The way to the lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    senders: Vec<mpsc::Sender<Job>>,
    hasher: RandomState,
}

impl Lanes {
    /// `n` lanes, and the ends that their tasks take from.
    pub(crate) fn new(n: usize, queue: usize) -> (Self, Vec<mpsc::Receiver<Job>>) {
        let (senders, receivers) = (0..n.max(1)).map(|_| mpsc::channel(queue.max(1))).unzip();
        (Self { senders, hasher: RandomState::new() }, receivers)
    }

    /// Queues a job, waiting for room.
    pub(crate) async fn send(&self, job: Job) -> Result<(), Job> {
        let lane = self.hasher.hash_one(&job.append.room) as usize % self.senders.len();
        self.senders[lane].send(job).await.map_err(|gone| gone.0)
    }
}

/// One lane's task: ends when the engine stops and the queue is empty.
pub(crate) async fn run(core: Arc<Core>, mut jobs: mpsc::Receiver<Job>) {
    let mut batch = Vec::new();
    let mut closing = false;
    loop {
        let taken = tokio::select! {
            biased;
            () = core.stopped.cancelled(), if !closing => {
                closing = true;
                jobs.close();
                continue;
            }
            n = jobs.recv_many(&mut batch, core.config.append_batch) => n,
        };
        if taken == 0 {
            return;
        }
        fill(&mut batch, &mut jobs, core.config.append_batch).await;
        commit(&core, &mut batch).await;
    }
}

/// Lets those come first who are about to send, as long as there are any: the fuller the batch, the cheaper each commit.
async fn fill(batch: &mut Vec<Job>, jobs: &mut mpsc::Receiver<Job>, most: usize) {
    while batch.len() < most {
        yield_now().await;
        if jobs.is_empty() {
            return;
        }
        jobs.recv_many(batch, most - batch.len()).await;
    }
}

async fn commit(core: &Arc<Core>, batch: &mut Vec<Job>) {
    ::metrics::histogram!(metrics::BATCH).record(batch.len() as f64);
    let (appends, waiters): (Vec<_>, Vec<_>) =
        batch.drain(..).map(|job| (job.append, job.waiter)).unzip();
    let rooms: Vec<(RoomId, Vec<UserId>)> =
        appends.iter().map(|a| (a.room.clone(), first_members(&a.act))).collect();
    let begun = Instant::now();
    // A store that panics must not take the lane with it: what became of the batch is then not known.
    let appended = AssertUnwindSafe(core.store.append(appends)).catch_unwind().await;
    let mut outcomes = appended.unwrap_or_else(|_| panicked("the store")).into_iter();
    ::metrics::histogram!(metrics::COMMIT_SECONDS).record(begun.elapsed().as_secs_f64());
    let mut committed = Vec::new();
    for (waiter, (room, members)) in waiters.into_iter().zip(rooms) {
        let result = match outcomes.next() {
            Some(Ok(Appended::Committed(event))) => {
                committed.push(event.clone());
                announce(core, &event, members);
                Ok(publish(core, event))
            }
            Some(Ok(Appended::Repeated { epoch, record })) => {
                Ok(SendReceipt { room, epoch, seq: record.seq, at: record.at, repeated: true })
            }
            Some(Err(error)) => Err(Error::from(error)),
            None => Err(Error::of(Code::Unknown, "append")),
        };
        answer(core, waiter, result);
    }
    if !committed.is_empty() {
        ::metrics::counter!(metrics::EVENTS).increment(committed.len() as u64);
        core.tell(BusMessage::Events(committed));
    }
}

/// Says that code of the embedder's panicked, and goes on with nothing.
fn panicked<T: Default>(what: &str) -> T {
    tracing::error!("{what} panicked while events were appended");
    T::default()
}

/// Fans out an event that this node committed.
pub(super) fn publish(core: &Arc<Core>, event: Arc<Event>) -> SendReceipt {
    let receipt = SendReceipt {
        room: event.room.clone(),
        epoch: event.epoch,
        seq: event.seq,
        at: event.at,
        repeated: false,
    };
    catch_unwind(AssertUnwindSafe(|| core.hooks.after(&event)))
        .unwrap_or_else(|_| panicked("a hook"));
    if let Some(room) = core.hub.get(&event.room) {
        let applied = room.apply(Outgoing::event(event));
        core.follow_up(&room, applied);
    }
    receipt
}

/// Who is in a room that an append makes without an event that says so.
fn first_members(act: &Act) -> Vec<UserId> {
    match act {
        Act::Post { seed: Some(seed), .. } => {
            seed.members.iter().map(|(user, _)| user.clone()).collect()
        }
        _ => Vec::new(),
    }
}

/// Tells the devices of users who came into a room by another's doing that there is a room to follow. A hint: what
/// rooms they are in they can always ask.
fn announce(core: &Arc<Core>, event: &Arc<Event>, first_members: Vec<UserId>) {
    let joined = event.member_changes().into_iter().filter_map(|change| match change {
        MemberChange::Joined(user, _) => Some(user),
        _ => None,
    });
    let made_now = event.seq == Seq::FIRST;
    let newcomers = first_members
        .into_iter()
        .filter(|_| made_now)
        .chain(joined)
        .filter(|user| *user != event.from);
    for user in newcomers {
        let about = Map::from_iter([("room", event.room.as_str())]).into();
        let Ok(content) = Content::new(&about, &core.config.limits) else { continue };
        core.signal(Signal {
            to: Target::User(user),
            from: event.from.clone(),
            at: event.at,
            kind: EventKind::room(),
            content,
        });
    }
}

impl Core {
    /// Appends on the service's own authority and waits for the outcome.
    pub(crate) async fn append(&self, room: RoomId, act: Act) -> Result<SendReceipt> {
        let max_members = self.config.max_members;
        let append = Append { room, guard: Guard::Trusted, act, at: self.now(), max_members };
        let (reply, answer) = oneshot::channel();
        let job = Job { append, waiter: Waiter::Caller(reply) };
        self.lanes.send(job).await.map_err(|_| Error::of(Code::Draining, "append"))?;
        answer.await.map_err(|_| Error::of(Code::Unknown, "append"))?
    }
}

fn answer(core: &Core, waiter: Waiter, result: Result<SendReceipt>) {
    match waiter {
        Waiter::Command(conn, id) => {
            let frame = match result {
                Ok(receipt) => Reply::Sent(receipt).to_value(id),
                Err(error) => core.refusal(Some(id), &error).to_value(),
            };
            conn.outbox.append_done(encode(&frame, conn.encoding));
        }
        // Whoever asked may have gone away; the event stays.
        Waiter::Caller(reply) => drop(reply.send(result)),
    }
}
