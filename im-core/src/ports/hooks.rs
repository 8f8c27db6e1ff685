//! The embedder's hooks, called before an action is executed and after an event is committed.

use std::sync::Arc;

use async_trait::async_trait;

use crate::id::{EventKind, MessageId, RoomId, StateKey, UserId};
use crate::state::Intent;
use crate::wire::{Event, RoomKind, Target, Value};

use super::auth::Identity;

/// An action that a client is about to execute.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Create a room: by command, or by the first message to a peer (a direct room) or to a user
    /// (their inbox).
    ///
    /// In the second case the hook is called after that of the [`Action::Send`], and only while the
    /// room does not exist; of two concurrent first messages each may cause a call.
    /// [`Verdict::Refuse`] is respected; any other verdict counts as [`Verdict::Default`].
    Create {
        /// Its id.
        room: RoomId,
        /// Its kind.
        kind: RoomKind,
        /// The second user: the peer of a direct room, whose id does not name it, or the owner of
        /// an inbox.
        with: Option<UserId>,
    },
    /// Change the memberships of a room.
    Change {
        /// The room.
        room: RoomId,
        /// The change.
        intent: Intent,
    },
    /// Read a room: subscribe to it or read its history.
    Read {
        /// The room.
        room: RoomId,
    },
    /// Send a durable message.
    Send {
        /// The target.
        to: Target,
        /// The message id that the sender chose.
        id: MessageId,
        /// The kind of the event.
        kind: EventKind,
        /// The content. A hook may replace it.
        content: Value,
    },
    /// Send an ephemeral message.
    Signal {
        /// The target.
        to: Target,
        /// The kind of the message.
        kind: EventKind,
    },
    /// Write a state key.
    PutState {
        /// The room.
        room: RoomId,
        /// The key.
        key: StateKey,
        /// Whether the writer supplies the stamp. Allowed by default only where state may be
        /// written.
        stamped: bool,
    },
}

/// The kinds of [`Action`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActionKind {
    /// [`Action::Create`].
    Create,
    /// [`Action::Change`].
    Change,
    /// [`Action::Read`].
    Read,
    /// [`Action::Send`].
    Send,
    /// [`Action::Signal`].
    Signal,
    /// [`Action::PutState`].
    PutState,
}

impl Action {
    /// The kind of this action.
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::Create { .. } => ActionKind::Create,
            Self::Change { .. } => ActionKind::Change,
            Self::Read { .. } => ActionKind::Read,
            Self::Send { .. } => ActionKind::Send,
            Self::Signal { .. } => ActionKind::Signal,
            Self::PutState { .. } => ActionKind::PutState,
        }
    }
}

/// A hook's decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The engine's own rules decide.
    Default,
    /// The action is allowed, whatever the engine's own rules say.
    Allow,
    /// The engine's own rules decide, and this content replaces the submitted one. For
    /// [`Action::Send`] only; the dedup hash remains that of the submitted content.
    Replace(Value),
    /// The action is refused, with this message for the peer.
    Refuse(String),
}

/// Decisions of the embedder on the actions of clients.
///
/// Calls that the embedder's own code makes through [`Engine`](crate::engine::Engine) do not pass
/// through the hooks.
#[async_trait]
pub trait Hooks: Send + Sync {
    /// Returns whether [`Hooks::before`] is called for actions of this kind. True by default. The
    /// result must not change.
    ///
    /// A kind without calls costs nothing. Otherwise a send costs one store read
    /// ([`ActionKind::Send`]: a retry does not cause a second call), and one more to a peer whose
    /// direct room is not in memory ([`ActionKind::Create`]: whether the room has to be created).
    fn wants(&self, kind: ActionKind) -> bool {
        let _ = kind;
        true
    }

    /// Called before `actor` executes an action.
    ///
    /// Bounded by [`EngineConfig::hook_timeout`](crate::engine::EngineConfig); after that the
    /// action is refused with [`Code::Overloaded`](crate::Code). A retry of a stored send is
    /// acknowledged without a call.
    async fn before(&self, actor: &Identity, action: &Action) -> Verdict;

    /// Called after an event was committed, once per commit, on the node that committed it, in each
    /// room's order.
    ///
    /// It must not block; move longer work to a task of your own. A crash between commit and call
    /// loses the call: if every event matters, subscribe to the room.
    fn after(&self, event: &Arc<Event>) {
        let _ = event;
    }
}

/// No hooks: the engine's own rules decide everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

#[async_trait]
impl Hooks for NoHooks {
    fn wants(&self, _: ActionKind) -> bool {
        false
    }

    async fn before(&self, _: &Identity, _: &Action) -> Verdict {
        Verdict::Default
    }
}
