//! Subscribers with stream positions.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const ROOMS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Event(usize),
    State(usize, u8),
    RequireSnapshot(usize),
    Notice(usize),
    Reset(usize),
    Unsubscribe(usize),
    Subscribe(usize),
    Take(usize),
    Overflow,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..ROOMS;
    prop_oneof![
        4 => n.clone().prop_map(Step::Event),
        4 => (n.clone(), 0u8..3).prop_map(|(n, key)| Step::State(n, key)),
        1 => n.clone().prop_map(Step::RequireSnapshot),
        1 => n.clone().prop_map(Step::Notice),
        1 => n.clone().prop_map(Step::Reset),
        1 => n.clone().prop_map(Step::Unsubscribe),
        1 => n.prop_map(Step::Subscribe),
        6 => prop_oneof![Just(1), Just(400), Just(10_000)].prop_map(Step::Take),
        1 => Just(Step::Overflow),
        1 => Just(Step::Close),
    ]
}

struct World {
    rooms: Vec<Arc<Room>>,
    outbox: Arc<Outbox>,
    now: u64,
}

impl World {
    fn subscribe(&self, n: usize) {
        if self.outbox.inner.lock().subscription(self.rooms[n].id()).is_none() {
            let from = self.rooms[n].head().unwrap();
            // It has all state already, according to its stream position.
            let state = Some(self.rooms[n].state_digest());
            let start =
                SubscriptionStart { cursor: from, authorised_at: from.seq, state_digest: state };
            self.rooms[n].add_subscriber(&self.outbox, start);
        }
    }

    fn subscription(&self, n: usize) -> Option<SubscriptionRef<'_>> {
        let (room, inner) = (&self.rooms[n], self.outbox.inner.lock());
        let subscription_id = inner.subscriptions.id_of(room.id())?;
        Some(SubscriptionRef {
            room,
            subscriber_id: inner.subscriptions.get(subscription_id)?.subscriber_id,
            subscription_id,
        })
    }

    fn take(&mut self, max: usize) {
        let mut take = self.outbox.take(max);
        if let Some(catch_up) = take.catch_up.take()
            && let WindowRead::Events(items) = catch_up.room.read_window(catch_up.after, 1000)
        {
            self.outbox.enqueue_history(&catch_up, &items, false);
        }
        if let Some(DueSnapshot { room, even_empty }) = take.snapshot
            && !room.snapshot(1000, even_empty).unwrap().is_empty()
        {
            self.outbox.state_delivered(&room);
        }
        self.outbox.release(take.bytes, take.ack_bytes);
    }

    fn do_it(&mut self, step: &Step) {
        match *step {
            Step::Event(n) => {
                let next = self.rooms[n].head().unwrap().seq.next().get();
                self.rooms[n].apply(event(next));
            }
            Step::State(n, key) => {
                self.now += 1;
                put_state(&self.rooms[n], &format!("key{key}"), self.now);
            }
            Step::RequireSnapshot(n) => {
                self.now += 1;
                self.rooms[n].set_state_generation(self.now);
            }
            Step::Notice(n) => {
                let denied = RoomStatus::denied(self.rooms[n].id().clone(), Code::NotFound);
                self.outbox.notify_status(denied);
            }
            Step::Reset(n) => {
                if let Some(of) = self.subscription(n) {
                    let to = self.rooms[n].head().unwrap();
                    let (_, head) = looked_up(&self.rooms[n], to);
                    self.outbox.restart(of, to.epoch, Status::Reset, to, head);
                }
            }
            Step::Unsubscribe(n) => {
                if let Some(subscription) = self.outbox.unsubscribe(self.rooms[n].id()) {
                    self.rooms[n].remove_subscriber(subscription.subscriber_id, &self.outbox);
                }
            }
            Step::Subscribe(n) => self.subscribe(n),
            Step::Take(max) => self.take(max),
            Step::Overflow => self.outbox.inner.lock().overflow(&self.outbox.bounds),
            Step::Close => self.outbox.close(Disconnect {
                code: Code::Closed.number(),
                message: String::new(),
                retry_after: None,
            }),
        }
    }

    fn delivered_positions(&self) -> HashMap<RoomId, DeliveredPosition> {
        let closed = self.outbox.is_closed();
        let of = |room: &Arc<Room>| {
            let mut delivered = self.outbox.delivered_position(room.id());
            if closed && let Some((_, state)) = &mut delivered.position {
                // After the end the state is unknown; what was known before stays true.
                *state = DeliveredState::None;
            }
            (room.id().clone(), delivered)
        };
        self.rooms.iter().map(of).collect()
    }
}

proptest! {
    /// Each change of a delivered position is reported as moved.
    #[test]
    fn moved_cursors_are_always_noted(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let outbox = outbox();
        outbox.track_positions();
        outbox.set_user(UserId::new("reader").unwrap());
        let rooms = (0..ROOMS).map(|n| named_room(&format!("room{n}"), 1)).collect();
        let mut world = World { rooms, outbox, now: 1 };
        (0..ROOMS).for_each(|n| world.subscribe(n));
        let mut moved: HashSet<RoomId> = world.outbox.moved();
        prop_assert_eq!(moved.len(), ROOMS);
        for step in steps {
            let before = world.delivered_positions();
            let was_open = !world.outbox.is_closed();
            world.do_it(&step);
            moved = world.outbox.moved();
            if was_open && world.outbox.is_closed() {
                continue;
            }
            for (room, delivered) in world.delivered_positions() {
                prop_assert!(delivered == before[&room] || moved.contains(&room), "{room} after {step:?}");
            }
        }
    }
}

#[test]
fn outbox_without_positions_tracks_nothing() {
    let (room, outbox) = (room(10), outbox());
    room.add_subscriber(
        &outbox,
        SubscriptionStart { cursor: at(10), authorised_at: at(10).seq, state_digest: None },
    );
    room.apply(event(11));
    outbox.take(1000);
    assert!(outbox.moved().is_empty() && outbox.inner.lock().position_changes.is_none());
}
