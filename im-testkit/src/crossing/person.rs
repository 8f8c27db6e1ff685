//! A client that speaks by hand, remembers over its connections what a client has to, and reports all it does to the
//! history checker.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use im_core::wire::{
    Command, CommandBody, Content, Encoding, ErrorReply, Limits, Push, ResumeToken, RoomKind,
    RoomStatus, SendReceipt, ServerFrame, StateUpdate, Status, Value, Welcome, encode_batch,
};
use im_core::{Code, CommandId, Cursor, RoomId, Seq, Stamp, UserId};

use super::case::Transport;
use super::deed::Deed;
use super::ground::Route;
use super::line::{Ended, Item, Line};
use crate::history::{Checker, Reader};
use crate::transport_suite::peer::{hello_again, hello_as, soon, user};

/// Who waits for longer than this for something that must come gives up, and leaves the verdict to the checker.
const PATIENCE: Duration = Duration::from_secs(10);

/// The newest value of each key; none where it was unset.
pub(super) type Values = BTreeMap<String, (Stamp, Option<String>)>;

/// A client, over all its connections.
pub(super) struct Person {
    pub(super) name: UserId,
    pub(super) room: RoomId,
    pub(super) checker: Checker,
    pub(super) reader: Reader,
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
    /// The newest mark, and where the reader stood with it.
    mark: Option<(String, Cursor)>,
    commands: u64,
    answers: HashMap<u64, Result<Value, ErrorReply>>,
    /// What came down and was not looked at.
    inbox: VecDeque<Item>,
    /// Whether nobody may get a signal of this person twice.
    pub(super) announces: bool,
    /// All servers have heard of all there is, and nobody writes.
    pub(super) quiet: bool,
    /// The texts of everything that was looked at.
    pub(super) heard: HashSet<String>,
    /// The newest value of each key.
    values: Values,
}

impl Person {
    pub(super) fn new(name: &str, room: &RoomId, checker: &Checker, route: &Route) -> Self {
        Self {
            name: user(name),
            room: room.clone(),
            checker: checker.clone(),
            reader: checker.reader(name),
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
            mark: None,
            commands: 0,
            answers: HashMap::new(),
            inbox: VecDeque::new(),
            announces: true,
            quiet: false,
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
        self.reader.connected();
    }

    /// Ends the connection without a good-bye. What was not looked at is lost.
    pub(super) fn cut(&mut self) {
        drop(self.leave());
    }

    /// As [`Person::cut`] for the client; the server's side stays as it is while the line is held.
    pub(super) fn leave(&mut self) -> Option<Line> {
        self.inbox.clear();
        self.answers.clear();
        self.reader.disconnected();
        self.line.take()
    }

    /// Was connected to the end, and had every chance to read on. Gives the values that are held.
    pub(super) fn finish(self) -> Values {
        self.reader.finish();
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
        soon(self.line().write_half(&message)).await;
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
        let receipt = SendReceipt::from_value(receipt).expect("a whole receipt");
        Cursor { epoch: receipt.epoch, seq: receipt.seq }
    }

    /// Follows the room on a connection that carries everything.
    pub(super) async fn follows(&mut self) {
        let follow = self.follow();
        let follow = self.begin(follow).await;
        assert!(self.followed(follow).await);
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
        self.reader.cursor(&self.room).unwrap_or(self.start)
    }

    pub(super) fn follow(&mut self) -> CommandBody {
        let since = Some(self.cursor());
        self.reader.asked(&self.room, since);
        CommandBody::Sub { room: self.room.clone(), since }
    }

    pub(super) fn resume(&mut self) -> CommandBody {
        let cursor = self.cursor();
        let known = self.rev.is_some() && self.confirmed == Some(cursor);
        let cursors = if known { vec![] } else { vec![(self.room.clone(), cursor)] };
        self.reader.asked(&self.room, Some(cursor));
        CommandBody::Resume { cursors, rev: self.rev }
    }

    /// The answer to `sub` or `resume`. Gives whether it was taken: `resume` is not if the server holds another checkpoint.
    pub(super) async fn followed(&mut self, following: CommandId) -> bool {
        let fields = match self.answer(following).await {
            Err(refusal) if refusal.code == Code::StaleCheckpoint.number() => return false,
            answer => answer.expect("the room may be read"),
        };
        let (statuses, rev, generation) =
            RoomStatus::list_from_value(fields).expect("a whole answer");
        assert_eq!(statuses.len(), 1, "one room, one status");
        (self.rev, self.confirmed) = (Some(rev), Some(self.cursor()));
        if !self.transport.is_halves() {
            // Where pushes come by themselves, what counts is what comes down.
            self.reader.rooms(&statuses, generation);
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
        self.mark = None;
        if self.token.is_none() {
            let bodies = vec![self.hello(), self.follow()];
            let ids = self.begin_all(bodies).await;
            self.welcomed(ids[0]).await;
            assert!(self.followed(ids[1]).await);
            return;
        }
        let bodies = vec![self.hello(), self.resume()];
        let ids = self.begin_all(bodies).await;
        self.welcomed(ids[0]).await;
        if !self.followed(ids[1]).await {
            // The server has heard more than is known here: then it is told everything.
            (self.rev, self.confirmed) = (None, None);
            let resume = self.resume();
            let id = self.begin(resume).await;
            assert!(self.followed(id).await);
        }
    }

    /// Goes on from the last mark alone.
    pub(super) async fn take_up(&mut self) {
        let (mark, cursor) = self.mark.clone().expect("a mark was handed out");
        let session = named(self.token.as_ref().expect("a session"));
        self.line().name(session);
        // What the server says by a mark: whatever comes later follows.
        self.reader.status(&self.room, Status::Ok, Some(cursor), cursor.seq);
        soon(self.line().ask(Some(&mark))).await;
    }

    /// Opens the downlink while there is nothing that could come down.
    pub(super) async fn listen(&mut self) {
        let items = soon(self.line().listen()).await.expect("a downlink");
        self.sort(items);
        self.pass_marks();
    }

    /// Polls on, if this is a transport that polls: what was handed out is confirmed by that.
    pub(super) async fn poll(&mut self) {
        if self.transport.is_polls() {
            let mark = self.mark.as_ref().map(|(mark, _)| mark.clone());
            soon(self.line().ask(mark.as_deref())).await;
        }
    }

    /// As [`Person::poll`] where a poll waits for something to come.
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

    // ---- what comes down ----

    /// Looks at what comes down until `done`. Gives whether it came to that: if not, something is missing.
    pub(super) async fn read_until(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        let reading = async {
            while !done(self) {
                self.take().await;
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.is_ok()
    }

    /// The same until somebody's words are there.
    pub(super) async fn hear(&mut self, words: &str) -> bool {
        self.read_until(|person| person.heard.contains(words)).await
    }

    /// Until one of these is there.
    pub(super) async fn hear_any(&mut self, deeds: &[Deed]) {
        self.read_until(|person| deeds.iter().any(|deed| person.heard.contains(deed.words())))
            .await;
    }

    /// Until all the signals among these are there: they may be lost, but there was no reason for it. Polls that go to one
    /// server and then to another are one: who is not there at the moment misses it.
    pub(super) async fn hear_signals(&mut self, deeds: &[Deed]) {
        if self.transport.is_polls() && self.route.wanders() {
            return;
        }
        for signal in deeds.iter().filter(|deed| deed.is_signal()) {
            assert!(self.hear(signal.words()).await, "{} missed {signal:?}", self.name);
        }
    }

    /// Until everything that anybody was told of has come: all events, and the newest state.
    pub(super) async fn level(&mut self) {
        self.read_until(|person| person.reader.is_whole() && person.reader.has_newest_state())
            .await;
    }

    /// Until the room has said how it answers.
    pub(super) async fn begun(&mut self) {
        let room = self.room.clone();
        self.read_until(|person| person.reader.is_following(&room)).await;
    }

    /// Until the newest mark stands for all that was read.
    pub(super) async fn marked(&mut self) {
        if !self.transport.is_halves() {
            return;
        }
        let done = |person: &Self| {
            let marked = person.mark.as_ref().map(|(_, cursor)| *cursor);
            person.inbox.is_empty() && marked == Some(person.cursor())
        };
        self.read_until(done).await;
    }

    /// Looks at the next push.
    pub(super) async fn take(&mut self) {
        let item = loop {
            if let Some(item) = self.inbox.pop_front() {
                break item;
            }
            let mark = self.mark.as_ref().map(|(mark, _)| mark.clone());
            match self.line().down(mark.as_deref()).await {
                Ok(items) => self.sort(items),
                Err(Ended(code)) => panic!("{} was sent away: {code:?}", self.name),
            }
        };
        match item {
            Item::Mark(mark) => self.mark = Some((mark, self.cursor())),
            Item::Frame(frame) => self.look_at(frame),
        }
        self.pass_marks();
    }

    fn pass_marks(&mut self) {
        while let Some(Item::Mark(mark)) = self.inbox.front() {
            self.mark = Some((mark.clone(), self.cursor()));
            self.inbox.pop_front();
        }
    }

    fn look_at(&mut self, frame: Value) {
        let Ok(ServerFrame::Push(mut push)) = ServerFrame::from_value(frame) else { return };
        if self.is_lenient() {
            self.discard(&mut push);
        }
        self.reader.push(&push);
        match push {
            Push::Event(event) => self.heard.extend(text(&event.content)),
            Push::Signal(signal) => self.heard.extend(text(&signal.content)),
            Push::State(update) => self.value(&update),
            Push::Snapshot(part) => part.entries.iter().for_each(|entry| self.value(entry)),
            Push::Room(status) => assert_eq!(status.status, Status::Ok, "nothing was trimmed"),
            Push::Bye(bye) => panic!("{} was sent away: {bye:?}", self.name),
            Push::Mark(_) => {}
        }
    }

    /// From one poll to the next this client comes to another server, which may not have heard yet what the one before it
    /// told of state: it discards what is older, as the protocol wants it.
    fn is_lenient(&self) -> bool {
        self.transport.is_polls() && self.route.wanders() && !self.quiet
    }

    fn discard(&self, push: &mut Push) {
        let older = |update: &StateUpdate| {
            self.values.get(update.key.as_str()).is_some_and(|(held, _)| update.stamp < *held)
        };
        match push {
            Push::Snapshot(part) => part.entries.retain(|entry| !older(entry)),
            Push::State(update) if older(update) => {
                let (stamp, words) = self.values[update.key.as_str()].clone();
                let value = words.map(|words| content(&words));
                *update = Arc::new(StateUpdate { stamp, value, ..StateUpdate::clone(update) });
            }
            _ => {}
        }
    }

    fn value(&mut self, update: &StateUpdate) {
        let words = update.value.as_ref().and_then(text);
        self.heard.extend(words.clone());
        let held = self.values.get(update.key.as_str()).map(|(stamp, _)| *stamp);
        if held.is_none_or(|held| held < update.stamp) {
            self.values.insert(update.key.as_str().to_owned(), (update.stamp, words));
        }
    }

    /// What was on a connection that this client left, and the server did not. Only signals are told to the checker: the
    /// client has no use for the rest. Where it left another server too, that one may have been the last to hear of it, and
    /// not even signals are. Gives the code of the end.
    pub(super) async fn look_back(&mut self, mut line: Line) -> Option<u16> {
        let (items, code) = soon(line.drain()).await;
        let mut bye = None;
        for item in items {
            let Item::Frame(frame) = item else { continue };
            match ServerFrame::from_value(frame) {
                Ok(ServerFrame::Push(Push::Signal(signal))) if !self.route.wanders() => {
                    self.reader.signal(&signal);
                }
                Ok(ServerFrame::Push(Push::Bye(farewell))) => bye = Some(farewell.code),
                _ => {}
            }
        }
        code.or(bye)
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
