//! The pushes of a session, for transports whose reader cannot speak on the same connection. What it follows is the
//! session's checkpoint, which commands change from elsewhere; where the reader stands is in a [`Mark`] that it gives back.
//! So any node takes it up again.

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
use super::connection::{Conn, Connection, Part, Peer, Session};
use super::core::Core;
use super::outbox::Start;
use super::places::Places;

/// What shows that a session may be read.
#[derive(Debug, Clone)]
pub enum Access {
    /// The session's own secret, beside the user's credentials.
    Token(ResumeToken),
    /// A ticket, which stands for both.
    Ticket {
        /// What the command `ticket` gave.
        ticket: Secret,
        /// It opened this stream before, and takes it up again.
        again: bool,
    },
}

/// Tokens that the opening of a downlink costs, beside those of its rooms.
const OPENING: u32 = 1;

/// Why a downlink looks at its session's checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It is being opened, and pays for the rooms that begin.
    First,
    /// A command has changed the checkpoint, and has paid for what it named.
    Again,
}

/// A look that is under way. Dropped, also by a panic in what an embedder has plugged in, it wakes those that wait for its end.
struct Looked<'a>(&'a Conn);

impl Drop for Looked<'_> {
    fn drop(&mut self) {
        if let Part::Down(down) = &self.0.part {
            down.looked.notify_waiters();
        }
    }
}

/// Which rooms a downlink has begun.
#[derive(Debug, Default)]
pub(crate) struct Downlink {
    /// Where the reader stood when it opened it: counts for every room that has not begun since.
    mark: Option<StreamPosition>,
    /// One look at the checkpoint at a time, and at most one that waits.
    looking: tokio::sync::Mutex<()>,
    again: AtomicBool,
    /// The number of the newest task that looks until it has succeeded. Older ones end.
    newest: AtomicU64,
    /// The last look failed, and that task repeats it.
    retrying: AtomicBool,
    /// A look has ended.
    looked: Notify,
    following: Mutex<Places>,
}

impl Downlink {
    /// Waits until no look at the checkpoint is due. The ack of a command that changes subscriptions is sent after its look
    /// became due, so what is taken after this belongs to the subscriptions that the ack names. Cancel-safe.
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

    /// Whether no look at the checkpoint is due or under way.
    pub(super) fn is_settled(&self) -> bool {
        !self.again.load(Ordering::Acquire) && self.looking.try_lock().is_ok()
    }
}

impl Engine {
    /// Opens a session's downlink, in place of its older connection or downlink, which ends with
    /// [`Code::Superseded`](crate::Code::Superseded). Its rooms begin where `mark` says, or at the session's checkpoint where that is further.
    ///
    /// The transport calls [`Connection::next`] or [`Connection::take`], and hands out [`Connection::mark`] after what
    /// they gave. Nothing may be submitted.
    ///
    /// # Errors
    ///
    /// The credentials or the ticket are refused (43xx), the session is not this user's or has ended
    /// ([`Code::UnknownSession`](crate::Code::UnknownSession)), there are too many connections, the engine is going away; the store's.
    pub async fn listen(
        &self,
        peer: Peer,
        access: &Access,
        mark: Option<&StreamPosition>,
    ) -> Result<Connection> {
        let down = Downlink { mark: mark.cloned(), ..Downlink::default() };
        let connection = self.open(peer, Part::Down(Box::new(down)))?;
        let (core, conn) = connection.parts();
        let (mut record, identity) = match access {
            Access::Token(token) => commands::prove(core, conn.credentials(), token).await?,
            Access::Ticket { ticket, again } => commands::redeem(core, ticket, *again).await?,
        };
        commands::pay(core, &record.user, OPENING, "open_stream")?;
        commands::check_room(core, &record.user, Some(&record.id))?;
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
    /// Where the reader of a downlink stands after all that was taken so far. To make it costs what was taken since the last
    /// mark, however many rooms are followed.
    ///
    /// Its text has room for about a hundred rooms with state ([`StreamPosition::MAX_LEN`]). A subscriber that returns with it receives
    /// again what it has no room for: events after the checkpoint's cursor, and the whole state. Only the client's own
    /// commands move the checkpoint's cursors: a downlink that moved them would leave out events that a client has received
    /// but not read when its connection ends.
    pub fn mark(&self) -> StreamPosition {
        let (_, conn) = self.parts();
        let (Part::Down(down), Some(session)) = (&conn.part, conn.session()) else {
            return StreamPosition::default();
        };
        let mut following = down.following.lock();
        let stand = |room: &RoomId| conn.outbox.standpoint(room);
        following.look(conn.outbox.moved(), stand);
        following.mark(&session.id, session.attached)
    }

    /// Shows that the session may still be read: for a transport that keeps a downlink between two requests. Nothing is
    /// read from the store: a session that ended takes its connections with it.
    ///
    /// # Errors
    ///
    /// As [`Engine::listen`].
    pub async fn prove(&self, peer: Peer, token: &ResumeToken) -> Result<()> {
        let (core, conn) = self.parts();
        let session = conn.session().filter(|session| session.id == token.session);
        let session = session
            .filter(|session| session.secret.matches(&token.secret))
            .ok_or_else(commands::unknown)?;
        let device = session.identity().device.clone();
        let owner = commands::authenticate_owner(core, peer.credentials, &session.user, device);
        let identity = owner.await?;
        commands::pay(core, &session.user, 1, "poll")?;
        session.renew(identity);
        Ok(())
    }
}

impl Core {
    /// The session's checkpoint was changed: its downlink, wherever it is, has to look at it.
    pub(crate) fn checkpoint_changed(self: &Arc<Self>, session: &Session) {
        self.resubscribe(&session.user, &session.id);
        self.tell(BusMessage::CheckpointChanged {
            user: session.user.clone(),
            session: session.id.clone(),
        });
    }

    /// If the session's downlink is here, it looks at the checkpoint.
    pub(crate) fn resubscribe(self: &Arc<Self>, user: &UserId, session: &SessionId) {
        for conn in self.registry.of_user(user) {
            if conn.session().is_some_and(|held| held.id == *session) {
                self.look_again(conn);
            }
        }
    }

    /// The same, if its checkpoint has another revision by now and no look waits to be repeated.
    pub(crate) fn resubscribe_if_changed(self: &Arc<Self>, conn: &Arc<Conn>, rev: u64) {
        if let Part::Down(down) = &conn.part
            && down.following.lock().rev != rev
            && !down.retrying.load(Ordering::Acquire)
        {
            self.look_again(conn.clone());
        }
    }

    fn look_again(self: &Arc<Self>, conn: Arc<Conn>) {
        let Part::Down(down) = &conn.part else { return };
        if down.again.swap(true, Ordering::AcqRel) {
            // The look that waits will see it.
            return;
        }
        let (core, number) = (self.clone(), down.newest.fetch_add(1, Ordering::AcqRel) + 1);
        self.tasks.spawn(async move { core.look_until_done(&conn, number).await });
    }

    /// Looks at the checkpoint. A look that fails is repeated after a tick, then after twice as long each time, up to the time
    /// between two checks of sessions, as long as no newer task does.
    async fn look_until_done(self: &Arc<Self>, conn: &Arc<Conn>, number: u64) {
        let Part::Down(down) = &conn.part else { return };
        let is_newest = || down.newest.load(Ordering::Acquire) == number;
        let mut pause = self.config.tick;
        loop {
            match AssertUnwindSafe(self.look_now(conn)).catch_unwind().await {
                Ok(Ok(())) => {
                    down.retrying.store(false, Ordering::Release);
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a checkpoint could not be looked at; it is tried again");
                }
                Err(_) => tracing::error!("a look at a checkpoint panicked; it is tried again"),
            }
            if !is_newest() {
                return;
            }
            down.retrying.store(true, Ordering::Release);
            tokio::select! {
                biased;
                () = self.stopped.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if conn.outbox.is_closed() || !is_newest() {
                // A newer one that has failed as well says so itself.
                return;
            }
            pause = (pause * 2).min(self.config.session_check);
        }
    }

    /// One look, after which those are woken that wait for it, however it ends.
    async fn look_now(self: &Arc<Self>, conn: &Arc<Conn>) -> Result<()> {
        let _looked = Looked(conn);
        self.look_at_checkpoint(conn, Look::Again).await
    }

    /// Makes a downlink follow what its session's checkpoint says.
    async fn look_at_checkpoint(self: &Arc<Self>, conn: &Arc<Conn>, look: Look) -> Result<()> {
        let (Part::Down(down), Some(session)) = (&conn.part, conn.session()) else { return Ok(()) };
        let _one_at_a_time = down.looking.lock().await;
        down.again.store(false, Ordering::Release);
        let checkpoint = self.store.checkpoint(&session.id).await?;
        let new = self.unsubscribe_removed(conn, down, &checkpoint);
        if look == Look::First {
            let more = commands::extra_cost(new.len());
            commands::pay_more(self, &session.user, OPENING, more, "open_stream")?;
        }
        let mark = down.mark.as_ref().filter(|mark| {
            mark.session == SessionTag::of(&session.id) && mark.rev <= checkpoint.rev
        });
        let _turn = self.registry.turns_of(&session.user).await;
        for slice in new.chunks(ROOMS_IN_A_SLICE) {
            self.begin_rooms(conn, down, mark, slice).await?;
            if conn.outbox.is_closed() {
                return Ok(());
            }
            yield_now().await;
        }
        down.following.lock().rev = checkpoint.rev;
        Ok(())
    }

    /// Makes a downlink follow these rooms of its session's checkpoint.
    async fn begin_rooms(
        self: &Arc<Self>,
        conn: &Arc<Conn>,
        down: &Downlink,
        mark: Option<&StreamPosition>,
        rooms: &[(RoomId, SubscriptionRecord)],
    ) -> Result<()> {
        let Some(session) = conn.session() else { return Ok(()) };
        let begun =
            futures::stream::iter(rooms.iter().cloned()).map(|(room, followed)| async move {
                let told = Told::of(mark, &room, &followed);
                let answer = self.status_for(session, &room, told.cursor(&followed)).await;
                (room, followed, told, answer)
            });
        // All of them before the first begins: a look-up that has a turn at the store and is not gone on with would hold up
        // everybody, and this very task with them.
        let begun: Vec<_> = begun.buffered(LOOK_UPS_AT_ONCE).collect().await;
        for (room, followed, told, answer) in begun {
            if conn.outbox.is_closed() {
                return Ok(());
            }
            match answer {
                Ok((status, start)) => {
                    // In memory before it is said that it began: from then on signals are to arrive.
                    let _active = self.activate(&room).await?;
                    if !told.began || told.denied() || status.status != Status::Ok {
                        conn.outbox.notice(status);
                    }
                    let start = Start { state: told.state(), ..start };
                    self.follow(&conn.outbox, &room, start).await?;
                }
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) if !told.denied() => {
                    conn.outbox.notice(RoomStatus::denied(room.clone(), error.code()));
                }
                Err(_) => {}
            }
            down.following.lock().begin(room, followed);
        }
        Ok(())
    }

    /// Lets go of rooms that the checkpoint does not have any more. Gives those that have to begin, or begin anew.
    fn unsubscribe_removed(
        &self,
        conn: &Arc<Conn>,
        down: &Downlink,
        checkpoint: &Checkpoint,
    ) -> Vec<(RoomId, SubscriptionRecord)> {
        let mut following = down.following.lock();
        let stays = |room: &RoomId, held: &SubscriptionRecord| {
            checkpoint.rooms.get(room).is_some_and(|new| new.since == held.since)
        };
        let gone: Vec<RoomId> = following
            .iter()
            .filter(|(room, held)| !stays(room, held))
            .map(|(room, _)| room.clone())
            .collect();
        for room in gone {
            following.end(&room);
            commands::unfollow(self, conn, &room);
        }
        let new = checkpoint.rooms.iter().filter(|(room, _)| !following.has(room));
        new.map(|(room, followed)| (room.clone(), *followed)).collect()
    }
}

/// What a reader's mark says of a room.
struct Told {
    /// It has been told how the room answers.
    began: bool,
    place: Option<RoomPosition>,
}

impl Told {
    fn of(mark: Option<&StreamPosition>, room: &RoomId, followed: &SubscriptionRecord) -> Self {
        let mark = mark.filter(|mark| followed.since <= mark.rev);
        Self { began: mark.is_some(), place: mark.and_then(|mark| mark.room(room)).copied() }
    }

    /// Where the room begins: at the mark, unless the checkpoint is further.
    fn cursor(&self, followed: &SubscriptionRecord) -> Cursor {
        match self.place.and_then(|place| place.cursor) {
            Some(at) if at.epoch != followed.cursor.epoch || at.seq >= followed.cursor.seq => at,
            _ => followed.cursor,
        }
    }

    /// What it has of the room's state, if it has any.
    fn state(&self) -> Option<u32> {
        self.place.map(|place| place.state).filter(|state| *state != 0)
    }

    /// It has been told that it may not read the room.
    fn denied(&self) -> bool {
        self.place.is_some_and(|place| place.cursor.is_none())
    }
}
