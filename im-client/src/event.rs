//! Events for the application.

use std::sync::Arc;
use std::time::Duration;

use im_core::wire::{Event, RoomStatus, Signal, StateUpdate, Welcome};
use im_core::{Code, RoomId};

/// An event for the application. Events come in the order in which they happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// A durable event of a subscribed room. Within a room and epoch each comes once, in order,
    /// without a gap; where that is not possible, a [`ClientEvent::Room`] comes before it.
    Event(Arc<Event>),
    /// An ephemeral message.
    Signal(Arc<Signal>),
    /// A newer value of a state key than the last one reported.
    State(Arc<StateUpdate>),
    /// All of a room's state. Keys reported before that are missing here have no value any more.
    Snapshot {
        /// The room.
        room: RoomId,
        /// The keys that have a value, in key order.
        entries: Vec<Arc<StateUpdate>>,
    },
    /// A room's status changed: history was trimmed (`gap`), the epoch changed or the tail was lost
    /// (`reset`), or access was lost (`denied`; the subscription has ended).
    Room(RoomStatus),
    /// The client is connected, for the first time or again.
    Connected(Box<Welcome>),
    /// The connection ended; the client reconnects by itself.
    Disconnected {
        /// The reason, if known.
        code: Option<u16>,
        /// The reason in words.
        message: String,
        /// Time until the next attempt; `None` while the client waits for new credentials.
        retry_in: Option<Duration>,
    },
    /// The client has ended. No event follows.
    Closed {
        /// The reason, if known.
        code: Option<u16>,
        /// The reason in words.
        message: String,
    },
}

impl ClientEvent {
    /// Returns the code of a disconnect or close, if this version knows it.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Disconnected { code, .. } | Self::Closed { code, .. } => {
                Code::from_number((*code)?)
            }
            _ => None,
        }
    }
}
