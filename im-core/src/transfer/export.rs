//! Export of rooms.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{RoomId, Seq, UserId};
use crate::ports::{LogRange, Store};
use crate::state::{Membership, RoomRecord};
use crate::wire::{Event, PageFrom};

use super::VERSION;
use super::line::{EventLine, Line, hash_to_text};

/// Rooms, users or events in one read.
const PAGE: usize = 200;
/// Bytes of content in one read.
const PAGE_BYTES: usize = 256 * 1024;

/// Produces rooms as lines, a bounded part per call.
///
/// The store may be in use meanwhile: a room's log is as it was when the export of the room began;
/// its members and state may be slightly newer.
pub struct Export {
    store: Arc<dyn Store>,
    rooms: VecDeque<RoomRecord>,
    /// Position in the list of rooms; `None` after the last room.
    more: Option<Option<RoomId>>,
    room: Option<ExportState>,
    exported: u64,
}

/// The room being exported.
struct ExportState {
    record: RoomRecord,
    stage: Stage,
}

enum Stage {
    Memberships(Option<UserId>),
    Events(Seq),
    State,
}

impl Export {
    /// Exports every room, in the order of their ids.
    pub fn all(store: Arc<dyn Store>) -> Self {
        Self { store, rooms: VecDeque::new(), more: Some(None), room: None, exported: 0 }
    }

    /// Exports one room.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]; errors of the store.
    pub async fn room(store: Arc<dyn Store>, id: &RoomId) -> Result<Self> {
        let record = store.room(id).await?.ok_or_else(|| Error::of(Code::NotFound, "export"))?;
        Ok(Self { store, rooms: VecDeque::from([record]), more: None, room: None, exported: 0 })
    }

    /// The number of rooms exported completely.
    pub fn exported(&self) -> u64 {
        self.exported
    }

    /// Returns the next lines, about 256 KiB at most, or one line if it is longer; `None` at the
    /// end.
    ///
    /// # Errors
    ///
    /// [`Code::Trimmed`] if a room lost events that were not exported yet, or was deleted. The
    /// lines exported so far then have no `end`, and no import stores them. Call again for the
    /// rooms after it, or begin a new export. Errors of the store: call again.
    pub async fn next(&mut self) -> Result<Option<String>> {
        let mut lines = String::new();
        while lines.is_empty() {
            let Some(begun) = &mut self.room else {
                match self.next_room().await? {
                    Some(record) => self.begin(record, &mut lines),
                    None => return Ok(None),
                }
                continue;
            };
            let done = begun.go_on(&self.store, &mut lines).await;
            match done {
                Ok(false) => {}
                Ok(true) => {
                    self.room = None;
                    self.exported += 1;
                }
                Err(error) => {
                    if error.code() == Code::Trimmed {
                        self.room = None;
                    }
                    return Err(error);
                }
            }
        }
        Ok(Some(lines))
    }

    async fn next_room(&mut self) -> Result<Option<RoomRecord>> {
        if self.rooms.is_empty()
            && let Some(after) = &self.more
        {
            self.rooms = self.store.rooms(after.as_ref(), PAGE).await?.into();
            self.more = self.rooms.back().map(|last| Some(last.id.clone()));
        }
        Ok(self.rooms.pop_front())
    }

    fn begin(&mut self, record: RoomRecord, lines: &mut String) {
        let RoomRecord { id, kind, open, created, first, head, .. } = record.clone();
        Line::Room { v: VERSION, id, kind, open, created, first, head }.write(lines);
        self.room = Some(ExportState { record, stage: Stage::Memberships(None) });
    }
}

impl ExportState {
    /// Writes the next part; returns `true` after the last.
    async fn go_on(&mut self, store: &Arc<dyn Store>, lines: &mut String) -> Result<bool> {
        match &self.stage {
            Stage::Memberships(after) => {
                let memberships = store.memberships(&self.record.id, after.as_ref(), PAGE).await?;
                self.stage = match memberships.last() {
                    Some((user, _)) => Stage::Memberships(Some(user.clone())),
                    None => Stage::Events(self.record.first),
                };
                for (user, membership) in memberships {
                    let line = match membership {
                        Membership::Member(role) => Line::Member { user, role },
                        Membership::Banned => Line::Banned { user },
                    };
                    line.write(lines);
                }
                Ok(false)
            }
            Stage::Events(next) if *next > self.record.head => {
                self.stage = Stage::State;
                Ok(false)
            }
            Stage::Events(next) => {
                let next = *next;
                self.stage = Stage::Events(self.events(store, next, lines).await?);
                Ok(false)
            }
            Stage::State => {
                for update in store.state(&self.record.id).await?.entries {
                    let (key, from) = (update.key.clone(), update.from.clone());
                    let value = update.value.as_ref().map(crate::wire::Content::value);
                    Line::State { key, stamp: update.stamp.to_string(), from, value }.write(lines);
                }
                Line::End { events: self.record.kept() }.write(lines);
                Ok(true)
            }
        }
    }

    /// Writes the events from `next` on, as many as fit. Returns the next seq to write.
    async fn events(&self, store: &Arc<dyn Store>, next: Seq, lines: &mut String) -> Result<Seq> {
        let RoomRecord { id, epoch, head, .. } = &self.record;
        let range =
            LogRange { from: PageFrom::After(next.prev()), limit: PAGE, max_bytes: PAGE_BYTES };
        let page = store.read(id, range).await?;
        let is_there = |event: &Arc<Event>| event.seq == next && event.epoch == *epoch;
        let page = page.filter(|page| page.events.first().is_some_and(is_there));
        let Some(page) = page else {
            let words =
                format!("the room {id} was deleted, or lost events that were not exported yet");
            return Err(Error::new(Code::Trimmed, "export", words));
        };
        let mut next = next;
        for event in page.events.iter().filter(|event| event.seq <= *head) {
            let hash = match &event.id {
                Some(mid) => store.idempotency_record(id, &event.from, mid).await?,
                None => None,
            };
            // Both or neither: an id without its idempotency record would be useless.
            let mid = event.id.clone().filter(|_| hash.is_some());
            let line = EventLine {
                seq: event.seq,
                from: event.from.clone(),
                at: event.at,
                kind: event.kind.clone(),
                mid,
                hash: hash.map(|record| hash_to_text(&record.hash)),
                content: event.content.value(),
            };
            Line::Event(Box::new(line)).write(lines);
            next = event.seq.next();
        }
        Ok(next)
    }
}
