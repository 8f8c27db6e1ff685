//! Tests of the state machine, with explicit server messages (`rules`) and against a small model
//! (`model`).

mod calls;
mod credentials;
mod model;
mod rules;
pub(crate) mod scenarios;
mod uplink;

use std::time::{Duration, Instant};

use im_core::wire::{
    AppendAck, Command, CommandBody, Content, Encoding, ErrorReply, Event, Limits, Map, Push,
    Reply, RoomStatus, Status, Target, Value, Welcome, decode, encode,
};
use im_core::{
    Code, CommandId, Cursor, DeviceId, Epoch, EventKind, MessageId, RoomId, Seq, SessionId,
    Timestamp, UserId,
};

use super::*;

const EPOCH: Epoch = Epoch { generation: 1, incarnation: 1 };

fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

fn seq(n: u64) -> Seq {
    Seq::new(n).unwrap()
}

fn at(n: u64) -> Cursor {
    Cursor { epoch: EPOCH, seq: seq(n) }
}

fn event(name: &str, n: u64) -> Arc<Event> {
    Arc::new(Event {
        room: room(name),
        epoch: EPOCH,
        seq: seq(n),
        from: UserId::new("bob").unwrap(),
        at: Timestamp::from_millis(n),
        kind: EventKind::message(),
        id: None,
        content: Content::text(&format!("event {n}"), &Limits::default()).unwrap(),
    })
}

fn status(name: &str, status: Status, cursor: Option<Cursor>) -> RoomStatus {
    let head = cursor.map_or(Seq::ZERO, |cursor| cursor.seq);
    RoomStatus { room: room(name), status, cursor, head, code: None }
}

fn send(name: &str, n: u64) -> CommandBody {
    CommandBody::Send {
        to: Target::Room(room(name)),
        id: MessageId::new(format!("message-number-{n:04}")).unwrap(),
        kind: EventKind::message(),
        content: Map::from_iter([("n", Value::Int(n as i64))]).into(),
    }
}

fn append_ack(name: &str, n: u64) -> Reply {
    let at = Timestamp::from_millis(n);
    Reply::Appended(AppendAck { room: room(name), epoch: EPOCH, seq: seq(n), at, duplicate: false })
}

fn welcome(resumed: bool) -> Welcome {
    Welcome {
        session: SessionId::new("session").unwrap(),
        secret: Secret::new("secret"),
        user: UserId::new("ann").unwrap(),
        device: DeviceId::new("phone").unwrap(),
        resumed,
        rev: 0,
        expires: None,
        idle: Duration::from_secs(60),
        limits: assumed_limits(),
    }
}

/// A machine, the time, and its outputs.
struct Rig {
    machine: Machine,
    now: Instant,
    /// Written commands that the test has not read yet, by message.
    messages: Vec<Vec<Command>>,
    replies: Vec<(CommandId, Result<Reply, Error>)>,
    connects: usize,
    disconnects: usize,
    fetches: usize,
}

impl Rig {
    fn new(config: Config) -> Self {
        Self::with(config, Identity::default(), Saved::default())
    }

    fn with(config: Config, identity: Identity, saved: Saved) -> Self {
        let mut rig = Self {
            machine: Machine::new(config, Encoding::Json, identity, saved, 42),
            now: Instant::now(),
            messages: Vec::new(),
            replies: Vec::new(),
            connects: 0,
            disconnects: 0,
            fetches: 0,
        };
        rig.machine.start(rig.now);
        rig.pump();
        rig
    }

    /// A rig that is connected and welcomed.
    fn online(config: Config) -> Self {
        let mut rig = Self::new(config);
        rig.welcomed(false);
        rig.events();
        rig
    }

    fn pump(&mut self) {
        while let Some(output) = self.machine.output() {
            match output {
                Output::Connect => self.connects += 1,
                Output::Disconnect => self.disconnects += 1,
                Output::FetchToken => self.fetches += 1,
                Output::Reply(id, reply) => self.replies.push((id, reply)),
                Output::Transmit(bytes) => {
                    let limits = Limits::default();
                    let frames = decode(&bytes, Encoding::Json, &limits)
                        .expect("within the server's limits");
                    self.messages.push(
                        frames.into_iter().map(|f| Command::from_value(f).unwrap()).collect(),
                    );
                }
            }
        }
    }

    /// Connects and answers the greeting. Returns the other commands of the same message.
    fn welcomed(&mut self, resumed: bool) -> Vec<Command> {
        self.machine.on_connected();
        let mut flight = self.written();
        let hello = flight.remove(0);
        assert!(matches!(hello.body, CommandBody::Hello(_)));
        self.reply(hello.id, &Reply::Welcome(Box::new(welcome(resumed))));
        flight
    }

    /// Returns all commands written since the last call.
    fn written(&mut self) -> Vec<Command> {
        self.pump();
        std::mem::take(&mut self.messages).into_iter().flatten().collect()
    }

    fn ask(&mut self, body: CommandBody) -> CommandId {
        let id = self.machine.on_commands(self.now, vec![body])[0];
        self.pump();
        id
    }

    fn reply(&mut self, id: CommandId, reply: &Reply) {
        self.arrive(&reply.to_value(id));
    }

    fn refuse(&mut self, id: CommandId, code: Code) {
        self.refuse_for(id, code, Duration::ZERO);
    }

    /// Refuses a command with a `retry_ms`.
    fn refuse_for(&mut self, id: CommandId, code: Code, wait: Duration) {
        let (message, retry_after) = ("no".into(), Some(wait).filter(|wait| !wait.is_zero()));
        let refusal = ErrorReply { id: Some(id), code: code.number(), message, retry_after };
        self.arrive(&refusal.to_value());
    }

    fn push(&mut self, push: Push) {
        self.arrive(&push.to_value());
    }

    fn arrive(&mut self, frame: &Value) {
        self.machine.on_message(self.now, &encode(frame, Encoding::Json), &mut |_| {});
        self.pump();
    }

    /// Subscribes to a room from a cursor; the server accepts.
    fn subscribe(&mut self, name: &str, cursor: Cursor, rev: u64) {
        let id = self.ask(CommandBody::Subscribe { room: room(name), since: Some(cursor) });
        self.written();
        let statuses = vec![status(name, Status::Ok, Some(cursor))];
        self.reply(id, &Reply::Rooms { statuses, rev, generation: 1 });
    }

    fn lost(&mut self, code: Option<Code>) {
        self.machine.on_lost(self.now, Cause::new(code.map(Code::number), "lost"));
        self.pump();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.machine.on_time(self.now);
        self.pump();
    }

    /// Cuts the connection and opens the next one.
    fn cut(&mut self) {
        self.lost(None);
        let until = self.machine.deadline().expect("a planned reconnection");
        self.pass(until - self.now);
    }

    fn events(&mut self) -> Vec<ClientEvent> {
        let events = std::iter::from_fn(|| self.machine.event()).collect();
        self.machine.on_events_consumed(self.now);
        self.pump();
        events
    }

    /// Returns the seqs of the durable events delivered since the last call.
    fn seqs(&mut self) -> Vec<u64> {
        let seq = |event| {
            if let ClientEvent::Event(event) = event { Some(event.seq.get()) } else { None }
        };
        self.events().into_iter().filter_map(seq).collect()
    }
}

impl Machine {
    /// Counts the commands and rooms that the machine holds.
    fn held(&self) -> (usize, usize, usize) {
        (self.flight.len(), self.rooms.len(), self.outputs.len() + self.events.len())
    }
}

fn names(commands: &[Command]) -> Vec<&'static str> {
    commands.iter().map(|command| command.body.name()).collect()
}
