//! What is known of a room, and of who is in it.

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, RoomId, Seq, UserId};
use crate::time::Timestamp;
use crate::wire::{Role, RoomKind};

/// What is known of a room.
///
/// Invariants: `first` ≤ `head` + 1; the events kept are exactly those with `first` ≤ seq ≤ `head`, and `bytes` is what
/// they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRecord {
    /// Its id.
    pub id: RoomId,
    /// Its kind.
    pub kind: RoomKind,
    /// Whether anyone may join, and, in a channel, read.
    pub open: bool,
    /// Which life of the room this is.
    pub epoch: Epoch,
    /// The last event; 0 if there was none yet.
    pub head: Seq,
    /// The first event still kept; `head` + 1 if none is.
    pub first: Seq,
    /// When it was made.
    pub created: Timestamp,
    /// How many members it has; the banned are not counted.
    pub members: u32,
    /// Bytes of packed content of the events kept.
    pub bytes: u64,
    /// Counts the events that were changed by erasures: whoever holds events of the log drops them when it moves.
    pub erased: u64,
}

/// How a user relates to a room. A user without one is a stranger to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Membership {
    /// In, with a role.
    Member(Role),
    /// Out, and to stay out.
    Banned,
}

impl RoomRecord {
    /// Whether `user`, who stands to the room like this, may read it: its log, its state, its members.
    pub fn may_read(&self, user: &UserId, membership: Option<Membership>) -> bool {
        match membership {
            Some(Membership::Member(_)) => true,
            Some(Membership::Banned) => false,
            None => match self.kind {
                RoomKind::Channel => self.open,
                RoomKind::Inbox => self.id.inbox_owner().as_ref() == Some(user),
                RoomKind::Direct | RoomKind::Group => false,
            },
        }
    }

    /// Whether `user` may send to it and write its state.
    pub fn may_write(&self, membership: Option<Membership>) -> bool {
        self.kind != RoomKind::Inbox
            && matches!(membership, Some(Membership::Member(role)) if role >= Role::Member)
    }

    /// The role that somebody gets who joins by themselves.
    pub fn joining_role(&self) -> Role {
        if self.kind == RoomKind::Channel { Role::Reader } else { Role::Member }
    }
}
