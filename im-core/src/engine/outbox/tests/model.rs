//! Random interleavings of rooms, log reads and the transport on one outbox.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const ROOMS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    /// An event of this room is committed and fanned out.
    Publish(usize),
    /// The transport takes so many bytes. If a log has to be read first, the page is read now and
    /// arrives later.
    Take(usize),
    /// The page that was read, of so many events, arrives.
    Arrive(usize),
    /// So many of the bytes taken were written.
    Release(usize),
    /// The subscriber subscribes again, so many events before the head.
    Subscribe(usize, u64),
    Unsubscribe(usize),
    /// An erasure rewrites events of this room.
    Rewrite(usize),
    /// The connection ends.
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let room = 0..ROOMS;
    prop_oneof![
        8 => room.clone().prop_map(Step::Publish),
        8 => prop_oneof![Just(1), Just(700), Just(5000)].prop_map(Step::Take),
        6 => (1usize..12).prop_map(Step::Arrive),
        4 => (0usize..3000).prop_map(Step::Release),
        2 => (room.clone(), 0u64..20).prop_map(|(room, back)| Step::Subscribe(room, back)),
        1 => room.clone().prop_map(Step::Unsubscribe),
        1 => room.prop_map(Step::Rewrite),
        1 => Just(Step::Close),
    ]
}

struct Model {
    rooms: Vec<Arc<Room>>,
    outbox: Arc<Outbox>,
    heads: [u64; ROOMS],
    erased: [u64; ROOMS],
    /// The last event delivered of each room, while it is subscribed.
    cursors: HashMap<usize, u64>,
    /// A page that is being read: the head of its room when that began.
    reading: Option<(CatchUp, u64)>,
    closed: bool,
}

impl Model {
    fn new() -> Self {
        let rooms = (0..ROOMS).map(|n| named_room(&format!("room{n}"), 20)).collect();
        let bounds = OutboxBounds { bytes: 1500, ..bounds() };
        let outbox = Arc::new(Outbox::new(Arc::new(bounds)));
        outbox.track_positions();
        let (heads, erased) = ([20; ROOMS], [0; ROOMS]);
        let cursors = HashMap::new();
        Self { rooms, outbox, heads, erased, cursors, reading: None, closed: false }
    }

    fn event(&self, room: usize, n: u64) -> Arc<Outgoing> {
        event_of(self.rooms[room].id().clone(), at(n))
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Publish(room) => {
                self.heads[room] += 1;
                self.rooms[room].apply(self.event(room, self.heads[room]));
            }
            Step::Take(max) if self.reading.is_none() => drop(self.take(max)?),
            Step::Take(_) => {}
            Step::Arrive(most) => self.arrive(most),
            Step::Release(bytes) => self.outbox.release(bytes, 0),
            Step::Subscribe(room, back) => self.subscribe(room, back),
            Step::Unsubscribe(room) => self.unsubscribe(room),
            Step::Rewrite(room) => {
                self.erased[room] += 1;
                self.rooms[room].rewritten(self.erased[room]);
            }
            Step::Close => {
                self.outbox.close(Disconnect { code: 4000, message: "".into(), retry_after: None });
                self.closed = true;
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, room: usize, back: u64) {
        self.unsubscribe(room);
        let from = self.heads[room].saturating_sub(back);
        let authorised_at = at(self.heads[room]).seq;
        let start = SubscriptionStart { cursor: at(from), authorised_at, state_digest: None };
        if self.rooms[room].add_subscriber(&self.outbox, start) == SubscribeOutcome::Subscribed {
            self.cursors.insert(room, from);
        }
    }

    fn unsubscribe(&mut self, room: usize) {
        self.cursors.remove(&room);
        if let Some(subscription) = self.outbox.unsubscribe(self.rooms[room].id()) {
            self.rooms[room].remove_subscriber(subscription.subscriber_id, &self.outbox);
        }
    }

    /// Takes once and checks that each event is the one after the cursor, and that the position
    /// matches. Returns whether there was anything to take.
    fn take(&mut self, max: usize) -> Result<bool, TestCaseError> {
        let take = self.outbox.take(max);
        let busy = !take.items.is_empty() || take.snapshot.is_some() || take.catch_up.is_some();
        for item in &take.items {
            let OutboxItem::Push(push) = item else { continue };
            let Some(event) = push.as_event() else { continue };
            let room = self.rooms.iter().position(|room| *room.id() == event.room).unwrap();
            let cursor = self.cursors.get_mut(&room);
            prop_assert!(cursor.is_some(), "{} is not subscribed", event.room);
            let cursor = cursor.unwrap();
            prop_assert_eq!(event.seq.get(), *cursor + 1, "{} after {}", event.room, cursor);
            *cursor += 1;
        }
        for (room, cursor) in &self.cursors {
            let position = self.outbox.delivered_position(self.rooms[*room].id()).position;
            prop_assert_eq!(position.map(|(cursor, _)| cursor), Some(at(*cursor)));
        }
        let head = |catch_up: &CatchUp| {
            self.rooms.iter().position(|room| Arc::ptr_eq(room, &catch_up.room))
        };
        self.reading = take.catch_up.map(|catch_up| {
            let head = self.heads[head(&catch_up).unwrap()];
            (catch_up, head)
        });
        Ok(busy)
    }

    fn arrive(&mut self, most: usize) {
        let Some((catch_up, head)) = self.reading.take() else { return };
        let room = self.rooms.iter().position(|room| Arc::ptr_eq(room, &catch_up.room)).unwrap();
        let first = catch_up.after.seq.get() + 1;
        let page: Vec<_> = (first..=head).take(most).map(|n| self.event(room, n)).collect();
        match page.is_empty() {
            true => self.outbox.caught_up_to(&catch_up, at(head).seq),
            false => assert_ne!(
                self.outbox.enqueue_history(&catch_up, &page, false),
                CatchUpOutcome::Stalled
            ),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn interleavings_deliver_without_gaps(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut model = Model::new();
        (0..ROOMS).for_each(|room| model.subscribe(room, 10));
        for step in steps {
            model.step(step)?;
        }
        // In the end, an open connection has every event.
        while model.reading.is_some() || model.take(5000)? {
            model.outbox.release(usize::MAX, 0);
            model.arrive(5);
        }
        if !model.closed {
            for (room, cursor) in &model.cursors {
                prop_assert_eq!(*cursor, model.heads[*room]);
            }
        }
    }
}
