//! What is known of rooms that are appended to, so that a steady append reads nothing.
//!
//! What is known of a room is locked by whoever appends to it, from the plan to the answer: appends to one room by one store
//! never meet in the backend. That it still holds is for the commit's guard to say.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::id::{MessageId, RoomId, UserId};
use crate::state::{IdempotencyRecord, Membership};

use super::tables::RoomRow;

/// What is known of one room.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The room; `Some(None)`: there is none.
    pub(super) room: Option<Option<RoomRow>>,
    /// Users, each with the membership that their record has; `None`: there is no record of theirs.
    pub(super) members: HashMap<UserId, Option<Option<Membership>>>,
    /// Sends that were looked up. Dropped after each batch.
    pub(super) sends: HashMap<(UserId, MessageId), Option<IdempotencyRecord>>,
}

/// What is known of many rooms: those of the latest uses.
#[derive(Default)]
pub(super) struct Cache(Mutex<Ages>);

type Rooms = HashMap<RoomId, Arc<AsyncMutex<Known>>>;

/// Rooms that were used lately, and those that were before. A room that is used moves to the first.
#[derive(Default)]
struct Ages {
    young: Rooms,
    old: Rooms,
}

/// Rooms of one age. What is known of a room takes some 400 bytes, and some 200 for each sender.
const ROOMS: usize = 4_096;
/// Users of a room that are known.
const MEMBERS: usize = 1_024;

impl Cache {
    /// Locks what is known of a room.
    pub(super) async fn lock(&self, room: &RoomId) -> OwnedMutexGuard<Known> {
        let known = self.find(room);
        known.lock_owned().await
    }

    fn find(&self, room: &RoomId) -> Arc<AsyncMutex<Known>> {
        let mut ages = self.0.lock();
        if let Some(known) = ages.young.get(room) {
            return Arc::clone(known);
        }
        if ages.young.len() >= ROOMS {
            ages.old = std::mem::take(&mut ages.young);
        }
        // A lock that somebody holds beyond this is another one than that of whoever comes next: their commits then meet at the
        // guard.
        let known = ages.old.remove(room).unwrap_or_default();
        ages.young.insert(room.clone(), Arc::clone(&known));
        known
    }
}

impl Known {
    /// Takes a record of the room that a commit was refused for.
    pub(super) fn refresh(&mut self, fresh: Option<RoomRow>) {
        let rev = |room: &Option<RoomRow>| room.as_ref().map(|room| (room.room, room.members_rev));
        if self.room.as_ref().map(rev) != Some(rev(&fresh)) {
            self.members.clear();
        }
        self.room = Some(fresh);
    }

    /// Nothing is known any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Drops what is beyond the bounds.
    pub(super) fn bound(&mut self) {
        self.sends.clear();
        if self.members.len() > MEMBERS {
            self.members.clear();
        }
    }
}
