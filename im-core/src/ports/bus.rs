//! Messages between nodes that share a store.
//!
//! Every message is a hint: the store is the truth, and the checks of heads and sessions repair a
//! lost message.

use std::sync::Arc;

use async_trait::async_trait;

use crate::code::Code;
use crate::error::Result;
use crate::id::{NodeId, RoomId, SessionId, UserId};
use crate::wire::{Event, Signal, StateUpdate};

/// A message of one node to the others.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum BusMessage {
    /// These events were committed. They may arrive late, twice, in any order, or never.
    Events(Vec<Arc<Event>>),
    /// A state key has a newer value.
    State(Arc<StateUpdate>),
    /// An ephemeral message for the subscribers and connections of each node.
    Signal(Arc<Signal>),
    /// This session's checkpoint changed: compare its subscriptions with the store.
    CheckpointChanged {
        /// The session's user.
        user: UserId,
        /// The session.
        session: SessionId,
    },
    /// This room was trimmed or deleted: compare it with the store.
    RoomChanged {
        /// The room.
        room: RoomId,
    },
    /// This user is being erased, or was: drop their state updates that wait to be written, and
    /// compare all rooms with the store.
    Erased {
        /// The user.
        user: UserId,
    },
    /// Close this session's connections.
    Close {
        /// The user.
        user: UserId,
        /// One session, or all of the user's.
        session: Option<SessionId>,
        /// If set, only connections whose fencing token is below this one; a late message then
        /// spares newer connections.
        before: Option<u64>,
        /// The code of the disconnect.
        code: Code,
    },
}

/// A message with its origin.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The node that sent it.
    pub from: NodeId,
    /// The message.
    pub message: BusMessage,
}

/// The stream of messages from other nodes.
#[async_trait]
pub trait BusReceiver: Send {
    /// Returns the next message; `None` once the bus is closed. Cancel-safe: no message is lost if
    /// the future is dropped.
    async fn next(&mut self) -> Option<Envelope>;
}

/// Carries messages between nodes.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Publishes a message to the other nodes.
    ///
    /// Never waits: a full bus drops the message, and the head check repairs the loss. Messages of
    /// one node should arrive in order; the engine does not rely on it.
    fn publish(&self, envelope: Envelope);

    /// Subscribes to the messages that nodes other than `node` publish from now on. Called once per
    /// engine.
    ///
    /// # Errors
    ///
    /// [`Code::Overloaded`] if the bus cannot be reached.
    async fn subscribe(&self, node: NodeId) -> Result<Box<dyn BusReceiver>>;
}
