//! A client that speaks by hand, remembers over its connections what a client has to, and reports all it does to the
//! history checker.

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

/// Who waits for longer than this for something that must come gives up, and leaves the verdict to the checker.
const PATIENCE: Duration = Duration::from_secs(10);

/// The newest value of each key; none where it was unset.
pub(super) type Values = BTreeMap<String, (Stamp, Option<String>)>;

/// A client, over all its connections.
pub(super) struct User {
    pub(super) name: UserId,
    pub(super) room: RoomId,
    pub(super) checker: Checker,
    pub(super) subscriber: Subscriber,
    route: Route,
    line: Option<Line>,
    transport: Transport,
    encoding: Encoding,
    /// Before everything.
    start: Cursor,
    token: Option<ResumeToken>,
    /// The checkpoint that the server holds, as far as it is known, and the cursor in it.
    rev: Option<u64>,
    confirmed: Option<Cursor>,
    /// The newest stream position, and where the subscriber stood with it.
    position: Option<(String, Cursor)>,
    commands: u64,
    answers: HashMap<u64, Result<Value, ErrorReply>>,
    /// What came down and was not looked at.
    inbox: VecDeque<Item>,
    /// Whether nobody may get a signal of this person twice.
    pub(super) announces: bool,
    /// All servers have heard of all there is, and nobody writes.
    pub(super) quiet: bool,
    /// Others write while this client comes from one server to another.
    pub(super) hurried: bool,
    /// The texts of everything that was looked at.
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

    /// The room began in this epoch.
    pub(super) fn starts_in(&mut self, at: Cursor) {
        self.start = Cursor { seq: Seq::ZERO, ..at };
    }

    // ---- connections ----

    /// Begins another life.
    pub(super) async fn dial(&mut self, transport: Transport, encoding: Encoding) {
        self.cut();
        (self.transport, self.encoding) = (transport, encoding);
        self.line = Some(soon(Line::open(&self.route, transport, encoding)).await);
        self.subscriber.connected();
    }

    /// Ends the connection without a good-bye. What was not looked at is lost.
    pub(super) fn cut(&mut self) {
        drop(self.leave());
    }

    /// As [`User::cut`] for the client; the server's side stays as it is while the line is held.
    pub(super) fn leave(&mut self) -> Option<Line> {
        self.inbox.clear();
        self.answers.clear();
        self.subscriber.disconnected();
        self.line.take()
    }

    /// Was connected to the end, and had every chance to read on. Gives the values that are held.
    pub(super) fn finish(self) -> Values {
        self.subscriber.finish();
        self.values
    }

    fn line(&mut self) -> &mut Line {
        self.line.as_mut().expect("a person who is connected")
    }

    // ---- commands ----

    /// Writes a command, and waits for nothing.
    pub(super) async fn begin(&mut self, body: CommandBody) -> CommandId {
        self.begin_all(vec![body]).await[0]
    }

    /// The same in one message.
    pub(super) async fn begin_all(&mut self, bodies: Vec<CommandBody>) -> Vec<CommandId> {
        let (ids, message) = self.message(bodies);
        soon(self.line().write(&message)).await;
        ids
    }

    /// Writes half of a message.
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

    /// The answer to a command.
    pub(super) async fn answer(&mut self, id: CommandId) -> Result<Value, ErrorReply> {
        loop {
            if let Some(answer) = self.answers.remove(&id.0) {
                return answer;
            }
            let items = soon(self.line().up()).await;
            self.sort(items.unwrap_or_else(|end| panic!("{} got no answer: {end:?}", self.name)));
        }
    }

    /// Replies are found by their number, pushes wait to be looked at.
    fn sort(&mut self, items: Vec<Item>) {
        for item in items {
            let Item::Frame(frame) = &item else {
                self.inbox.push_back(item);
                continue;
            };
            match ServerFrame::from_value(frame.clone()).expect("the server's frames are right") {
                ServerFrame::Ok { id, body } => drop(self.answers.insert(id.0, Ok(body))),
                ServerFrame::Err(refusal) => {
                    let id = refusal.id.expect("these commands have numbers");
                    self.answers.insert(id.0, Err(refusal));
                }
                _ => self.inbox.push_back(item),
            }
        }
    }

    // ---- beginning and coming back ----

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

    /// Makes the room, with these members. Gives how it begins.
    pub(super) async fn founds(&mut self, with: &[&UserId]) -> Cursor {
        let (room, members) = (self.room.clone(), with.iter().copied().cloned().collect());
        let create = CommandBody::Create { room, kind: RoomKind::Group, open: false, members };
        let create = self.begin(create).await;
        let receipt = self.answer(create).await.expect("a new room");
        let ack = AppendAck::from_value(receipt).expect("a whole receipt");
        Cursor { epoch: ack.epoch, seq: ack.seq }
    }

    /// Follows the room on a connection that carries everything.
    pub(super) async fn subscribes(&mut self) {
        let subscribe = self.subscribe();
        let subscribe = self.begin(subscribe).await;
        assert!(self.subscribed(subscribe).await);
    }

    pub(super) async fn welcomed(&mut self, hello: CommandId) {
        let fields = self.answer(hello).await.expect("a welcome");
        let welcome = Welcome::from_value(fields).expect("a whole welcome");
        assert_eq!(welcome.resumed, self.token.is_some(), "a session goes on wherever it is named");
        let token = ResumeToken { session: welcome.session, secret: welcome.secret };
        self.line().name(named(&token));
        self.token = Some(token);
    }

    /// Everything before this cursor is here.
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

    /// The answer to `subscribe` or `resume`. Gives whether it was taken: `resume` is not if the server holds another checkpoint.
    pub(super) async fn subscribed(&mut self, following: CommandId) -> bool {
        let fields = match self.answer(following).await {
            Err(refusal) if refusal.code == Code::StaleCheckpoint.number() => return false,
            answer => answer.expect("the room may be read"),
        };
        let (statuses, rev, generation) =
            RoomStatus::list_from_value(fields).expect("a whole answer");
        assert_eq!(statuses.len(), 1, "one room, one status");
        (self.rev, self.confirmed) = (Some(rev), Some(self.cursor()));
        if !self.transport.is_request_stream() {
            // Where pushes come by themselves, what counts is what comes down.
            self.subscriber.rooms(&statuses, generation);
        }
        true
    }

    /// The answer to `checkpoint`, of the cursor that is here.
    pub(super) async fn confirmed(&mut self, checkpoint: CommandId) {
        let fields = self.answer(checkpoint).await.expect("a checkpoint is written");
        let rev = fields.get("rev").and_then(Value::as_int).expect("a revision");
        (self.rev, self.confirmed) = (Some(rev as u64), Some(self.cursor()));
    }

    /// Comes back: the session goes on, and the room from the cursor. Nothing is listened to yet.
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
            // The server has heard more than is known here: then it is told everything.
            (self.rev, self.confirmed) = (None, None);
            let resume = self.resume();
            let id = self.begin(resume).await;
            assert!(self.subscribed(id).await);
        }
    }

    /// Goes on from the last stream position alone.
    pub(super) async fn resume_stream(&mut self) {
        let (position, cursor) = self.position.clone().expect("a mark was handed out");
        let session = named(self.token.as_ref().expect("a session"));
        self.line().name(session);
        // What the server says by a stream position: whatever comes later follows.
        self.subscriber.status(&self.room, Status::Ok, Some(cursor), cursor.seq);
        soon(self.line().ask(Some(&position))).await;
    }

    /// Opens the downlink while there is nothing that could come down.
    pub(super) async fn listen(&mut self) {
        let items = soon(self.line().listen()).await.expect("a downlink");
        self.sort(items);
        self.pass_positions();
    }

    /// Polls on, if this is a transport that polls: what was handed out is confirmed by that.
    pub(super) async fn poll(&mut self) {
        if self.transport.is_polls() {
            let position = self.position.as_ref().map(|(position, _)| position.clone());
            soon(self.line().ask(position.as_deref())).await;
        }
    }

    /// As [`User::poll`] where a poll waits for something to come.
    pub(super) async fn hold(&mut self) {
        if self.transport == Transport::Long {
            self.poll().await;
        }
    }

    /// Asks for what comes down, on a new downlink.
    pub(super) async fn ask(&mut self) {
        soon(self.line().ask(None)).await;
    }

    /// Something came down that was not read.
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

/// A content with this text, as it is sent.
pub(super) fn content(words: &str) -> Content {
    Content::text(words, &Limits::default()).expect("a small content")
}
