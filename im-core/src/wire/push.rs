//! Frames that the server pushes, and the parser of everything that it sends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::Error;
use crate::id::{CommandId, EventKind, RoomId, StateKey, UserId};
use crate::time::{Stamp, Timestamp};

use super::codec::{Encoding, WireError, encode};
use super::command::Target;
use super::event::{Content, Event};
use super::fields::{Fields, int};
use super::reply::{ErrorReply, RoomStatus, millis};
use super::value::{Map, Value};

/// A frame that the server sends without a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Push {
    /// A durable event: (room, epoch, seq) is its position.
    Event(Arc<Event>),
    /// An ephemeral message: delivered now or never.
    Signal(Arc<Signal>),
    /// A state key's newest value.
    State(Arc<StateUpdate>),
    /// All of a room's state, or a part of it.
    Snapshot(Snapshot),
    /// A subscribed room has another status from now on.
    Room(RoomStatus),
    /// The stream position after the frames before it, which the client returns. Only where the
    /// transport has no place of its own for it.
    Position(Arc<str>),
    /// The connection ends; the disconnect has the reason.
    Disconnect(Disconnect),
}

/// An ephemeral message: typing, a cursor, a reaction that need not last.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// The room, or the user whose devices it goes to.
    pub to: Target,
    /// The sender.
    pub from: UserId,
    /// The time of acceptance.
    pub at: Timestamp,
    /// The kind of the message.
    pub kind: EventKind,
    /// The content.
    pub content: Content,
}

/// One key's newest value. An update whose stamp is not greater than the stored one is discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateUpdate {
    /// The room.
    pub room: RoomId,
    /// The key.
    pub key: StateKey,
    /// Its version.
    pub stamp: Stamp,
    /// The user that wrote it.
    pub from: UserId,
    /// The value; `None` if the key was removed.
    pub value: Option<Content>,
}

/// All of a room's state, in one part or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The room.
    pub room: RoomId,
    /// Changes whenever updates may have been lost. A client that holds state of another generation
    /// drops it.
    pub generation: u64,
    /// The keys and their values.
    pub entries: Vec<Arc<StateUpdate>>,
    /// Whether further parts follow.
    pub more: bool,
}

/// The reason of a disconnect, and the delay before a reconnect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// The code, also the WebSocket close code. See [`crate::code::advice`].
    pub code: u16,
    /// The message for the peer.
    pub message: String,
    /// Reconnect after this delay, if at all.
    pub retry_after: Option<Duration>,
}

impl Disconnect {
    /// The disconnect as an encoded frame, for a peer that is refused before it has a connection.
    pub fn encoded(self, encoding: Encoding) -> Bytes {
        encode(&Push::Disconnect(self).to_value(), encoding)
    }
}

impl From<&Error> for Disconnect {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code().number(),
            message: error.message().into(),
            retry_after: error.delay(),
        }
    }
}

/// A frame from a server, as a client parses it.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerFrame {
    /// The ack of an executed command. The fields of `body` depend on the command: see the
    /// `from_value` of the types in this module.
    Ok {
        /// The command's number.
        id: CommandId,
        /// The fields of the ack.
        body: Value,
    },
    /// The ack of a refused command, or of a message that is not a command.
    Err(ErrorReply),
    /// A push.
    Push(Push),
    /// An unknown kind of frame, to be ignored.
    Unknown,
}

impl Push {
    /// The push as a frame.
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(10);
        match self {
            Self::Event(event) => {
                map.push("t", "event");
                event.put_fields(&mut map);
            }
            Self::Signal(signal) => {
                map.push("t", "signal");
                signal.put_fields(&mut map);
            }
            Self::State(update) => {
                map.push("t", "state");
                map.push("room", &update.room);
                update.put_entry(&mut map);
            }
            Self::Snapshot(snapshot) => {
                map.push("t", "snapshot");
                snapshot.put_fields(&mut map);
            }
            Self::Room(status) => {
                map.push("t", "room");
                for (key, value) in status.to_map().iter() {
                    map.insert(key.to_owned(), value.clone());
                }
            }
            Self::Position(at) => {
                map.push("t", "position");
                map.push("at", &**at);
            }
            Self::Disconnect(disconnect) => {
                map.push("t", "disconnect");
                map.push("code", int(u64::from(disconnect.code)));
                map.push("msg", disconnect.message.as_str());
                map.push_some("retry_ms", disconnect.retry_after.map(millis));
            }
        }
        map.into()
    }
}

impl ServerFrame {
    /// Parses a frame that a server sent.
    ///
    /// # Errors
    ///
    /// A field is missing or wrong. Unknown kinds of frames are not an error.
    pub fn from_value(value: Value) -> Result<Self, WireError> {
        let mut f = Fields::of(value)?;
        let kind: Arc<str> = f.need("t")?;
        let push = match &*kind {
            "ok" => return Ok(Self::Ok { id: f.need("id")?, body: f.rest() }),
            "err" => return ErrorReply::from_fields(f).map(Self::Err),
            "event" => Push::Event(Arc::new(Event::from_fields(f)?)),
            "signal" => Push::Signal(Arc::new(Signal::from_fields(f)?)),
            "state" => {
                let room: RoomId = f.need("room")?;
                Push::State(Arc::new(StateUpdate::from_entry(room, f)?))
            }
            "snapshot" => Push::Snapshot(Snapshot::from_fields(f)?),
            "room" => Push::Room(RoomStatus::from_fields(f)?),
            "position" => Push::Position(f.need("at")?),
            "disconnect" => Push::Disconnect(Disconnect::from_fields(f)?),
            _ => return Ok(Self::Unknown),
        };
        Ok(Self::Push(push))
    }
}

impl Signal {
    fn put_fields(&self, map: &mut Map) {
        self.to.put_fields(map);
        map.push("from", &self.from);
        map.push("at", self.at);
        map.push("kind", &self.kind);
        map.push("content", self.content.value());
    }

    fn from_fields(mut f: Fields) -> Result<Self, WireError> {
        Ok(Self {
            to: Target::from_fields(&mut f)?,
            from: f.need("from")?,
            at: f.need("at")?,
            kind: f.need("kind")?,
            content: content(f.need_value("content")?),
        })
    }
}

impl StateUpdate {
    fn put_entry(&self, map: &mut Map) {
        map.push("key", &self.key);
        map.push("stamp", self.stamp);
        map.push("from", &self.from);
        map.push_some("value", self.value.as_ref().map(Content::value));
    }

    fn from_entry(room: RoomId, mut f: Fields) -> Result<Self, WireError> {
        Ok(Self {
            room,
            key: f.need("key")?,
            stamp: f.need("stamp")?,
            from: f.need("from")?,
            value: f.take_value("value").map(content),
        })
    }
}

impl Snapshot {
    fn put_fields(&self, map: &mut Map) {
        let entry = |update: &Arc<StateUpdate>| {
            let mut map = Map::with_capacity(4);
            update.put_entry(&mut map);
            Value::Map(map)
        };
        map.push("room", &self.room);
        map.push("gen", generation_value(self.generation));
        map.push("entries", self.entries.iter().map(entry).collect::<Vec<_>>());
        map.push("more", self.more);
    }

    fn from_fields(mut f: Fields) -> Result<Self, WireError> {
        let room: RoomId = f.need("room")?;
        let generation = take_generation(&mut f)?;
        let entries =
            f.list("entries", |entry| StateUpdate::from_entry(room.clone(), entry).map(Arc::new))?;
        Ok(Self { generation, entries, more: f.need("more")?, room })
    }
}

impl Disconnect {
    fn from_fields(mut f: Fields) -> Result<Self, WireError> {
        let message: Arc<str> = f.need("msg")?;
        Ok(Self {
            code: f.need("code")?,
            message: message.as_ref().to_owned(),
            retry_after: f.take("retry_ms")?.map(Duration::from_millis),
        })
    }
}

/// The content of a decoded frame: its invariants hold already, and a client sets no limits of its
/// own.
fn content(value: Value) -> Content {
    Content::from_decoded(encode(&value, Encoding::MsgPack))
}

/// A state generation: hexadecimal text, since it has 64 bits.
pub(super) fn generation_value(generation: u64) -> Value {
    Value::from(format!("{generation:x}"))
}

pub(super) fn take_generation(f: &mut Fields) -> Result<u64, WireError> {
    let text: Arc<str> = f.need("gen")?;
    u64::from_str_radix(&text, 16)
        .map_err(|_| super::fields::bad("gen", "a hexadecimal number was expected"))
}
