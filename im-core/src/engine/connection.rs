//! The transport's seam: a connection takes messages and gives batches to write. [`Connection`] says how it is used.

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

/// A moment that has not come.
const NEVER: u64 = u64::MAX;

/// What a transport knows of a peer before anything was said.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The transport's name, for logs and metrics: `ws`, `sse` …
    pub transport: &'static str,
    /// How frames are written on this connection.
    pub encoding: Encoding,
    /// Where it comes from, if the transport knows. Limits per address need it.
    pub address: Option<IpAddr>,
    /// What it has shown already: headers, cookies, an identity established by middleware.
    pub credentials: Credentials,
}

/// A batch's number, for [`Connection::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchId {
    bytes: usize,
    /// Of them, those of acks.
    ack_bytes: usize,
}

/// Something to write.
#[derive(Debug)]
pub struct Batch {
    /// To be released when the frames were written.
    pub id: BatchId,
    /// Encoded frames, in order. Each may be a message of its own, or all may be joined by
    /// [`join_encoded`](crate::wire::join_encoded).
    pub frames: Vec<Bytes>,
    /// Nothing was sent or heard for a while: send the transport's own ping after the frames, or, where it has none,
    /// anything that shows the peer that the server is there. Only a batch with this may be without frames.
    pub heartbeat: bool,
    /// After this, close with this code and message. There is nothing more to take.
    pub close: Option<Disconnect>,
}

/// A connection, as its transport holds it. Clones are handles to the same one; dropping the last detaches its session.
///
/// A transport gets one from [`Engine::accept`] for each peer, and is two loops around it, side by side in one task:
///
/// ```text
/// in:   read a message ─▶ submit(message)                  until the peer sends no more: finish()
/// out:  next(max) ─▶ write the batch's frames, release(id)  until a batch says close
/// ```
///
/// What it owes the engine and its peer:
///
/// - **One message at a time.** Read the next only once `submit` has returned: that is the back-pressure. Refuse one of
///   more than [`Engine::limits`]`().max_message_bytes` before it is buffered, by `close(Code::TooLarge)`.
/// - **Never stop writing because of reading.** `submit` may wait until replies were taken by `next`. Who awaits the one
///   in place of the other, rather than beside it, stands still in the end.
/// - **Say when all is read.** Call [`Self::input_drained`] when a read finds nothing: what waited unread while a message was
///   being taken then counts as older than that moment, and keeps its place behind a send that was refused meanwhile.
/// - **Give up a peer that does not read.** Bound the time of each write; when it is over, `close(Code::SlowSubscriber)` and
///   drop the connection. What waits meanwhile is bounded by the engine. While a write waits, call `write_progressed` whenever
///   the peer has taken bytes of it.
/// - **Send the disconnect.** The last batch holds the frame `disconnect`, and [`Batch::close`] its code for transports whose connections
///   end with a number. Write it and end the connection so that it arrives.
/// - **Drop it at the end.** The session waits to be resumed from then on, and [`Engine::drain`] waits for it.
///
/// `docs/transport.md` in the repository makes one in under 150 lines, and im-testkit's transport suite tests it.
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
    /// Milliseconds of the engine's run at which the peer was heard last.
    heard: AtomicU64,
    /// The same for what was sent to it.
    sent: AtomicU64,
    /// The same for the last moment at which nothing had arrived that its transport had not read; `NEVER` if it does not say.
    input_drained: AtomicU64,
    /// Milliseconds of the engine's run after which the message that is being taken arrived.
    arrived: AtomicU64,
    opened: u64,
    heartbeat: AtomicBool,
    /// Bytes of its messages and pages that do not count yet against what its task does in one turn.
    pub(crate) work: AtomicUsize,
    /// Frames refused since the peer last waited for as long as it was told to.
    pub(crate) flood: AtomicU32,
    /// The last frame was one of too many that were refused.
    pub(crate) slowed: AtomicBool,
    /// Milliseconds of the engine's run until which it was told to wait.
    pub(crate) flood_until: AtomicU64,
    /// The code for commands behind a `hello` that was refused and may be said again; 0 if there was none.
    hello_refused: AtomicU16,
    /// It no longer counts among its network's handshakes.
    pub(crate) greeted: AtomicBool,
    /// A `hello` is being looked at: that has time-outs of its own.
    pub(crate) greeting: AtomicBool,
    /// That it is a call of its user's, from when it is known whose until it ends.
    call: Mutex<Option<Call>>,
    pub(crate) half: Half,
}

/// Which half of a session's traffic a connection carries.
#[derive(Debug)]
pub(crate) enum Half {
    /// All of it.
    Duplex,
    /// One message of commands, and their answers.
    Request,
    /// Pushes, of the rooms that the session subscribes to.
    Stream(Box<StreamHalf>),
}

impl Half {
    /// What must be waited for before anything is taken, so that it belongs to the session's subscriptions as acknowledged.
    /// On the heap: every connection that waits for something to write would hold it.
    fn unsettled(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> {
        match self {
            Self::Stream(stream_half) if !stream_half.is_settled() => {
                Some(Box::pin(stream_half.settled()))
            }
            _ => None,
        }
    }
}

/// What the handshake has established.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) user: UserId,
    /// The fencing token with which the connection took the session.
    pub(crate) fencing_token: u64,
    pub(crate) secret: SecretHash,
    identity: Mutex<Arc<Identity>>,
    /// Milliseconds since the Unix epoch until which the session can be resumed.
    expires: AtomicU64,
    /// Nothing was subscribed on this connection yet: what the store holds is of an earlier one.
    pub(crate) unsubscribed: AtomicBool,
}

impl Connection {
    pub(crate) fn new(engine: Engine, conn: Arc<Conn>) -> Self {
        Self(Arc::new(Handle { conn, engine }))
    }

    pub(super) fn core_and_conn(&self) -> (&Arc<Core>, &Arc<Conn>) {
        (self.0.engine.core(), &self.0.conn)
    }

    /// Takes one message: a frame or a batch. Returns when the next may be taken; that is the back-pressure. What is to
    /// be answered lands in the outbox.
    ///
    /// It never fails: what is wrong with a message is answered, or closes the connection. Messages of one connection
    /// must be submitted one after the other. If the future is dropped, commands of the message may be left undone and
    /// unanswered: close the connection then.
    pub async fn submit(&self, message: Bytes) {
        let Handle { conn, engine } = &*self.0;
        if conn.outbox.is_closed() {
            return;
        }
        conn.mark_arrived(engine.core());
        // On the heap, so that a connection that is waiting for its next message stays small.
        Box::pin(commands::message(engine.core(), conn, message)).await;
    }

    /// Waits for something to write, of about `max_bytes` at most but one frame at least. Cancel-safe.
    pub async fn next(&self, max_bytes: usize) -> Batch {
        loop {
            if let Some(batch) = self.due(max_bytes).await {
                return batch;
            }
            self.0.conn.outbox.ready().await;
        }
    }

    /// What is to be written now, a heartbeat included. Apart from [`Self::next`], so that a connection that waits holds
    /// nothing of it.
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

    /// Takes what there is to write now, of about `max_bytes` at most but one frame at least, reading logs where need
    /// be; `None` if there is nothing. Cancel-safe.
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

    /// The batch was written: its bytes no longer count against the outbox.
    pub fn release(&self, batch: BatchId) {
        self.0.conn.outbox.release(batch.bytes, batch.ack_bytes);
    }

    /// The peer shows that it is there without a whole message: by a protocol ping or pong, or by bytes of a message that has
    /// not arrived as a whole.
    pub fn heard(&self) {
        self.0.conn.mark_heard(self.0.engine.core());
    }

    /// The transport has read all that has arrived: whatever it submits next arrived after this moment. A transport that
    /// never says so lets messages arrive when they are submitted. But what waits in a socket's buffer while the message before
    /// it is being taken has arrived earlier; and a send that arrived before an earlier one was refused must not pass it.
    pub fn input_drained(&self) {
        let Handle { conn, engine } = &*self.0;
        conn.input_drained.store(engine.core().running(), Ordering::Relaxed);
    }

    /// The peer has taken bytes of a write that waits for it: a sign of life, and more than that. Where the acks of all
    /// connections are nearly too many, a connection that takes none of its own for five ticks is ended with
    /// [`Code::SlowSubscriber`]; a peer in the middle of a large page is not. A ping is no reason to call this.
    pub fn write_progressed(&self) {
        self.0.conn.write_progressed(self.0.engine.core());
    }

    /// Ends the connection: the peer went away ([`Code::Closed`]) or broke a rule of the transport. What waits is still
    /// handed out, then [`Batch::close`] says so. The first reason stands.
    pub fn close(&self, code: Code) {
        self.0.conn.close(code, code.meaning());
    }

    /// The peer has sent all that it will and may still read: returns once all that it asked for is answered, and ends the
    /// connection with [`Code::Closed`], as [`Self::close`] does. [`Self::next`] gives the answers, also meanwhile.
    pub async fn finish(&self) {
        self.0.conn.outbox.appends_settled().await;
        self.close(Code::Closed);
    }

    /// It has ended, or is about to once what waits was taken: the next batches say why.
    pub fn is_closed(&self) -> bool {
        self.0.conn.outbox.is_closed()
    }

    /// How frames are written on this connection.
    pub fn encoding(&self) -> Encoding {
        self.0.conn.encoding
    }

    /// Who it is, once the handshake is done.
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

    /// What the handshake has established, once it is done.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.get().map(|session| &**session)
    }

    pub(crate) fn is_duplex(&self) -> bool {
        matches!(self.half, Half::Duplex)
    }

    pub(crate) fn is_request_half(&self) -> bool {
        matches!(self.half, Half::Request)
    }

    /// The fencing token with which the connection took its session.
    pub(crate) fn fencing_token(&self) -> u64 {
        self.session().map_or(0, |session| session.fencing_token)
    }

    /// It is known who it is.
    pub(crate) fn establish(&self, session: Session) {
        self.outbox.set_user(session.user.clone());
        self.credentials.lock().take();
        // Set once: commands of a connection are carried out one after the other, and a second hello is refused.
        drop(self.session.set(Box::new(session)));
    }

    /// A call turns out to be this user's: it counts among theirs until it ends.
    ///
    /// # Errors
    ///
    /// [`Code::TooManyConnections`] if the user has as many as one may.
    pub(crate) fn begin_call(&self, core: &Core, user: &UserId) -> Result<()> {
        let call = core.registry.begin_call(user, core.config.max_calls_per_user);
        let call = call.ok_or_else(|| Error::of(Code::TooManyConnections, "call"))?;
        *self.call.lock() = Some(call);
        Ok(())
    }

    /// A `hello` was refused and may be said again: what was sent behind it is refused with this code.
    pub(crate) fn refuse_hello(&self, code: Code) {
        self.hello_refused.store(code.number(), Ordering::Relaxed);
    }

    /// The code for commands behind a refused `hello`, if there was one.
    pub(crate) fn hello_refused(&self) -> Option<Code> {
        Code::from_number(self.hello_refused.load(Ordering::Relaxed))
    }

    /// What the peer has shown so far.
    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials.lock().as_deref().cloned().unwrap_or_default()
    }

    /// Ends the connection, with words of its own.
    pub(crate) fn close(&self, code: Code, words: impl Into<String>) {
        self.outbox.close(Disconnect {
            code: code.number(),
            message: words.into(),
            retry_after: None,
        });
    }

    /// Ends the connection because of this.
    pub(crate) fn close_for(&self, error: &Error) {
        self.outbox.close(error.into());
    }

    /// Ends the connection because the server goes away.
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

    /// The peer takes what is written to it.
    pub(super) fn write_progressed(&self, core: &Core) {
        self.mark_heard(core);
        self.outbox.write_progressed();
    }

    fn mark_heard(&self, core: &Core) {
        self.heard.store(core.running(), Ordering::Relaxed);
    }

    /// A message is taken.
    fn mark_arrived(&self, core: &Core) {
        let now = core.running();
        self.heard.store(now, Ordering::Relaxed);
        self.arrived.store(self.input_drained.load(Ordering::Relaxed).min(now), Ordering::Relaxed);
    }

    /// Milliseconds of the engine's run after which the message that is being taken arrived.
    pub(crate) fn arrived(&self) -> Duration {
        Duration::from_millis(self.arrived.load(Ordering::Relaxed))
    }

    fn mark_sent(&self, core: &Core) {
        self.sent.store(core.running(), Ordering::Relaxed);
    }

    /// Looks at the connection's time-outs.
    pub(crate) fn tick(&self, core: &Arc<Core>, running: u64, now: Timestamp) {
        let config = &core.config;
        let over = |since: u64, most: Duration| {
            Duration::from_millis(running.saturating_sub(since)) >= most
        };
        // Who only listens is not heard; its transport knows whether it is there.
        let listens = matches!(self.half, Half::Stream(_));
        match self.session() {
            // Of the others nothing more is awaited: their requests have said all, and what answers them takes its time.
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
            // Also while much is sent: a peer who only listens is heard only when it answers a ping.
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

    /// The connection is gone: it is unsubscribed from its rooms, and the session waits to be resumed.
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
    /// Counts why it ends, whether or not its peer could be told. Half a connection that nothing has ended was only
    /// done with.
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

    /// Who it is, as last authenticated.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        self.identity.lock().clone()
    }

    /// New credentials were shown.
    pub(crate) fn set_identity(&self, identity: Identity) {
        *self.identity.lock() = Arc::new(identity);
    }

    /// Moves the session's expiry on, if it is worth a write. A session that has ended is not there to be moved.
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
