//! A client that speaks by hand, keeps its state over its connections, and reports to the history
//! checker.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use im_core::wire::{
    AppendAck, Command, CommandBody, Content, Encoding, ErrorReply, Limits, ResumeToken, RoomKind,
    RoomStatus, ServerFrame, Status, Value, Welcome, encode_batch,
};
use im_core::{Code, CommandId, Cursor, RoomId, Seq, Stamp, UserId};

use super::case::Transport;
use super::line::{Item, Line};
use super::setup::Route;
use crate::history::{Checker, Subscriber};
use crate::transport_suite::peer::{hello_again, hello_as, soon, user};

mod reading;

/// The time after which a client stops waiting and leaves the verdict to the checker.
const PATIENCE: Duration = Duration::from_secs(10);

/// The newest value of each key; `None` if it was removed.
pub(super) type Values = BTreeMap<String, (Stamp, Option<String>)>;

/// A client with all its connections.
pub(super) struct User {
    pub(super) name: UserId,
    pub(super) room: RoomId,
    pub(super) checker: Checker,
    pub(super) subscriber: Subscriber,
    route: Route,
    line: Option<Line>,
    transport: Transport,
    encoding: Encoding,
    /// The cursor before the first event.
    start: Cursor,
    token: Option<ResumeToken>,
    /// The checkpoint that the server has, as far as is known, and the cursor in it.
    rev: Option<u64>,
    confirmed: Option<Cursor>,
    /// The newest stream position, and the cursor that belongs to it.
    position: Option<(String, Cursor)>,
    commands: u64,
    answers: HashMap<u64, Result<Value, ErrorReply>>,
    /// Pushes that arrived and were not processed.
    inbox: VecDeque<Item>,
    /// Whether signals of this user are recorded as sent, so that none may be delivered twice.
    pub(super) announces: bool,
    /// Set when all servers have all events and no user writes.
    pub(super) quiet: bool,
    /// Set if other users write while this client moves between servers.
    pub(super) hurried: bool,
    /// The texts of all processed pushes.
    pub(super) heard: HashSet<String>,
    /// The newest value of each key.
    values: Values,
}

impl User {
    pub(super) fn new(name: &str, room: &RoomId, checker: &Checker, route: &Route) -> Self {
        Self {
            name: user(name),
            room: room.clone(),
            checker: checker.clone(),
            subscriber: checker.subscriber(name),
            route: route.clone(),
            line: None,
            transport: Transport::Ws,
            encoding: Encoding::Json,
            start: Cursor {
                epoch: im_core::Epoch { generation: 0, incarnation: 0 },
                seq: Seq::ZERO,
            },
            token: None,
            rev: None,
            confirmed: None,
            position: None,
            commands: 0,
            answers: HashMap::new(),
            inbox: VecDeque::new(),
            announces: true,
            quiet: false,
            hurried: false,
            heard: HashSet::new(),
            values: BTreeMap::new(),
        }
    }

    /// The room starts with this cursor.
    pub(super) fn starts_in(&mut self, at: Cursor) {
        self.start = Cursor { seq: Seq::ZERO, ..at };
    }

    // ---- connections ----

    /// Opens a new connection.
    pub(super) async fn dial(&mut self, transport: Transport, encoding: Encoding) {
        self.cut();
        (self.transport, self.encoding) = (transport, encoding);
        self.line = Some(soon(Line::open(&self.route, transport, encoding)).await);
        self.subscriber.connected();
    }

    /// Cuts the connection without a close message. Unprocessed pushes are lost.
    pub(super) fn cut(&mut self) {
        drop(self.leave());
    }

    /// As [`User::cut`] for the client; the server's side stays open while the line is held.
    pub(super) fn leave(&mut self) -> Option<Line> {
        self.inbox.clear();
        self.answers.clear();
        self.subscriber.disconnected();
        self.line.take()
    }

    /// Reports that the client was connected to the end and had every chance to read. Returns its
    /// values.
    pub(super) fn finish(self) -> Values {
        self.subscriber.finish();
        self.values
    }

    fn line(&mut self) -> &mut Line {
        self.line.as_mut().expect("a connected client")
    }

    // ---- commands ----

    /// Writes a command without waiting.
    pub(super) async fn begin(&mut self, body: CommandBody) -> CommandId {
        self.begin_all(vec![body]).await[0]
    }

    /// Writes several commands in one message without waiting.
    pub(super) async fn begin_all(&mut self, bodies: Vec<CommandBody>) -> Vec<CommandId> {
        let (ids, message) = self.message(bodies);
        soon(self.line().write(&message)).await;
        ids
    }

    /// Writes half of the bytes of a message.
    pub(super) async fn begin_half(&mut self, bodies: Vec<CommandBody>) {
        let (_, message) = self.message(bodies);
        soon(self.line().write_first_half(&message)).await;
    }

    fn message(&mut self, bodies: Vec<CommandBody>) -> (Vec<CommandId>, bytes::Bytes) {
        let number = |body| {
            self.commands += 1;
            Command { id: CommandId(self.commands), body }
        };
        let commands: Vec<Command> = bodies.into_iter().map(number).collect();
        let frames: Vec<Value> = commands.iter().map(Command::to_value).collect();
        let ids = commands.iter().map(|command| command.id).collect();
        (ids, encode_batch(&frames, self.encoding))
    }

    /// Waits for the answer to a command.
    pub(super) async fn answer(&mut self, id: CommandId) -> Result<Value, ErrorReply> {
        loop {
            if let Some(answer) = self.answers.remove(&id.0) {
                return answer;
            }
            let items = soon(self.line().up()).await;
            self.sort(items.unwrap_or_else(|end| panic!("{} got no answer: {end:?}", self.name)));
        }
    }

    /// Replies are found by their id; pushes wait to be processed.
    fn sort(&mut self, items: Vec<Item>) {
        for item in items {
            let Item::Frame(frame) = &item else {
                self.inbox.push_back(item);
                continue;
            };
            match ServerFrame::from_value(frame.clone()).expect("valid frames of the server") {
                ServerFrame::Ok { id, body } => drop(self.answers.insert(id.0, Ok(body))),
                ServerFrame::Err(refusal) => {
                    let id = refusal.id.expect("a refusal of a command with an id");
                    self.answers.insert(id.0, Err(refusal));
                }
                _ => self.inbox.push_back(item),
            }
        }
    }

    // ---- sessions and subscriptions ----

    pub(super) fn hello(&self) -> CommandBody {
        let name = self.name.as_str();
        let hello = match &self.token {
            Some(token) => hello_again(name, token.clone()),
            None => hello_as(name),
        };
        CommandBody::Hello(Box::new(hello))
    }

    pub(super) async fn greets(&mut self) {
        let hello = self.hello();
        let hello = self.begin(hello).await;
        self.welcomed(hello).await;
    }

    /// Creates the room with these members and returns its first cursor.
    pub(super) async fn founds(&mut self, with: &[&UserId]) -> Cursor {
        let (room, members) = (self.room.clone(), with.iter().copied().cloned().collect());
        let create = CommandBody::Create { room, kind: RoomKind::Group, open: false, members };
        let create = self.begin(create).await;
        let receipt = self.answer(create).await.expect("a new room");
        let ack = AppendAck::from_value(receipt).expect("a complete ack");
        Cursor { epoch: ack.epoch, seq: ack.seq }
    }

    /// Subscribes to the room on a duplex connection.
    pub(super) async fn subscribes(&mut self) {
        let subscribe = self.subscribe();
        let subscribe = self.begin(subscribe).await;
        assert!(self.subscribed(subscribe).await);
    }

    pub(super) async fn welcomed(&mut self, hello: CommandId) {
        let fields = self.answer(hello).await.expect("a welcome");
        let welcome = Welcome::from_value(fields).expect("a complete welcome");
        assert_eq!(
            welcome.resumed,
            self.token.is_some(),
            "a session is resumed if its token is sent"
        );
        let token = ResumeToken { session: welcome.session, secret: welcome.secret };
        self.line().name(named(&token));
        self.token = Some(token);
    }

    /// Returns the cursor up to which the client has everything.
    pub(super) fn cursor(&self) -> Cursor {
        self.subscriber.cursor(&self.room).unwrap_or(self.start)
    }

    pub(super) fn subscribe(&mut self) -> CommandBody {
        let since = Some(self.cursor());
        self.subscriber.subscribe_sent(&self.room, since);
        CommandBody::Subscribe { room: self.room.clone(), since }
    }

    pub(super) fn resume(&mut self) -> CommandBody {
        let cursor = self.cursor();
        let known = self.rev.is_some() && self.confirmed == Some(cursor);
        let cursors = if known { vec![] } else { vec![(self.room.clone(), cursor)] };
        self.subscriber.subscribe_sent(&self.room, Some(cursor));
        CommandBody::Resume { cursors, rev: self.rev }
    }

    /// Processes the reply to `subscribe` or `resume`. Returns false if `resume` was refused
    /// because the server has another checkpoint.
    pub(super) async fn subscribed(&mut self, following: CommandId) -> bool {
        let fields = match self.answer(following).await {
            Err(refusal) if refusal.code == Code::StaleCheckpoint.number() => return false,
            answer => answer.expect("a reply of an accessible room"),
        };
        let (statuses, rev, generation) =
            RoomStatus::list_from_value(fields).expect("a complete answer");
        assert_eq!(statuses.len(), 1, "one room, one status");
        (self.rev, self.confirmed) = (Some(rev), Some(self.cursor()));
        if !self.transport.is_request_stream() {
            // With a stream half, the status on the stream counts.
            self.subscriber.rooms(&statuses, generation);
        }
        true
    }

    /// Processes the reply to `checkpoint` with the current cursor.
    pub(super) async fn confirmed(&mut self, checkpoint: CommandId) {
        let fields = self.answer(checkpoint).await.expect("a stored checkpoint");
        let rev = fields.get("rev").and_then(Value::as_int).expect("a revision");
        (self.rev, self.confirmed) = (Some(rev as u64), Some(self.cursor()));
    }

    /// Resumes the session, and the room from the cursor. No stream half is opened yet.
    pub(super) async fn come_back(&mut self) {
        self.position = None;
        if self.token.is_none() {
            let bodies = vec![self.hello(), self.subscribe()];
            let ids = self.begin_all(bodies).await;
            self.welcomed(ids[0]).await;
            assert!(self.subscribed(ids[1]).await);
            return;
        }
        let bodies = vec![self.hello(), self.resume()];
        let ids = self.begin_all(bodies).await;
        self.welcomed(ids[0]).await;
        if !self.subscribed(ids[1]).await {
            // The server's checkpoint is newer than the client's revision: send all cursors.
            (self.rev, self.confirmed) = (None, None);
            let resume = self.resume();
            let id = self.begin(resume).await;
            assert!(self.subscribed(id).await);
        }
    }

    /// Resumes from the last stream position alone.
    pub(super) async fn resume_stream(&mut self) {
        let (position, cursor) = self.position.clone().expect("a stream position");
        let session = named(self.token.as_ref().expect("a session"));
        self.line().name(session);
        // The stream position implies this status: later events follow it.
        self.subscriber.status(&self.room, Status::Ok, Some(cursor), cursor.seq);
        soon(self.line().ask(Some(&position))).await;
    }

    /// Opens the stream half while no push is due.
    pub(super) async fn listen(&mut self) {
        let items = soon(self.line().listen()).await.expect("a downlink");
        self.sort(items);
        self.pass_positions();
    }

    /// Polls again, if this transport polls: that confirms the last answer.
    pub(super) async fn poll(&mut self) {
        if self.transport.is_polls() {
            let position = self.position.as_ref().map(|(position, _)| position.clone());
            soon(self.line().ask(position.as_deref())).await;
        }
    }

    /// As [`User::poll`], if a poll waits for a push.
    pub(super) async fn hold(&mut self) {
        if self.transport == Transport::Long {
            self.poll().await;
        }
    }

    /// Opens a new stream half.
    pub(super) async fn ask(&mut self) {
        soon(self.line().ask(None)).await;
    }

    /// Waits until an unread push has arrived.
    pub(super) async fn arrived(&mut self) {
        soon(self.line().arrived()).await;
    }
}

fn named(token: &ResumeToken) -> String {
    format!("{} {}", token.session, token.secret.expose())
}

fn text(content: &Content) -> Option<String> {
    content.value().get("text")?.as_text().map(str::to_owned)
}

/// Returns a content with this text, as it is sent.
pub(super) fn content(words: &str) -> Content {
    Content::text(words, &Limits::default()).expect("a small content")
}
