//! What commands are answered with. Every command gets exactly one reply: `ok` with fields of its own, or `err`.

use std::time::Duration;

use crate::code::Code;
use crate::id::{CommandId, Cursor, DeviceId, Epoch, RoomId, Seq, SessionId, UserId};
use crate::time::{Stamp, Timestamp};

use super::codec::WireError;
use super::event::word_enum;
use super::fields::{Field, Fields, int};
use super::hello::Secret;
use super::page::{HistoryPage, MemberEntry, MemberPage, RoomsPage, SessionEntry, room_entry};
use super::push::{generation_value, take_generation};
use super::value::{Map, Value};

/// The answer to a command that was carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It was done and there is nothing to tell.
    Done,
    /// To `hello`.
    Welcome(Box<Welcome>),
    /// To `ping`: the server's time.
    Pong(Timestamp),
    /// To `refresh`: the new credentials count.
    Refreshed {
        /// When they expire; `None` if they do not.
        expires: Option<Timestamp>,
    },
    /// To `subscribe` and `resume`: one status for each room.
    Rooms {
        /// A status for each room that was named or that the checkpoint held.
        statuses: Vec<RoomStatus>,
        /// The checkpoint that the server holds now.
        rev: u64,
        /// The generation of state. A client drops the state that it holds of another one; snapshots follow for the
        /// rooms that have state.
        generation: u64,
    },
    /// To `checkpoint` and `unsubscribe`: the checkpoint that the server holds now.
    Checkpoint {
        /// Counts the checkpoints of the session.
        rev: u64,
    },
    /// To `send`, and to commands that change members.
    Appended(AppendAck),
    /// To `put_state` and `remove_state`: the stamp that the value has now.
    Applied(Stamp),
    /// To `history`.
    History(HistoryPage),
    /// To `members`.
    Members(MemberPage),
    /// To `rooms`.
    RoomList(RoomsPage),
    /// To `sessions`.
    Sessions(Vec<SessionEntry>),
    /// To `ticket`.
    Ticket(TicketGrant),
}

/// A ticket, which opens one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketGrant {
    /// As secret as the session's secret.
    pub ticket: Secret,
    /// How long it can be used.
    pub within: Duration,
}

/// Who you are and what is allowed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The session's public id.
    pub session: SessionId,
    /// The secret with which the session can be resumed.
    pub secret: Secret,
    /// Who you are.
    pub user: UserId,
    /// Which device this is.
    pub device: DeviceId,
    /// Whether an earlier session goes on.
    pub resumed: bool,
    /// The checkpoint that the server holds.
    pub rev: u64,
    /// When the credentials expire.
    pub expires: Option<Timestamp>,
    /// Say something at least this often, or the connection is closed.
    pub idle: Duration,
    /// What is allowed.
    pub limits: ServerLimits,
}

/// What the server allows. A client that keeps to it is never refused for size or count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLimits {
    /// Bytes in one message.
    pub message_bytes: u64,
    /// Bytes of a content, packed as MessagePack.
    pub content_bytes: u64,
    /// Frames in one message.
    pub batch: u64,
    /// Commands in flight, beyond which the server reads no further.
    pub in_flight: u64,
    /// Events in one page of history.
    pub page: u64,
    /// Rooms that one session follows.
    pub rooms: u64,
    /// How deep a content may nest.
    pub depth: u64,
    /// Values in one message.
    pub values: u64,
}

/// How a room answers a reader's cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Every event after the cursor follows.
    Ok,
    /// History was trimmed: every event after the cursor given here follows.
    Gap,
    /// Another epoch, or a cursor beyond the head: start again from the cursor given here.
    Reset,
    /// You may not read it.
    Denied,
}

word_enum!(
    Status,
    "ok, gap, reset or denied",
    Ok = "ok",
    Gap = "gap",
    Reset = "reset",
    Denied = "denied"
);

/// One room's answer to `subscribe` or `resume`; also pushed when it changes later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomStatus {
    /// The room.
    pub room: RoomId,
    /// How it answers.
    pub status: Status,
    /// Where the events that follow begin: the first has the seq after it. `None` if denied.
    pub cursor: Option<Cursor>,
    /// The room's last event when this was written; 0 if denied.
    pub head: Seq,
    /// Why it was denied: the number of a [`Code`](crate::Code), one of a later version perhaps.
    pub code: Option<u16>,
}

/// The ack of an append: where the event is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendAck {
    /// The room: worth knowing after a send to a user.
    pub room: RoomId,
    /// The room's epoch.
    pub epoch: Epoch,
    /// The event's place.
    pub seq: Seq,
    /// When it was accepted.
    pub at: Timestamp,
    /// Whether an earlier send under the same id did it, or nothing needed to change.
    pub duplicate: bool,
}

/// The answer to a command that was refused, or to something that was no command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    /// The command's number, if it had one.
    pub id: Option<CommandId>,
    /// The code. Kept as a number, since a newer server may know more codes; see [`crate::code::advice`].
    pub code: u16,
    /// Words.
    pub message: String,
    /// How long to wait before trying again.
    pub retry_after: Option<Duration>,
}

impl Reply {
    /// The reply to command `id` as a frame.
    pub fn to_value(&self, id: CommandId) -> Value {
        let mut map = Map::with_capacity(8);
        map.push("t", "ok");
        map.push("id", id);
        self.put_fields(&mut map);
        map.into()
    }

    /// Reads the reply to `refresh`.
    ///
    /// # Errors
    ///
    /// The time is no time.
    pub fn refreshed_from_value(value: Value) -> Result<Self, WireError> {
        Ok(Self::Refreshed { expires: Fields::of(value)?.take("expires")? })
    }

    fn put_fields(&self, map: &mut Map) {
        match self {
            Self::Done => {}
            Self::Welcome(welcome) => welcome.put_fields(map),
            Self::Pong(now) => map.push("now", *now),
            Self::Refreshed { expires } => map.push_some("expires", *expires),
            Self::Rooms { statuses, rev, generation } => {
                map.push(
                    "rooms",
                    statuses.iter().map(|s| Value::from(s.to_map())).collect::<Vec<_>>(),
                );
                map.push("rev", int(*rev));
                map.push("gen", generation_value(*generation));
            }
            Self::Checkpoint { rev } => map.push("rev", int(*rev)),
            Self::Appended(ack) => ack.put_fields(map),
            Self::Applied(stamp) => map.push("stamp", *stamp),
            Self::History(page) => page.put_fields(map),
            Self::Members(page) => {
                map.push(
                    "members",
                    page.members.iter().map(MemberEntry::to_value).collect::<Vec<_>>(),
                );
                map.push("more", page.more);
            }
            Self::RoomList(page) => {
                map.push("list", page.rooms.iter().map(room_entry).collect::<Vec<_>>());
                map.push("more", page.more);
            }
            Self::Ticket(TicketGrant { ticket, within }) => {
                map.push("ticket", ticket.expose());
                map.push("within_ms", millis(*within));
            }
            Self::Sessions(sessions) => {
                map.push(
                    "sessions",
                    sessions.iter().map(SessionEntry::to_value).collect::<Vec<_>>(),
                );
            }
        }
    }
}

impl Welcome {
    fn put_fields(&self, map: &mut Map) {
        map.push("v", int(super::VERSION));
        map.push("session", &self.session);
        map.push("secret", self.secret.expose());
        map.push("user", &self.user);
        map.push("device", &self.device);
        map.push("resumed", self.resumed);
        map.push("rev", int(self.rev));
        map.push_some("expires", self.expires);
        map.push("idle_ms", millis(self.idle));
        map.push("limits", self.limits.to_map());
    }

    /// Reads the reply to `hello`.
    ///
    /// # Errors
    ///
    /// A field is missing or wrong.
    pub fn from_value(value: Value) -> Result<Self, WireError> {
        let mut f = Fields::of(value)?;
        Ok(Self {
            session: f.need("session")?,
            secret: f.need("secret")?,
            user: f.need("user")?,
            device: f.need("device")?,
            resumed: f.need("resumed")?,
            rev: f.need("rev")?,
            expires: f.take("expires")?,
            idle: Duration::from_millis(f.need("idle_ms")?),
            limits: ServerLimits::from_value(f.need_value("limits")?)?,
        })
    }
}

impl ServerLimits {
    /// The limits as a map, as in the reply to `hello`.
    pub fn to_map(&self) -> Map {
        let mut map = Map::with_capacity(6);
        map.push("message_bytes", int(self.message_bytes));
        map.push("content_bytes", int(self.content_bytes));
        map.push("batch", int(self.batch));
        map.push("in_flight", int(self.in_flight));
        map.push("page", int(self.page));
        map.push("rooms", int(self.rooms));
        map.push("depth", int(self.depth));
        map.push("values", int(self.values));
        map
    }

    fn from_value(value: Value) -> Result<Self, WireError> {
        let mut f = Fields::of(value)?;
        Ok(Self {
            message_bytes: f.need("message_bytes")?,
            content_bytes: f.need("content_bytes")?,
            batch: f.need("batch")?,
            in_flight: f.need("in_flight")?,
            page: f.need("page")?,
            rooms: f.need("rooms")?,
            depth: f.need("depth")?,
            values: f.need("values")?,
        })
    }
}

impl RoomStatus {
    /// A room that may not be read.
    pub fn denied(room: RoomId, code: Code) -> Self {
        let code = Some(code.number());
        Self { room, status: Status::Denied, cursor: None, head: Seq::ZERO, code }
    }

    pub(super) fn to_map(&self) -> Map {
        let mut map = Map::with_capacity(6);
        map.push("room", &self.room);
        map.push("status", self.status);
        map.push_some("epoch", self.cursor.map(|cursor| cursor.epoch));
        map.push_some("cursor", self.cursor.map(|cursor| cursor.seq));
        map.push("head", self.head);
        map.push_some("code", self.code.map(|code| int(u64::from(code))));
        map
    }

    pub(super) fn from_fields(mut f: Fields) -> Result<Self, WireError> {
        let (epoch, seq) = (f.take("epoch")?, f.take("cursor")?);
        Ok(Self {
            room: f.need("room")?,
            status: f.need("status")?,
            cursor: epoch.zip(seq).map(|(epoch, seq)| Cursor { epoch, seq }),
            head: f.need("head")?,
            code: f.take("code")?,
        })
    }

    /// Reads the reply to `subscribe` and `resume`: the statuses, the checkpoint's revision and the generation of state.
    ///
    /// # Errors
    ///
    /// A field is missing or wrong.
    pub fn list_from_value(value: Value) -> Result<(Vec<Self>, u64, u64), WireError> {
        let mut f = Fields::of(value)?;
        Ok((f.list("rooms", Self::from_fields)?, f.need("rev")?, take_generation(&mut f)?))
    }
}

impl AppendAck {
    fn put_fields(&self, map: &mut Map) {
        map.push("room", &self.room);
        map.push("epoch", self.epoch);
        map.push("seq", self.seq);
        map.push("at", self.at);
        map.push("duplicate", self.duplicate);
    }

    /// Reads the reply to `send` and to commands that change members.
    ///
    /// # Errors
    ///
    /// A field is missing or wrong.
    pub fn from_value(value: Value) -> Result<Self, WireError> {
        let mut f = Fields::of(value)?;
        Ok(Self {
            room: f.need("room")?,
            epoch: f.need("epoch")?,
            seq: f.need("seq")?,
            at: f.need("at")?,
            duplicate: f.need("duplicate")?,
        })
    }
}

impl TicketGrant {
    /// Reads the reply to `ticket`.
    ///
    /// # Errors
    ///
    /// A field is missing or wrong.
    pub fn from_value(value: Value) -> Result<Self, WireError> {
        let mut f = Fields::of(value)?;
        Ok(Self {
            ticket: f.need("ticket")?,
            within: f.need("within_ms").map(Duration::from_millis)?,
        })
    }
}

impl ErrorReply {
    /// The refusal as a frame.
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(5);
        map.push("t", "err");
        map.push_some("id", self.id);
        map.push("code", int(u64::from(self.code)));
        map.push("msg", self.message.as_str());
        map.push_some("retry_ms", self.retry_after.map(millis));
        map.into()
    }

    pub(super) fn from_fields(mut f: Fields) -> Result<Self, WireError> {
        let message: std::sync::Arc<str> = f.need("msg")?;
        Ok(Self {
            id: f.take("id")?,
            code: f.need("code")?,
            message: message.as_ref().to_owned(),
            retry_after: f.take("retry_ms")?.map(Duration::from_millis),
        })
    }
}

pub(super) fn millis(duration: Duration) -> Value {
    int(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
