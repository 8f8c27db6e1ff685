//! What one client sees on the wire, told to the history checker before the client drops any repeat.

use std::sync::Arc;

use im_client::Tap;
use im_core::wire::{Push, RoomStatus, ServerFrame, Value};
use im_core::{Cursor, RoomId};
use im_testkit::history::{Checker, Reader};
use parking_lot::Mutex;

use super::ledger::Ledger;

/// The eyes of one client.
#[derive(Debug)]
pub(super) struct Witness {
    client: usize,
    ledger: Arc<Ledger>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    reader: Reader,
    connection: u64,
    /// Rooms that have answered on this connection.
    rooms: usize,
}

impl Witness {
    /// Has seen nothing yet.
    pub(super) fn new(
        client: usize,
        name: &str,
        checker: &Checker,
        ledger: Arc<Ledger>,
    ) -> Arc<Self> {
        let seen = Seen { reader: checker.reader(name), connection: 0, rooms: 0 };
        Arc::new(Self { client, ledger, seen: Mutex::new(Some(seen)) })
    }

    /// What a client calls with every frame.
    pub(super) fn tap(self: &Arc<Self>) -> Tap {
        let witness = self.clone();
        Arc::new(move |connection, frame| witness.frame(connection, frame))
    }

    fn frame(&self, connection: u64, frame: &ServerFrame) {
        if let Some(seen) = self.seen.lock().as_mut() {
            seen.on(connection);
            match frame {
                ServerFrame::Push(Push::Room(status)) => seen.reader.room_status(status),
                ServerFrame::Push(push) => seen.reader.push(push),
                ServerFrame::Ok { body, .. } if body.get("rooms").is_some() => seen.rooms(body),
                _ => {}
            }
        }
        // Only what was sent has a receipt, and every send has one answer.
        let receipt = |body: &Value| body.get("repeated").is_some();
        match frame {
            ServerFrame::Ok { body, .. } if receipt(body) => self.ledger.answered(self.client),
            _ => {}
        }
    }

    /// Whether the client follows `rooms` on its present connection and has all of them up to these ends.
    pub(super) fn has_all<'a>(
        &self,
        mut rooms: impl ExactSizeIterator<Item = &'a (RoomId, Cursor)>,
    ) -> bool {
        self.seen.lock().as_ref().is_some_and(|seen| {
            seen.rooms >= rooms.len()
                && rooms.all(|(room, end)| {
                    seen.reader
                        .cursor(room)
                        .is_some_and(|has| has.epoch == end.epoch && has.seq >= end.seq)
                })
        })
    }

    /// The client sees no more.
    pub(super) fn close(&self) -> Option<Reader> {
        self.seen.lock().take().map(|seen| seen.reader)
    }
}

impl Seen {
    fn on(&mut self, connection: u64) {
        if self.connection != connection {
            (self.connection, self.rooms) = (connection, 0);
            self.reader.connected();
        }
    }

    fn rooms(&mut self, body: &Value) {
        // The client itself complains of an answer that cannot be read.
        if let Ok((statuses, _, generation)) = RoomStatus::list_from_value(body.clone()) {
            self.rooms += statuses.len();
            self.reader.rooms(&statuses, generation);
        }
    }
}
