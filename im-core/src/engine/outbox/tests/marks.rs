//! Readers with marks.

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
    Unfollow(usize),
    Follow(usize),
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
        1 => n.clone().prop_map(Step::Unfollow),
        1 => n.prop_map(Step::Follow),
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
    fn follow(&self, n: usize) {
        if self.outbox.inner.lock().subscription(self.rooms[n].id()).is_none() {
            let from = self.rooms[n].head().unwrap();
            // It has all state already, as its mark says.
            let state = Some(self.rooms[n].state_digest());
            let start = Start { from, authorised: from.seq, state };
            self.rooms[n].add_subscriber(&self.outbox, start);
        }
    }

    fn seat(&self, n: usize) -> Option<Seat<'_>> {
        let (room, inner) = (&self.rooms[n], self.outbox.inner.lock());
        let slot = inner.subs.id_of(room.id())?;
        Some(Seat { room, at: inner.subs.get(slot)?.reader, slot })
    }

    fn take(&mut self, max: usize) {
        let mut take = self.outbox.take(max);
        if let Some(lag) = take.lag.take()
            && let Recent::Events(items) = lag.room.recent(lag.after, 1000)
        {
            self.outbox.feed(&lag, &items, false);
        }
        if let Some(Due { room, even_empty }) = take.snapshot
            && !room.snapshot(1000, even_empty).unwrap().is_empty()
        {
            self.outbox.state_delivered(&room);
        }
        self.outbox.release(take.bytes, take.acks);
    }

    fn do_it(&mut self, step: &Step) {
        match *step {
            Step::Event(n) => {
                let next = self.rooms[n].head().unwrap().seq.next().get();
                self.rooms[n].apply(event(next));
            }
            Step::State(n, key) => {
                self.now += 1;
                set(&self.rooms[n], &format!("key{key}"), self.now);
            }
            Step::RequireSnapshot(n) => {
                self.now += 1;
                self.rooms[n].renew_state(self.now);
            }
            Step::Notice(n) => {
                let denied = RoomStatus::denied(self.rooms[n].id().clone(), Code::NotFound);
                self.outbox.notice(denied);
            }
            Step::Reset(n) => {
                if let Some(seat) = self.seat(n) {
                    let to = self.rooms[n].head().unwrap();
                    let (_, head) = looked_up(&self.rooms[n], to);
                    self.outbox.restart(seat, to.epoch, Status::Reset, to, head);
                }
            }
            Step::Unfollow(n) => {
                if let Some(sub) = self.outbox.unfollow(self.rooms[n].id()) {
                    self.rooms[n].remove_subscriber(sub.reader, &self.outbox);
                }
            }
            Step::Follow(n) => self.follow(n),
            Step::Take(max) => self.take(max),
            Step::Overflow => self.outbox.inner.lock().overflow(&self.outbox.bounds),
            Step::Close => self.outbox.close(Disconnect {
                code: Code::Closed.number(),
                message: String::new(),
                retry_after: None,
            }),
        }
    }

    fn standpoints(&self) -> HashMap<RoomId, Standpoint> {
        let closed = self.outbox.is_closed();
        let of = |room: &Arc<Room>| {
            let mut stand = self.outbox.standpoint(room.id());
            if closed && let Some((_, state)) = &mut stand.place {
                // After the end it is not known any more; what was known before stays true.
                *state = HeldState::None;
            }
            (room.id().clone(), stand)
        };
        self.rooms.iter().map(of).collect()
    }
}

proptest! {
    #[test]
    fn wherever_a_reader_stands_elsewhere_it_is_said(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let outbox = outbox();
        outbox.track_positions();
        outbox.set_user(UserId::new("reader").unwrap());
        let rooms = (0..ROOMS).map(|n| named_room(&format!("room{n}"), 1)).collect();
        let mut world = World { rooms, outbox, now: 1 };
        (0..ROOMS).for_each(|n| world.follow(n));
        let mut moved: HashSet<RoomId> = world.outbox.moved();
        prop_assert_eq!(moved.len(), ROOMS);
        for step in steps {
            let before = world.standpoints();
            let was_open = !world.outbox.is_closed();
            world.do_it(&step);
            moved = world.outbox.moved();
            if was_open && world.outbox.is_closed() {
                continue;
            }
            for (room, stand) in world.standpoints() {
                prop_assert!(stand == before[&room] || moved.contains(&room), "{room} after {step:?}");
            }
        }
    }
}

#[test]
fn who_has_no_marks_keeps_no_account() {
    let (room, outbox) = (room(10), outbox());
    room.add_subscriber(&outbox, Start { from: at(10), authorised: at(10).seq, state: None });
    room.apply(event(11));
    outbox.take(1000);
    assert!(outbox.moved().is_empty() && outbox.inner.lock().marked.is_none());
}
