//! What a transaction leaves to the next one.

use std::collections::{HashMap, HashSet};

use im_core::state::{Membership, RoomRecord};
use im_core::{RoomId, UserId};

use crate::runs::Runs;

/// How users stand to the rooms with these numbers.
pub(crate) type Memberships = HashMap<(u64, UserId), Option<Membership>>;

/// What a transaction has read of rooms and members, or written. One that nobody else's commit has followed may begin with
/// it, and read no more than what is new to it.
#[derive(Default)]
pub(crate) struct Known {
    /// `None`: there is no such room.
    pub(crate) rooms: HashMap<RoomId, Option<RoomRecord>>,
    pub(crate) memberships: Memberships,
    /// Those who have a row among the members.
    pub(crate) seen: HashSet<(u64, UserId)>,
    pub(crate) runs: Runs,
}

/// Entries of [`Known`] beyond which it is forgotten: some megabytes.
const MOST_KNOWN: usize = 1 << 15;

impl Known {
    /// What is worth keeping for the next transaction.
    pub(crate) fn kept(mut self) -> Self {
        // Of what is not there strangers can name any number.
        self.rooms.retain(|_, room| room.is_some());
        if self.rooms.len() + self.memberships.len() > MOST_KNOWN { Self::default() } else { self }
    }
}
