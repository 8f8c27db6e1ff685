//! The application's handle, and the stream of events.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use im_core::wire::{
    AppendAck, CommandBody, HistoryPage, MemberAct, MemberPage, PageFrom, Reply, RoomKind,
    RoomStatus, RoomsPage, Secret, SessionEntry, Target, Value,
};
use im_core::{Cursor, Epoch, EventKind, RoomId, SessionId, Stamp, StateKey, Timestamp, UserId};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::builder::Builder;
use crate::error::{Error, ErrorKind, Result};
use crate::event::ClientEvent;
use crate::link::Link;
use crate::message::Message;
use crate::proto::Saved;
use crate::shell::{Answer, Ask};
use crate::ws::WebSocket;

/// A handle to a client, cheap to clone. The client ends when all handles and its [`Events`] are
/// gone.
///
/// Commands wait while there is no connection, and are carried out on the next one.
#[derive(Clone)]
pub struct Client {
    asks: mpsc::UnboundedSender<Ask>,
    sends: Arc<Semaphore>,
    commands: Arc<Semaphore>,
}

/// The client's events, in order. Read them steadily: see
/// [`Config::max_queued_events`](crate::Config::max_queued_events).
pub struct Events {
    before: VecDeque<ClientEvent>,
    events: mpsc::Receiver<ClientEvent>,
}

/// The ack of a message that is in flight, as a future. Dropping it does not cancel the send.
#[derive(Debug)]
#[must_use = "the receipt says whether the message was kept"]
pub struct PendingAck(oneshot::Receiver<Result<Reply>>);

impl Client {
    /// A client of the server at `ws://host:port/path`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Self::over(WebSocket::new(url))
    }

    /// A client over another transport, or over WebSocket with settings of one's own.
    pub fn over(link: impl Link) -> Builder {
        Builder::new(Arc::new(link))
    }

    pub(crate) fn new(
        asks: mpsc::UnboundedSender<Ask>,
        sends: Arc<Semaphore>,
        commands: Arc<Semaphore>,
    ) -> Self {
        Self { asks, sends, commands }
    }

    async fn ask(&self, body: CommandBody) -> Result<Reply> {
        enqueue(&self.asks, &self.commands, body).await?.await
    }

    /// Sends a message and waits for its ack. The message is stored once, also if the connection
    /// breaks meanwhile.
    ///
    /// Waits first while [`Config::max_unacknowledged`](crate::Config::max_unacknowledged) sends
    /// have no ack.
    ///
    /// # Errors
    ///
    /// The server's refusal, or the end of the client. [`Error::message_id`] is the id under which
    /// to retry.
    pub async fn send(&self, message: Message) -> Result<AppendAck> {
        self.post(message).await?.await
    }

    /// Queues a message and returns without waiting for its ack. Messages that one task posts one
    /// after the other to the same target are stored in that order, also if the connection breaks
    /// or the server refuses some of them retryably.
    ///
    /// # Errors
    ///
    /// The client has ended.
    pub async fn post(&self, message: Message) -> Result<PendingAck> {
        let Message { to, id, kind, content } = message;
        let body = CommandBody::Send { to, id, kind, content };
        enqueue(&self.asks, &self.sends, body).await.map(|waiting| PendingAck(waiting.0))
    }

    /// Sends an ephemeral message to the recipients that are connected now, at most once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Offline`] without a connection; the server's refusal.
    pub async fn signal(&self, to: Target, kind: EventKind, content: Value) -> Result<()> {
        self.ask(CommandBody::Signal { to, kind, content }).await.map(drop)
    }

    /// Creates a room; the caller becomes its owner. If the caller has already created the same
    /// room, the ack says `duplicate`.
    ///
    /// # Errors
    ///
    /// The server's refusal, for example `Exists`. [`ErrorKind::Unknown`] if the connection was cut
    /// before the answer: the client does not retry by itself; calling again returns the server's
    /// answer to the second call.
    pub async fn create(
        &self,
        room: RoomId,
        kind: RoomKind,
        open: bool,
        members: Vec<UserId>,
    ) -> Result<AppendAck> {
        append_ack(self.ask(CommandBody::Create { room, kind, open, members }).await?)
    }

    /// Joins a room.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn join(&self, room: RoomId) -> Result<AppendAck> {
        append_ack(self.ask(CommandBody::Join { room }).await?)
    }

    /// Leaves a room.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn leave(&self, room: RoomId) -> Result<AppendAck> {
        append_ack(self.ask(CommandBody::Leave { room }).await?)
    }

    /// Changes another user's membership.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn member(&self, room: RoomId, user: UserId, act: MemberAct) -> Result<AppendAck> {
        append_ack(self.ask(CommandBody::Member { room, user, act }).await?)
    }

    /// Returns a page of the room's members, ordered by user id, after `after`.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn members(
        &self,
        room: RoomId,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<MemberPage> {
        match self.ask(CommandBody::Members { room, after, limit }).await? {
            Reply::Members(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// Returns a page of the user's rooms, ordered by room id, after `after`.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn rooms(&self, after: Option<RoomId>, limit: u32) -> Result<RoomsPage> {
        match self.ask(CommandBody::Rooms { after, limit }).await? {
            Reply::RoomList(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// Subscribes to a room, from a cursor or from its head. The subscription lasts across
    /// connections.
    ///
    /// The status contains the starting cursor: the first event is the next one after it. `denied`
    /// means that there is no subscription. Of several calls for one room, of this or of
    /// [`Client::unsubscribe`], the last one wins, in whatever order they return.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn subscribe(&self, room: RoomId, since: Option<Cursor>) -> Result<RoomStatus> {
        match self.ask(CommandBody::Subscribe { room: room.clone(), since }).await? {
            Reply::Rooms { statuses, .. } => {
                statuses.into_iter().find(|status| status.room == room).ok_or_else(|| {
                    Error::new(ErrorKind::Protocol, None, "the server's answer leaves out the room")
                })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Unsubscribes from a room.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn unsubscribe(&self, room: RoomId) -> Result<()> {
        self.ask(CommandBody::Unsubscribe { room }).await.map(drop)
    }

    /// Confirms to the server that these events were received and processed. Only for
    /// [`Checkpoints::Manual`](crate::Checkpoints::Manual); otherwise the client does it by itself.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn checkpoint(&self, cursors: Vec<(RoomId, Cursor)>) -> Result<()> {
        self.ask(CommandBody::Checkpoint { cursors }).await.map(drop)
    }

    /// Returns a page of a room's log: after a position, oldest first, or before one, newest first.
    ///
    /// # Errors
    ///
    /// The server's refusal; `WrongEpoch` if an epoch is passed that is not the room's.
    pub async fn history(
        &self,
        room: RoomId,
        epoch: Option<Epoch>,
        from: PageFrom,
        limit: u32,
    ) -> Result<HistoryPage> {
        match self.ask(CommandBody::History { room, epoch, from, limit }).await? {
            Reply::History(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// Puts a value under a state key. Returns its stamp: the passed one, or the server's.
    ///
    /// # Errors
    ///
    /// The server's refusal. [`ErrorKind::Unknown`] if the connection was cut before the answer and
    /// no stamp was passed.
    pub async fn put_state(
        &self,
        room: RoomId,
        key: StateKey,
        value: Value,
        stamp: Option<Stamp>,
    ) -> Result<Stamp> {
        applied(self.ask(CommandBody::PutState { room, key, value, stamp }).await?)
    }

    /// Removes the value of a state key.
    ///
    /// # Errors
    ///
    /// As [`Client::put_state`].
    pub async fn remove_state(
        &self,
        room: RoomId,
        key: StateKey,
        stamp: Option<Stamp>,
    ) -> Result<Stamp> {
        applied(self.ask(CommandBody::RemoveState { room, key, stamp }).await?)
    }

    /// Returns the user's sessions.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn sessions(&self) -> Result<Vec<SessionEntry>> {
        match self.ask(CommandBody::Sessions).await? {
            Reply::Sessions(sessions) => Ok(sessions),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends another of the user's sessions.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn kick(&self, session: SessionId) -> Result<()> {
        self.ask(CommandBody::Kick { session }).await.map(drop)
    }

    /// Sends new credentials before the old ones expire. Later connections use them too.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn refresh(&self, token: impl Into<Arc<str>>) -> Result<()> {
        self.ask(CommandBody::Refresh { token: Secret::new(token) }).await.map(drop)
    }

    /// Returns the server's time. Not needed as a heartbeat: the client sends its own.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn ping(&self) -> Result<Timestamp> {
        match self.ask(CommandBody::Ping).await? {
            Reply::Pong(now) => Ok(now),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends the session for good, and with it the client.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn logout(&self) -> Result<()> {
        self.ask(CommandBody::Logout).await.map(drop)
    }

    /// Returns what another client needs to resume: the session, and for each room the position of
    /// the last event that was moved to the application's side of [`Events`]. `None` once the
    /// client has ended.
    pub async fn saved(&self) -> Option<Saved> {
        let (to, answer) = oneshot::channel();
        self.asks.send(Ask::Saved(to)).ok()?;
        answer.await.ok()
    }

    /// Ends the client. The session can be resumed. Commands without an answer fail.
    pub fn close(&self) {
        // An error means that the task, and so the client, has ended already.
        let _ = self.asks.send(Ask::Close);
    }

    /// Cuts the connection as a bad network would; the client reconnects by itself. For tests.
    pub fn cut(&self) {
        let _ = self.asks.send(Ask::Cut);
    }
}

/// An answer that is awaited.
struct Waiting(oneshot::Receiver<Result<Reply>>);

async fn enqueue(
    asks: &mpsc::UnboundedSender<Ask>,
    window: &Arc<Semaphore>,
    body: CommandBody,
) -> Result<Waiting> {
    let gone = || Error::closed(None, "its task has ended");
    let permit = window.clone().acquire_owned().await.map_err(|_| gone())?;
    let (to, answer) = oneshot::channel();
    asks.send(Ask::Command(body, Answer { to, permit })).map_err(|_| gone())?;
    Ok(Waiting(answer))
}

impl Future for Waiting {
    type Output = Result<Reply>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let gone = |_| Err(Error::closed(None, "its task has ended"));
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or_else(gone))
    }
}

impl Future for PendingAck {
    type Output = Result<AppendAck>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let gone = |_| Err(Error::closed(None, "its task has ended"));
        Pin::new(&mut self.0).poll(cx).map(|answer| append_ack(answer.unwrap_or_else(gone)?))
    }
}

impl Events {
    pub(crate) fn new(events: mpsc::Receiver<ClientEvent>) -> Self {
        Self { before: VecDeque::new(), events }
    }

    pub(crate) fn put_back(&mut self, events: Vec<ClientEvent>) {
        self.before.extend(events);
    }

    /// Returns the next event; `None` after [`ClientEvent::Closed`]. Dropping the future loses no
    /// event.
    pub async fn next(&mut self) -> Option<ClientEvent> {
        match self.before.pop_front() {
            Some(event) => Some(event),
            None => self.events.recv().await,
        }
    }
}

impl Stream for Events {
    type Item = ClientEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        match self.before.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None => self.events.poll_recv(cx),
        }
    }
}

fn append_ack(reply: Reply) -> Result<AppendAck> {
    match reply {
        Reply::Appended(ack) => Ok(ack),
        other => Err(unexpected(&other)),
    }
}

fn applied(reply: Reply) -> Result<Stamp> {
    match reply {
        Reply::Applied(stamp) => Ok(stamp),
        other => Err(unexpected(&other)),
    }
}

/// Replies are parsed by the kind of command, so this error means a bug in the client.
fn unexpected(_: &Reply) -> Error {
    Error::new(ErrorKind::Protocol, None, "the answer belongs to another kind of command")
}
