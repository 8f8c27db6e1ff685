//! A client that speaks the protocol by hand and panics when the server violates it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use im_core::wire::{
    AppendAck, Command, CommandBody, Disconnect, Encoding, ErrorReply, Event, Hello, HistoryPage,
    Limits, Map, MemberAct, MemberPage, PageFrom, Push, ResumeToken, RoomKind, RoomStatus, Secret,
    ServerFrame, SessionEntry, Signal, Snapshot, StateUpdate, Status, Target, VERSION, Value,
    Welcome, decode, encode, encode_batch,
};
use im_core::{
    Code, CommandId, Cursor, DeviceId, EventKind, MessageId, RoomId, Seq, Stamp, StateKey, UserId,
};

use super::link::{Kind, RawLink, Received};

/// Limits the wait for `future`, so that a case fails instead of hanging.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("no result within the time limit")
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid user id")
}

pub fn room(name: &str) -> RoomId {
    RoomId::new(name).expect("a valid room id")
}

pub fn seq(n: u64) -> Seq {
    Seq::new(n).expect("a number within the range of `Seq`")
}

pub fn key(name: &str) -> StateKey {
    StateKey::new(name).expect("a valid key")
}

/// Returns a content with this text.
pub fn says(text: &str) -> Value {
    Map::from_iter([("text", text)]).into()
}

/// Returns the text of a message, or `None` for other events.
pub fn text(event: &Event) -> Option<String> {
    event.content.value().get("text")?.as_text().map(str::to_owned)
}

/// A result with the code of a refusal, which is all that most cases check.
pub type Answer<T> = Result<T, Code>;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub code: Option<u16>,
    pub disconnect: Option<Disconnect>,
}

/// A client connection.
pub struct Peer {
    link: Option<Box<dyn RawLink>>,
    pub encoding: Encoding,
    kind: Kind,
    pub welcome: Option<Welcome>,
    next_id: u64,
    /// Commands that were sent and not answered.
    open: HashSet<u64>,
    answers: HashMap<u64, Result<Value, ErrorReply>>,
    /// Refusals without a command id.
    pub complaints: Vec<ErrorReply>,
    pushes: VecDeque<Push>,
    ended: Option<Ended>,
}

impl Peer {
    pub fn new(link: Box<dyn RawLink>, encoding: Encoding, kind: Kind) -> Self {
        Self {
            link: Some(link),
            encoding,
            kind,
            welcome: None,
            next_id: 0,
            open: HashSet::new(),
            answers: HashMap::new(),
            complaints: Vec::new(),
            pushes: VecDeque::new(),
            ended: None,
        }
    }

    fn link(&mut self) -> &mut dyn RawLink {
        &mut **self.link.as_mut().expect("an open connection")
    }

    /// Cuts the connection without a close message.
    pub fn cut(&mut self) {
        self.link.take().expect("an open connection").cut();
    }

    // ---- raw ----

    pub async fn send_raw(&mut self, message: impl Into<Bytes>) {
        let encoding = self.encoding;
        self.link().send(message.into(), encoding).await;
    }

    pub async fn send_raw_as(&mut self, message: impl Into<Bytes>, encoding: Encoding) {
        self.link().send(message.into(), encoding).await;
    }

    pub async fn send_raw_in_pieces(&mut self, message: impl Into<Bytes>, pieces: usize) {
        let encoding = self.encoding;
        self.link().send_in_pieces(message.into(), encoding, pieces).await;
    }

    /// Sends a frame of this kind with these further fields and returns its id.
    pub async fn send_frame(
        &mut self,
        kind: &str,
        fields: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> CommandId {
        let id = self.number();
        let mut map = Map::from_iter([("t", Value::from(kind)), ("id", Value::Int(id.0 as i64))]);
        fields.into_iter().for_each(|(name, value)| map.insert(name, value));
        self.send_value(&map.into()).await;
        id
    }

    pub async fn send_value(&mut self, frame: &Value) {
        let message = encode(frame, self.encoding);
        self.send_raw(message).await;
    }

    fn number(&mut self) -> CommandId {
        self.next_id += 1;
        self.open.insert(self.next_id);
        CommandId(self.next_id)
    }

    /// Registers the id of a frame that was written by hand.
    pub fn expect_answer(&mut self, id: u64) {
        self.open.insert(id);
    }

    // ---- commands ----

    /// Sends a command without waiting for its answer.
    pub async fn begin(&mut self, body: CommandBody) -> CommandId {
        self.batch(vec![body]).await[0]
    }

    /// Sends commands in one message.
    pub async fn batch(&mut self, bodies: Vec<CommandBody>) -> Vec<CommandId> {
        let commands: Vec<Command> =
            bodies.into_iter().map(|body| Command { id: self.number(), body }).collect();
        let frames: Vec<Value> = commands.iter().map(Command::to_value).collect();
        let message = encode_batch(&frames, self.encoding);
        self.send_raw(message).await;
        commands.iter().map(|command| command.id).collect()
    }

    /// Waits for the answer to a command.
    pub async fn answer(&mut self, id: CommandId) -> Result<Value, ErrorReply> {
        loop {
            if let Some(answer) = self.answers.remove(&id.0) {
                return answer;
            }
            assert!(
                self.ended.is_none(),
                "the connection ended without an answer: {:?}",
                self.ended
            );
            self.read().await;
        }
    }

    pub async fn code(&mut self, id: CommandId) -> Code {
        code(self.answer(id).await.expect_err("a refusal"))
    }

    pub async fn ask(&mut self, body: CommandBody) -> Answer<Value> {
        let id = self.begin(body).await;
        self.answer(id).await.map_err(code)
    }

    pub async fn hello(&mut self, hello: Hello) -> Answer<Welcome> {
        let fields = self.ask(CommandBody::Hello(Box::new(hello))).await?;
        let welcome = Welcome::from_value(fields).expect("a complete welcome");
        self.welcome = Some(welcome.clone());
        Ok(welcome)
    }

    pub async fn welcome_as(&mut self, name: &str) -> Welcome {
        self.hello(hello_as(name)).await.expect("welcome")
    }

    /// Returns the token that resumes this peer's session.
    pub fn token(&self) -> ResumeToken {
        let welcome = self.welcome.as_ref().expect("a peer with a session");
        ResumeToken { session: welcome.session.clone(), secret: welcome.secret.clone() }
    }

    pub async fn create(
        &mut self,
        room: &RoomId,
        kind: RoomKind,
        open: bool,
        members: &[&str],
    ) -> Answer<AppendAck> {
        let members = members.iter().map(|name| user(name)).collect();
        append_ack(self.ask(CommandBody::Create { room: room.clone(), kind, open, members }).await)
    }

    pub async fn join(&mut self, room: &RoomId) -> Answer<AppendAck> {
        append_ack(self.ask(CommandBody::Join { room: room.clone() }).await)
    }

    pub async fn leave(&mut self, room: &RoomId) -> Answer<AppendAck> {
        append_ack(self.ask(CommandBody::Leave { room: room.clone() }).await)
    }

    pub async fn member(&mut self, room: &RoomId, name: &str, act: MemberAct) -> Answer<AppendAck> {
        append_ack(
            self.ask(CommandBody::Member { room: room.clone(), user: user(name), act }).await,
        )
    }

    pub async fn members(
        &mut self,
        room: &RoomId,
        after: Option<UserId>,
        limit: u32,
    ) -> Answer<MemberPage> {
        let page = self.ask(CommandBody::Members { room: room.clone(), after, limit }).await?;
        Ok(MemberPage::from_value(page).expect("a complete page"))
    }

    pub async fn say(&mut self, room: &RoomId, words: &str) -> Answer<AppendAck> {
        append_ack(self.ask(message(room, &MessageId::random(), words)).await)
    }

    pub async fn say_as(
        &mut self,
        room: &RoomId,
        id: &MessageId,
        words: &str,
    ) -> Answer<AppendAck> {
        append_ack(self.ask(message(room, id, words)).await)
    }

    pub async fn say_to(&mut self, to: Target, words: &str) -> Answer<AppendAck> {
        let body = CommandBody::Send {
            to,
            id: MessageId::random(),
            kind: EventKind::message(),
            content: says(words),
        };
        append_ack(self.ask(body).await)
    }

    pub async fn signal(&mut self, to: Target, words: &str) -> Answer<()> {
        let kind = EventKind::new("typing").expect("a valid kind");
        self.ask(CommandBody::Signal { to, kind, content: says(words) }).await.map(drop)
    }

    pub async fn put_state(
        &mut self,
        room: &RoomId,
        name: &str,
        words: &str,
        stamp: Option<Stamp>,
    ) -> Answer<Stamp> {
        let body =
            CommandBody::PutState { room: room.clone(), key: key(name), value: says(words), stamp };
        stamp_of(self.ask(body).await)
    }

    pub async fn remove_state(
        &mut self,
        room: &RoomId,
        name: &str,
        stamp: Option<Stamp>,
    ) -> Answer<Stamp> {
        stamp_of(
            self.ask(CommandBody::RemoveState { room: room.clone(), key: key(name), stamp }).await,
        )
    }

    /// Subscribes to a room, from its head or from a cursor.
    pub async fn subscribe(&mut self, room: &RoomId, since: Option<Cursor>) -> Answer<RoomStatus> {
        let fields = self.ask(CommandBody::Subscribe { room: room.clone(), since }).await?;
        let (mut statuses, ..) = RoomStatus::list_from_value(fields).expect("a complete answer");
        assert_eq!(statuses.len(), 1, "one room, one status");
        Ok(self.begun(statuses.remove(0)).await)
    }

    /// Returns the status that counts: for request and stream halves, the one on the stream.
    async fn begun(&mut self, preview: RoomStatus) -> RoomStatus {
        if self.kind == Kind::Duplex || preview.status == Status::Denied {
            return preview;
        }
        loop {
            let of = |push: &Push| {
                matches!(push, Push::Room(status)
                    if status.room == preview.room && status.status != Status::Denied)
            };
            if let Some(at) = self.pushes.iter().position(of)
                && let Some(Push::Room(status)) = self.pushes.remove(at)
            {
                return status;
            }
            assert!(self.ended.is_none(), "the connection ended: {:?}", self.ended);
            self.read().await;
        }
    }

    /// Resumes rooms and returns their statuses and the new revision.
    pub async fn resume(
        &mut self,
        cursors: Vec<(RoomId, Cursor)>,
        rev: Option<u64>,
    ) -> Answer<(Vec<RoomStatus>, u64)> {
        let fields = self.ask(CommandBody::Resume { cursors, rev }).await?;
        let (statuses, rev, _) = RoomStatus::list_from_value(fields).expect("a complete answer");
        let mut begun = Vec::with_capacity(statuses.len());
        for status in statuses {
            begun.push(self.begun(status).await);
        }
        Ok((begun, rev))
    }

    /// Confirms cursors and returns the new revision.
    pub async fn checkpoint(&mut self, cursors: Vec<(RoomId, Cursor)>) -> Answer<u64> {
        let fields = self.ask(CommandBody::Checkpoint { cursors }).await?;
        Ok(fields.get("rev").and_then(Value::as_int).expect("a revision") as u64)
    }

    pub async fn history(
        &mut self,
        room: &RoomId,
        from: PageFrom,
        limit: u32,
    ) -> Answer<HistoryPage> {
        let body = CommandBody::History { room: room.clone(), epoch: None, from, limit };
        Ok(HistoryPage::from_value(self.ask(body).await?).expect("a complete page"))
    }

    pub async fn sessions(&mut self) -> Vec<SessionEntry> {
        let fields = self.ask(CommandBody::Sessions).await.expect("a list");
        SessionEntry::list_from_value(fields).expect("a complete list")
    }

    pub async fn ping(&mut self) -> Answer<()> {
        self.ask(CommandBody::Ping).await.map(drop)
    }

    /// Waits until all earlier commands are fully done. The answer to `subscribe` or `resume` may
    /// precede the write of the checkpoint, and a cut in between leaves the older one.
    pub async fn settled(&mut self) {
        self.ping().await.expect("an answer");
    }

    // ---- pushes ----

    /// Returns the next push, without `im.room` hints and without the statuses that repeat a
    /// preview.
    pub async fn push(&mut self) -> Push {
        loop {
            match self.pushes.pop_front() {
                Some(Push::Signal(signal)) if signal.kind.is_reserved() => {}
                Some(Push::Room(status))
                    if self.kind != Kind::Duplex && status.status == Status::Ok => {}
                Some(push) => return push,
                None => {
                    assert!(self.ended.is_none(), "the connection ended: {:?}", self.ended);
                    self.read().await;
                }
            }
        }
    }

    /// Returns the next push, which must be an event.
    pub async fn event(&mut self) -> Arc<Event> {
        match self.push().await {
            Push::Event(event) => event,
            other => panic!("expected an event, got {other:?}"),
        }
    }

    /// Returns the text of the next push, which must be a message.
    pub async fn heard(&mut self) -> String {
        let event = self.event().await;
        text(&event).unwrap_or_else(|| panic!("expected a message, got {event:?}"))
    }

    pub async fn signalled(&mut self) -> Arc<Signal> {
        match self.push().await {
            Push::Signal(signal) => signal,
            other => panic!("expected a signal, got {other:?}"),
        }
    }

    /// Returns the next push, which must be a state update, or a snapshot with one key instead.
    pub async fn state(&mut self) -> Arc<StateUpdate> {
        match self.push().await {
            Push::State(update) => update,
            Push::Snapshot(mut whole) if whole.entries.len() == 1 => whole.entries.remove(0),
            other => panic!("expected a state update, got {other:?}"),
        }
    }

    /// Returns a complete snapshot, joined from all its parts.
    pub async fn snapshot(&mut self) -> Snapshot {
        let mut whole: Option<Snapshot> = None;
        loop {
            let Push::Snapshot(part) = self.push().await else { panic!("expected a snapshot") };
            let more = part.more;
            match &mut whole {
                Some(whole) => whole.entries.extend(part.entries),
                None => whole = Some(part),
            }
            if !more {
                return whole.expect("at least one part");
            }
        }
    }

    pub async fn status(&mut self) -> RoomStatus {
        match self.push().await {
            Push::Room(status) => status,
            other => panic!("expected a room's status, got {other:?}"),
        }
    }

    /// Waits for the end. The `disconnect` frame and the close code must agree.
    pub async fn ended(&mut self) -> Ended {
        while self.ended.is_none() {
            self.read().await;
        }
        self.ended.clone().expect("a connection that has ended")
    }

    pub async fn ended_with(&mut self, code: Code) {
        let ended = self.ended().await;
        assert_eq!(ended.code.and_then(Code::from_number), Some(code), "{ended:?}");
    }

    /// Returns the seq of the last durable event that arrived unread. The unread events must
    /// continue `after` without a gap.
    pub fn drain_events(&mut self, after: Seq) -> Seq {
        let events = self.pushes.drain(..).filter_map(|push| match push {
            Push::Event(event) => Some(event.seq),
            _ => None,
        });
        events.fold(after, |last, seq| {
            assert_eq!(seq, last.next());
            seq
        })
    }

    async fn read(&mut self) {
        match soon(self.link().receive()).await {
            Received::Message(message) => {
                let frames = decode(&message, self.encoding, &generous())
                    .expect("frames of the server that decode");
                for frame in frames {
                    self.take(ServerFrame::from_value(frame).expect("valid frames of the server"));
                }
            }
            Received::Closed(code) => {
                let disconnect = self.pushes.iter().find_map(|push| match push {
                    Push::Disconnect(disconnect) => Some(disconnect.clone()),
                    _ => None,
                });
                if let (Some(code), Some(disconnect)) = (code, &disconnect) {
                    assert_eq!(
                        code, disconnect.code,
                        "the disconnect frame and the close code agree"
                    );
                }
                let code = code.or_else(|| disconnect.as_ref().map(|disconnect| disconnect.code));
                self.ended = Some(Ended { code, disconnect });
            }
        }
    }

    fn take(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Ok { id, body } => self.settle(id, Ok(body)),
            ServerFrame::Err(refusal) => match refusal.id {
                Some(id) => self.settle(id, Err(refusal)),
                None => self.complaints.push(refusal),
            },
            // Stream positions are used by the transport only.
            ServerFrame::Push(Push::Position(_)) if self.kind != Kind::Duplex => {}
            ServerFrame::Push(push) => self.pushes.push_back(push),
            ServerFrame::Unknown => {
                panic!("a server of this version sent an unknown frame")
            }
        }
    }

    fn settle(&mut self, id: CommandId, answer: Result<Value, ErrorReply>) {
        assert!(self.open.remove(&id.0), "command {} was answered twice or never sent", id.0);
        self.answers.insert(id.0, answer);
    }
}

pub fn hello_as(name: &str) -> Hello {
    Hello {
        version: VERSION,
        token: None,
        user: Some(user(name)),
        device: None,
        session: None,
        client: None,
    }
}

pub fn hello_with_token(token: &str) -> Hello {
    Hello { token: Some(Secret::new(token)), user: None, ..hello_as("nobody") }
}

pub fn hello_on(name: &str, device: &str) -> Hello {
    Hello { device: Some(DeviceId::new(device).expect("a valid device id")), ..hello_as(name) }
}

pub fn hello_again(name: &str, session: ResumeToken) -> Hello {
    Hello { session: Some(session), ..hello_as(name) }
}

pub fn message(room: &RoomId, id: &MessageId, words: &str) -> CommandBody {
    CommandBody::Send {
        to: Target::Room(room.clone()),
        id: id.clone(),
        kind: EventKind::message(),
        content: says(words),
    }
}

fn code(refusal: ErrorReply) -> Code {
    assert!(!refusal.message.is_empty(), "a refusal has a message");
    Code::from_number(refusal.code).expect("a code of this version")
}

fn append_ack(fields: Answer<Value>) -> Answer<AppendAck> {
    fields.map(|fields| AppendAck::from_value(fields).expect("a complete ack"))
}

fn stamp_of(fields: Answer<Value>) -> Answer<Stamp> {
    let read = |fields: Value| fields.get("stamp")?.as_text()?.parse().ok();
    fields.map(|fields| read(fields).expect("a stamp"))
}

/// Limits of a client that accepts every frame of its server.
pub(crate) fn generous() -> Limits {
    let mut limits = Limits::default();
    limits.max_message_bytes = 16 << 20;
    limits.max_values = 1 << 20;
    limits.max_batch = 1 << 16;
    limits
}
