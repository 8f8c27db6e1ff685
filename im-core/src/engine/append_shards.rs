//! Append shards: authorised commands become events here, and only here.
//!
//! Each shard is a task with a share of the rooms. It sends all queued appends to the store in one
//! call, and for every committed event: applies it to its room (which fans it out), publishes it to
//! the other nodes, and enqueues the sender's ack. So the events of one room leave in order, and a
//! connection that closes does not cancel its appends.
//!
//! A store call is bounded in appends, rows and bytes; the rest waits in a
//! [queue](super::fair_queue) that is fair among users. A heavy append is sent alone, and [one at a
//! time](super::heavy) across all shards. While a shard waits with a heavy one, light ones that
//! arrive may overtake it, as long as the shard has capacity for them.
//!
//! The sends of one session to one room keep their order also where some are retryably refused: see
//! [`sender_order`](super::sender_order). Therefore a send whose ack was decided before it reached
//! a shard still passes through the shard.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

use crate::code::Code;
use crate::error::{Error, Fault, Result};
use crate::id::{CommandId, EventKind, MessageId, RoomId, Seq, UserId};
use crate::ports::{Appended, BusMessage};
use crate::state::{Act, Append, Authority};
use crate::wire::{AppendAck, Content, Event, Map, MemberChange, Reply, Signal, Target, encode};

use super::commands::{Charges, ROWS_PER_MEMBER, behind};
use super::config::EngineConfig;
use super::connection::Conn;
use super::core::Core;
use super::fair_queue::{BatchBounds, BatchSize, FairQueue, Share, Weight};
use super::heavy::HeavyTurn;
use super::metrics;
use super::outgoing::Outgoing;
use super::sender_order::{SendRef, SenderOrder};

/// Longest delay in the refusal of a send behind a retryable refusal: the retry of the earlier one
/// arrives soon, if at all. The rate limit may require a longer delay, until its tokens cover all
/// of the retries.
const SENDER_ORDER_RETRY: Duration = Duration::from_secs(1);

/// Minimum rows of a store call: with fewer, every send would be heavy.
const LEAST_ROWS: usize = 8;

/// The recipient of an append's outcome.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A client's command, with its charges to quotas.
    Command(Arc<Conn>, CommandId, Charges),
    /// A caller in this process.
    Caller(oneshot::Sender<Result<AppendAck>>),
}

/// An item of work for a shard, with the recipient of the outcome.
#[derive(Debug)]
pub(crate) struct Job {
    work: Work,
    waiter: Waiter,
    /// The earliest time at which it may have arrived.
    at: tokio::time::Instant,
}

impl Job {
    /// Creates a job for a command of the message that the connection is processing.
    pub(crate) fn for_command(
        core: &Core,
        conn: &Arc<Conn>,
        (id, charges): (CommandId, Charges),
        work: Work,
    ) -> Self {
        let waiter = Waiter::Command(conn.clone(), id, charges);
        Self { work, waiter, at: core.started + conn.arrived() }
    }

    /// Creates a job for a caller in this process.
    fn for_caller(work: Work, caller: oneshot::Sender<Result<AppendAck>>) -> Self {
        Self { work, waiter: Waiter::Caller(caller), at: tokio::time::Instant::now() }
    }
}

/// The work of a job.
#[derive(Debug)]
pub(crate) enum Work {
    /// An append to commit.
    Append(Append),
    /// A send whose ack is known already, delivered in its turn.
    Answered(RoomId, MessageId, Result<AppendAck>),
}

/// The append shards, as their callers see them.
#[derive(Debug)]
pub(crate) struct AppendShards {
    senders: Vec<mpsc::Sender<Job>>,
    hasher: RandomState,
    heavy: HeavyTurn,
}

impl AppendShards {
    /// Creates `n` shards, and the receivers of their tasks.
    pub(crate) fn new(n: usize, queue: usize) -> (Self, Vec<mpsc::Receiver<Job>>) {
        let (senders, receivers) = (0..n.max(1)).map(|_| mpsc::channel(half_of(queue))).unzip();
        (Self { senders, hasher: RandomState::new(), heavy: HeavyTurn::new() }, receivers)
    }

    /// Jobs that wait in all shards.
    pub(crate) fn waiting(&self) -> usize {
        self.senders.iter().map(|shard| shard.max_capacity() - shard.capacity()).sum()
    }

    /// Queues a job. An append waits for capacity. A decided ack does not wait, so that a client
    /// with repeated refusals does not block other senders: if there is no capacity, its order is
    /// not kept.
    ///
    /// # Errors
    ///
    /// The recipient and the outcome of a job that was not queued.
    pub(crate) async fn send(&self, job: Job) -> Result<(), (Waiter, Result<AppendAck>)> {
        let room = match &job.work {
            Work::Append(append) => &append.room,
            Work::Answered(room, ..) => room,
        };
        let shard = &self.senders[self.hasher.hash_one(room) as usize % self.senders.len()];
        let queued = match job.work {
            Work::Append(_) => shard.send(job).await.map_err(|gone| gone.0),
            Work::Answered(..) => shard.try_send(job).map_err(TrySendError::into_inner),
        };
        queued.map_err(|Job { work, waiter, .. }| match work {
            Work::Append(_) => (waiter, Err(Error::of(Code::Draining, "append"))),
            Work::Answered(.., result) => (waiter, result),
        })
    }
}

/// The task of one shard: ends when the engine stops and nothing waits.
pub(crate) async fn run(core: Arc<Core>, mut jobs: mpsc::Receiver<Job>) {
    let (mut shard, mut order) = (AppendShard::new(&core.config), SenderOrder::default());
    let mut closing = false;
    let mut request = core.append_shards.heavy.request();
    loop {
        if shard.is_empty() {
            tokio::select! {
                biased;
                () = core.stopped.cancelled(), if !closing => {
                    closing = true;
                    jobs.close();
                    continue;
                }
                n = jobs.recv_many(&mut shard.came, shard.bounds.appends) => if n == 0 {
                    return;
                },
            }
        }
        shard.gather(&mut jobs).await;
        shard.arrange();
        let _alone = if shard.is_heavy_next() {
            tokio::select! {
                biased;
                turn = request.granted() => turn,
                // Some of these may overtake the heavy one.
                () = shard.more(&mut jobs) => continue,
            }
        } else {
            None
        };
        let admitted = admit(&core, &mut order, shard.batch().into_iter());
        if !admitted.is_empty() {
            request.yield_to(commit(&core, &mut order, admitted)).await;
        }
    }
}

/// The jobs of a shard.
struct AppendShard {
    /// In order of arrival, while all of it fits into one batch. After [`AppendShard::arrange`]:
    /// the next batch, or empty.
    came: Vec<Job>,
    queue: FairQueue<Job>,
    bounds: BatchBounds,
    /// Maximum number of jobs in `queue`; as many wait before the shard.
    most: usize,
}

impl AppendShard {
    fn new(config: &EngineConfig) -> Self {
        let bounds = BatchBounds {
            appends: config.append_batch.max(1),
            rows: config.append_rows.max(LEAST_ROWS),
            bytes: config.append_bytes,
        };
        let most = half_of(config.append_shard_queue).max(bounds.appends);
        Self { came: Vec::new(), queue: FairQueue::new(), bounds, most }
    }

    /// Yields so that senders about to enqueue join this batch: the fuller the batch, the cheaper
    /// each commit.
    async fn gather(&mut self, jobs: &mut mpsc::Receiver<Job>) {
        // Once more than a batch waits, later arrivals must get their turn among the queued jobs.
        let most = if self.queue.is_empty() { self.bounds.appends } else { self.most };
        while self.queue.len() + self.came.len() < most {
            yield_now().await;
            if jobs.is_empty() {
                return;
            }
            let room = most - self.queue.len() - self.came.len();
            jobs.recv_many(&mut self.came, room).await;
        }
    }

    fn is_empty(&self) -> bool {
        self.came.is_empty() && self.queue.is_empty()
    }

    /// Waits for further jobs, as many as there is capacity for.
    async fn more(&mut self, jobs: &mut mpsc::Receiver<Job>) {
        let room = self.most.saturating_sub(self.queue.len() + self.came.len());
        if room == 0 || jobs.recv_many(&mut self.came, room).await == 0 {
            std::future::pending().await
        }
    }

    /// Moves the arrived jobs to the fair queue, unless all of them fit into one batch.
    fn arrange(&mut self) {
        let mut size = BatchSize::default();
        let fits = self.came.iter().all(|job| size.add(job.weight(), &self.bounds));
        if !self.queue.is_empty() || !fits {
            for job in self.came.drain(..) {
                self.queue.push(job.share(), job.weight(), job);
            }
        }
    }

    /// Returns whether the next batch is one heavy append.
    fn is_heavy_next(&self) -> bool {
        let next = self.came.first().map(Job::weight).or(self.queue.next());
        next.is_some_and(|weight| self.bounds.is_heavy(weight))
    }

    /// Returns the next batch of the arranged jobs.
    fn batch(&mut self) -> Vec<Job> {
        if !self.came.is_empty() {
            return std::mem::take(&mut self.came);
        }
        let batch = self.queue.batch(&self.bounds);
        if !self.queue.is_empty() {
            ::metrics::counter!(metrics::APPEND_DEFERRED).increment(1);
        }
        batch
    }
}

/// The part of a shard's queue that waits before the shard; the other part is the fair queue.
fn half_of(queue: usize) -> usize {
    queue.div_ceil(2).max(1)
}

impl Job {
    /// The user or room whose share of the rows it uses.
    fn share(&self) -> Share {
        let room = match &self.work {
            Work::Append(append) => &append.room,
            Work::Answered(room, ..) => room,
        };
        match &self.waiter {
            Waiter::Command(conn, ..) => match conn.session() {
                Some(session) => Share::User(session.user.clone()),
                None => Share::Room(room.clone()),
            },
            Waiter::Caller(_) => Share::Room(room.clone()),
        }
    }

    /// The rows and bytes that it writes.
    fn weight(&self) -> Weight {
        /// Approximate bytes of a row's keys and indexes.
        const ROW_BYTES: usize = 64;
        let Work::Append(append) = &self.work else { return Weight::default() };
        let of = |members: usize, bytes: usize| {
            // Each append writes the event and its room.
            let rows = 2 + members * ROWS_PER_MEMBER;
            Weight { rows, bytes: bytes + rows * ROW_BYTES }
        };
        match &append.act {
            Act::Post { event, seed } => {
                let members = seed.as_ref().map_or(0, |seed| seed.members.len());
                of(members, event.content.packed().len())
            }
            Act::Create { seed, .. } => of(seed.members.len(), 0),
            Act::Change { .. } => of(1, 0),
        }
    }
}

/// An append that is sent to the store.
struct AdmittedAppend {
    append: Append,
    waiter: Waiter,
    /// The send, if a session sent it.
    send_ref: Option<SendRef>,
}

/// Answers the jobs that need no store call or must not reach the store yet, and returns the rest.
fn admit(
    core: &Core,
    order: &mut SenderOrder,
    jobs: impl Iterator<Item = Job>,
) -> Vec<AdmittedAppend> {
    let (now, mut admitted) = (tokio::time::Instant::now(), Vec::new());
    for Job { work, waiter, at } in jobs {
        order.sweep(now);
        match work {
            Work::Append(append) => {
                let send_ref =
                    send_id(&append.act).and_then(|id| waiter.send_ref(&append.room, id));
                match send_ref.as_ref().map_or(Ok(()), |send_ref| order.admit(send_ref, at, now)) {
                    Ok(()) => admitted.push(AdmittedAppend { append, waiter, send_ref }),
                    Err(wait) => {
                        let wait = waiter.refund(core, wait.min(SENDER_ORDER_RETRY));
                        answer(core, waiter, Err(sender_order_refusal(wait)));
                    }
                }
            }
            Work::Answered(room, id, result) => {
                if let Some(send_ref) = waiter.send_ref(&room, &id) {
                    let retryable = result.as_ref().is_err_and(Error::is_retryable);
                    match retryable.then(|| order.admit(&send_ref, at, now)) {
                        Some(Ok(())) => order.await_retry(&send_ref, now),
                        Some(Err(_)) => order.extend(&send_ref, now),
                        None => order.settle(&send_ref, now),
                    }
                }
                answer(core, waiter, result);
            }
        }
    }
    admitted
}

/// The message id of a send.
fn send_id(act: &Act) -> Option<&MessageId> {
    match act {
        Act::Post { event, .. } => event.idempotency_key.as_ref().map(|key| &key.id),
        _ => None,
    }
}

/// The refusal of a send behind a retryably refused one.
fn sender_order_refusal(wait: Duration) -> Error {
    Error::of(Code::SenderOrder, "send").retry_after(wait)
}

async fn commit(core: &Arc<Core>, order: &mut SenderOrder, batch: Vec<AdmittedAppend>) {
    ::metrics::histogram!(metrics::BATCH).record(batch.len() as f64);
    let (mut appends, mut waiting) = (Vec::new(), Vec::new());
    for AdmittedAppend { append, waiter, send_ref } in batch {
        waiting.push((waiter, send_ref, append.room.clone(), first_members(&append.act)));
        appends.push(append);
    }
    let started = Instant::now();
    // A panic in the store must not end the shard: the outcome of the batch is then unknown.
    let appended = AssertUnwindSafe(core.store.append(appends)).catch_unwind().await;
    let mut outcomes = appended.unwrap_or_else(|_| panicked("the store")).into_iter();
    ::metrics::histogram!(metrics::COMMIT_SECONDS).record(started.elapsed().as_secs_f64());
    let (mut committed, mut refused, mut failed) = (Vec::new(), Vec::new(), false);
    for (waiter, send_ref, room, members) in waiting {
        let result = match outcomes.next() {
            Some(Ok(Appended::Committed(event))) => {
                committed.push(event.clone());
                announce(core, &event, members);
                Ok(fan_out(core, event))
            }
            Some(Ok(Appended::Duplicate { epoch, record })) => {
                Ok(AppendAck { room, epoch, seq: record.seq, at: record.at, duplicate: true })
            }
            Some(Err(error)) => Err(Error::from(error)),
            None => Err(Error::of(Code::Unknown, "append")),
        };
        failed |= result.as_ref().is_err_and(|error| error.fault() == Fault::Backend);
        if result.as_ref().is_err_and(Error::is_retryable) {
            refused.extend(send_ref);
        }
        answer(core, waiter, result);
    }
    // In reverse order, so that each session's first refused send is the awaited one.
    let now = tokio::time::Instant::now();
    refused.iter().rev().for_each(|send_ref| order.await_retry(send_ref, now));
    if !committed.is_empty() || failed {
        core.vitals.appended(!committed.is_empty(), core.running());
    }
    if !committed.is_empty() {
        ::metrics::counter!(metrics::EVENTS).increment(committed.len() as u64);
        core.publish(BusMessage::Events(committed));
    }
}

/// Logs a panic in the embedder's code and returns a default value.
fn panicked<T: Default>(what: &str) -> T {
    tracing::error!("{what} panicked while events were appended");
    T::default()
}

/// Fans out an event that this node committed.
pub(super) fn fan_out(core: &Arc<Core>, event: Arc<Event>) -> AppendAck {
    let ack = AppendAck {
        room: event.room.clone(),
        epoch: event.epoch,
        seq: event.seq,
        at: event.at,
        duplicate: false,
    };
    catch_unwind(AssertUnwindSafe(|| core.hooks.after(&event)))
        .unwrap_or_else(|_| panicked("a hook"));
    if let Some(room) = core.hub.get(&event.room) {
        let applied = room.apply(Outgoing::event(event));
        core.handle_applied(&room, applied);
    }
    ack
}

/// The first members of a room that an append creates without an event that lists them.
fn first_members(act: &Act) -> Vec<UserId> {
    match act {
        Act::Post { seed: Some(seed), .. } => {
            seed.members.iter().map(|(user, _)| user.clone()).collect()
        }
        _ => Vec::new(),
    }
}

/// Notifies the devices of users that another user added to a room. A hint: `rooms` always lists a
/// user's rooms.
pub(super) fn announce(core: &Arc<Core>, event: &Arc<Event>, first_members: Vec<UserId>) {
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
    /// Appends on the service's authority and waits for the outcome. It belongs to no session, so
    /// sender order does not block it.
    pub(crate) async fn append(&self, room: RoomId, act: Act) -> Result<AppendAck> {
        let max_members = self.config.max_members;
        let append =
            Append { room, authority: Authority::Service, act, at: self.now(), max_members };
        let (reply, answer) = oneshot::channel();
        let job = Job::for_caller(Work::Append(append), reply);
        if let Err((_, result)) = self.append_shards.send(job).await {
            return result;
        }
        answer.await.map_err(|_| Error::of(Code::Unknown, "append"))?
    }
}

impl Waiter {
    /// Refunds a send that was refused because an earlier one must be retried first. Returns the
    /// time to wait, `wait` at least.
    fn refund(&self, core: &Core, wait: Duration) -> Duration {
        match self {
            Self::Command(conn, ..) => behind(core, conn, wait),
            Self::Caller(_) => wait,
        }
    }

    /// The reference of a client's send with this id.
    fn send_ref(&self, room: &RoomId, id: &MessageId) -> Option<SendRef> {
        let Self::Command(conn, ..) = self else { return None };
        let session = conn.session()?.id.clone();
        Some(SendRef { room: room.clone(), session, id: id.clone() })
    }
}

pub(crate) fn answer(core: &Core, waiter: Waiter, result: Result<AppendAck>) {
    match waiter {
        Waiter::Command(conn, id, charges) => {
            charges.settle(&result);
            let frame = match result {
                Ok(ack) => Reply::Appended(ack).to_value(id),
                Err(error) => core.refusal(Some(id), &error).to_value(),
            };
            conn.outbox.append_done(encode(&frame, conn.encoding));
        }
        // The caller may have been dropped; the event stays.
        Waiter::Caller(reply) => drop(reply.send(result)),
    }
}
