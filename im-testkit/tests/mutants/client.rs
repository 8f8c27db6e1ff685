//! A small client on a connection of the engine, without a transport. Reports to a checker.

use std::time::Duration;

use bytes::Bytes;
use im_core::engine::{Connection, Engine, Peer};
use im_core::ports::Credentials;
use im_core::wire::{
    AppendAck, Command, CommandBody, Content, Encoding, ErrorReply, Hello, Limits, Map, Push,
    RoomStatus, ServerFrame, Target, VERSION, Value, decode, encode,
};
use im_core::{CommandId, Cursor, EventKind, MessageId, RoomId, Stamp, StateKey, UserId};
use im_testkit::history::{Checker, Fingerprint, Subscriber};
use im_testkit::mutants::{Mutant, MutantFrames, Overheard};

pub(crate) struct Client {
    pub(crate) user: UserId,
    pub(crate) subscriber: Subscriber,
    checker: Checker,
    room: RoomId,
    encoding: Encoding,
    frames: MutantFrames,
    connection: Option<Connection>,
    commands: u64,
}

/// The time without a push after which none is expected. The test's clock is paused.
const QUIET: Duration = Duration::from_secs(1);

impl Client {
    pub(crate) fn new(
        name: &str,
        encoding: Encoding,
        room: &RoomId,
        checker: &Checker,
        mutant: Option<Mutant>,
        overheard: &Overheard,
    ) -> Self {
        Self {
            user: UserId::new(name).unwrap(),
            subscriber: checker.subscriber(name),
            checker: checker.clone(),
            room: room.clone(),
            encoding,
            frames: MutantFrames::new(mutant, encoding, overheard.clone()),
            connection: None,
            commands: 0,
        }
    }

    /// Opens a connection in place of an earlier one and sends `hello`.
    pub(crate) async fn connect(&mut self, engine: &Engine) {
        self.cut();
        let credentials = Credentials::default();
        let peer = Peer { transport: "test", encoding: self.encoding, address: None, credentials };
        self.connection = Some(engine.accept(peer).unwrap());
        self.subscriber.connected();
        self.frames.connected();
        let hello = Hello {
            version: VERSION,
            token: None,
            user: Some(self.user.clone()),
            device: None,
            session: None,
            client: None,
        };
        self.call(CommandBody::Hello(Box::new(hello))).await.unwrap();
    }

    /// Ends the connection at once: pushes in flight are lost.
    pub(crate) fn cut(&mut self) {
        self.connection = None;
        self.subscriber.disconnected();
    }

    /// Subscribes to the room from its head.
    pub(crate) async fn subscribe(&mut self) {
        self.subscriber.subscribe_sent(&self.room.clone(), None);
        self.call(CommandBody::Subscribe { room: self.room.clone(), since: None }).await.unwrap();
    }

    /// Subscribes to the room from the client's cursor.
    pub(crate) async fn resume(&mut self) {
        let cursor = self.subscriber.cursor(&self.room).unwrap();
        self.subscriber.subscribe_sent(&self.room.clone(), Some(cursor));
        let cursors = vec![(self.room.clone(), cursor)];
        self.call(CommandBody::Resume { cursors, rev: None }).await.unwrap();
    }

    /// Sends a text under this id and reports the outcome.
    pub(crate) async fn send(
        &mut self,
        id: &MessageId,
        text: &str,
    ) -> Result<AppendAck, ErrorReply> {
        let value = Value::from(Map::from_iter([("text", text)]));
        let content = Content::new(&value, &Limits::default()).unwrap();
        let says = Fingerprint::of(&EventKind::message(), &content);
        self.checker.sent(&self.user, &self.room, id, says);
        let body = CommandBody::Send {
            to: Target::Room(self.room.clone()),
            id: id.clone(),
            kind: EventKind::message(),
            content: value,
        };
        match self.call(body).await {
            Ok(reply) => {
                let ack = AppendAck::from_value(reply).unwrap();
                let at = Cursor { epoch: ack.epoch, seq: ack.seq };
                self.checker.acked(&self.user, &self.room, id, says, at);
                Ok(ack)
            }
            Err(error) => {
                self.checker.refused(&self.user, &self.room, id, says);
                Err(error)
            }
        }
    }

    /// Sends `times` texts, each under its own id.
    pub(crate) async fn chat(&mut self, times: u32) {
        for n in 0..times {
            self.send(&MessageId::random(), &format!("{n} from {}", self.user)).await.unwrap();
        }
    }

    /// Puts a state key and reports the stamp.
    pub(crate) async fn put_state(&mut self, key: &str, value: i64) {
        let key = StateKey::new(key).unwrap();
        let (room, value) = (self.room.clone(), Value::Int(value));
        let reply = self
            .call(CommandBody::PutState { room, key: key.clone(), value, stamp: None })
            .await
            .unwrap();
        let stamp: Stamp = reply.get("stamp").and_then(Value::as_text).unwrap().parse().unwrap();
        self.checker.state_applied(&self.room, &key, stamp);
    }

    /// Sends a command and waits for its reply; reports the pushes before it.
    pub(crate) async fn call(&mut self, body: CommandBody) -> Result<Value, ErrorReply> {
        self.commands += 1;
        let id = CommandId(self.commands);
        let gives_rooms =
            matches!(body, CommandBody::Subscribe { .. } | CommandBody::Resume { .. });
        let frame = encode(&Command { id, body }.to_value(), self.encoding);
        self.connection.as_ref().unwrap().submit(frame).await;
        loop {
            let frames = self.take().await.expect("no answer to a command");
            let mut answer = None;
            for frame in frames {
                match self.read(&frame) {
                    ServerFrame::Push(push) => self.subscriber.push(&push),
                    ServerFrame::Ok { id: to, body } if to == id => {
                        if gives_rooms {
                            let (statuses, _, generation) =
                                RoomStatus::list_from_value(body.clone()).unwrap();
                            self.subscriber.rooms(&statuses, generation);
                        }
                        answer = Some(Ok(body));
                    }
                    ServerFrame::Err(error) if error.id == Some(id) => answer = Some(Err(error)),
                    other => panic!("not an answer to command {id:?}: {other:?}"),
                }
            }
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    /// Reports pushes until no more arrive.
    pub(crate) async fn settle(&mut self) {
        while let Some(frames) = self.take().await {
            for frame in frames {
                match self.read(&frame) {
                    ServerFrame::Push(Push::Disconnect(disconnect)) => {
                        panic!("{} was disconnected: {disconnect:?}", self.user)
                    }
                    ServerFrame::Push(push) => self.subscriber.push(&push),
                    other => panic!("an answer to no command: {other:?}"),
                }
            }
        }
    }

    /// Returns the next frames after the fault; `None` if there are none.
    async fn take(&mut self) -> Option<Vec<Bytes>> {
        let connection = self.connection.as_ref().unwrap();
        let batch = tokio::time::timeout(QUIET, connection.next(64 * 1024)).await.ok()?;
        connection.release(batch.id);
        Some(self.frames.pass(batch.frames))
    }

    fn read(&self, frame: &Bytes) -> ServerFrame {
        let mut values = decode(frame, self.encoding, &Limits::default()).unwrap();
        ServerFrame::from_value(values.remove(0)).unwrap()
    }
}
