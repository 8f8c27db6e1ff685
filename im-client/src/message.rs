//! What an application sends.

use im_core::wire::{Map, Target, Value};
use im_core::{EventKind, MessageId, RoomId, UserId};

/// A durable message on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub(crate) to: Target,
    pub(crate) id: MessageId,
    pub(crate) kind: EventKind,
    pub(crate) content: Value,
}

impl Message {
    /// A message with a fresh random id and the kind `message`.
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

    /// Another kind of event.
    #[must_use]
    pub fn kind(mut self, kind: EventKind) -> Self {
        self.kind = kind;
        self
    }

    /// An id of the application's own, so that a try after a restart of the application is recognised as a repeat. It
    /// needs at least 96 random bits.
    #[must_use]
    pub fn id(mut self, id: MessageId) -> Self {
        self.id = id;
        self
    }

    /// The id under which it is sent, and sent again if need be.
    pub fn message_id(&self) -> &MessageId {
        &self.id
    }
}
