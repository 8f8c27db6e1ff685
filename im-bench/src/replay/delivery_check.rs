//! What one client sees on the wire, told to the history checker before the client drops any repeat.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use im_client::Tap;
use im_core::wire::{
    Command, CommandBody, ErrorReply, Event, Push, RoomStatus, ServerFrame, Value,
};
use im_core::{Cursor, RoomId};
use im_testkit::history::{Checker, Subscriber};
use parking_lot::Mutex;
use serde::Serialize;

use super::ledger::Ledger;
use super::trace::Trace;

/// The eyes of one client.
#[derive(Debug)]
pub(super) struct DeliveryCheck {
    client: usize,
    name: String,
    ledger: Arc<Ledger>,
    trace: Option<Arc<Trace>>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    subscriber: Subscriber,
    connection: u64,
    /// What comes down says itself where each room begins.
    over_http: bool,
    /// How often that was taken up again so far.
    resumed: u64,
    /// The furthest event that came of each room.
    reached: HashMap<RoomId, Cursor>,
}

/// A room that a client does not have to its end, or does not follow any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    client: String,
    room: RoomId,
    /// Whether the client's present connection follows the room.
    is_subscribed: bool,
    /// The last event before which the client has everything.
    has: Option<Cursor>,
    head: Cursor,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, room, is_subscribed, has, head } = self;
        let has = has.map_or("nothing".to_owned(), |has| format!("{} in {}", has.seq, has.epoch));
        let follows = if *is_subscribed { "follows" } else { "does not follow" };
        write!(f, "{client} {follows} {room}, has {has} of {} in {}", head.seq, head.epoch)
    }
}

impl Serialize for Missing {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl DeliveryCheck {
    /// Has seen nothing yet.
    pub(super) fn new(client: usize, name: &str, checker: &Checker, ledger: Arc<Ledger>) -> Self {
        let seen = Seen {
            subscriber: checker.subscriber(name),
            connection: 0,
            over_http: false,
            resumed: 0,
            reached: HashMap::new(),
        };
        let (name, seen) = (name.to_owned(), Mutex::new(Some(seen)));
        Self { client, name, ledger, trace: None, seen }
    }

    /// Keeps what it sees in lines too.
    pub(super) fn traced(self, trace: Option<Arc<Trace>>) -> Self {
        Self { trace, ..self }
    }

    /// Where it keeps what it sees, if it does.
    pub(super) fn trace(&self) -> Option<Arc<Trace>> {
        self.trace.clone()
    }

    /// What a client calls with every frame.
    pub(super) fn tap(self: &Arc<Self>) -> Tap {
        let check = self.clone();
        Arc::new(move |connection, frame| check.frame(connection, frame))
    }

    /// The client is about to write a command other than a send.
    pub(super) fn writes(&self, command: &Command) {
        if let Some(trace) = &self.trace {
            trace.asks(&command.to_value());
        }
        if let (CommandBody::Checkpoint { cursors }, Some(seen)) =
            (&command.body, self.seen.lock().as_mut())
        {
            cursors.iter().for_each(|(room, cursor)| seen.subscriber.confirmed(room, *cursor));
        }
    }

    fn frame(&self, connection: u64, frame: &ServerFrame) {
        if let Some(trace) = &self.trace {
            trace.frame(frame);
        }
        if let Some(seen) = self.seen.lock().as_mut() {
            seen.on(connection, || self.ledger.is_request_stream(self.client));
            let resumed = self.ledger.resumed(self.client);
            if std::mem::replace(&mut seen.resumed, resumed) != resumed {
                seen.subscriber.resumed();
            }
            match frame {
                ServerFrame::Push(Push::Room(status)) => seen.subscriber.room_status(status),
                ServerFrame::Push(push) => {
                    if let Push::Event(event) = push
                        && seen.is_news(event)
                    {
                        self.ledger.news();
                    }
                    seen.subscriber.push(push);
                }
                ServerFrame::Ok { body, .. } if body.get("rooms").is_some() => seen.rooms(body),
                _ => {}
            }
        }
        // Only what was sent has an ack.
        let receipt = |body: &Value| body.get("duplicate").is_some();
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

    /// Whether the client follows all of these rooms on its present connection, and has each up to its head.
    pub(super) fn is_in_sync<'a>(
        &self,
        rooms: impl IntoIterator<Item = &'a (RoomId, Cursor)>,
    ) -> bool {
        self.seen
            .lock()
            .as_ref()
            .is_some_and(|seen| !rooms.into_iter().any(|room| seen.missing(room).is_some()))
    }

    /// What the client lacks of these rooms, with their heads.
    pub(super) fn missing<'a>(
        &self,
        rooms: impl IntoIterator<Item = &'a (RoomId, Cursor)>,
    ) -> Vec<Missing> {
        let seen = self.seen.lock();
        let missing = |room: &(RoomId, Cursor)| {
            let (is_subscribed, has) = match seen.as_ref() {
                Some(seen) => seen.missing(room)?,
                None => (false, None),
            };
            let (room, head) = room.clone();
            Some(Missing { client: self.name.clone(), room, is_subscribed, has, head })
        };
        rooms.into_iter().filter_map(missing).collect()
    }

    /// The client sees no more.
    pub(super) fn close(&self) -> Option<Subscriber> {
        self.seen.lock().take().map(|seen| seen.subscriber)
    }
}

impl Seen {
    fn on(&mut self, connection: u64, over_http: impl FnOnce() -> bool) {
        if self.connection != connection {
            (self.connection, self.over_http) = (connection, over_http());
            self.subscriber.connected();
        }
    }

    /// Whether the event lies beyond all of its room that came before.
    fn is_news(&mut self, event: &Event) -> bool {
        let at = Cursor { epoch: event.epoch, seq: event.seq };
        match self.reached.get_mut(&event.room) {
            Some(reached) if reached.epoch == at.epoch && reached.seq >= at.seq => false,
            Some(reached) => {
                *reached = at;
                true
            }
            None => {
                self.reached.insert(event.room.clone(), at);
                true
            }
        }
    }

    /// Whether a room is followed and where the client stands in it, unless it is followed and level.
    fn missing(&self, (room, head): &(RoomId, Cursor)) -> Option<(bool, Option<Cursor>)> {
        let (is_subscribed, has) =
            (self.subscriber.is_subscribed(room), self.subscriber.cursor(room));
        let is_in_sync = has.is_some_and(|has| has.epoch == head.epoch && has.seq >= head.seq);
        (!is_subscribed || !is_in_sync).then_some((is_subscribed, has))
    }

    fn rooms(&mut self, body: &Value) {
        // The answer to a POST is on another way than the events: some from before it may still be coming down. What
        // counts is the status that comes down itself, of every room, before the events that it promises.
        if self.over_http {
            return;
        }
        // The client itself complains of an answer that cannot be read.
        if let Ok((statuses, _, generation)) = RoomStatus::list_from_value(body.clone()) {
            self.subscriber.rooms(&statuses, generation);
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

    fn signal() -> im_core::wire::Signal {
        im_core::wire::Signal {
            to: im_core::wire::Target::Room(RoomId::new("other").unwrap()),
            from: UserId::new("ann").unwrap(),
            at: Timestamp::from_millis(1),
            kind: EventKind::message(),
            content: Content::new(&Map::default().into(), &Limits::default()).unwrap(),
        }
    }

    /// A client that asks for what follows the third event again, while later ones are coming down.
    fn asks_again(transport: Transport, pushed: &[u64]) -> u64 {
        let (ledger, _corpses) = Ledger::new(1, 10, Faults::default(), 1).unwrap();
        let ledger = Arc::new(ledger);
        ledger.came_about(0, transport);
        let checker = Checker::new();
        let check = DeliveryCheck::new(0, "bob", &checker, ledger);
        let reply = |from| {
            let reply =
                im_core::wire::Reply::Rooms { statuses: vec![status(from)], rev: 1, generation: 1 };
            ServerFrame::from_value(reply.to_value(im_core::CommandId(1))).unwrap()
        };
        let push = |from| ServerFrame::Push(Push::Room(status(from)));
        check.frame(1, &reply(0));
        check.frame(1, &push(0));
        (1..=5).for_each(|n| check.frame(1, &event(n)));
        check.frame(1, &reply(3));
        check.frame(1, &event(6));
        check.frame(1, &push(3));
        pushed.iter().for_each(|n| check.frame(1, &event(*n)));
        drop(check.close());
        let verdict = checker.finish();
        verdict.count(Rule::PartialResume) + verdict.count(Rule::SilentGap)
    }

    /// A client that reads to the head of its room over WebSocket.
    fn in_sync() -> (Arc<Ledger>, Arc<DeliveryCheck>, [(RoomId, Cursor); 1]) {
        let (ledger, _corpses) = Ledger::new(1, 10, Faults::default(), 1).unwrap();
        let ledger = Arc::new(ledger);
        ledger.came_about(0, Transport::Ws);
        let check = Arc::new(DeliveryCheck::new(0, "bob", &Checker::new(), ledger.clone()));
        check.frame(1, &ServerFrame::Push(Push::Room(status(0))));
        (1..=9).for_each(|n| check.frame(1, &event(n)));
        let head = (RoomId::new("r").unwrap(), Cursor { epoch: EPOCH, seq: seq(9) });
        (ledger, check, [head])
    }

    /// A room that is not resubscribed on a new connection counts as lost.
    #[test]
    fn room_without_resubscription_is_lost() {
        let (_ledger, check, rooms) = in_sync();
        assert!(check.is_in_sync(&rooms) && check.missing(&rooms).is_empty());
        // Something comes on a new connection, and nothing of the room.
        check.frame(2, &ServerFrame::Push(Push::Signal(signal().into())));
        assert!(!check.is_in_sync(&rooms));
        let said: Vec<_> = check.missing(&rooms).iter().map(ToString::to_string).collect();
        assert_eq!(said, ["bob does not follow r, has 9 in 1.1 of 9 in 1.1"]);
        check.frame(2, &ServerFrame::Push(Push::Room(status(9))));
        assert!(check.is_in_sync(&rooms));
    }

    #[test]
    fn denied_room_is_lost() {
        let (_ledger, check, rooms) = in_sync();
        let denied = RoomStatus {
            status: Status::Denied,
            cursor: None,
            head: Seq::ZERO,
            code: Some(4520),
            ..status(0)
        };
        check.frame(1, &ServerFrame::Push(Push::Room(denied)));
        assert!(!check.is_in_sync(&rooms));
    }

    /// An event that is delivered again does not count as news.
    #[test]
    fn redelivery_counts_no_news() {
        let (ledger, check, _rooms) = in_sync();
        assert_eq!(ledger.counters().news, 9);
        check.frame(2, &ServerFrame::Push(Push::Room(status(3))));
        (4..=9).for_each(|n| check.frame(2, &event(n)));
        assert_eq!(ledger.counters().news, 9);
        check.frame(2, &event(10));
        assert_eq!(ledger.counters().news, 10);
    }

    /// Over HTTP the status on the downlink sets where a room starts, not the answer.
    #[test]
    fn http_room_status_sets_start() {
        assert_eq!(asks_again(Transport::Long, &[4, 5, 6, 7]), 0);
        assert_eq!(asks_again(Transport::Long, &[4, 6, 7]), 1, "a hole is a hole");
        assert_eq!(asks_again(Transport::Ws, &[4, 5, 6, 7]), 2, "on one way the answer counts");
    }
}
