//! The stream half of a session: its pushes, for transports whose client cannot send on the same
//! connection.
//!
//! Its rooms are those of the session's checkpoint, which commands change from elsewhere. A
//! [`StreamPosition`] that the client returns records what was delivered. So any node can resume
//! it.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::error::Result;
use crate::id::{Cursor, RoomId, SessionId, UserId};
use crate::ports::BusMessage;
use crate::state::{Checkpoint, RoomPosition, SessionTag, StreamPosition, SubscriptionRecord};
use crate::wire::{ResumeToken, RoomStatus, Secret, Status};

use super::Engine;
use super::commands::{self, LOOK_UPS_AT_ONCE, ROOMS_IN_A_SLICE};
use super::connection::{Conn, Connection, Half, Peer, Session};
use super::core::Core;
use super::outbox::SubscriptionStart;
use super::position_tracker::PositionTracker;

/// Proof that the bearer may read a session.
#[derive(Debug, Clone)]
pub enum Access {
    /// The session's own secret, beside the user's credentials.
    Token(ResumeToken),
    /// A ticket, in place of both.
    Ticket {
        /// The ticket that the command `ticket` returned.
        ticket: Secret,
        /// It opened this stream before, and resumes it.
        again: bool,
    },
}

/// Tokens that the opening of a downlink costs, beside those of its rooms.
const OPENING: u32 = 1;

/// The reason for reading the session's checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// The downlink is being opened, and is charged for the rooms that begin.
    First,
    /// A command has changed the checkpoint, and was charged for its rooms.
    Again,
}

/// A read of the checkpoint in progress. On drop, also by a panic in the embedder's code, it wakes
/// the tasks that wait for its end.
struct Looked<'a>(&'a Conn);

impl Drop for Looked<'_> {
    fn drop(&mut self) {
        if let Half::Stream(stream_half) = &self.0.half {
            stream_half.looked.notify_waiters();
        }
    }
}

/// The stream half of a session: its rooms, and its reads of the checkpoint.
#[derive(Debug, Default)]
pub(crate) struct StreamHalf {
    /// The position with which it was opened: applies to every room that has not started since.
    stream_position: Option<StreamPosition>,
    /// One read of the checkpoint at a time, and at most one that waits.
    looking: tokio::sync::Mutex<()>,
    again: AtomicBool,
    /// The number of the newest task that reads until it succeeds. Older ones end.
    newest: AtomicU64,
    /// The last read failed, and that task retries it.
    retrying: AtomicBool,
    /// Notified when a read has ended.
    looked: Notify,
    rooms: Mutex<PositionTracker>,
}

impl StreamHalf {
    /// Waits until no read of the checkpoint is due. The ack of a command that changes
    /// subscriptions is sent after its read became due, so pushes taken after this belong to the
    /// subscriptions in the ack. Cancel-safe.
    pub(super) async fn settled(&self) {
        loop {
            let mut looked = pin!(self.looked.notified());
            looked.as_mut().enable();
            if self.is_settled() {
                return;
            }
            looked.await;
        }
    }

    /// Returns whether no read of the checkpoint is due or in progress.
    pub(super) fn is_settled(&self) -> bool {
        !self.again.load(Ordering::Acquire) && self.looking.try_lock().is_ok()
    }
}

impl Engine {
    /// Opens a session's downlink. It supersedes the session's older connection or downlink, which
    /// ends with [`Code::Superseded`](crate::Code::Superseded).
    ///
    /// Its rooms start at `stream_position`, or at the session's checkpoint where that is further.
    ///
    /// The transport calls [`Connection::next`] or [`Connection::take`], and sends
    /// [`Connection::stream_position`] after each batch. Nothing may be submitted.
    ///
    /// # Errors
    ///
    /// The credentials or the ticket are refused (43xx), the session is not this user's or has
    /// ended ([`Code::UnknownSession`](crate::Code::UnknownSession)), there are too many
    /// connections, the engine is draining; errors of the store.
    pub async fn open_stream(
        &self,
        peer: Peer,
        access: &Access,
        stream_position: Option<&StreamPosition>,
    ) -> Result<Connection> {
        let stream_half =
            StreamHalf { stream_position: stream_position.cloned(), ..StreamHalf::default() };
        let connection = self.open(peer, Half::Stream(Box::new(stream_half)))?;
        let (core, conn) = connection.core_and_conn();
        let (mut record, identity) = match access {
            Access::Token(token) => commands::prove(core, conn.credentials(), token).await?,
            Access::Ticket { ticket, again } => commands::redeem(core, ticket, *again).await?,
        };
        commands::pay(core, &record.user, OPENING, "open_stream")?;
        commands::check_connection_limit(core, &record.user, Some(&record.id))?;
        commands::attach(core, &mut record).await?;
        conn.establish(Session::new(&record, identity));
        commands::take_over(core, conn, &record).await?;
        core.look_at_checkpoint(conn, Look::First).await?;
        if let Access::Ticket { ticket, again: false } = access {
            commands::spend(core, ticket).await?;
        }
        Ok(connection)
    }
}

impl Connection {
    /// Returns the stream position of a downlink after everything taken so far. The cost depends on
    /// what was taken since the last one, however many rooms are subscribed.
    ///
    /// Its text has capacity for about a hundred rooms with state ([`StreamPosition::MAX_LEN`]).
    /// For the other rooms, a subscriber that resumes with it receives redeliveries: events after
    /// the checkpoint's cursor, and the whole state. Only the client's own commands move the
    /// checkpoint's cursors: a downlink that moved them would skip events that a client has
    /// received but not read when its connection ends.
    pub fn stream_position(&self) -> StreamPosition {
        let (_, conn) = self.core_and_conn();
        let (Half::Stream(stream_half), Some(session)) = (&conn.half, conn.session()) else {
            return StreamPosition::default();
        };
        let mut rooms = stream_half.rooms.lock();
        let delivered = |room: &RoomId| conn.outbox.delivered_position(room);
        rooms.refresh(conn.outbox.moved(), delivered);
        rooms.stream_position(&session.id, session.fencing_token)
    }

    /// Proves that the session may still be read: for a transport that retains a downlink between
    /// two requests. Nothing is read from the store: a session that ended closes its connections.
    ///
    /// # Errors
    ///
    /// As [`Engine::open_stream`].
    pub async fn prove(&self, peer: Peer, token: &ResumeToken) -> Result<()> {
        let (core, conn) = self.core_and_conn();
        let session = conn.session().filter(|session| session.id == token.session);
        let session = session
            .filter(|session| session.secret.matches(&token.secret))
            .ok_or_else(commands::unknown)?;
        let device = session.identity().device.clone();
        let owner = commands::authenticate_owner(core, peer.credentials, &session.user, device);
        let identity = owner.await?;
        commands::pay(core, &session.user, 1, "poll")?;
        session.set_identity(identity);
        Ok(())
    }
}

impl Core {
    /// Notifies the session's downlink, on any node, that the checkpoint was changed.
    pub(crate) fn checkpoint_changed(self: &Arc<Self>, session: &Session) {
        self.resubscribe(&session.user, &session.id);
        self.publish(BusMessage::CheckpointChanged {
            user: session.user.clone(),
            session: session.id.clone(),
        });
    }

    /// Makes the session's downlink read the checkpoint, if it is on this node.
    pub(crate) fn resubscribe(self: &Arc<Self>, user: &UserId, session: &SessionId) {
        for conn in self.registry.of_user(user) {
            if conn.session().is_some_and(|held| held.id == *session) {
                self.look_again(conn);
            }
        }
    }

    /// The same, if the checkpoint has another revision by now and no read waits to be retried.
    pub(crate) fn resubscribe_if_changed(self: &Arc<Self>, conn: &Arc<Conn>, rev: u64) {
        if let Half::Stream(stream_half) = &conn.half
            && stream_half.rooms.lock().rev != rev
            && !stream_half.retrying.load(Ordering::Acquire)
        {
            self.look_again(conn.clone());
        }
    }

    fn look_again(self: &Arc<Self>, conn: Arc<Conn>) {
        let Half::Stream(stream_half) = &conn.half else { return };
        if stream_half.again.swap(true, Ordering::AcqRel) {
            // The waiting read will see the change.
            return;
        }
        let (core, number) = (self.clone(), stream_half.newest.fetch_add(1, Ordering::AcqRel) + 1);
        self.tasks.spawn(async move { core.look_until_done(&conn, number).await });
    }

    /// Reads the checkpoint. A failed read is retried after a tick, then after twice as long each
    /// time, up to the interval between two checks of sessions, as long as no newer task does.
    async fn look_until_done(self: &Arc<Self>, conn: &Arc<Conn>, number: u64) {
        let Half::Stream(stream_half) = &conn.half else { return };
        let is_newest = || stream_half.newest.load(Ordering::Acquire) == number;
        let mut pause = self.config.tick;
        loop {
            match AssertUnwindSafe(self.look_now(conn)).catch_unwind().await {
                Ok(Ok(())) => {
                    stream_half.retrying.store(false, Ordering::Release);
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "could not read the session's checkpoint; retrying");
                }
                Err(_) => tracing::error!("reading the checkpoint panicked; retrying"),
            }
            if !is_newest() {
                return;
            }
            stream_half.retrying.store(true, Ordering::Release);
            tokio::select! {
                biased;
                () = self.stopped.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if conn.outbox.is_closed() || !is_newest() {
                // A newer task that has failed as well sets the flag itself.
                return;
            }
            pause = (pause * 2).min(self.config.session_check);
        }
    }

    /// Reads once and wakes the waiting tasks, however the read ends.
    async fn look_now(self: &Arc<Self>, conn: &Arc<Conn>) -> Result<()> {
        let _looked = Looked(conn);
        self.look_at_checkpoint(conn, Look::Again).await
    }

    /// Subscribes a downlink to the rooms of its session's checkpoint.
    async fn look_at_checkpoint(self: &Arc<Self>, conn: &Arc<Conn>, look: Look) -> Result<()> {
        let (Half::Stream(stream_half), Some(session)) = (&conn.half, conn.session()) else {
            return Ok(());
        };
        let _one_at_a_time = stream_half.looking.lock().await;
        stream_half.again.store(false, Ordering::Release);
        let checkpoint = self.store.checkpoint(&session.id).await?;
        let new = self.unsubscribe_removed(conn, stream_half, &checkpoint);
        if look == Look::First {
            let more = commands::extra_cost(new.len());
            commands::pay_more(self, &session.user, OPENING, more, "open_stream")?;
        }
        let stream_position = stream_half.stream_position.as_ref().filter(|stream_position| {
            stream_position.session == SessionTag::of(&session.id)
                && stream_position.rev <= checkpoint.rev
        });
        let _turn = self.registry.lock_user(&session.user).await;
        for slice in new.chunks(ROOMS_IN_A_SLICE) {
            self.start_rooms(conn, stream_half, stream_position, slice).await?;
            if conn.outbox.is_closed() {
                return Ok(());
            }
            yield_now().await;
        }
        stream_half.rooms.lock().rev = checkpoint.rev;
        Ok(())
    }

    /// Subscribes a downlink to these rooms of its session's checkpoint.
    async fn start_rooms(
        self: &Arc<Self>,
        conn: &Arc<Conn>,
        stream_half: &StreamHalf,
        stream_position: Option<&StreamPosition>,
        rooms: &[(RoomId, SubscriptionRecord)],
    ) -> Result<()> {
        let Some(session) = conn.session() else { return Ok(()) };
        let started =
            futures::stream::iter(rooms.iter().cloned()).map(|(room, subscription)| async move {
                let resume_point = ResumePoint::of(stream_position, &room, &subscription);
                let answer =
                    self.status_for(session, &room, resume_point.cursor(&subscription)).await;
                (room, subscription, resume_point, answer)
            });
        // All look-ups finish before the first room starts: a look-up that holds the store's permit
        // and is not polled would block all others, and this very task with them.
        let started: Vec<_> = started.buffered(LOOK_UPS_AT_ONCE).collect().await;
        for (room, subscription, resume_point, answer) in started {
            if conn.outbox.is_closed() {
                return Ok(());
            }
            match answer {
                Ok((status, start)) => {
                    // In memory before its status is sent: from then on signals must arrive.
                    let _active = self.activate(&room).await?;
                    if !resume_point.status_delivered
                        || resume_point.denied()
                        || status.status != Status::Ok
                    {
                        conn.outbox.notify_status(status);
                    }
                    let start = SubscriptionStart { state_digest: resume_point.state(), ..start };
                    self.subscribe(&conn.outbox, &room, start).await?;
                }
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) if !resume_point.denied() => {
                    conn.outbox.notify_status(RoomStatus::denied(room.clone(), error.code()));
                }
                Err(_) => {}
            }
            stream_half.rooms.lock().start_room(room, subscription);
        }
        Ok(())
    }

    /// Unsubscribes from rooms that the checkpoint does not have any more. Returns those that have
    /// to start, or start again.
    fn unsubscribe_removed(
        &self,
        conn: &Arc<Conn>,
        stream_half: &StreamHalf,
        checkpoint: &Checkpoint,
    ) -> Vec<(RoomId, SubscriptionRecord)> {
        let mut rooms = stream_half.rooms.lock();
        let stays = |room: &RoomId, held: &SubscriptionRecord| {
            checkpoint.rooms.get(room).is_some_and(|new| new.since == held.since)
        };
        let gone: Vec<RoomId> = rooms
            .iter()
            .filter(|(room, held)| !stays(room, held))
            .map(|(room, _)| room.clone())
            .collect();
        for room in gone {
            rooms.stop_room(&room);
            commands::end_subscription(self, conn, &room);
        }
        let new = checkpoint.rooms.iter().filter(|(room, _)| !rooms.has(room));
        new.map(|(room, subscription)| (room.clone(), *subscription)).collect()
    }
}

/// The part of the client's stream position about one room.
struct ResumePoint {
    /// The status of the room was delivered.
    status_delivered: bool,
    position: Option<RoomPosition>,
}

impl ResumePoint {
    fn of(
        stream_position: Option<&StreamPosition>,
        room: &RoomId,
        subscription: &SubscriptionRecord,
    ) -> Self {
        let stream_position =
            stream_position.filter(|stream_position| subscription.since <= stream_position.rev);
        Self {
            status_delivered: stream_position.is_some(),
            position: stream_position
                .and_then(|stream_position| stream_position.room(room))
                .copied(),
        }
    }

    /// The cursor at which the room starts: the stream position, unless the checkpoint is further.
    fn cursor(&self, subscription: &SubscriptionRecord) -> Cursor {
        match self.position.and_then(|position| position.cursor) {
            Some(at)
                if at.epoch != subscription.cursor.epoch || at.seq >= subscription.cursor.seq =>
            {
                at
            }
            _ => subscription.cursor,
        }
    }

    /// The digest of the room's state that the client has, if it has any.
    fn state(&self) -> Option<u32> {
        self.position.map(|position| position.state).filter(|state| *state != 0)
    }

    /// The status `denied` was delivered.
    fn denied(&self) -> bool {
        self.position.is_some_and(|position| position.cursor.is_none())
    }
}
