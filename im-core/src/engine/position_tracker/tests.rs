use proptest::prelude::*;

use super::*;
use crate::id::{Cursor, Epoch, Seq};

fn at(generation: u64, seq: u64) -> Cursor {
    Cursor { epoch: Epoch { generation, incarnation: 1 }, seq: Seq::new(seq).unwrap() }
}

fn room(n: usize) -> RoomId {
    RoomId::new(format!("room{n}")).unwrap()
}

fn session() -> SessionId {
    SessionId::new("0123456789abcdef").unwrap()
}

fn subscription(since: u64, seq: u64) -> SubscriptionRecord {
    SubscriptionRecord { cursor: at(1, seq), since }
}

const NOWHERE: DeliveredPosition = DeliveredPosition { status_delivered: true, position: None };

/// A stream position built from scratch.
fn from_scratch(
    tracker: &PositionTracker,
    delivered: impl Fn(&RoomId) -> DeliveredPosition,
) -> (u64, Vec<(u64, RoomPosition)>) {
    let (mut rev, mut entries) = (tracker.rev, Vec::new());
    for (room, subscription) in tracker.iter() {
        let DeliveredPosition { status_delivered, position } = delivered(room);
        if !status_delivered {
            rev = rev.min(subscription.since.saturating_sub(1));
            continue;
        }
        let cursor = position.map(|(cursor, _)| cursor);
        let state = match position.map(|(_, state)| state) {
            None | Some(DeliveredState::None) => 0,
            Some(DeliveredState::Partial) => RoomPosition::PARTIAL_STATE,
            Some(DeliveredState::All(state)) => state,
        };
        if cursor != Some(subscription.cursor) || state != 0 {
            let moved = match cursor {
                Some(at) if at.epoch == subscription.cursor.epoch => {
                    at.seq.since(subscription.cursor.seq)
                }
                _ => u64::MAX,
            };
            entries.push((moved, RoomPosition { room: RoomTag::of(room), cursor, state }));
        }
    }
    entries.sort_by_key(|(moved, position)| (Reverse(*moved), position.room));
    (rev, entries)
}

#[derive(Debug, Clone)]
enum Step {
    Start(usize, u64, u64),
    Stop(usize),
    Delivered(usize, DeliveredPosition),
    Refresh,
}

fn delivered_position() -> impl Strategy<Value = DeliveredPosition> {
    let state = prop_oneof![
        Just(DeliveredState::None),
        Just(DeliveredState::Partial),
        (2u32..4).prop_map(DeliveredState::All)
    ];
    let position = proptest::option::of((1u64..3, 0u64..5, state));
    (any::<bool>(), position).prop_map(|(status_delivered, position)| DeliveredPosition {
        status_delivered,
        position: position.map(|(generation, seq, state)| (at(generation, seq), state)),
    })
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0usize..6;
    prop_oneof![
        (n.clone(), 1u64..9, 0u64..3).prop_map(|(n, since, seq)| Step::Start(n, since, seq)),
        n.clone().prop_map(Step::Stop),
        (n, delivered_position()).prop_map(|(n, delivered)| Step::Delivered(n, delivered)),
        Just(Step::Refresh),
    ]
}

proptest! {
    /// A stream position kept up to date equals one built from all rooms.
    #[test]
    fn incremental_position_equals_full_rebuild(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut tracker = PositionTracker { rev: 8, ..PositionTracker::default() };
        let mut latest: HashMap<RoomId, DeliveredPosition> = HashMap::new();
        let mut moved = HashSet::new();
        for step in steps.into_iter().chain([Step::Refresh]) {
            match step {
                Step::Start(n, since, seq) => tracker.start_room(room(n), subscription(since, seq)),
                Step::Stop(n) => tracker.stop_room(&room(n)),
                Step::Delivered(n, delivered) => {
                    latest.insert(room(n), delivered);
                    moved.insert(room(n));
                }
                Step::Refresh => {
                    let delivered = |room: &RoomId| latest.get(room).copied().unwrap_or(NOWHERE);
                    tracker.refresh(std::mem::take(&mut moved), delivered);
                    let stream_position = tracker.stream_position(&session(), 1);
                    let (rev, entries) = from_scratch(&tracker, delivered);
                    prop_assert_eq!(stream_position.rev, rev);
                    let entries: Vec<RoomPosition> = entries.into_iter().map(|(_, position)| position).collect();
                    prop_assert_eq!(stream_position.rooms, entries);
                }
            }
        }
    }
}

#[test]
fn position_reads_only_moved_rooms() {
    let mut tracker = PositionTracker { rev: 1, ..PositionTracker::default() };
    (0..1000).for_each(|n| tracker.start_room(room(n), subscription(1, 5)));
    let delivered = |seq| {
        move |_: &RoomId| DeliveredPosition {
            status_delivered: true,
            position: Some((at(1, seq), DeliveredState::All(3))),
        }
    };
    assert_eq!(tracker.refresh(HashSet::new(), delivered(5)), 1000);
    assert_eq!(tracker.refresh(HashSet::new(), delivered(5)), 0);
    assert_eq!(tracker.refresh(HashSet::from([room(17)]), delivered(6)), 1);
    let stream_position = tracker.stream_position(&session(), 1);
    assert_eq!(
        stream_position.rooms[0],
        RoomPosition {
            room: RoomTag::of(&room(17)),
            cursor: Some(at(1, 6)),
            ..stream_position.rooms[1]
        }
    );
    assert_eq!(stream_position.rooms.len(), StreamPosition::MAX_ROOMS, "and no more than may fit");
}

/// Rooms whose tags collide are left out of the stream position.
#[test]
fn ambiguous_rooms_are_left_out() {
    let mut tracker = PositionTracker { rev: 1, ..PositionTracker::default() };
    let delivered = |_: &RoomId| DeliveredPosition {
        status_delivered: true,
        position: Some((at(1, 6), DeliveredState::None)),
    };
    tracker.start_room(room(1), subscription(1, 5));
    tracker.refresh(HashSet::new(), delivered);
    assert_eq!(tracker.stream_position(&session(), 1).rooms.len(), 1);
    // As if another room had its tag.
    *tracker.tags.get_mut(&RoomTag::of(&room(1))).unwrap() += 1;
    tracker.recheck_tag(RoomTag::of(&room(1)));
    tracker.refresh(HashSet::new(), delivered);
    assert_eq!(tracker.stream_position(&session(), 1).rooms.len(), 0);
}
