//! What an application sends.

use im_core::wire::{Map, Target, Value};
use im_core::{EventKind, MessageId, RoomId, UserId};

/// A durable message to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub(crate) to: Target,
    pub(crate) id: MessageId,
    pub(crate) kind: EventKind,
    pub(crate) content: Value,
}

impl Message {
    /// A message of the kind `message`, with a new random id.
    pub fn new(to: Target, content: impl Into<Value>) -> Self {
        Self { to, id: MessageId::now_v7(), kind: EventKind::message(), content: content.into() }
    }

    /// A message to everyone in a room.
    pub fn room(room: RoomId, content: impl Into<Value>) -> Self {
        Self::new(Target::Room(room), content)
    }

    /// A message to the direct room shared with this user.
    pub fn peer(user: UserId, content: impl Into<Value>) -> Self {
        Self::new(Target::Peer(user), content)
    }

    /// A message of plain text, `{"text": …}`, to everyone in a room.
    pub fn text(room: RoomId, text: &str) -> Self {
        Self::room(room, Map::from_iter([("text", text)]))
    }

    /// Sets another kind of event.
    #[must_use]
    pub fn kind(mut self, kind: EventKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the idempotency key, so that a retry after a restart of the application is recognised
    /// as a duplicate. It needs at least 96 random bits.
    #[must_use]
    pub fn id(mut self, id: MessageId) -> Self {
        self.id = id;
        self
    }

    /// The idempotency key of the message and of its retries.
    pub fn message_id(&self) -> &MessageId {
        &self.id
    }
}
