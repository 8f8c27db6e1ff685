//! Where the embedder has a say: before the acts that matter, and after them.

use std::sync::Arc;

use async_trait::async_trait;

use crate::id::{EventKind, MessageId, RoomId, StateKey, UserId};
use crate::state::Intent;
use crate::wire::{Event, RoomKind, Target, Value};

use super::auth::Identity;

/// What somebody is about to do.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Make a room: by the command, or by the first message to a peer (a direct room) or to a user (their inbox). The latter is
    /// asked about after its [`Action::Send`], and only while the room does not exist; of two first messages at once each may
    /// be asked about. [`Verdict::Refuse`] counts, any other is [`Verdict::Default`].
    Create {
        /// Its id.
        room: RoomId,
        /// Its kind.
        kind: RoomKind,
        /// Whose it is beside the actor's: the peer of a direct room, whose id does not tell, or the user of an inbox.
        with: Option<UserId>,
    },
    /// Change who is in a room.
    Change {
        /// The room.
        room: RoomId,
        /// What becomes of whom.
        intent: Intent,
    },
    /// Read a room: follow it, or page through its history.
    Read {
        /// The room.
        room: RoomId,
    },
    /// Send a durable message.
    Send {
        /// Where to.
        to: Target,
        /// The sender's id for it.
        id: MessageId,
        /// What sort of event.
        kind: EventKind,
        /// What it says. A hook may answer with another content.
        content: Value,
    },
    /// Send an ephemeral signal.
    Signal {
        /// Where to.
        to: Target,
        /// What sort of signal.
        kind: EventKind,
    },
    /// Write a state key.
    PutState {
        /// The room.
        room: RoomId,
        /// The key.
        key: StateKey,
        /// Whether the writer brings a stamp of its own. Allowed by default only where state may be written.
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
    /// Of which kind it is.
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

/// What a hook says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The engine's own rules decide.
    Default,
    /// It is allowed, whatever the engine's own rules say.
    Allow,
    /// The engine's own rules decide, and this is what the message says instead. For [`Action::Send`] only; the hash of
    /// dedup is still that of what was submitted.
    Replace(Value),
    /// It is refused, with these words for the peer.
    Refuse(String),
}

/// The embedder's say, for each kind of act. What the embedder's own code does by [`Engine`](crate::engine::Engine) is not
/// asked about.
#[async_trait]
pub trait Hooks: Send + Sync {
    /// Whether [`Hooks::before`] wants to be asked about acts of this kind. All of them, by default. The answer must not change.
    ///
    /// What is not asked about costs nothing. Otherwise a send costs a read of the store ([`ActionKind::Send`]: a retry is
    /// not asked about twice), and one more to a peer whose direct room is not in memory ([`ActionKind::Create`]: whether
    /// it has to be made).
    fn wants(&self, kind: ActionKind) -> bool {
        let _ = kind;
        true
    }

    /// Asked before `actor` does something. It is bounded by [`EngineConfig::hook_timeout`](crate::engine::EngineConfig);
    /// if it takes longer, the act is refused with [`Code::Overloaded`](crate::Code). A retry of a send that was kept is
    /// answered without asking.
    async fn before(&self, actor: &Identity, action: &Action) -> Verdict;

    /// Told after an event was committed, once per commit on the node that did it, in each room's order. It must not
    /// block; hand longer work to a task of your own. A crash between commit and this call loses the call: follow the
    /// room where every event matters.
    fn after(&self, event: &Arc<Event>) {
        let _ = event;
    }
}

/// No say: the engine's own rules decide everything.
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
