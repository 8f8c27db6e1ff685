//! A room's record and its memberships.

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, RoomId, Seq, UserId};
use crate::time::Timestamp;
use crate::wire::{Role, RoomKind};

/// The record of a room.
///
/// Invariants: `first` ≤ `head` + 1; the retained events are exactly those with `first` ≤ seq ≤
/// `head`, and `bytes` is the sum of their contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRecord {
    /// Its id.
    pub id: RoomId,
    /// Its kind.
    pub kind: RoomKind,
    /// Whether anyone may join, and, in a channel, read.
    pub open: bool,
    /// The epoch of the room.
    pub epoch: Epoch,
    /// The last event; 0 if there was none yet.
    pub head: Seq,
    /// The first retained event; `head` + 1 if there is none.
    pub first: Seq,
    /// When it was created.
    pub created: Timestamp,
    /// The number of members, banned users not counted.
    pub members: u32,
    /// Bytes of packed content of the retained events.
    pub bytes: u64,
    /// Counts the events changed by erasures: caches of events drop them when it changes.
    pub erased: u64,
}

/// How a user relates to a room. A non-member that is not banned has no membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Membership {
    /// A member, with a role.
    Member(Role),
    /// Banned from the room.
    Banned,
}

impl RoomRecord {
    /// Returns whether `user` with this membership may read the room: its log, its state, its
    /// members.
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

    /// Returns whether a user with this membership may send to the room and write its state.
    pub fn may_write(&self, membership: Option<Membership>) -> bool {
        self.kind != RoomKind::Inbox
            && matches!(membership, Some(Membership::Member(role)) if role >= Role::Member)
    }

    /// The role of a user that joins on their own.
    pub fn joining_role(&self) -> Role {
        if self.kind == RoomKind::Channel { Role::Reader } else { Role::Member }
    }
}
