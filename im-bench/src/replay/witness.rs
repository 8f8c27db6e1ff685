//! What one client sees on the wire, told to the history checker before the client drops any repeat.

use std::sync::Arc;

use im_client::Tap;
use im_core::wire::{ErrorReply, Push, RoomStatus, ServerFrame, Value};
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
    /// What comes down says itself where each room begins.
    halves: bool,
    /// How often that was taken up again so far.
    taken_up: u64,
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
        let seen = Seen {
            reader: checker.reader(name),
            connection: 0,
            halves: false,
            taken_up: 0,
            rooms: 0,
        };
        Arc::new(Self { client, ledger, seen: Mutex::new(Some(seen)) })
    }

    /// What a client calls with every frame.
    pub(super) fn tap(self: &Arc<Self>) -> Tap {
        let witness = self.clone();
        Arc::new(move |connection, frame| witness.frame(connection, frame))
    }

    fn frame(&self, connection: u64, frame: &ServerFrame) {
        if let Some(seen) = self.seen.lock().as_mut() {
            seen.on(connection, || self.ledger.is_halves(self.client));
            let taken_up = self.ledger.taken_up(self.client);
            if std::mem::replace(&mut seen.taken_up, taken_up) != taken_up {
                seen.reader.taken_up();
            }
            match frame {
                ServerFrame::Push(Push::Room(status)) => seen.reader.room_status(status),
                ServerFrame::Push(push) => seen.reader.push(push),
                ServerFrame::Ok { body, .. } if body.get("rooms").is_some() => seen.rooms(body),
                _ => {}
            }
        }
        // Only what was sent has a receipt.
        let receipt = |body: &Value| body.get("repeated").is_some();
        match frame {
            ServerFrame::Ok { id, body } if receipt(body) => {
                self.ledger.acknowledged(self.client, *id);
            }
            ServerFrame::Err(ErrorReply { id: Some(id), code, .. }) => {
                self.ledger.refused(self.client, *id, *code);
            }
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
    fn on(&mut self, connection: u64, halves: impl FnOnce() -> bool) {
        if self.connection != connection {
            (self.connection, self.halves, self.rooms) = (connection, halves(), 0);
            self.reader.connected();
        }
    }

    fn rooms(&mut self, body: &Value) {
        // The client itself complains of an answer that cannot be read.
        if let Ok((statuses, _, generation)) = RoomStatus::list_from_value(body.clone()) {
            self.rooms += statuses.len();
            // The answer to a POST is on another way than the events: some from before it may still be coming down. What
            // counts is the status that comes down itself, of every room, before the events that it promises.
            if !self.halves {
                self.reader.rooms(&statuses, generation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use im_core::wire::{Content, Event, Limits, Map, RoomStatus, Status};
    use im_core::{Epoch, EventKind, Seq, Timestamp, UserId};
    use im_testkit::history::Rule;

    use super::super::fault::Faults;
    use super::super::transport::Transport;

    const EPOCH: Epoch = Epoch { generation: 1, incarnation: 1 };

    fn seq(n: u64) -> Seq {
        Seq::new(n).unwrap()
    }

    fn status(from: u64) -> RoomStatus {
        let cursor = Some(Cursor { epoch: EPOCH, seq: seq(from) });
        let room = RoomId::new("r").unwrap();
        RoomStatus { room, status: Status::Ok, cursor, head: seq(9), code: None }
    }

    fn event(n: u64) -> ServerFrame {
        ServerFrame::Push(Push::Event(Arc::new(Event {
            room: RoomId::new("r").unwrap(),
            epoch: EPOCH,
            seq: seq(n),
            from: UserId::new("ann").unwrap(),
            at: Timestamp::from_millis(n),
            kind: EventKind::message(),
            id: None,
            content: Content::new(&Map::default().into(), &Limits::default()).unwrap(),
        })))
    }

    /// A client that asks for what follows the third event again, while later ones are coming down.
    fn asks_again(transport: Transport, pushed: &[u64]) -> u64 {
        let (ledger, _corpses) = Ledger::new(1, 10, Faults::default(), 1).unwrap();
        let ledger = Arc::new(ledger);
        ledger.came_about(0, transport);
        let checker = Checker::new();
        let witness = Witness::new(0, "bob", &checker, ledger);
        let reply = |from| {
            let reply =
                im_core::wire::Reply::Rooms { statuses: vec![status(from)], rev: 1, generation: 1 };
            ServerFrame::from_value(reply.to_value(im_core::CommandId(1))).unwrap()
        };
        let push = |from| ServerFrame::Push(Push::Room(status(from)));
        witness.frame(1, &reply(0));
        witness.frame(1, &push(0));
        (1..=5).for_each(|n| witness.frame(1, &event(n)));
        witness.frame(1, &reply(3));
        witness.frame(1, &event(6));
        witness.frame(1, &push(3));
        pushed.iter().for_each(|n| witness.frame(1, &event(*n)));
        drop(witness.close());
        let verdict = checker.finish();
        verdict.count(Rule::PartialResume) + verdict.count(Rule::SilentGap)
    }

    #[test]
    fn over_http_a_room_begins_where_what_comes_down_says() {
        assert_eq!(asks_again(Transport::Long, &[4, 5, 6, 7]), 0);
        assert_eq!(asks_again(Transport::Long, &[4, 6, 7]), 1, "a hole is a hole");
        assert_eq!(asks_again(Transport::Ws, &[4, 5, 6, 7]), 2, "on one way the answer counts");
    }
}
