//! Reports the frames of one client to the history checker, before the client drops redeliveries.

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

/// The frames of one client.
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
    /// The status on the stream half defines the begin of each room.
    over_http: bool,
    /// How often the stream half was resumed so far.
    resumed: u64,
    /// The last event of each room.
    reached: HashMap<RoomId, Cursor>,
}

/// A room of which a client lacks events, or to which it is not subscribed any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    client: String,
    room: RoomId,
    /// Whether the client's present connection is subscribed to the room.
    is_subscribed: bool,
    /// The cursor up to which the client has all events.
    has: Option<Cursor>,
    head: Cursor,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, room, is_subscribed, has, head } = self;
        let has = has.map_or("nothing".to_owned(), |has| format!("{} in {}", has.seq, has.epoch));
        let follows = if *is_subscribed { "is subscribed to" } else { "is not subscribed to" };
        write!(f, "{client} {follows} {room}, has {has} of {} in {}", head.seq, head.epoch)
    }
}

impl Serialize for Missing {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl DeliveryCheck {
    /// Creates a check without any frame.
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

    /// Also records the frames in a trace.
    pub(super) fn traced(self, trace: Option<Arc<Trace>>) -> Self {
        Self { trace, ..self }
    }

    /// Returns the trace, if there is one.
    pub(super) fn trace(&self) -> Option<Arc<Trace>> {
        self.trace.clone()
    }

    /// Returns the function that a client calls with every frame.
    pub(super) fn tap(self: &Arc<Self>) -> Tap {
        let check = self.clone();
        Arc::new(move |connection, frame| check.frame(connection, frame))
    }

    /// Records a command other than a send, before the client writes it.
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
        // Only the ack of a send has this field.
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

    /// Returns whether the client is subscribed to all of these rooms on its present connection,
    /// and has each up to its head.
    pub(super) fn is_in_sync<'a>(
        &self,
        rooms: impl IntoIterator<Item = &'a (RoomId, Cursor)>,
    ) -> bool {
        self.seen
            .lock()
            .as_ref()
            .is_some_and(|seen| !rooms.into_iter().any(|room| seen.missing(room).is_some()))
    }

    /// Returns what the client lacks of these rooms, with their heads.
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

    /// Ends the check.
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

    /// Returns whether the event is beyond all earlier events of its room.
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

    /// Returns the subscription state and the cursor of a room, unless it is subscribed and in
    /// sync.
    fn missing(&self, (room, head): &(RoomId, Cursor)) -> Option<(bool, Option<Cursor>)> {
        let (is_subscribed, has) =
            (self.subscriber.is_subscribed(room), self.subscriber.cursor(room));
        let is_in_sync = has.is_some_and(|has| has.epoch == head.epoch && has.seq >= head.seq);
        (!is_subscribed || !is_in_sync).then_some((is_subscribed, has))
    }

    fn rooms(&mut self, body: &Value) {
        // The reply to a POST arrives on another connection than the events: earlier ones may still
        // be in flight. What counts is the status of each room on the stream half, before the
        // events that it promises.
        if self.over_http {
            return;
        }
        // The client itself reports an unreadable reply.
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

    /// A client that subscribes again from the third event, while later ones are delivered.
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

    /// A client in sync with its room over WebSocket.
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
        // A new connection receives a frame, but none of the room.
        check.frame(2, &ServerFrame::Push(Push::Signal(signal().into())));
        assert!(!check.is_in_sync(&rooms));
        let said: Vec<_> = check.missing(&rooms).iter().map(ToString::to_string).collect();
        assert_eq!(said, ["bob is not subscribed to r, has 9 in 1.1 of 9 in 1.1"]);
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
        assert_eq!(asks_again(Transport::Long, &[4, 6, 7]), 1, "a gap stays a gap");
        assert_eq!(
            asks_again(Transport::Ws, &[4, 5, 6, 7]),
            2,
            "on a duplex connection the reply counts"
        );
    }
}
