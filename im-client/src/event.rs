//! What a client tells its application.

use std::sync::Arc;
use std::time::Duration;

use im_core::wire::{Event, RoomStatus, Signal, StateUpdate, Welcome};
use im_core::{Code, RoomId};

/// Something that the application should know, in the order in which it happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// A durable event of a room that is followed. Within a room and epoch each comes once, in order, without a gap;
    /// where that cannot be, a [`ClientEvent::Room`] comes first and says so.
    Event(Arc<Event>),
    /// An ephemeral signal.
    Signal(Arc<Signal>),
    /// A state key has a newer value than the one told before.
    State(Arc<StateUpdate>),
    /// This is all of a room's state now: what was told before and is not here is gone.
    Snapshot {
        /// The room.
        room: RoomId,
        /// The keys that have a value, in their order.
        entries: Vec<Arc<StateUpdate>>,
    },
    /// A room answers in another way than asked: history was trimmed (`gap`), the room begins anew (`reset`), or it may
    /// not be read any more (`denied`, and it is not followed any more).
    Room(RoomStatus),
    /// The client is connected, for the first time or again.
    Connected(Box<Welcome>),
    /// The connection ended; the client comes back by itself.
    Disconnected {
        /// Why, where that is known.
        code: Option<u16>,
        /// The same in words.
        message: String,
        /// After this long it tries again; `None` while it waits for fresh credentials.
        retry_in: Option<Duration>,
    },
    /// The client has ended. Nothing follows.
    Closed {
        /// Why, where that is known.
        code: Option<u16>,
        /// The same in words.
        message: String,
    },
}

impl ClientEvent {
    /// The code of a disconnect or close, if it is one that this version knows.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Disconnected { code, .. } | Self::Closed { code, .. } => {
                Code::from_number((*code)?)
            }
            _ => None,
        }
    }
}
