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

fn followed(since: u64, seq: u64) -> SubscriptionRecord {
    SubscriptionRecord { cursor: at(1, seq), since }
}

const NOWHERE: Standpoint = Standpoint { told: true, place: None };

/// What a mark says, made anew from everything that there is.
fn from_scratch(
    places: &Places,
    stand: impl Fn(&RoomId) -> Standpoint,
) -> (u64, Vec<(u64, RoomPosition)>) {
    let (mut rev, mut said) = (places.rev, Vec::new());
    for (room, followed) in places.iter() {
        let Standpoint { told, place } = stand(room);
        if !told {
            rev = rev.min(followed.since.saturating_sub(1));
            continue;
        }
        let cursor = place.map(|(cursor, _)| cursor);
        let state = match place.map(|(_, state)| state) {
            None | Some(HeldState::None) => 0,
            Some(HeldState::Some) => RoomPosition::PARTIAL_STATE,
            Some(HeldState::All(state)) => state,
        };
        if cursor != Some(followed.cursor) || state != 0 {
            let moved = match cursor {
                Some(at) if at.epoch == followed.cursor.epoch => at.seq.since(followed.cursor.seq),
                _ => u64::MAX,
            };
            said.push((moved, RoomPosition { room: RoomTag::of(room), cursor, state }));
        }
    }
    said.sort_by_key(|(moved, place)| (Reverse(*moved), place.room));
    (rev, said)
}

#[derive(Debug, Clone)]
enum Step {
    Begin(usize, u64, u64),
    End(usize),
    Stand(usize, Standpoint),
    Look,
}

fn standpoint() -> impl Strategy<Value = Standpoint> {
    let state = prop_oneof![
        Just(HeldState::None),
        Just(HeldState::Some),
        (2u32..4).prop_map(HeldState::All)
    ];
    let place = proptest::option::of((1u64..3, 0u64..5, state));
    (any::<bool>(), place).prop_map(|(told, place)| Standpoint {
        told,
        place: place.map(|(generation, seq, state)| (at(generation, seq), state)),
    })
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0usize..6;
    prop_oneof![
        (n.clone(), 1u64..9, 0u64..3).prop_map(|(n, since, seq)| Step::Begin(n, since, seq)),
        n.clone().prop_map(Step::End),
        (n, standpoint()).prop_map(|(n, stand)| Step::Stand(n, stand)),
        Just(Step::Look),
    ]
}

proptest! {
    #[test]
    fn what_is_kept_up_is_what_would_be_made_anew(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut places = Places { rev: 8, ..Places::default() };
        let mut stands: HashMap<RoomId, Standpoint> = HashMap::new();
        let mut moved = HashSet::new();
        for step in steps.into_iter().chain([Step::Look]) {
            match step {
                Step::Begin(n, since, seq) => places.begin(room(n), followed(since, seq)),
                Step::End(n) => places.end(&room(n)),
                Step::Stand(n, stand) => {
                    stands.insert(room(n), stand);
                    moved.insert(room(n));
                }
                Step::Look => {
                    let stand = |room: &RoomId| stands.get(room).copied().unwrap_or(NOWHERE);
                    places.look(std::mem::take(&mut moved), stand);
                    let mark = places.mark(&session(), 1);
                    let (rev, said) = from_scratch(&places, stand);
                    prop_assert_eq!(mark.rev, rev);
                    let said: Vec<RoomPosition> = said.into_iter().map(|(_, place)| place).collect();
                    prop_assert_eq!(mark.rooms, said);
                }
            }
        }
    }
}

#[test]
fn a_mark_looks_only_at_what_has_moved() {
    let mut places = Places { rev: 1, ..Places::default() };
    (0..1000).for_each(|n| places.begin(room(n), followed(1, 5)));
    let stand = |seq| {
        move |_: &RoomId| Standpoint { told: true, place: Some((at(1, seq), HeldState::All(3))) }
    };
    assert_eq!(places.look(HashSet::new(), stand(5)), 1000);
    assert_eq!(places.look(HashSet::new(), stand(5)), 0);
    assert_eq!(places.look(HashSet::from([room(17)]), stand(6)), 1);
    let mark = places.mark(&session(), 1);
    assert_eq!(
        mark.rooms[0],
        RoomPosition { room: RoomTag::of(&room(17)), cursor: Some(at(1, 6)), ..mark.rooms[1] }
    );
    assert_eq!(mark.rooms.len(), StreamPosition::MAX_ROOMS, "and no more than may fit");
}

#[test]
fn rooms_that_cannot_be_told_apart_are_not_marked() {
    let mut places = Places { rev: 1, ..Places::default() };
    let stand = |_: &RoomId| Standpoint { told: true, place: Some((at(1, 6), HeldState::None)) };
    places.begin(room(1), followed(1, 5));
    places.look(HashSet::new(), stand);
    assert_eq!(places.mark(&session(), 1).rooms.len(), 1);
    // As if another room had its tag.
    *places.tags.get_mut(&RoomTag::of(&room(1))).unwrap() += 1;
    places.look_again_at(RoomTag::of(&room(1)));
    places.look(HashSet::new(), stand);
    assert_eq!(places.mark(&session(), 1).rooms.len(), 0);
}
