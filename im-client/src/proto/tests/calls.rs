//! Subscribing and unsubscribing against a model of a server, under random interleavings of calls,
//! answers and cuts: the last call wins.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::config::Checkpoints;

const ROOMS: [&str; 3] = ["a", "b", "c"];

/// One step of a run.
#[derive(Debug, Clone)]
enum Step {
    /// The application subscribes, from the head or from the start of the log.
    Subscribe(usize, bool),
    Unsubscribe(usize),
    /// Another user writes to a room.
    Publish(usize),
    /// The server reads the client's next message.
    Read,
    /// The client reads what the server has written.
    Deliver,
    /// Two replies that the server has written are swapped.
    Swap,
    /// An event is lost in transit, so that the client has a gap to repair.
    Lose,
    /// The server refuses the next subscription.
    Refuse,
    Cut,
    /// The server drops the session.
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    let room = || 0..ROOMS.len();
    prop_oneof![
        6 => (room(), any::<bool>()).prop_map(|(room, whole)| Step::Subscribe(room, whole)),
        6 => room().prop_map(Step::Unsubscribe),
        4 => room().prop_map(Step::Publish),
        6 => Just(Step::Read),
        8 => Just(Step::Deliver),
        3 => Just(Step::Swap),
        1 => Just(Step::Lose),
        1 => Just(Step::Refuse),
        2 => Just(Step::Cut),
        1 => Just(Step::Drop),
    ]
}

/// A server with one session. Replies and pushes share one stream.
#[derive(Default)]
struct Server {
    heads: BTreeMap<RoomId, u64>,
    has_session: bool,
    rev: u64,
    checkpoint: BTreeMap<RoomId, u64>,
    subscribers: BTreeMap<RoomId, u64>,
    refuses: bool,
    /// Nothing was subscribed on this connection yet: the first subscription replaces the session's
    /// rooms.
    unconfirmed: bool,
    to_client: VecDeque<Value>,
    to_server: VecDeque<Vec<Command>>,
}

impl Server {
    fn feed(&mut self) {
        for (room, cursor) in &mut self.subscribers {
            for n in *cursor + 1..=self.heads[room] {
                self.to_client.push_back(Push::Event(event(room.as_str(), n)).to_value());
                *cursor = n;
            }
        }
    }

    fn begin(&mut self) {
        if std::mem::take(&mut self.unconfirmed) {
            self.checkpoint.clear();
        }
    }

    fn subscribe(&mut self, room: &RoomId, from: u64) -> RoomStatus {
        self.rev += 1;
        self.checkpoint.insert(room.clone(), from);
        self.subscribers.insert(room.clone(), from);
        status(room.as_str(), Status::Ok, Some(at(from)))
    }

    fn carry_out(&mut self, command: Command) {
        let id = command.id;
        let refusal = |code: Code| {
            let message = String::new();
            ErrorReply { id: Some(id), code: code.number(), message, retry_after: None }.to_value()
        };
        let reply = match command.body {
            CommandBody::Hello(hello) => {
                let resumed = hello.session.is_some() && self.has_session;
                self.unconfirmed = true;
                if !resumed {
                    (self.rev, self.has_session) = (0, true);
                    self.checkpoint.clear();
                }
                Reply::Welcome(Box::new(welcome(resumed)))
            }
            CommandBody::Subscribe { .. } if std::mem::take(&mut self.refuses) => {
                return self.to_client.push_back(refusal(Code::NotFound));
            }
            CommandBody::Subscribe { room, since } => {
                self.begin();
                let from = since.map_or(self.heads[&room], |cursor| cursor.seq.get());
                let statuses = vec![self.subscribe(&room, from)];
                Reply::Rooms { statuses, rev: self.rev, generation: 1 }
            }
            CommandBody::Unsubscribe { room } => {
                self.rev += 1;
                self.checkpoint.remove(&room);
                self.subscribers.remove(&room);
                Reply::Checkpoint { rev: self.rev }
            }
            CommandBody::Resume { rev: Some(rev), .. } if rev != self.rev => {
                return self.to_client.push_back(refusal(Code::StaleCheckpoint));
            }
            CommandBody::Resume { cursors, rev } => {
                match rev {
                    Some(_) => self.unconfirmed = false,
                    None => self.begin(),
                }
                let cursors = cursors.into_iter().map(|(room, cursor)| (room, cursor.seq.get()));
                self.checkpoint.extend(cursors);
                self.rev += 1;
                let all: Vec<_> = self.checkpoint.clone().into_iter().collect();
                let statuses =
                    all.into_iter().map(|(room, from)| self.subscribe(&room, from)).collect();
                Reply::Rooms { statuses, rev: self.rev, generation: 1 }
            }
            CommandBody::Checkpoint { cursors } => {
                self.rev += 1;
                for (room, cursor) in cursors {
                    self.checkpoint.entry(room).and_modify(|kept| *kept = cursor.seq.get());
                }
                Reply::Checkpoint { rev: self.rev }
            }
            CommandBody::Ping => Reply::Pong(Timestamp::from_millis(1)),
            other => panic!("not in this model: {other:?}"),
        };
        self.to_client.push_back(reply.to_value(id));
    }
}

struct World {
    rig: Rig,
    server: Server,
    /// The application's calls in their order.
    calls: Vec<(CommandId, RoomId, bool)>,
    /// The seqs that the application received, by room, since the room's cursor was last set.
    received: Vec<(RoomId, u64)>,
}

impl World {
    fn new() -> Self {
        let checkpoints = Checkpoints::Auto { events: 3, idle: Duration::from_secs(5) };
        let heads = ROOMS.iter().map(|name| (room(name), 2)).collect();
        let server = Server { heads, ..Server::default() };
        let rig = Rig::new(Config { checkpoints, ..Config::default() });
        let mut world = Self { rig, server, calls: Vec::new(), received: Vec::new() };
        world.connect();
        world
    }

    fn connect(&mut self) {
        self.rig.machine.on_connected();
        self.collect();
    }

    fn collect(&mut self) {
        for event in self.rig.events() {
            if let ClientEvent::Event(event) = event {
                self.received.push((event.room.clone(), event.seq.get()));
            }
        }
        self.rig.pump();
        self.server.to_server.extend(std::mem::take(&mut self.rig.messages));
    }

    fn call(&mut self, at_room: usize, subscribes: bool, whole: bool) {
        let room = room(ROOMS[at_room]);
        let body = match subscribes {
            true => CommandBody::Subscribe { room: room.clone(), since: whole.then(|| at(0)) },
            false => CommandBody::Unsubscribe { room: room.clone() },
        };
        let id = self.rig.ask(body);
        self.calls.push((id, room, subscribes));
        self.collect();
    }

    fn read(&mut self) {
        let message = self.server.to_server.pop_front().unwrap_or_default();
        message.into_iter().for_each(|command| self.server.carry_out(command));
        self.server.feed();
    }

    fn deliver(&mut self) {
        if let Some(frame) = self.server.to_client.pop_front() {
            self.rig.arrive(&frame);
            self.collect();
        }
    }

    fn cut(&mut self) {
        self.server.subscribers.clear();
        self.server.to_client.clear();
        self.server.to_server.clear();
        self.rig.cut();
        self.connect();
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Subscribe(at, whole) => self.call(at, true, whole),
            Step::Unsubscribe(at) => self.call(at, false, false),
            Step::Publish(at) => {
                *self.server.heads.get_mut(&room(ROOMS[at])).unwrap() += 1;
                self.server.feed();
            }
            Step::Read => self.read(),
            Step::Deliver => self.deliver(),
            Step::Swap => {
                let is_reply = |frame: &Value| frame.get("id").is_some();
                let waiting = &mut self.server.to_client;
                if waiting.len() > 1 && waiting.iter().take(2).all(is_reply) {
                    waiting.swap(0, 1);
                }
            }
            Step::Lose => {
                let is_event = |frame: &&Value| frame.get("id").is_none();
                if self.server.to_client.back().as_ref().is_some_and(is_event) {
                    self.server.to_client.pop_back();
                }
            }
            Step::Refuse => self.server.refuses = true,
            Step::Cut => self.cut(),
            Step::Drop => {
                self.server.has_session = false;
                self.cut();
            }
        }
    }

    fn settle(&mut self) {
        self.server.refuses = false;
        for _ in 0..80 {
            self.read();
            while !self.server.to_client.is_empty() {
                self.deliver();
            }
            if self.server.to_server.is_empty() {
                self.rig.pass(Duration::from_millis(500));
                self.collect();
            }
        }
    }

    /// The rooms whose last unrefused call subscribes.
    fn wanted(&self) -> BTreeSet<RoomId> {
        let refused = |id| self.rig.replies.iter().any(|(to, reply)| *to == id && reply.is_err());
        let mut wanted = BTreeSet::new();
        for (_, room, subscribes) in self.calls.iter().filter(|(id, ..)| !refused(*id)) {
            match subscribes {
                true => wanted.insert(room.clone()),
                false => wanted.remove(room),
            };
        }
        wanted
    }

    fn check(&mut self) {
        let wanted = self.wanted();
        let subscribed = |cursors: Vec<(RoomId, Cursor)>| -> BTreeSet<RoomId> {
            cursors.into_iter().map(|(room, _)| room).collect()
        };
        assert_eq!(subscribed(self.rig.machine.saved().cursors), wanted, "the client");
        let served: BTreeSet<_> = self.server.subscribers.keys().cloned().collect();
        assert_eq!(served, wanted, "the server's connection");
        let kept: BTreeSet<_> = self.server.checkpoint.keys().cloned().collect();
        assert_eq!(kept, wanted, "the server's checkpoint");
        assert_eq!(self.rig.replies.len(), self.calls.len(), "one answer to each call");
        // The first event reveals a loss at the end, and the second is delivered to all
        // subscriptions.
        for _ in 0..2 {
            self.received.clear();
            self.server.heads.values_mut().for_each(|head| *head += 1);
            self.settle();
        }
        self.received.sort();
        let expected: Vec<_> =
            wanted.iter().map(|room| (room.clone(), self.server.heads[room])).collect();
        assert_eq!(self.received, expected, "the next event of each, once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// In any interleaving, exactly the rooms whose last call subscribes are subscribed, here and
    /// at the server.
    #[test]
    fn last_call_wins_in_any_interleaving(steps in proptest::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        for step in steps {
            world.act(step);
        }
        world.settle();
        world.check();
    }
}

/// Rooms that were subscribed and unsubscribed leave no state behind.
#[test]
fn rooms_that_were_left_are_released() {
    let mut rig = Rig::online(Config { checkpoints: Checkpoints::Manual, ..Config::default() });
    let before = rig.machine.held();
    for n in 0..2000 {
        let name = format!("room-{n}");
        rig.subscribe(&name, at(3), 2 * n + 1);
        rig.push(Push::Event(event(&name, 9)));
        let fill = rig.written().remove(0);
        let id = rig.ask(CommandBody::Unsubscribe { room: room(&name) });
        rig.reply(id, &Reply::Checkpoint { rev: 2 * n + 2 });
        rig.refuse(fill.id, Code::NotFound);
    }
    rig.events();
    rig.written();
    assert_eq!(rig.machine.held(), before);
}
