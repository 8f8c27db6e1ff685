//! The client against a model of a server, under random cuts, redeliveries, losses and reordering.

use std::collections::{BTreeMap, HashMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::config::Checkpoints;

const ROOMS: [&str; 2] = ["a", "b"];

/// One step of a run.
#[derive(Debug, Clone)]
enum Step {
    /// Another user writes to a room.
    Publish(usize),
    /// The client sends to a room.
    Send(usize),
    /// The server reads the client's next message.
    Read,
    /// The client reads what the server has written.
    Deliver,
    /// The same, and the frame is delivered twice.
    Twice,
    /// The last frame that the server has written is lost: a faulty server, not a network.
    Lose,
    /// Two frames that the server has written are swapped.
    Swap,
    /// The connection is cut, with all frames in flight.
    Cut,
    /// The server drops the session.
    Drop,
    /// The server refuses the next send retryably.
    Refuse,
    /// Time passes.
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize).prop_map(Step::Publish),
        4 => (0..2_usize).prop_map(Step::Send),
        6 => Just(Step::Read),
        9 => Just(Step::Deliver),
        1 => Just(Step::Twice),
        1 => Just(Step::Lose),
        1 => Just(Step::Swap),
        2 => Just(Step::Cut),
        1 => Just(Step::Drop),
        2 => Just(Step::Refuse),
        2 => Just(Step::Wait),
    ]
}

/// A server with logs, dedup, one session and its checkpoint.
#[derive(Default)]
struct Server {
    logs: BTreeMap<RoomId, Vec<Option<MessageId>>>,
    sent: HashMap<MessageId, u64>,
    session: bool,
    rev: u64,
    checkpoint: BTreeMap<RoomId, u64>,
    /// How many of the next sends are refused retryably.
    refusing: usize,
    /// The refused sends that must be retried before others.
    awaited: HashMap<RoomId, MessageId>,
    /// The cursors of the connection's subscriptions.
    subscribers: BTreeMap<RoomId, u64>,
    to_client: VecDeque<Value>,
    to_server: VecDeque<Vec<Command>>,
}

impl Server {
    fn publish(&mut self, room: &RoomId, id: Option<MessageId>) -> u64 {
        let log = self.logs.entry(room.clone()).or_default();
        log.push(id);
        log.len() as u64
    }

    /// Writes all events that the subscriptions lack.
    fn feed(&mut self) {
        for (room, reader) in &mut self.subscribers {
            let head = self.logs.get(room).map_or(0, |log| log.len() as u64);
            for n in *reader + 1..=head {
                let mut pushed = (*event(room.as_str(), n)).clone();
                pushed.id = self.logs[room][n as usize - 1].clone();
                self.to_client.push_back(Push::Event(Arc::new(pushed)).to_value());
            }
            *reader = head;
        }
    }

    fn cut(&mut self) {
        self.subscribers.clear();
        self.to_client.clear();
        self.to_server.clear();
    }

    fn serve(&mut self, command: Command) {
        let id = command.id;
        let reply = match command.body {
            CommandBody::Hello(hello) => {
                let resumed = hello.session.is_some() && self.session;
                if !resumed {
                    (self.rev, self.session) = (0, true);
                    self.checkpoint.clear();
                    self.awaited.clear();
                }
                Reply::Welcome(Box::new(welcome(resumed)))
            }
            CommandBody::Subscribe { room, since } => {
                let cursor = since.unwrap_or(at(0));
                let status = self.follow(&room, cursor.seq.get());
                Reply::Rooms { statuses: vec![status], rev: self.rev, generation: 1 }
            }
            CommandBody::Resume { rev: Some(rev), .. } if rev != self.rev => {
                let message = String::new();
                let refusal = ErrorReply { id: Some(id), code: 4401, message, retry_after: None };
                return self.to_client.push_back(refusal.to_value());
            }
            CommandBody::Resume { cursors, rev } => {
                let mut all = if rev.is_some() { self.checkpoint.clone() } else { BTreeMap::new() };
                all.extend(cursors.into_iter().map(|(room, cursor)| (room, cursor.seq.get())));
                let statuses = all.into_iter().map(|(room, seq)| self.follow(&room, seq)).collect();
                Reply::Rooms { statuses, rev: self.rev, generation: 1 }
            }
            CommandBody::Checkpoint { cursors } => {
                self.rev += 1;
                self.checkpoint
                    .extend(cursors.into_iter().map(|(room, cursor)| (room, cursor.seq.get())));
                Reply::Checkpoint { rev: self.rev }
            }
            CommandBody::Send { to: Target::Room(room), id: message, .. } => {
                if let Some(code) = self.refuses(&room, &message) {
                    let (code, message) = (code.number(), String::new());
                    let refusal = ErrorReply { id: Some(id), code, message, retry_after: None };
                    return self.to_client.push_back(refusal.to_value());
                }
                let known = self.sent.get(&message).copied();
                let seq = known.unwrap_or_else(|| self.publish(&room, Some(message.clone())));
                self.sent.insert(message, seq);
                append_ack(room.as_str(), seq)
            }
            CommandBody::Ping => Reply::Pong(Timestamp::from_millis(1)),
            other => panic!("not in this model: {other:?}"),
        };
        self.to_client.push_back(reply.to_value(id));
    }

    fn refuses(&mut self, room: &RoomId, message: &MessageId) -> Option<Code> {
        if self.awaited.get(room).is_some_and(|awaited| awaited != message) {
            return Some(Code::SenderOrder);
        }
        self.awaited.remove(room);
        if self.refusing == 0 {
            return None;
        }
        self.refusing -= 1;
        self.awaited.insert(room.clone(), message.clone());
        Some(Code::StoreUnavailable)
    }

    fn follow(&mut self, name: &RoomId, from: u64) -> RoomStatus {
        self.rev += 1;
        self.checkpoint.insert(name.clone(), from);
        self.subscribers.insert(name.clone(), from);
        status(name.as_str(), Status::Ok, Some(at(from)))
    }
}

struct World {
    rig: Rig,
    server: Server,
    sent: Vec<(RoomId, MessageId)>,
    delivered: BTreeMap<RoomId, Vec<u64>>,
}

impl World {
    fn new() -> Self {
        let checkpoints = Checkpoints::Auto { events: 3, idle: Duration::from_secs(5) };
        let config =
            Config { checkpoints, max_queued_events: 8, send_retries: 1000, ..Config::default() };
        let cursors = ROOMS.iter().map(|name| (room(name), at(0))).collect();
        let rig = Rig::with(config, Identity::default(), Saved { session: None, cursors });
        let mut world =
            Self { rig, server: Server::default(), sent: Vec::new(), delivered: BTreeMap::new() };
        world.connect();
        world
    }

    fn connect(&mut self) {
        self.rig.machine.on_connected();
        self.collect();
    }

    /// Puts the client's messages in flight, and records its events.
    fn collect(&mut self) {
        for event in self.rig.events() {
            if let ClientEvent::Event(event) = event {
                self.delivered.entry(event.room.clone()).or_default().push(event.seq.get());
            }
        }
        self.rig.pump();
        self.server.to_server.extend(std::mem::take(&mut self.rig.messages));
    }

    fn read(&mut self) {
        if let Some(message) = self.server.to_server.pop_front() {
            message.into_iter().for_each(|command| self.server.serve(command));
        }
        self.server.feed();
    }

    fn deliver(&mut self, twice: bool) {
        let Some(frame) = self.server.to_client.pop_front() else { return };
        self.rig.arrive(&frame);
        if twice {
            self.rig.arrive(&frame);
        }
        self.collect();
    }

    fn cut(&mut self) {
        self.server.cut();
        self.rig.lost(None);
        self.back_online();
    }

    fn back_online(&mut self) {
        let until = self.rig.machine.deadline().expect("a planned reconnection");
        self.rig.pass(until.saturating_duration_since(self.rig.now));
        self.connect();
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Publish(at) => {
                self.server.publish(&room(ROOMS[at]), None);
                self.server.feed();
            }
            Step::Send(at) => {
                let body = send(ROOMS[at], self.sent.len() as u64);
                if let CommandBody::Send { id, .. } = &body {
                    self.sent.push((room(ROOMS[at]), id.clone()));
                }
                self.rig.ask(body);
                self.collect();
            }
            Step::Read => self.read(),
            Step::Deliver => self.deliver(false),
            Step::Twice => self.deliver(true),
            Step::Lose => self.lose(),
            Step::Swap if self.server.to_client.len() > 1 => self.swap(),
            Step::Swap => {}
            Step::Refuse => self.server.refusing += 1,
            Step::Wait => {
                self.rig.pass(Duration::from_millis(150));
                self.collect();
            }
            Step::Cut => self.cut(),
            Step::Drop => {
                self.server.session = false;
                self.cut();
            }
        }
    }

    /// Loses pushes only: the protocol promises one answer to each command on a connection that
    /// stays open.
    fn lose(&mut self) {
        if self
            .server
            .to_client
            .back()
            .is_some_and(|frame| frame.get("t").and_then(Value::as_text) == Some("event"))
        {
            self.server.to_client.pop_back();
        }
    }

    fn swap(&mut self) {
        let is_event = |frame: &Value| frame.get("t").and_then(Value::as_text) == Some("event");
        if self.server.to_client.iter().take(2).all(is_event) {
            self.server.to_client.swap(0, 1);
        }
    }

    /// Runs until nothing is in flight, with one more event in each room so that a lost last one is
    /// detected.
    fn settle(&mut self) {
        for name in ROOMS {
            self.server.publish(&room(name), None);
        }
        for _ in 0..400 {
            self.read();
            while !self.server.to_client.is_empty() {
                self.deliver(false);
            }
            if self.server.to_server.is_empty() {
                // Timers become due.
                self.rig.pass(Duration::from_millis(500));
                self.collect();
            }
        }
    }

    fn check(&self) {
        for name in ROOMS {
            let log = &self.server.logs[&room(name)];
            let delivered = self.delivered.get(&room(name)).cloned().unwrap_or_default();
            assert_eq!(
                delivered,
                (1..=log.len() as u64).collect::<Vec<_>>(),
                "all of {name}, in order, once"
            );
            let kept: Vec<_> = log.iter().flatten().cloned().collect();
            let sent: Vec<_> = self
                .sent
                .iter()
                .filter(|(to, _)| *to == room(name))
                .map(|(_, id)| id.clone())
                .collect();
            assert_eq!(kept, sent, "all sends to {name}, in order, once");
        }
        assert_eq!(self.rig.replies.len(), self.sent.len());
        assert!(self.rig.replies.iter().all(|(_, reply)| reply.is_ok()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Under any sequence of faults each event is delivered once and in order.
    #[test]
    fn events_arrive_once_in_order(steps in proptest::collection::vec(step(), 0..120)) {
        let mut world = World::new();
        for step in steps {
            world.act(step);
        }
        world.settle();
        world.check();
    }
}
