//! Import of rooms.

use std::sync::Arc;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{Epoch, RoomId, Seq};
use crate::ports::Store;
use crate::state::{ImportedEvent, ImportedPart, ImportedRoom, Membership};
use crate::wire::{Content, Limits, StateUpdate, Value};

use super::VERSION;
use super::line::{EventLine, Line, hash_from_text, stamp_from_text};

/// Memberships and events sent to the store in one call.
const PART: usize = 256;
/// Bytes of content in one call, but always at least one event.
const PART_BYTES: usize = 256 * 1024;
/// Maximum characters of one line. A content of 4 MiB, the most that any store here accepts, has
/// fewer in any form.
const MAX_LINE: usize = 32 << 20;
/// Maximum bytes of a room's state, which is buffered until the room is complete.
const MAX_STATE: usize = 16 << 20;

/// Totals of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    /// Rooms.
    pub rooms: u64,
    /// Events in them.
    pub events: u64,
}

/// Reads lines and imports rooms. A room becomes visible, complete, with its last line and not
/// before.
pub struct Import {
    store: Arc<dyn Store>,
    line: u64,
    room: Option<Open>,
    done: Imported,
}

/// The room being imported.
struct Open {
    id: RoomId,
    epoch: Epoch,
    /// The head that the `room` line states.
    head: Seq,
    /// The next seq expected.
    next: Seq,
    part: ImportedPart,
    part_bytes: usize,
    events: u64,
    state: Vec<Arc<StateUpdate>>,
    state_bytes: usize,
}

impl Import {
    /// Creates an import into `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, line: 0, room: None, done: Imported::default() }
    }

    /// Imports one line, without its line feed. Empty lines are ignored.
    ///
    /// # Errors
    ///
    /// The error names the line and what is wrong with it. [`Code::Exists`] if there is such a
    /// room. Errors of the store. After an error the room is not imported: what was stored of it is
    /// dropped when its import begins again or when the room is deleted.
    pub async fn line(&mut self, line: &str) -> Result<()> {
        self.line += 1;
        if line.len() > MAX_LINE {
            return Err(self.wrong("the line is too long"));
        }
        if line.trim().is_empty() {
            return Ok(());
        }
        let line = Line::read(line).map_err(|why| self.wrong(&why))?;
        match (line, self.room.take()) {
            (Line::Room { v, id, kind, open, created, first, head }, None) => {
                if v > VERSION {
                    let words = format!("version {v}; this program reads up to {VERSION}");
                    return Err(self.wrong(&words));
                }
                let room = ImportedRoom { id: id.clone(), kind, open, created, first };
                let epoch = self.store.begin_import(room).await.map_err(|e| self.at(&id, e))?;
                self.room = Some(Open::new(id, epoch, first, head));
                Ok(())
            }
            (Line::Room { .. }, Some(open)) => {
                Err(self.wrong(&format!("the room {} before it has no `end` line", open.id)))
            }
            (_, None) => Err(self.wrong("it belongs to no room: a `room` line must come first")),
            (Line::End { events }, Some(open)) => self.end(open, events).await,
            (line, Some(mut open)) => {
                open.take(line).map_err(|why| self.wrong(&why))?;
                if open.is_full() {
                    self.flush(&mut open).await?;
                }
                self.room = Some(open);
                Ok(())
            }
        }
    }

    /// Ends the import.
    ///
    /// # Errors
    ///
    /// [`Code::BadField`] if the last room has no `end` line: it was not imported.
    pub fn finish(self) -> Result<Imported> {
        match &self.room {
            Some(open) => Err(self.wrong(&format!("the room {} has no `end` line", open.id))),
            None => Ok(self.done),
        }
    }

    async fn end(&mut self, mut open: Open, events: u64) -> Result<()> {
        self.flush(&mut open).await?;
        if events != open.events {
            let words =
                format!("the room has {} events, and its `end` line states {events}", open.events);
            return Err(self.wrong(&words));
        }
        if open.next.prev() != open.head {
            let words = format!(
                "the last seq is {}, and the `room` line states head {}",
                open.next.prev(),
                open.head
            );
            return Err(self.wrong(&words));
        }
        let finished = self.store.finish_import(&open.id, open.epoch).await;
        finished.map_err(|e| self.at(&open.id, e))?;
        self.store.merge_state(open.state).await?;
        self.done.rooms += 1;
        self.done.events += events;
        Ok(())
    }

    async fn flush(&self, open: &mut Open) -> Result<()> {
        let part = std::mem::take(&mut open.part);
        open.part_bytes = 0;
        let imported = self.store.import(&open.id, open.epoch, part).await;
        imported.map_err(|e| self.at(&open.id, e))
    }

    fn wrong(&self, why: &str) -> Error {
        Error::new(Code::BadField, "import", format!("line {}: {why}", self.line))
    }

    fn at(&self, room: &RoomId, error: crate::ports::StoreError) -> Error {
        let error = Error::from(error);
        let words = format!("line {}: the room {room}: {}", self.line, error.message());
        Error::new(error.code(), "import", words).because(error)
    }
}

impl Open {
    fn new(id: RoomId, epoch: Epoch, first: Seq, head: Seq) -> Self {
        let (part, state) = (ImportedPart::default(), Vec::new());
        Self { id, epoch, head, next: first, part, part_bytes: 0, events: 0, state, state_bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.part.memberships.len() + self.part.events.len() >= PART
            || self.part_bytes >= PART_BYTES
    }

    fn take(&mut self, line: Line) -> Result<(), String> {
        match line {
            Line::Member { user, role } => {
                self.part.memberships.push((user, Membership::Member(role)));
            }
            Line::Banned { user } => self.part.memberships.push((user, Membership::Banned)),
            Line::Event(event) => {
                let event = event.imported()?;
                if event.seq != self.next {
                    return Err(format!("seq {} was expected, not {}", self.next, event.seq));
                }
                self.next = event.seq.next();
                self.part_bytes += event.content.packed().len();
                self.part.events.push(event);
                self.events += 1;
            }
            Line::State { key, stamp, from, value } => {
                let stamp = stamp_from_text(&stamp)
                    .ok_or("the stamp is malformed: ms-counter-node is expected")?;
                let value = value.as_ref().map(pack).transpose()?;
                self.state_bytes += value.as_ref().map_or(0, |value| value.packed().len()) + 100;
                if self.state_bytes > MAX_STATE {
                    return Err("the room has too much state".into());
                }
                let room = self.id.clone();
                self.state.push(Arc::new(StateUpdate { room, key, stamp, from, value }));
            }
            Line::Room { .. } | Line::End { .. } => {}
        }
        Ok(())
    }
}

impl EventLine {
    fn imported(self) -> Result<ImportedEvent, String> {
        let content = pack(&self.content)?;
        let send = match (self.mid, self.hash) {
            (Some(id), Some(hash)) => {
                Some((id, hash_from_text(&hash).ok_or("the hash must have 64 hexadecimal digits")?))
            }
            (None, None) => None,
            _ => return Err("mid and hash must be both present or both absent".into()),
        };
        let Self { seq, from, at, kind, .. } = self;
        Ok(ImportedEvent { seq, from, at, kind, send, content })
    }
}

fn pack(value: &Value) -> Result<Content, String> {
    let limits = Limits {
        max_content_bytes: usize::MAX,
        max_values: usize::MAX,
        max_depth: usize::MAX,
        ..Limits::default()
    };
    Content::new(value, &limits).map_err(|error| error.to_string())
}
