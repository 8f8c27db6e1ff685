//! The entries of a room's log, and the content of messages.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::id::{Epoch, EventKind, MessageId, RoomId, Seq, UserId};
use crate::time::Timestamp;

use super::codec::{self, Encoding, Limits, WireError, encode};
use super::fields::{Field, Fields};
use super::scan;
use super::value::{Map, Value};

/// One durable event: an entry of a room's log.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The room.
    pub room: RoomId,
    /// The epoch in which `seq` counts.
    pub epoch: Epoch,
    /// Its offset in the log.
    pub seq: Seq,
    /// The sender.
    pub from: UserId,
    /// The time of acceptance. For display; order comes from `seq` alone.
    pub at: Timestamp,
    /// The kind of the event.
    pub kind: EventKind,
    /// The message id that the sender chose, if any.
    pub id: Option<MessageId>,
    /// The content.
    pub content: Content,
}

/// A checked value in packed form (MessagePack): the content of a message or of a state key.
///
/// Invariant: it unpacks to a value that is well formed.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(Bytes);

/// The reason why a value cannot be a content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// The packed content exceeds the byte limit.
    #[error("the content has {len} bytes when packed; at most {max} are allowed")]
    TooLarge {
        /// Its size in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Nested more deeply than allowed.
    #[error("the content nests {depth} deep; at most {max} are allowed")]
    TooDeep {
        /// Its depth.
        depth: usize,
        /// The limit.
        max: usize,
    },
    /// More values than allowed.
    #[error("the content has {count} values; at most {max} are allowed")]
    TooMany {
        /// The number of values.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// An integer beyond 2^53 − 1, a number that is not finite, or a duplicate key.
    #[error(
        "the content holds an integer beyond 2^53 - 1, a number that is not finite, or a duplicate key"
    )]
    NotWellFormed,
    /// Bytes that are not a packed value.
    #[error("the content is damaged")]
    Damaged,
}

impl ContentError {
    /// The code of the error ack.
    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::TooLarge,
            Self::TooDeep { .. } => Code::TooDeep,
            Self::TooMany { .. } => Code::TooMany,
            Self::NotWellFormed => Code::BadField,
            Self::Damaged => Code::StoreUnavailable,
        }
    }
}

impl From<ContentError> for WireError {
    fn from(error: ContentError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl Content {
    /// Checks `value` against `limits` and packs it.
    ///
    /// # Errors
    ///
    /// [`ContentError`] names the limit that it breaks.
    pub fn new(value: &Value, limits: &Limits) -> Result<Self, ContentError> {
        let (depth, max) = (value.depth(), limits.depth());
        if depth > max {
            return Err(ContentError::TooDeep { depth, max });
        }
        let (count, max) = (value.count(), limits.max_values);
        if count > max {
            return Err(ContentError::TooMany { count, max });
        }
        if !value.is_well_formed() {
            return Err(ContentError::NotWellFormed);
        }
        let packed = encode(value, Encoding::MsgPack);
        let (len, max) = (packed.len(), limits.max_content_bytes);
        if len > max { Err(ContentError::TooLarge { len, max }) } else { Ok(Self(packed)) }
    }

    /// A text, as `{"text": …}`: the form of most messages.
    ///
    /// # Errors
    ///
    /// [`ContentError::TooLarge`] beyond the limit.
    pub fn text(text: &str, limits: &Limits) -> Result<Self, ContentError> {
        Self::new(&Map::from_iter([("text", text)]).into(), limits)
    }

    /// Restores a content from the result of [`Content::packed`].
    ///
    /// # Errors
    ///
    /// [`ContentError::Damaged`] if the bytes do not unpack.
    pub fn from_packed(bytes: Bytes) -> Result<Self, ContentError> {
        match codec::unpack(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(_) => Err(ContentError::Damaged),
        }
    }

    /// Wraps bytes packed from a value that decoding has checked.
    pub(super) fn from_decoded(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The packed bytes.
    pub fn packed(&self) -> &Bytes {
        &self.0
    }

    /// Upper bound of its bytes in JSON.
    pub(crate) fn json_len(&self) -> usize {
        scan::json_len(&self.0)
    }

    /// The value.
    pub fn value(&self) -> Value {
        // Checked on construction.
        codec::unpack(&self.0).unwrap_or_default()
    }
}

impl Default for Content {
    /// Null.
    fn default() -> Self {
        // The one byte that MessagePack has for nil.
        Self(Bytes::from_static(&[0xc0]))
    }
}

impl fmt::Debug for Content {
    /// Shows the size only: contents of messages do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

/// The kind of a room. It decides the default permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomKind {
    /// Two users. Created by the first send; its members never change.
    Direct,
    /// Members talk with each other: a user that joins may send.
    Group,
    /// Few senders, many readers: a user that joins may read.
    Channel,
    /// A user's inbox: only they may read it.
    Inbox,
}

/// The role of a member. Each role includes the permissions of the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read.
    Reader,
    /// Send, and write state.
    Member,
    /// Add and remove members of lower roles, ban and unban.
    Moderator,
    /// Assign roles.
    Owner,
}

/// One entry in the content of an `im.members` event: the change of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// The user is a member with this role now.
    Joined(UserId, Role),
    /// The user left on their own.
    Left(UserId),
    /// The user was removed.
    Removed(UserId),
    /// The user was removed, if they were a member, and banned.
    Banned(UserId),
    /// The user's ban was lifted.
    Unbanned(UserId),
}

impl MemberChange {
    /// The user concerned.
    pub fn user(&self) -> &UserId {
        match self {
            Self::Joined(user, _)
            | Self::Left(user)
            | Self::Removed(user)
            | Self::Banned(user)
            | Self::Unbanned(user) => user,
        }
    }

    /// Returns whether the change ends the user's membership.
    pub fn ends_membership(&self) -> bool {
        matches!(self, Self::Left(_) | Self::Removed(_) | Self::Banned(_))
    }

    /// The content of an `im.members` event: `{"changes": [{"user", "act", "role"?}, …]}`.
    pub fn list_to_value(changes: &[Self]) -> Value {
        let items: Vec<Value> = changes.iter().map(Self::to_value).collect();
        Map::from_iter([("changes", items)]).into()
    }

    /// Parses the content of an `im.members` event. Unknown entries are skipped.
    pub fn list_from_value(value: Value) -> Vec<Self> {
        let read = |item: Value| Self::from_fields(Fields::of(item).ok()?);
        match Fields::of(value).ok().and_then(|mut f| f.take_value("changes")) {
            Some(Value::Array(items)) => items.into_iter().filter_map(read).collect(),
            _ => Vec::new(),
        }
    }

    fn to_value(&self) -> Value {
        let (act, role) = match self {
            Self::Joined(_, role) => ("join", Some(*role)),
            Self::Left(_) => ("leave", None),
            Self::Removed(_) => ("remove", None),
            Self::Banned(_) => ("ban", None),
            Self::Unbanned(_) => ("unban", None),
        };
        let mut map = Map::with_capacity(3);
        map.push("user", self.user());
        map.push("act", act);
        map.push_some("role", role);
        map.into()
    }

    fn from_fields(mut fields: Fields) -> Option<Self> {
        let user: UserId = fields.need("user").ok()?;
        match fields.take_value("act")?.as_text()? {
            "join" => Some(Self::Joined(user, fields.need("role").ok()?)),
            "leave" => Some(Self::Left(user)),
            "remove" => Some(Self::Removed(user)),
            "ban" => Some(Self::Banned(user)),
            "unban" => Some(Self::Unbanned(user)),
            _ => None,
        }
    }
}

macro_rules! word_enum {
    ($name:ident, $expected:literal, $($variant:ident = $word:literal),*) => {
        impl $name {
            /// Its word on the wire.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl Field for $name {
            fn read(value: Value) -> Result<Self, String> {
                match value.as_text() {
                    $(Some($word) => Ok(Self::$variant),)*
                    _ => Err(concat!($expected, " was expected").into()),
                }
            }
        }

        impl From<$name> for Value {
            fn from(word: $name) -> Self {
                Value::from(word.word())
            }
        }
    };
}
pub(super) use word_enum;

word_enum!(
    RoomKind,
    "direct, group, channel or own",
    Direct = "direct",
    Group = "group",
    Channel = "channel",
    Inbox = "own"
);
word_enum!(
    Role,
    "reader, member, moderator or owner",
    Reader = "reader",
    Member = "member",
    Moderator = "moderator",
    Owner = "owner"
);

impl Event {
    /// The fields of an event, as in a push and in a page of history.
    pub(super) fn put_fields(&self, map: &mut Map) {
        map.push("room", &self.room);
        map.push("epoch", self.epoch);
        map.push("seq", self.seq);
        map.push("from", &self.from);
        map.push("at", self.at);
        map.push("kind", &self.kind);
        map.push_some("mid", self.id.as_ref());
        map.push("content", self.content.value());
    }

    /// The event as an entry of a page.
    pub(super) fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(8);
        self.put_fields(&mut map);
        Value::Map(map)
    }

    pub(super) fn from_fields(mut f: Fields) -> Result<Self, WireError> {
        Ok(Self {
            room: f.need("room")?,
            epoch: f.need("epoch")?,
            seq: f.need("seq")?,
            from: f.need("from")?,
            at: f.need("at")?,
            kind: f.need("kind")?,
            id: f.take("mid")?,
            content: Content::from_decoded(encode(&f.need_value("content")?, Encoding::MsgPack)),
        })
    }

    /// The membership changes in this event; empty for every other kind of event.
    pub fn member_changes(&self) -> Vec<MemberChange> {
        if self.kind == EventKind::members() {
            MemberChange::list_from_value(self.content.value())
        } else {
            Vec::new()
        }
    }
}
