//! Commands of clients. Every command has the client's number and gets exactly one ack with that
//! number.

use std::sync::Arc;

use crate::code::Code;
use crate::id::{
    CommandId, Cursor, Epoch, EventKind, MessageId, RoomId, Seq, SessionId, StateKey, UserId,
};
use crate::time::Stamp;

use super::codec::WireError;
use super::event::{Role, RoomKind};
use super::fields::{Field, Fields, bad, missing};
use super::hello::{Hello, Secret};
use super::value::{Map, Value};

/// A command and the client's number for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Returned in the ack.
    pub id: CommandId,
    /// The request.
    pub body: CommandBody,
}

/// The request.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    missing_docs,
    reason = "the fields are described in wire/SPEC.md and mean what their types say"
)]
pub enum CommandBody {
    /// The first frame: credentials, device and, for a resume, the session.
    Hello(Box<Hello>),
    /// Liveness check, for clients that cannot send the transport's own ping.
    Ping,
    /// New credentials of the same user, before the old ones expire.
    Refresh { token: Secret },
    /// End this session permanently.
    Logout,
    /// Create a room. The caller becomes its owner.
    Create { room: RoomId, kind: RoomKind, open: bool, members: Vec<UserId> },
    /// Become a member.
    Join { room: RoomId },
    /// Stop being a member.
    Leave { room: RoomId },
    /// Change another user's membership.
    Member { room: RoomId, user: UserId, act: MemberAct },
    /// List the room's members, in the order of their ids.
    Members { room: RoomId, after: Option<UserId>, limit: u32 },
    /// List the caller's rooms, in the order of their ids.
    Rooms { after: Option<RoomId>, limit: u32 },
    /// Subscribe to a room: from a cursor, or from its head.
    Subscribe { room: RoomId, since: Option<Cursor> },
    /// Unsubscribe from a room.
    Unsubscribe { room: RoomId },
    /// Subscribe to many rooms again in one round trip. With `rev`, the rooms of that checkpoint
    /// that are not in `cursors` are included, from the cursors that it holds.
    Resume { cursors: Vec<(RoomId, Cursor)>, rev: Option<u64> },
    /// Store the cursors up to which the client has events.
    Checkpoint { cursors: Vec<(RoomId, Cursor)> },
    /// Store a message and deliver it to all subscribers: durable.
    Send { to: Target, id: MessageId, kind: EventKind, content: Value },
    /// Deliver a message to current subscribers: ephemeral.
    Signal { to: Target, kind: EventKind, content: Value },
    /// Write the value of a key: state.
    PutState { room: RoomId, key: StateKey, value: Value, stamp: Option<Stamp> },
    /// Remove a key: state.
    RemoveState { room: RoomId, key: StateKey, stamp: Option<Stamp> },
    /// Read a page of the room's log.
    History { room: RoomId, epoch: Option<Epoch>, from: PageFrom, limit: u32 },
    /// List the user's sessions.
    Sessions,
    /// End another session of the user.
    Kick { session: SessionId },
    /// Request a ticket, for a stream that can send neither header nor cookie.
    Ticket,
}

/// The target of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// All subscribers of a room.
    Room(RoomId),
    /// The direct room of the sender and this user. A durable send creates the room if necessary.
    Peer(UserId),
    /// A user: durable sends go to the user's inbox, signals to all of their devices. Allowed for
    /// services, and for users whom a hook allows.
    User(UserId),
}

/// The start of a page of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageFrom {
    /// The events after this one, oldest first.
    After(Seq),
    /// The events before this one, newest first. [`Seq::MAX`] stands for the head.
    Before(Seq),
}

/// The change of another user's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberAct {
    /// Add as a member; changes the role of an existing member.
    Add(Role),
    /// Remove them.
    Remove,
    /// Remove and ban.
    Ban,
    /// Lift the ban.
    Unban,
}

/// A frame from a client: a command, or the number and the error for its ack.
pub type Request = Result<Command, (Option<CommandId>, WireError)>;

impl Command {
    /// Parses a command.
    ///
    /// # Errors
    ///
    /// The error for the ack, and the command's number if at least that could be parsed.
    pub fn from_value(value: Value) -> Request {
        let mut fields = Fields::of(value).map_err(|e| (None, e))?;
        let id: CommandId = fields.need("id").map_err(|e| (None, e))?;
        match CommandBody::from_fields(fields) {
            Ok(body) => Ok(Self { id, body }),
            Err(e) => Err((Some(id), e)),
        }
    }

    /// The command as a frame.
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(8);
        map.push("t", self.body.name());
        map.push("id", self.id);
        self.body.put_fields(&mut map);
        map.into()
    }
}

impl CommandBody {
    /// Its name on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Ping => "ping",
            Self::Refresh { .. } => "refresh",
            Self::Logout => "logout",
            Self::Create { .. } => "create",
            Self::Join { .. } => "join",
            Self::Leave { .. } => "leave",
            Self::Member { .. } => "member",
            Self::Members { .. } => "members",
            Self::Rooms { .. } => "rooms",
            Self::Subscribe { .. } => "subscribe",
            Self::Unsubscribe { .. } => "unsubscribe",
            Self::Resume { .. } => "resume",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Send { .. } => "send",
            Self::Signal { .. } => "signal",
            Self::PutState { .. } => "put_state",
            Self::RemoveState { .. } => "remove_state",
            Self::History { .. } => "history",
            Self::Sessions => "sessions",
            Self::Kick { .. } => "kick",
            Self::Ticket => "ticket",
        }
    }

    fn from_fields(mut f: Fields) -> Result<Self, WireError> {
        let kind: Arc<str> = f.need("t")?;
        Ok(match &*kind {
            "hello" => Self::Hello(Box::new(Hello::from_fields(f)?)),
            "ping" => Self::Ping,
            "refresh" => Self::Refresh { token: f.need("token")? },
            "logout" => Self::Logout,
            "create" => Self::Create {
                room: f.need("room")?,
                kind: f.take("kind")?.unwrap_or(RoomKind::Group),
                open: f.take("open")?.unwrap_or(false),
                members: users(&mut f, "members")?,
            },
            "join" => Self::Join { room: f.need("room")? },
            "leave" => Self::Leave { room: f.need("room")? },
            "member" => Self::Member {
                room: f.need("room")?,
                user: f.need("user")?,
                act: member_act(&mut f)?,
            },
            "members" => Self::Members {
                room: f.need("room")?,
                after: f.take("after")?,
                limit: limit(&mut f)?,
            },
            "rooms" => Self::Rooms { after: f.take("after")?, limit: limit(&mut f)? },
            "subscribe" => Self::Subscribe { room: f.need("room")?, since: since(&mut f)? },
            "unsubscribe" => Self::Unsubscribe { room: f.need("room")? },
            "resume" => Self::Resume { cursors: cursors(&mut f)?, rev: f.take("rev")? },
            "checkpoint" => Self::Checkpoint { cursors: cursors(&mut f)? },
            "send" => Self::Send {
                to: Target::from_fields(&mut f)?,
                id: f.need("mid")?,
                kind: f.take("kind")?.unwrap_or_else(EventKind::message),
                content: f.need_value("content")?,
            },
            "signal" => Self::Signal {
                to: Target::from_fields(&mut f)?,
                kind: f.take("kind")?.unwrap_or_else(EventKind::message),
                content: f.need_value("content")?,
            },
            "put_state" => Self::PutState {
                room: f.need("room")?,
                key: f.need("key")?,
                value: f.need_value("value")?,
                stamp: f.take("stamp")?,
            },
            "remove_state" => Self::RemoveState {
                room: f.need("room")?,
                key: f.need("key")?,
                stamp: f.take("stamp")?,
            },
            "history" => Self::History {
                room: f.need("room")?,
                epoch: f.take("epoch")?,
                from: page_from(&mut f)?,
                limit: limit(&mut f)?,
            },
            "sessions" => Self::Sessions,
            "kick" => Self::Kick { session: f.need("session")? },
            "ticket" => Self::Ticket,
            unknown => {
                let shown: String = unknown.chars().take(32).collect();
                return Err(WireError::new(
                    Code::UnknownKind,
                    format!("no command is called {shown:?}"),
                ));
            }
        })
    }

    fn put_fields(&self, map: &mut Map) {
        match self {
            Self::Hello(hello) => hello.put_fields(map),
            Self::Ping | Self::Logout | Self::Sessions | Self::Ticket => {}
            Self::Refresh { token } => map.push("token", token.expose()),
            Self::Create { room, kind, open, members } => {
                map.push("room", room);
                map.push("kind", *kind);
                map.push("open", *open);
                map.push("members", members.iter().map(Value::from).collect::<Vec<_>>());
            }
            Self::Join { room } | Self::Leave { room } | Self::Unsubscribe { room } => {
                map.push("room", room)
            }
            Self::Member { room, user, act } => {
                map.push("room", room);
                map.push("user", user);
                act.put_fields(map);
            }
            Self::Members { room, after, limit } => {
                map.push("room", room);
                map.push_some("after", after.as_ref());
                map.push("limit", *limit);
            }
            Self::Rooms { after, limit } => {
                map.push_some("after", after.as_ref());
                map.push("limit", *limit);
            }
            Self::Subscribe { room, since } => {
                map.push("room", room);
                map.push_some("epoch", since.map(|cursor| cursor.epoch));
                map.push_some("since", since.map(|cursor| cursor.seq));
            }
            Self::Resume { cursors, rev } => {
                map.push("cursors", cursors_value(cursors));
                map.push_some("rev", rev.map(super::fields::int));
            }
            Self::Checkpoint { cursors } => map.push("cursors", cursors_value(cursors)),
            Self::Send { to, id, kind, content } => {
                to.put_fields(map);
                map.push("mid", id);
                map.push("kind", kind);
                map.push("content", content.clone());
            }
            Self::Signal { to, kind, content } => {
                to.put_fields(map);
                map.push("kind", kind);
                map.push("content", content.clone());
            }
            Self::PutState { room, key, value, stamp } => {
                map.push("room", room);
                map.push("key", key);
                map.push("value", value.clone());
                map.push_some("stamp", *stamp);
            }
            Self::RemoveState { room, key, stamp } => {
                map.push("room", room);
                map.push("key", key);
                map.push_some("stamp", *stamp);
            }
            Self::History { room, epoch, from, limit } => {
                map.push("room", room);
                map.push_some("epoch", *epoch);
                match from {
                    PageFrom::After(seq) => map.push("after", *seq),
                    PageFrom::Before(seq) => map.push("before", *seq),
                }
                map.push("limit", *limit);
            }
            Self::Kick { session } => map.push("session", session),
        }
    }
}

impl Target {
    pub(super) fn from_fields(f: &mut Fields) -> Result<Self, WireError> {
        match (f.take("room")?, f.take("peer")?, f.take("to")?) {
            (Some(room), None, None) => Ok(Self::Room(room)),
            (None, Some(user), None) => Ok(Self::Peer(user)),
            (None, None, Some(user)) => Ok(Self::User(user)),
            (None, None, None) => Err(missing("room")),
            _ => Err(bad("room", "one of room, peer and to, not several")),
        }
    }

    pub(super) fn put_fields(&self, map: &mut Map) {
        match self {
            Self::Room(room) => map.push("room", room),
            Self::Peer(user) => map.push("peer", user),
            Self::User(user) => map.push("to", user),
        }
    }
}

impl MemberAct {
    fn put_fields(self, map: &mut Map) {
        let (act, role) = match self {
            Self::Add(role) => ("add", Some(role)),
            Self::Remove => ("remove", None),
            Self::Ban => ("ban", None),
            Self::Unban => ("unban", None),
        };
        map.push("act", act);
        map.push_some("role", role);
    }
}

fn member_act(f: &mut Fields) -> Result<MemberAct, WireError> {
    let act: Arc<str> = f.need("act")?;
    match &*act {
        "add" => Ok(MemberAct::Add(f.take("role")?.unwrap_or(Role::Member))),
        "remove" => Ok(MemberAct::Remove),
        "ban" => Ok(MemberAct::Ban),
        "unban" => Ok(MemberAct::Unban),
        _ => Err(bad("act", "add, remove, ban or unban was expected")),
    }
}

fn users(f: &mut Fields, name: &'static str) -> Result<Vec<UserId>, WireError> {
    match f.take_value(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .into_iter()
            .map(|item| UserId::read(item).map_err(|why| bad(name, &why)))
            .collect(),
        Some(_) => Err(bad(name, "a list of user ids was expected")),
    }
}

/// The limit of a page: at least 1; the server reduces it to its own maximum.
fn limit(f: &mut Fields) -> Result<u32, WireError> {
    match f.take("limit")? {
        Some(0) => Err(bad("limit", "at least 1 was expected")),
        Some(n) => Ok(n),
        None => Ok(50),
    }
}

fn since(f: &mut Fields) -> Result<Option<Cursor>, WireError> {
    match (f.take("epoch")?, f.take("since")?) {
        (Some(epoch), Some(seq)) => Ok(Some(Cursor { epoch, seq })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(missing("epoch")),
        (Some(_), None) => Err(missing("since")),
    }
}

fn page_from(f: &mut Fields) -> Result<PageFrom, WireError> {
    match (f.take("after")?, f.take("before")?) {
        (Some(seq), None) => Ok(PageFrom::After(seq)),
        (None, Some(seq)) => Ok(PageFrom::Before(seq)),
        (None, None) => Ok(PageFrom::Before(Seq::MAX)),
        (Some(_), Some(_)) => Err(bad("before", "either after or before, not both")),
    }
}

/// A list of `[room, epoch, seq]`.
fn cursors(f: &mut Fields) -> Result<Vec<(RoomId, Cursor)>, WireError> {
    const NAME: &str = "cursors";
    let wrong = |why: &str| bad(NAME, why);
    let Some(value) = f.take_value(NAME) else { return Ok(Vec::new()) };
    let Value::Array(items) = value else {
        return Err(wrong("a list of [room, epoch, seq] was expected"));
    };
    let read = |item: Value| {
        let Value::Array(parts) = item else {
            return Err(wrong("each entry is [room, epoch, seq]"));
        };
        let Ok([room, epoch, seq]) = <[Value; 3]>::try_from(parts) else {
            return Err(wrong("each entry is [room, epoch, seq]"));
        };
        let room = RoomId::read(room).map_err(|e| wrong(&e))?;
        let epoch = Epoch::read(epoch).map_err(|e| wrong(&e))?;
        let seq = Seq::read(seq).map_err(|e| wrong(&e))?;
        Ok((room, Cursor { epoch, seq }))
    };
    items.into_iter().map(read).collect()
}

fn cursors_value(cursors: &[(RoomId, Cursor)]) -> Vec<Value> {
    cursors
        .iter()
        .map(|(room, cursor)| {
            Value::Array(vec![room.into(), cursor.epoch.into(), cursor.seq.into()])
        })
        .collect()
}
