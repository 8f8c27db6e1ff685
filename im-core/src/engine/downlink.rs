//! The pushes of a session, for transports whose reader cannot speak on the same connection. What it follows is the
//! session's checkpoint, which commands change from elsewhere; where the reader stands is in a [`Mark`] that it gives back.
//! So any node takes it up again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use parking_lot::Mutex;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{Cursor, RoomId, SessionId, UserId};
use crate::ports::BusMessage;
use crate::state::{Base, Checkpoint, CheckpointChange, Followed, Mark, Place, RoomTag};
use crate::wire::{ResumeToken, RoomStatus, Secret, Status};

use super::Engine;
use super::commands::{self, LOOK_UPS_AT_ONCE};
use super::connection::{Conn, Connection, Part, Peer, Session};
use super::core::Core;
use super::outbox::Start;

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

/// Which rooms a downlink has begun.
#[derive(Debug, Default)]
pub(crate) struct Downlink {
    /// One look at the checkpoint at a time.
    looking: tokio::sync::Mutex<()>,
    following: Mutex<Following>,
}

#[derive(Debug, Default)]
struct Following {
    /// The checkpoint's revision that was looked at last.
    rev: u64,
    /// What the checkpoint said of each room, also of those that turned out to be denied.
    rooms: BTreeMap<RoomId, Followed>,
}

/// Places of a mark from which on the checkpoint takes them over, so that the next mark has room for others.
const MANY_PLACES: usize = 32;

impl Engine {
    /// Opens a session's downlink, in place of its older connection or downlink, which ends with
    /// [`Code::Superseded`]. Its rooms begin where `mark` says, or at the session's checkpoint where that is further.
    ///
    /// The transport calls [`Connection::next`] or [`Connection::take`], and hands out [`Connection::mark`] after what
    /// they gave. Nothing may be submitted.
    ///
    /// # Errors
    ///
    /// The credentials or the ticket are refused (43xx), the session is not this user's or has ended
    /// ([`Code::UnknownSession`]), there are too many connections, the engine is going away; the store's.
    pub async fn listen(
        &self,
        peer: Peer,
        access: &Access,
        mark: Option<&Mark>,
    ) -> Result<Connection> {
        let connection = self.open(peer, Part::Down(Box::default()))?;
        let (core, conn) = connection.parts();
        let (mut record, identity) = match access {
            Access::Token(token) => commands::prove(core, conn.credentials(), token).await?,
            Access::Ticket { ticket, again } => commands::redeem(core, ticket, *again).await?,
        };
        let slow_down = |wait| Error::of(Code::RateLimited, "listen").retry_after(wait);
        core.limiter.take(&record.user, 1, core.now()).map_err(slow_down)?;
        commands::attach(core, &mut record).await?;
        conn.establish(Session::new(&record, identity));
        commands::take_over(core, conn, &record).await?;
        core.look_at_checkpoint(conn, mark).await?;
        Ok(connection)
    }
}

impl Connection {
    /// Where the reader of a downlink stands after all that was taken so far.
    pub fn mark(&self) -> Mark {
        let (core, conn) = self.parts();
        let Part::Down(down) = &conn.part else { return Mark::default() };
        let following = down.following.lock();
        let mut stand = conn.outbox.standpoints();
        let place = |(room, followed): (&RoomId, &Followed)| {
            let now = stand.remove(room);
            let state = now.map_or(0, |now| now.state);
            let state = if state == 0 { 0 } else { core.blend(state) };
            let cursor = now.map(|now| now.cursor);
            let differs = cursor != Some(followed.cursor) || state != 0;
            let moved = cursor.map_or(u64::MAX, |cursor| {
                if cursor.epoch == followed.cursor.epoch {
                    cursor.seq.since(followed.cursor.seq)
                } else {
                    u64::MAX
                }
            });
            differs.then(|| (moved, Place { room: RoomTag::of(room), cursor, state }))
        };
        let mut places: Vec<(u64, Place)> = following.rooms.iter().filter_map(place).collect();
        places.sort_by_key(|(moved, _)| Reverse(*moved));
        let mut seen = HashSet::new();
        let alike: HashSet<RoomTag> =
            following.rooms.keys().map(RoomTag::of).filter(|tag| !seen.insert(*tag)).collect();
        let places = places.into_iter().map(|(_, place)| place);
        let places = places.filter(|place| !alike.contains(&place.room)).collect();
        Mark { rev: following.rev, places }
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
        let mut credentials = peer.credentials;
        credentials.claimed_user = Some(session.user.clone());
        credentials.claimed_device = session.identity().device.clone();
        let identity = commands::authenticate(core, &credentials).await?;
        if identity.user != session.user {
            return Err(commands::unknown());
        }
        let slow_down = |wait| Error::of(Code::RateLimited, "poll").retry_after(wait);
        core.limiter.take(&session.user, 1, core.now()).map_err(slow_down)?;
        session.renew(identity);
        Ok(())
    }
}

impl Core {
    /// Mixes the generation into a digest of state, or out of it: a mark of another generation fits no state.
    fn blend(&self, digest: u64) -> u64 {
        // An odd factor: different generations give different numbers.
        digest ^ self.state_generation().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The session's checkpoint was changed: its downlink, wherever it is, has to look at it.
    pub(crate) fn checkpoint_changed(self: &Arc<Self>, session: &Session) {
        self.follow_anew(&session.user, &session.id);
        self.tell(BusMessage::Follow { user: session.user.clone(), session: session.id.clone() });
    }

    /// If the session's downlink is here, it looks at the checkpoint.
    pub(crate) fn follow_anew(self: &Arc<Self>, user: &UserId, session: &SessionId) {
        for conn in self.registry.of_user(user) {
            if conn.session().is_some_and(|held| held.id == *session) {
                self.look_again(conn);
            }
        }
    }

    /// The same, if its checkpoint has another revision by now.
    pub(crate) fn follow_if_changed(self: &Arc<Self>, conn: &Arc<Conn>, rev: u64) {
        if let Part::Down(down) = &conn.part
            && down.following.lock().rev != rev
        {
            self.look_again(conn.clone());
        }
    }

    fn look_again(self: &Arc<Self>, conn: Arc<Conn>) {
        let core = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = core.look_at_checkpoint(&conn, None).await {
                tracing::warn!(%error, "a checkpoint could not be looked at; the next check tries again");
            }
        });
    }

    /// Makes a downlink follow what its session's checkpoint says.
    async fn look_at_checkpoint(
        self: &Arc<Self>,
        conn: &Arc<Conn>,
        mark: Option<&Mark>,
    ) -> Result<()> {
        let (Part::Down(down), Some(session)) = (&conn.part, conn.session()) else { return Ok(()) };
        let _one_at_a_time = down.looking.lock().await;
        let checkpoint = self.store.checkpoint(&session.id).await?;
        let new = self.drop_what_has_gone(conn, down, &checkpoint);
        let begun = futures::stream::iter(new).map(|(room, followed)| async move {
            let told = Told::of(mark, &room, &followed);
            let answer = self.status_for(session, &room, told.cursor(&followed)).await;
            (room, followed, told, answer)
        });
        let mut begun = begun.buffered(LOOK_UPS_AT_ONCE);
        let mut confirm = Vec::new();
        while let Some((room, followed, told, answer)) = begun.next().await {
            match answer {
                Ok((status, start)) => {
                    if !told.began || told.denied() || status.status != Status::Ok {
                        conn.outbox.notice(status);
                    }
                    let state = told.place.map(|place| place.state).filter(|state| *state != 0);
                    let start = Start { state: state.map(|state| self.blend(state)), ..start };
                    if told.place.is_some() {
                        confirm.push((room.clone(), start.from));
                    }
                    if let Err(error) = self.follow(&conn.outbox, &room, start).await {
                        // It was answered as followed; what cannot be kept is taken back aloud.
                        conn.outbox.notice(RoomStatus::denied(room.clone(), error.code()));
                    }
                }
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    if !told.denied() {
                        conn.outbox.notice(RoomStatus::denied(room.clone(), error.code()));
                    }
                }
            }
            down.following.lock().rooms.insert(room, followed);
        }
        down.following.lock().rev = checkpoint.rev;
        if mark.is_some_and(|mark| mark.places.len() > MANY_PLACES) {
            self.take_over_places(session, down, confirm).await?;
        }
        Ok(())
    }

    /// Lets go of rooms that the checkpoint does not have any more. Gives those that have to begin, or begin anew.
    fn drop_what_has_gone(
        &self,
        conn: &Arc<Conn>,
        down: &Downlink,
        checkpoint: &Checkpoint,
    ) -> Vec<(RoomId, Followed)> {
        let mut following = down.following.lock();
        let changed = |room: &RoomId, held: Option<&Followed>| {
            checkpoint.rooms.get(room).map(|new| new.since) != held.map(|held| held.since)
        };
        following.rooms.retain(|room, held| {
            let goes = changed(room, Some(held));
            if goes && let Some(sub) = conn.outbox.unfollow(room) {
                sub.room.remove_reader(sub.reader, &conn.outbox);
                self.hub.retire_if_idle(&sub.room);
            }
            !goes
        });
        let new = checkpoint.rooms.iter().filter(|(room, _)| !following.rooms.contains_key(*room));
        new.map(|(room, followed)| (room.clone(), *followed)).collect()
    }

    /// The checkpoint takes over where the reader said that it stands.
    async fn take_over_places(
        &self,
        session: &Session,
        down: &Downlink,
        confirm: Vec<(RoomId, Cursor)>,
    ) -> Result<()> {
        let change = CheckpointChange { confirm: confirm.clone(), ..self.no_change(Base::Held) };
        let rev = self.change_checkpoint(session, change).await?;
        let mut following = down.following.lock();
        following.rev = rev;
        for (room, cursor) in confirm {
            if let Some(followed) = following.rooms.get_mut(&room) {
                followed.cursor = cursor;
            }
        }
        Ok(())
    }
}

/// What a reader's mark says of a room.
struct Told {
    /// It has been told how the room answers.
    began: bool,
    place: Option<Place>,
}

impl Told {
    fn of(mark: Option<&Mark>, room: &RoomId, followed: &Followed) -> Self {
        let mark = mark.filter(|mark| followed.since <= mark.rev);
        Self { began: mark.is_some(), place: mark.and_then(|mark| mark.place(room)).copied() }
    }

    /// Where the room begins: at the mark, unless the checkpoint is further.
    fn cursor(&self, followed: &Followed) -> Cursor {
        match self.place.and_then(|place| place.cursor) {
            Some(at) if at.epoch != followed.cursor.epoch || at.seq >= followed.cursor.seq => at,
            _ => followed.cursor,
        }
    }

    /// It has been told that it may not read the room.
    fn denied(&self) -> bool {
        self.place.is_some_and(|place| place.cursor.is_none())
    }
}
