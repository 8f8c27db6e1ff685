//! A faulty path from [`Connection::next`](im_core::engine::Connection::next) to one client.

use std::sync::Arc;

use bytes::Bytes;
use im_core::wire::{
    Encoding, Event, Limits, Map, Push, RoomStatus, ServerFrame, Status, Value, decode, encode,
};
use im_core::{Epoch, Seq};
use parking_lot::Mutex;

use super::Mutant;

/// Contents sent to other clients: a removed user might receive them by mistake. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Overheard(Arc<Mutex<Vec<(Seq, Value)>>>);

/// The faulty path to one client. The fault happens once for each client, as early as possible;
/// [`Mutant::Lose`] on each connection, since a resume would repair it.
#[derive(Debug)]
pub struct MutantFrames {
    mutant: Option<Mutant>,
    encoding: Encoding,
    overheard: Overheard,
    done: bool,
    /// Number of events on this connection.
    events: u32,
    /// Held back until the next event has passed.
    held: Option<Bytes>,
    /// The event that removed the user, and the last one delivered after it.
    removed: Option<Seq>,
    /// The skipped range of seqs, from and to.
    skipped: Option<(Seq, Seq)>,
}

/// The fault happens at the third event of a connection, so that events precede and follow it.
const STRIKE: u32 = 3;

impl MutantFrames {
    /// Creates a path with this fault, or without one.
    pub fn new(mutant: Option<Mutant>, encoding: Encoding, overheard: Overheard) -> Self {
        Self {
            mutant,
            encoding,
            overheard,
            done: false,
            events: 0,
            held: None,
            removed: None,
            skipped: None,
        }
    }

    /// Starts a new connection of the same client.
    pub fn connected(&mut self) {
        (self.events, self.held, self.skipped) = (0, None, None);
        self.done &= self.mutant != Some(Mutant::Lose);
    }

    /// Returns what reaches the client of these encoded frames.
    pub fn pass(&mut self, frames: Vec<Bytes>) -> Vec<Bytes> {
        let mut passed = Vec::with_capacity(frames.len());
        for frame in frames {
            self.pass_one(frame, &mut passed);
        }
        passed
    }

    fn pass_one(&mut self, frame: Bytes, passed: &mut Vec<Bytes>) {
        let read =
            |value: Value| ServerFrame::from_value(value.clone()).ok().map(|frame| (value, frame));
        let limits = Limits::default();
        let values = decode(&frame, self.encoding, &limits).unwrap_or_default();
        match values.into_iter().next().and_then(read) {
            Some((value, ServerFrame::Push(Push::Event(event)))) => {
                self.event(frame, value, &event, passed)
            }
            Some((_, ServerFrame::Push(Push::Room(status)))) => {
                passed.push(frame);
                self.status(&status);
            }
            Some((_, ServerFrame::Ok { body, .. })) => {
                passed.push(frame);
                let rooms =
                    RoomStatus::list_from_value(body).map(|(rooms, ..)| rooms).unwrap_or_default();
                rooms.iter().for_each(|status| self.status(status));
                self.hand_over_what_is_not_for_this_user(passed);
            }
            _ => passed.push(frame),
        }
    }

    fn event(&mut self, frame: Bytes, value: Value, event: &Event, passed: &mut Vec<Bytes>) {
        self.events += 1;
        self.overheard.0.lock().push((event.seq, value.clone()));
        if self.skipped.is_some_and(|(from, to)| (from..=to).contains(&event.seq)) {
            return;
        }
        if let Some(held) = self.held.take() {
            passed.extend([frame, held]);
            return;
        }
        if self.done || self.events < STRIKE {
            passed.push(frame);
            return;
        }
        self.done = true;
        match self.mutant {
            Some(Mutant::Gap) => {}
            Some(Mutant::Lose) => self.skipped = Some((event.seq, Seq::MAX)),
            Some(Mutant::Redeliver) => passed.extend([frame.clone(), frame]),
            Some(Mutant::Swap) => self.held = Some(frame),
            Some(Mutant::StaleEpoch) => passed.push(self.of_other_epoch(value, event.epoch)),
            _ => {
                self.done = false;
                passed.push(frame);
            }
        }
    }

    fn of_other_epoch(&self, value: Value, epoch: Epoch) -> Bytes {
        let other = Epoch { generation: epoch.generation ^ 1, ..epoch };
        let mut map = value.as_map().cloned().unwrap_or_else(Map::default);
        map.insert("epoch", other.to_string());
        encode(&map.into(), self.encoding)
    }

    fn status(&mut self, status: &RoomStatus) {
        if status.status == Status::Denied {
            let last = self.overheard.0.lock().iter().map(|(seq, _)| *seq).max();
            self.removed = self.removed.or(last);
        }
        let Some(cursor) = status.cursor.filter(|_| status.status == Status::Ok && !self.done)
        else {
            return;
        };
        let missed = status.head.since(cursor.seq);
        match self.mutant {
            // A resume with events to catch up.
            Some(Mutant::SpliceOffByOne) if missed > 0 => {
                self.skipped = Some((status.head.next(), status.head.next()));
                self.done = true;
            }
            Some(Mutant::PartialResume) if missed > 1 => {
                self.skipped = Some((cursor.seq.plus(missed / 2), status.head));
                self.done = true;
            }
            _ => {}
        }
    }

    fn hand_over_what_is_not_for_this_user(&mut self, passed: &mut Vec<Bytes>) {
        let (Some(Mutant::AfterRemoval), Some(removed)) = (self.mutant, self.removed) else {
            return;
        };
        let later = self.overheard.0.lock().iter().find(|(seq, _)| *seq > removed).cloned();
        if let Some((seq, value)) = later {
            self.removed = Some(seq);
            passed.push(encode(&value, self.encoding));
        }
    }
}
