//! What nodes that share a store tell each other. Everything here is a hint: the store is the truth, and a message that
//! is lost is found by the checks of heads and sessions.

use std::sync::Arc;

use async_trait::async_trait;

use crate::code::Code;
use crate::error::Result;
use crate::id::{NodeId, RoomId, SessionId, UserId};
use crate::wire::{Event, Signal, StateUpdate};

/// Something that one node tells the others.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum BusMessage {
    /// These events were committed. They may arrive late, twice, in any order, or never.
    Events(Vec<Arc<Event>>),
    /// A state key has a newer value.
    State(Arc<StateUpdate>),
    /// A signal for whoever is there.
    Signal(Arc<Signal>),
    /// This session's checkpoint has changed: compare its subscriptions with the store.
    CheckpointChanged {
        /// Whose it is.
        user: UserId,
        /// Which session.
        session: SessionId,
    },
    /// This room was trimmed or deleted: compare it with the store.
    RoomChanged {
        /// Which.
        room: RoomId,
    },
    /// This user is being erased, or was: forget what waits to be written of theirs, and compare all rooms.
    Erased {
        /// Who.
        user: UserId,
    },
    /// Close this session's connections.
    Close {
        /// Whose it is.
        user: UserId,
        /// One session, or all of the user's.
        session: Option<SessionId>,
        /// If set, only connections that took the session before the one with this number; a late message then spares
        /// the younger ones.
        before: Option<u64>,
        /// With this code.
        code: Code,
    },
}

/// A message and where it comes from.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The node that sent it.
    pub from: NodeId,
    /// What it says.
    pub message: BusMessage,
}

/// The messages of the other nodes, one after the other.
#[async_trait]
pub trait BusReceiver: Send {
    /// The next message; `None` once the bus is gone. Cancel-safe: a message is not lost if the future is dropped.
    async fn next(&mut self) -> Option<Envelope>;
}

/// Carries messages between nodes.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Tells the other nodes. Never waits: where there is no room, the message is dropped (and the head check finds what
    /// it would have said). Messages of one node should arrive in their order, and need not.
    fn publish(&self, envelope: Envelope);

    /// Receives what the nodes other than `node` publish from now on. Called once per engine.
    ///
    /// # Errors
    ///
    /// [`Code::Overloaded`] if the bus cannot be reached.
    async fn subscribe(&self, node: NodeId) -> Result<Box<dyn BusReceiver>>;
}
