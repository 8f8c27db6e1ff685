//! The interface of transports: a connection accepts messages and returns batches to write.
//! [`Connection`] documents its use.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{SessionId, UserId};
use crate::ports::{Credentials, Identity};
use crate::state::{SecretHash, SessionRecord};
use crate::time::Timestamp;
use crate::wire::{Disconnect, Encoding, Push};

use super::Engine;
use super::catch_up::{self, Available};
use super::commands;
use super::core::Core;
use super::metrics;
use super::outbox::{Outbox, OutboxBatch, OutboxItem};
use super::outgoing::Outgoing;
use super::registry::Call;
use super::stream_half::StreamHalf;

/// A moment in the infinite future.
const NEVER: u64 = u64::MAX;

/// The facts that a transport has about a peer before its first message.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The transport's name, for logs and metrics: `ws`, `sse` …
    pub transport: &'static str,
    /// The encoding of this connection.
    pub encoding: Encoding,
    /// The peer's address, if the transport knows it. Limits per address need it.
    pub address: Option<IpAddr>,
    /// The credentials already presented: headers, cookies, an identity established by middleware.
    pub credentials: Credentials,
}

/// The number of a batch, for [`Connection::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchId {
    bytes: usize,
    /// The part of `bytes` that belongs to acks.
    ack_bytes: usize,
}

/// Frames to write.
#[derive(Debug)]
pub struct Batch {
    /// Release this after the frames were written.
    pub id: BatchId,
    /// Encoded frames, in order. Each may be a message of its own, or all may be joined by
    /// [`join_encoded`](crate::wire::join_encoded).
    pub frames: Vec<Bytes>,
    /// No traffic for a while: send the transport's own ping after the frames, or, where it has
    /// none, any sign of life of the server. Only a batch with this flag may be without frames.
    pub heartbeat: bool,
    /// Close with this code and message after the frames. No further batch follows.
    pub close: Option<Disconnect>,
}

/// A connection, as its transport holds it. Clones are handles to the same one; dropping the last
/// detaches its session.
///
/// A transport gets one from [`Engine::accept`] for each peer, and runs two loops around it, side
/// by side in one task:
///
/// ```text
/// in:   read a message ─▶ submit(message)                  until the peer sends no more: finish()
/// out:  next(max) ─▶ write the batch's frames, release(id)  until a batch says close
/// ```
///
/// The transport's obligations:
///
/// - **One message at a time.** Read the next only once `submit` has returned: that is the
///   back-pressure. Refuse a message of more than [`Engine::limits`]`().max_message_bytes` before
///   it is buffered, by `close(Code::TooLarge)`.
/// - **Never stop writing because of reading.** `submit` may wait until acks were taken by `next`.
///   A transport that awaits one instead of the other, rather than both concurrently, deadlocks in
///   the end.
/// - **Report when all input is read.** Call [`Self::input_drained`] when a read finds nothing.
///   Input that waited unread while a message was processed then counts as older than that moment,
///   and stays ordered behind a send that was refused meanwhile.
/// - **Disconnect a peer that does not read.** Bound the time of each write; after it,
///   `close(Code::SlowSubscriber)` and drop the connection. The engine bounds the queue meanwhile.
///   While a write waits, call `write_progressed` whenever the peer has received bytes of it.
/// - **Send the disconnect.** The last batch contains the frame `disconnect`, and [`Batch::close`]
///   its code for transports whose connections end with a number. Write it and end the connection
///   so that it arrives.
/// - **Drop it at the end.** From then on the session can be resumed, and [`Engine::drain`] waits
///   for this.
///
/// `docs/transport.md` in the repository builds one in under 150 lines, and im-testkit's transport
/// suite tests it.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    conn: Arc<Conn>,
    engine: Engine,
}

/// A connection, as the engine holds it.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) number: u64,
    pub(crate) encoding: Encoding,
    pub(crate) address: Option<IpAddr>,
    pub(crate) transport: &'static str,
    pub(crate) outbox: Arc<Outbox>,
    /// Until the handshake.
    credentials: Mutex<Option<Box<Credentials>>>,
    session: OnceLock<Box<Session>>,
    /// Engine time in milliseconds at which the last input from the peer arrived.
    heard: AtomicU64,
    /// Engine time of the last output to the peer.
    sent: AtomicU64,
    /// Engine time of the last moment at which the transport had read all input; `NEVER` if it does
    /// not report this.
    input_drained: AtomicU64,
    /// Engine time in milliseconds after which the message being processed arrived.
    arrived: AtomicU64,
    opened: u64,
    heartbeat: AtomicBool,
    /// Bytes of its messages and pages that are not charged yet to its task's current turn.
    pub(crate) work: AtomicUsize,
    /// Frames refused since the peer last waited for as long as it was told to.
    pub(crate) flood: AtomicU32,
    /// The last frame was refused and exceeded the unthrottled number of refusals.
    pub(crate) slowed: AtomicBool,
    /// Engine time in milliseconds until which the peer was told to wait.
    pub(crate) flood_until: AtomicU64,
    /// The code for commands behind a `hello` that was refused and may be retried; 0 if there was
    /// none.
    hello_refused: AtomicU16,
    /// It no longer counts among its network's handshakes.
    pub(crate) greeted: AtomicBool,
    /// A `hello` is being processed, which has timeouts of its own.
    pub(crate) greeting: AtomicBool,
    /// Its slot among the calls of its user, from when the user is known until it ends.
    call: Mutex<Option<Call>>,
    pub(crate) half: Half,
}

/// The part of a session's traffic that a connection carries.
#[derive(Debug)]
pub(crate) enum Half {
    /// All of it.
    Duplex,
    /// One message of commands, and their acks.
    Request,
    /// Pushes, of the rooms that the session subscribes to.
    Stream(Box<StreamHalf>),
}

impl Half {
    /// Returns a future to await before anything is taken, so that pushes match the session's
    /// acknowledged subscriptions.
    ///
    /// On the heap: otherwise every connection that waits for something to write would contain it.
    fn unsettled(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> {
        match self {
            Self::Stream(stream_half) if !stream_half.is_settled() => {
                Some(Box::pin(stream_half.settled()))
            }
            _ => None,
        }
    }
}

/// The result of the handshake.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) user: UserId,
    /// The fencing token with which the connection attached to the session.
    pub(crate) fencing_token: u64,
    pub(crate) secret: SecretHash,
    identity: Mutex<Arc<Identity>>,
    /// Milliseconds since the Unix epoch until which the session can be resumed.
    expires: AtomicU64,
    /// No subscription was made on this connection yet: those in the store are of an earlier one.
    pub(crate) unsubscribed: AtomicBool,
}

impl Connection {
    pub(crate) fn new(engine: Engine, conn: Arc<Conn>) -> Self {
        Self(Arc::new(Handle { conn, engine }))
    }

    pub(super) fn core_and_conn(&self) -> (&Arc<Core>, &Arc<Conn>) {
        (self.0.engine.core(), &self.0.conn)
    }

    /// Processes one message: a frame or a batch. Returns when the next may be submitted; that is
    /// the back-pressure. Acks are enqueued in the outbox.
    ///
    /// It never fails: an invalid message is answered with an error ack, or closes the connection.
    /// Messages of one connection must be submitted one after the other. If the future is dropped,
    /// commands of the message may remain unexecuted and without ack: close the connection then.
    pub async fn submit(&self, message: Bytes) {
        let Handle { conn, engine } = &*self.0;
        if conn.outbox.is_closed() {
            return;
        }
        conn.mark_arrived(engine.core());
        // On the heap, so that a connection waiting for its next message stays small.
        Box::pin(commands::message(engine.core(), conn, message)).await;
    }

    /// Waits for the next batch, of about `max_bytes` at most but one frame at least. Cancel-safe.
    pub async fn next(&self, max_bytes: usize) -> Batch {
        loop {
            if let Some(batch) = self.due(max_bytes).await {
                return batch;
            }
            self.0.conn.outbox.ready().await;
        }
    }

    /// Returns the batch that can be written now, a heartbeat included. Separate from
    /// [`Self::next`], so that a waiting connection stores none of its locals.
    async fn due(&self, max_bytes: usize) -> Option<Batch> {
        let Handle { conn, engine } = &*self.0;
        if let Some(settled) = conn.half.unsettled() {
            settled.await;
        }
        let taken = match catch_up::take_available(engine.core(), &conn.outbox, max_bytes) {
            Available::Taken(take) => Some(take),
            Available::Nothing | Available::Reading => None,
        };
        let heartbeat = conn.heartbeat.swap(false, Ordering::Relaxed);
        (taken.is_some() || heartbeat)
            .then(|| conn.batch(engine.core(), taken.unwrap_or_default(), heartbeat))
    }

    /// Returns the batch that can be written now, of about `max_bytes` at most but one frame at
    /// least, reading logs where necessary; `None` if there is nothing. Cancel-safe.
    pub async fn take(&self, max_bytes: usize) -> Option<Batch> {
        let Handle { conn, engine } = &*self.0;
        loop {
            if let Some(settled) = conn.half.unsettled() {
                settled.await;
            }
            match catch_up::take_available(engine.core(), &conn.outbox, max_bytes) {
                Available::Taken(taken) => return Some(conn.batch(engine.core(), taken, false)),
                Available::Nothing => return None,
                Available::Reading => conn.outbox.ready().await,
            }
        }
    }

    /// Records that the batch was written: its bytes no longer count against the outbox.
    pub fn release(&self, batch: BatchId) {
        self.0.conn.outbox.release(batch.bytes, batch.ack_bytes);
    }

    /// Records a sign of life other than a whole message: a protocol ping or pong, or bytes of an
    /// incomplete message.
    pub fn heard(&self) {
        self.0.conn.mark_heard(self.0.engine.core());
    }

    /// Records that the transport has read all input: the next message submitted arrived after this
    /// moment.
    ///
    /// For a transport that never calls this, a message arrives when it is submitted. But input in
    /// a socket's buffer behind a message being processed arrived earlier; and a send that arrived
    /// before an earlier one was refused must not overtake it.
    pub fn input_drained(&self) {
        let Handle { conn, engine } = &*self.0;
        conn.input_drained.store(engine.core().running(), Ordering::Relaxed);
    }

    /// Records that the peer received bytes of a pending write: a sign of life and of progress.
    ///
    /// When the acks of all connections are nearly too many, a connection that receives none of its
    /// own for five ticks is disconnected with [`Code::SlowSubscriber`]; a peer in the middle of a
    /// large page is not. Do not call this for a ping.
    pub fn write_progressed(&self) {
        self.0.conn.write_progressed(self.0.engine.core());
    }

    /// Ends the connection: the peer disconnected ([`Code::Closed`]) or broke a rule of the
    /// transport. Queued frames are still returned, then [`Batch::close`] has the reason. The first
    /// reason counts.
    pub fn close(&self, code: Code) {
        self.0.conn.close(code, code.meaning());
    }

    /// Ends the connection after all input: the peer sends no more and may still read.
    ///
    /// Returns once all commands are acknowledged, and ends the connection with [`Code::Closed`],
    /// as [`Self::close`] does. [`Self::next`] returns the acks, also meanwhile.
    pub async fn finish(&self) {
        self.0.conn.outbox.appends_settled().await;
        self.close(Code::Closed);
    }

    /// Returns whether it has ended, or ends once its queue is empty: the next batches have the
    /// reason.
    pub fn is_closed(&self) -> bool {
        self.0.conn.outbox.is_closed()
    }

    /// The encoding of this connection.
    pub fn encoding(&self) -> Encoding {
        self.0.conn.encoding
    }

    /// The authenticated user, after the handshake.
    pub fn user(&self) -> Option<UserId> {
        self.0.conn.session().map(|session| session.user.clone())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let core = self.engine.core();
        self.conn.detach(core);
        tracing::debug!(connection = self.conn.number, "detached");
    }
}

impl Conn {
    pub(crate) fn new(number: u64, peer: Peer, half: Half, core: &Core) -> Self {
        let now = core.running();
        let outbox = Arc::new(Outbox::new(core.outboxes.clone()));
        if matches!(half, Half::Stream(_)) {
            outbox.track_positions();
        }
        Self {
            number,
            encoding: peer.encoding,
            address: peer.address,
            transport: peer.transport,
            outbox,
            credentials: Mutex::new(Some(Box::new(peer.credentials))),
            session: OnceLock::new(),
            heard: AtomicU64::new(now),
            sent: AtomicU64::new(now),
            input_drained: AtomicU64::new(NEVER),
            arrived: AtomicU64::new(now),
            opened: now,
            heartbeat: AtomicBool::new(false),
            work: AtomicUsize::new(0),
            flood: AtomicU32::new(0),
            slowed: AtomicBool::new(false),
            flood_until: AtomicU64::new(0),
            hello_refused: AtomicU16::new(0),
            greeted: AtomicBool::new(false),
            greeting: AtomicBool::new(false),
            call: Mutex::new(None),
            half,
        }
    }

    /// The result of the handshake, once it is done.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.get().map(|session| &**session)
    }

    pub(crate) fn is_duplex(&self) -> bool {
        matches!(self.half, Half::Duplex)
    }

    pub(crate) fn is_request_half(&self) -> bool {
        matches!(self.half, Half::Request)
    }

    /// The fencing token with which the connection attached to its session.
    pub(crate) fn fencing_token(&self) -> u64 {
        self.session().map_or(0, |session| session.fencing_token)
    }

    /// Completes the handshake.
    pub(crate) fn establish(&self, session: Session) {
        self.outbox.set_user(session.user.clone());
        self.credentials.lock().take();
        // Set once: commands of a connection are executed one after the other, and a second hello
        // is refused.
        drop(self.session.set(Box::new(session)));
    }

    /// Counts a call among those of its user until it ends.
    ///
    /// # Errors
    ///
    /// [`Code::TooManyConnections`] if the user has the maximum number of calls.
    pub(crate) fn begin_call(&self, core: &Core, user: &UserId) -> Result<()> {
        let call = core.registry.begin_call(user, core.config.max_calls_per_user);
        let call = call.ok_or_else(|| Error::of(Code::TooManyConnections, "call"))?;
        *self.call.lock() = Some(call);
        Ok(())
    }

    /// Records a refused `hello` that may be retried: commands behind it are refused with this
    /// code.
    pub(crate) fn refuse_hello(&self, code: Code) {
        self.hello_refused.store(code.number(), Ordering::Relaxed);
    }

    /// The code for commands behind a refused `hello`, if there was one.
    pub(crate) fn hello_refused(&self) -> Option<Code> {
        Code::from_number(self.hello_refused.load(Ordering::Relaxed))
    }

    /// The credentials presented so far.
    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials.lock().as_deref().cloned().unwrap_or_default()
    }

    /// Ends the connection with this code and message.
    pub(crate) fn close(&self, code: Code, words: impl Into<String>) {
        self.outbox.close(Disconnect {
            code: code.number(),
            message: words.into(),
            retry_after: None,
        });
    }

    /// Ends the connection with this error.
    pub(crate) fn close_for(&self, error: &Error) {
        self.outbox.close(error.into());
    }

    /// Ends the connection because the server shuts down.
    pub(crate) fn disconnect_draining(&self, retry_after: Duration) {
        let code = Code::Draining;
        self.outbox.close(Disconnect {
            code: code.number(),
            message: code.meaning().into(),
            retry_after: Some(retry_after),
        });
    }

    fn batch(&self, core: &Core, take: OutboxBatch, heartbeat: bool) -> Batch {
        self.mark_sent(core);
        let mut frames: Vec<Bytes> =
            take.items.into_iter().map(|item| self.encoded(item)).collect();
        if let Some(disconnect) = &take.disconnect {
            frames.push(Outgoing::new(Push::Disconnect(disconnect.clone())).encoded(self.encoding));
        }
        let id = BatchId { bytes: take.bytes, ack_bytes: take.ack_bytes };
        Batch { id, frames, heartbeat, close: take.disconnect }
    }

    pub(super) fn encoded(&self, item: OutboxItem) -> Bytes {
        match item {
            OutboxItem::Ack(reply) => reply,
            OutboxItem::Push(push) => push.encoded(self.encoding),
        }
    }

    /// Records that the peer receives bytes of a write.
    pub(super) fn write_progressed(&self, core: &Core) {
        self.mark_heard(core);
        self.outbox.write_progressed();
    }

    fn mark_heard(&self, core: &Core) {
        self.heard.store(core.running(), Ordering::Relaxed);
    }

    /// Records the arrival of a message.
    fn mark_arrived(&self, core: &Core) {
        let now = core.running();
        self.heard.store(now, Ordering::Relaxed);
        self.arrived.store(self.input_drained.load(Ordering::Relaxed).min(now), Ordering::Relaxed);
    }

    /// Engine time after which the message being processed arrived.
    pub(crate) fn arrived(&self) -> Duration {
        Duration::from_millis(self.arrived.load(Ordering::Relaxed))
    }

    fn mark_sent(&self, core: &Core) {
        self.sent.store(core.running(), Ordering::Relaxed);
    }

    /// Checks the connection's timeouts.
    pub(crate) fn tick(&self, core: &Arc<Core>, running: u64, now: Timestamp) {
        let config = &core.config;
        let over = |since: u64, most: Duration| {
            Duration::from_millis(running.saturating_sub(since)) >= most
        };
        // A stream half receives no input; its transport knows whether the peer is there.
        let listens = matches!(self.half, Half::Stream(_));
        match self.session() {
            // Request and stream halves owe no further input: their requests are complete, and the
            // responses may take time.
            None if self.greeting.load(Ordering::Relaxed) || !self.is_duplex() => {}
            None if over(self.opened, config.handshake_timeout) => {
                self.close(Code::HandshakeTimeout, Code::HandshakeTimeout.meaning());
            }
            Some(session) if session.identity().expires.is_some_and(|at| at <= now) => {
                self.close(Code::Expired, Code::Expired.meaning());
            }
            _ if !listens && over(self.heard.load(Ordering::Relaxed), config.idle_timeout) => {
                self.close(Code::IdleTimeout, Code::IdleTimeout.meaning());
            }
            // Also while much is sent: a peer that only listens shows a sign of life only when it
            // answers a ping.
            _ if over(self.sent.load(Ordering::Relaxed), config.heartbeat)
                || !listens && over(self.heard.load(Ordering::Relaxed), config.heartbeat) =>
            {
                self.heartbeat.store(true, Ordering::Relaxed);
                self.outbox.nudge();
            }
            _ => {}
        }
        if let Some(session) = self.session() {
            session.prolong(core);
        }
        self.outbox.wake();
    }

    /// Detaches the connection: it is unsubscribed from its rooms, and the session can be resumed.
    fn detach(self: &Arc<Self>, core: &Arc<Core>) {
        self.count_end();
        self.close(Code::Closed, Code::Closed.meaning());
        for subscription in self.outbox.unsubscribe_all() {
            subscription.room.remove_subscriber(subscription.subscriber_id, &self.outbox);
            core.hub.retire_if_idle(&subscription.room);
        }
        core.registry.close(self);
        drop(self.call.lock().take());
        if let Some(session) = self.session() {
            session.prolong(core);
        }
    }
}

impl Conn {
    /// Counts the reason of the end, whether or not the peer received it. A request or stream half
    /// that ended without a disconnect is not counted.
    fn count_end(&self) {
        let code = self.outbox.ended().or(self.is_duplex().then_some(Code::Closed.number()));
        if let Some(code) = code.filter(|_| !self.is_request_half()) {
            ::metrics::counter!(metrics::CLOSED, "code" => code.to_string()).increment(1);
        }
    }
}

impl Session {
    pub(crate) fn new(record: &SessionRecord, identity: Identity) -> Self {
        Self {
            id: record.id.clone(),
            user: record.user.clone(),
            fencing_token: record.fencing_token,
            secret: record.secret,
            identity: Mutex::new(Arc::new(identity)),
            expires: AtomicU64::new(record.expires.as_millis()),
            unsubscribed: AtomicBool::new(true),
        }
    }

    /// The identity, as last authenticated.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        self.identity.lock().clone()
    }

    /// Replaces the identity after new credentials.
    pub(crate) fn set_identity(&self, identity: Identity) {
        *self.identity.lock() = Arc::new(identity);
    }

    /// Extends the session's expiry, if that is worth a write. An ended session is not restored.
    fn prolong(&self, core: &Arc<Core>) {
        let ttl = core.config.session_ttl;
        let expires = core.now().plus(ttl);
        let held = Timestamp::from_millis(self.expires.load(Ordering::Relaxed));
        if expires.since(held) < ttl / 8 {
            return;
        }
        self.expires.store(expires.as_millis(), Ordering::Relaxed);
        let (keeper, id) = (core.clone(), self.id.clone());
        core.tasks.spawn(async move {
            if let Err(error) = keeper.store.touch_session(&id, expires).await {
                tracing::warn!(%error, "a session could not be prolonged");
            }
        });
    }
}
