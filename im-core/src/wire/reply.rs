//! Acks of commands. Every command gets exactly one: `ok` with fields of its own, or `err`.

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

/// The ack of an executed command.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Executed; no fields.
    Done,
    /// To `hello`.
    Welcome(Box<Welcome>),
    /// To `ping`: the server's time.
    Pong(Timestamp),
    /// To `refresh`: the new credentials are in effect.
    Refreshed {
        /// When they expire; `None` if they do not.
        expires: Option<Timestamp>,
    },
    /// To `subscribe` and `resume`: one status for each room.
    Rooms {
        /// A status for each room in the command or in the checkpoint.
        statuses: Vec<RoomStatus>,
        /// The revision of the stored checkpoint.
        rev: u64,
        /// The generation of state. A client drops the state that it holds of another one;
        /// snapshots follow for the rooms that have state.
        generation: u64,
    },
    /// To `checkpoint` and `unsubscribe`: the stored checkpoint.
    Checkpoint {
        /// Its revision, which increases with every change.
        rev: u64,
    },
    /// To `send`, and to commands that change members.
    Appended(AppendAck),
    /// To `put_state` and `remove_state`: the stamp of the current value.
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

/// The session, the identity and the limits of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The session's public id.
    pub session: SessionId,
    /// The secret with which the session can be resumed.
    pub secret: Secret,
    /// The authenticated user.
    pub user: UserId,
    /// The device of this session.
    pub device: DeviceId,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The revision of the stored checkpoint.
    pub rev: u64,
    /// When the credentials expire.
    pub expires: Option<Timestamp>,
    /// Maximum silence of the client: after it, the server closes the connection.
    pub idle: Duration,
    /// The limits of the server.
    pub limits: ServerLimits,
}

/// The limits of the server. A client that respects them is never refused for size or count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLimits {
    /// Bytes in one message.
    pub message_bytes: u64,
    /// Bytes of a content, packed as MessagePack.
    pub content_bytes: u64,
    /// Frames in one message.
    pub batch: u64,
    /// Commands in flight; with more, the server stops reading.
    pub in_flight: u64,
    /// Events in one page of history.
    pub page: u64,
    /// Subscriptions of one session.
    pub rooms: u64,
    /// How deep a content may nest.
    pub depth: u64,
    /// Values in one message.
    pub values: u64,
}

/// The status of a subscriber's cursor in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Every event after the cursor follows.
    Ok,
    /// History was trimmed: every event after the cursor in this status follows.
    Gap,
    /// Another epoch, or a cursor beyond the head: start again from the cursor in this status.
    Reset,
    /// The user may not read the room.
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

/// The status of one room in the ack of `subscribe` or `resume`; also pushed when it changes later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomStatus {
    /// The room.
    pub room: RoomId,
    /// The status.
    pub status: Status,
    /// The cursor after which the events follow. `None` if denied.
    pub cursor: Option<Cursor>,
    /// The room's head when this was written; 0 if denied.
    pub head: Seq,
    /// The reason of a denial: the number of a [`Code`](crate::Code), possibly of a later version.
    pub code: Option<u16>,
}

/// The ack of an append: where the event is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendAck {
    /// The room: useful after a send to a user.
    pub room: RoomId,
    /// The room's epoch.
    pub epoch: Epoch,
    /// The event's offset.
    pub seq: Seq,
    /// When it was accepted.
    pub at: Timestamp,
    /// Whether an earlier send under the same id was stored, or nothing had to change.
    pub duplicate: bool,
}

/// The ack of a refused command, or of a message that is not a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    /// The command's number, if it had one.
    pub id: Option<CommandId>,
    /// The code. A number, since a newer server may use more codes; see [`crate::code::advice`].
    pub code: u16,
    /// The message for the peer.
    pub message: String,
    /// The delay before a retry.
    pub retry_after: Option<Duration>,
}

impl Reply {
    /// The ack of command `id` as a frame.
    pub fn to_value(&self, id: CommandId) -> Value {
        let mut map = Map::with_capacity(8);
        map.push("t", "ok");
        map.push("id", id);
        self.put_fields(&mut map);
        map.into()
    }

    /// Parses the ack of `refresh`.
    ///
    /// # Errors
    ///
    /// The time is invalid.
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

    /// Parses the ack of `hello`.
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
    /// The limits as a map, as in the ack of `hello`.
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
    /// The status of a room that the user may not read.
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

    /// Parses the ack of `subscribe` and `resume`: the statuses, the checkpoint's revision and the
    /// generation of state.
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

    /// Parses the ack of `send` and of membership commands.
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
    /// Parses the ack of `ticket`.
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
