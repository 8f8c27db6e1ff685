//! The rooms that a reader follows, and how far it is in each.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::{Cursor, RoomId, Seq};

use super::super::room::Room;

/// A room that is followed.
///
/// Invariant: `handed` ≤ `queued` ≤ `known`; the events in the queue are exactly those in (`handed`, `queued`].
#[derive(Debug)]
pub(crate) struct Sub {
    pub(crate) room: Arc<Room>,
    /// The reader's place in the room's list.
    pub(crate) reader: usize,
    /// The last event handed over.
    pub(super) handed: Cursor,
    /// The last event in the queue.
    pub(super) queued: Seq,
    /// The furthest event heard of.
    pub(super) known: Seq,
    /// The furthest event that the room has applied: not a hint, it is there to be read.
    pub(super) offered: Seq,
    pub(super) lagging: bool,
    /// The whole state has to be sent, rather than single keys.
    pub(super) snapshot: bool,
    /// State keys that wait.
    pub(super) waiting: usize,
    /// The reader has state: it is told also if there is none any more.
    pub(super) state_delivered: bool,
    /// The room's head before the reader's right to read was last checked: later ends of membership count.
    pub(super) authorised: Seq,
    /// Of the events in the log, how many were changed by erasures, as the room knows it.
    pub(super) erased: u64,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// The last event that it has. At most `authorised`.
    pub(crate) from: Cursor,
    /// The room's head, as read from the store before the right to read was checked.
    pub(crate) authorised: Seq,
    /// What the reader has of the room's state, if it has any: see [`RoomPosition::state`](crate::state::Place::state).
    pub(crate) state: Option<u32>,
}

/// Whom a room means: the reader at this place of its list, who has the room in this slot. Either may have been given up
/// meanwhile, and be another's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat<'a> {
    pub(crate) room: &'a Room,
    /// The reader's place in the room's list.
    pub(crate) at: usize,
    pub(crate) slot: u32,
}

/// What a lagging room's log must be read from.
#[derive(Debug)]
pub(crate) struct Lag {
    pub(crate) slot: u32,
    pub(crate) room: Arc<Room>,
    /// The reader's place in the room's list.
    pub(crate) reader: usize,
    pub(crate) after: Cursor,
    /// As the room knew it before: what was read with another count is to be read again.
    pub(crate) erased: u64,
}

impl Lag {
    pub(crate) fn seat(&self) -> Seat<'_> {
        Seat { room: &self.room, at: self.reader, slot: self.slot }
    }
}

impl Sub {
    /// The last event that was delivered.
    pub(crate) fn delivered(&self) -> Cursor {
        self.handed
    }

    pub(super) fn lag(&self, slot: u32) -> Lag {
        let after = Cursor { epoch: self.handed.epoch, seq: self.queued };
        let (room, reader, erased) = (self.room.clone(), self.reader, self.erased);
        Lag { slot, room, reader, after, erased }
    }
}

/// The rooms followed, by slot and by id.
///
/// Invariant: the index, where there is one, holds every room followed, with its slot.
#[derive(Debug, Default)]
pub(super) struct Subs {
    slots: Vec<Option<Sub>>,
    /// Only for readers of many rooms: most follow a few, and are found by looking.
    index: Option<Box<Index>>,
}

/// Slots by room. Of its own type so that its box, which keeps readers without one small, is plainly meant.
#[derive(Debug)]
struct Index(HashMap<RoomId, u32>);

/// From how many slots on there is an index.
const INDEXED: usize = 16;

impl Subs {
    pub(super) fn get(&self, slot: u32) -> Option<&Sub> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Sub> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The sub that is meant, if it is still that one.
    pub(super) fn at(&mut self, seat: Seat<'_>) -> Option<&mut Sub> {
        let is_it = |sub: &Sub| std::ptr::eq(&*sub.room, seat.room) && sub.reader == seat.at;
        self.get_mut(seat.slot).filter(|sub| is_it(sub))
    }

    pub(super) fn id_of(&self, room: &RoomId) -> Option<u32> {
        if let Some(index) = &self.index {
            return index.0.get(room).copied();
        }
        let is_it = |sub: &Option<Sub>| sub.as_ref().is_some_and(|sub| sub.room.id() == room);
        // Bounded by the rooms that a session may follow.
        self.slots.iter().position(is_it).map(|at| at as u32)
    }

    /// Puts a sub into a free slot.
    pub(super) fn insert(&mut self, sub: Sub) -> u32 {
        let room = sub.room.id().clone();
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(free) => {
                self.slots[free] = Some(sub);
                free
            }
            None => {
                // One by one at first, since most follow one room only.
                if self.slots.len() < 4 {
                    self.slots.reserve_exact(1);
                }
                self.slots.push(Some(sub));
                self.slots.len() - 1
            }
        } as u32;
        match &mut self.index {
            Some(index) => {
                index.0.insert(room, slot);
            }
            None if self.slots.len() > INDEXED => {
                let entries = self.iter().map(|(slot, sub)| (sub.room.id().clone(), slot));
                self.index = Some(Box::new(Index(entries.collect())));
            }
            None => {}
        }
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Sub> {
        let sub = self.slots.get_mut(slot as usize)?.take()?;
        if let Some(index) = &mut self.index {
            index.0.remove(sub.room.id());
        }
        Some(sub)
    }

    pub(super) fn remove_all(&mut self) -> Vec<Sub> {
        self.index = None;
        std::mem::take(&mut self.slots).into_iter().flatten().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Sub)> {
        self.slots.iter().enumerate().filter_map(|(slot, sub)| Some((slot as u32, sub.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Sub)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(slot, sub)| Some((slot as u32, sub.as_mut()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }
}
