//! Erasure of users.

use std::sync::Arc;

use bytes::Bytes;
use im_core::ports::Store;
use im_core::state::{
    Act, Base, Checkpoint, CheckpointChange, Intent, Keep, Membership, Refusal, SecretHash,
    SessionRecord, Ticket,
};
use im_core::wire::{Event, Map, MemberChange, Role, RoomKind, Secret, StateUpdate};
use im_core::{DeviceId, EventKind, NodeId, RoomId, Stamp, StateKey, UserId};

use super::StoreFactory;
use super::fixture::*;

/// Erases in steps of `limit` and returns the number of changed events.
async fn erase(store: &Arc<dyn Store>, user: &UserId, limit: usize) -> u64 {
    let mut events = 0;
    for _ in 0..10_000 {
        let step = store.erase_user(user, limit).await.unwrap();
        events += step.events;
        if !step.more {
            return events;
        }
    }
    panic!("an erasure ends");
}

/// Checks that the user occurs nowhere in a room.
async fn is_nowhere(store: &Arc<dyn Store>, room: &RoomId, gone: &UserId) {
    assert_eq!(store.membership(room, gone).await.unwrap(), None);
    assert!(store.memberships(room, None, 99).await.unwrap().iter().all(|(user, _)| user != gone));
    let record = store.room(room).await.unwrap().unwrap();
    assert_eq!(record.members as usize, store.members(room, None, 99).await.unwrap().len());
    let log = whole_log(store, room).await;
    for event in &log {
        assert_eq!(event.without(gone), None, "{event:?}");
    }
    let bytes: usize = log.iter().map(|event| event.content.packed().len()).sum();
    assert_eq!(record.bytes, bytes as u64);
    for id in 0..9 {
        assert_eq!(
            store.idempotency_record(room, gone, &mid(&id.to_string())).await.unwrap(),
            None
        );
    }
    let state = store.state(room).await.unwrap();
    assert!(state.entries.iter().all(|entry| entry.from != *gone));
    assert!(store.rooms_of(gone, None, 99).await.unwrap().is_empty());
}

/// A conversation between ann and bob, whom ann has added.
async fn conversation(store: &Arc<dyn Store>, name: &str) -> RoomId {
    let (ann, bob) = (user("ann"), user("bob"));
    let room = open_group(store, name, &ann).await;
    commit(store, change(&room, &ann, Intent::Add(bob.clone(), Role::Member))).await;
    for n in 0..4 {
        commit(store, keyed(&room, &ann, "from ann", &mid(&n.to_string()))).await;
        commit(store, keyed(&room, &bob, "from bob", &mid(&n.to_string()))).await;
    }
    room
}

/// Erased events keep their seq without content, and the erasure is counted in the head. Other
/// users' duplicates are still recognised.
pub async fn erased_events_keep_their_seq<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    for (name, limit) in [("a", 1), ("b", 3), ("c", 1_000)] {
        let room = conversation(&store, name).await;
        let before = store.room(&room).await.unwrap().unwrap();
        let log = whole_log(&store, &room).await;
        assert_eq!(erase(&store, &bob, limit).await, 5, "four sends and the event that added bob");
        let expected: Vec<Event> = log
            .iter()
            .map(|event| event.without(&bob).unwrap_or_else(|| Event::clone(event)))
            .collect();
        let left = whole_log(&store, &room).await;
        assert!(left.iter().map(|event| &**event).eq(&expected));
        assert_eq!(left[3].from, UserId::erased());
        assert_eq!((&left[3].kind, &left[3].id), (&EventKind::erased(), &None));
        assert_eq!(left[3].content.value(), Map::default().into());
        assert_eq!(
            left[1].member_changes(),
            [MemberChange::Joined(UserId::erased(), Role::Member)]
        );
        let after = store.room(&room).await.unwrap().unwrap();
        assert_eq!((after.epoch, after.head, after.first), (before.epoch, seq(10), seq(1)));
        assert_eq!((after.members, after.erased), (1, 5));
        let head = store.heads(std::slice::from_ref(&room)).await.unwrap()[0].unwrap();
        assert_eq!(head.erased, 5);
        is_nowhere(&store, &room, &bob).await;
        let (_, record) = duplicate(one(&store, keyed(&room, &ann, "from ann", &mid("2"))).await);
        assert_eq!(record.seq, seq(7));
        assert_eq!(commit(&store, post(&room, &ann, "on")).await.seq, seq(11));
        assert_eq!(erase(&store, &bob, limit).await, 0, "a second erasure changes nothing");
    }
}

/// A member change keeps the other users when one of them is erased.
pub async fn erasure_spares_others_in_change<F: StoreFactory>(factory: &F) {
    let (store, [ann, bob, eve]) = (factory.open().await, ["ann", "bob", "eve"].map(user));
    let room = room("r");
    let members = [(&ann, Role::Owner), (&bob, Role::Member), (&eve, Role::Reader)];
    commit(&store, create(&room, RoomKind::Group, true, &members)).await;
    commit(&store, change(&room, &ann, Intent::Ban(eve.clone()))).await;
    erase(&store, &ann, 2).await;
    let log = whole_log(&store, &room).await;
    assert!(log.iter().all(|event| event.from == UserId::erased()));
    assert!(log.iter().all(|event| event.kind == EventKind::members()));
    assert_eq!(log[1].member_changes(), [MemberChange::Banned(eve.clone())]);
    let first = [
        MemberChange::Joined(UserId::erased(), Role::Owner),
        MemberChange::Joined(bob.clone(), Role::Member),
        MemberChange::Joined(eve.clone(), Role::Reader),
    ];
    assert_eq!(log[0].member_changes(), first);
    let memberships = store.memberships(&room, None, 9).await.unwrap();
    assert_eq!(
        memberships,
        [(bob, Membership::Member(Role::Member)), (eve.clone(), Membership::Banned)]
    );
    erase(&store, &eve, 2).await;
    is_nowhere(&store, &room, &eve).await;
}

/// An erased user disappears from every room: as member, former member, banned, peer and author.
pub async fn erased_user_leaves_every_room<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let joined = conversation(&store, "joined").await;
    let left = conversation(&store, "left").await;
    commit(&store, change(&left, &bob, Intent::Leave)).await;
    let banned = conversation(&store, "banned").await;
    commit(&store, change(&banned, &ann, Intent::Ban(bob.clone()))).await;
    let dm = commit(&store, direct(&bob, &ann, "hi")).await.room.clone();
    let stranger = open_group(&store, "stranger", &ann).await;
    commit(&store, by_service(post(&stranger, &bob, "by the service, in bob's name"))).await;
    let inbox = RoomId::inbox(&ann);
    let seed = im_core::state::RoomSeed {
        kind: RoomKind::Inbox,
        open: false,
        members: vec![(ann.clone(), Role::Reader)],
    };
    commit(&store, by_service(seeded(post(&inbox, &bob, "to ann"), seed))).await;
    let untouched = open_group(&store, "untouched", &ann).await;
    let before = store.room(&untouched).await.unwrap();
    erase(&store, &bob, 4).await;
    for room in [joined, left, banned, dm.clone(), stranger, inbox] {
        is_nowhere(&store, &room, &bob).await;
        assert!(whole_log(&store, &room).await.iter().any(|e| e.from != ann || e.seq == seq(2)));
    }
    assert_eq!(store.room(&untouched).await.unwrap(), before);
    assert_eq!(refused(one(&store, post(&dm, &bob, "again")).await), Refusal::Stranger);
}

/// The sessions, checkpoints and tickets of an erased user are removed.
pub async fn erasure_removes_sessions_and_tickets<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let room = conversation(&store, "r").await;
    let session = |id: &str, user: &UserId| SessionRecord {
        id: session(id),
        user: user.clone(),
        device: DeviceId::new("phone").unwrap(),
        secret: SecretHash::of(&Secret::new(id)),
        created: at(1),
        expires: at(9_000),
        fencing_token: 1,
    };
    for (id, user) in [("one", &bob), ("two", &bob), ("anns", &ann)] {
        store.open_session(session(id, user)).await.unwrap();
        let cursor = read(&store, &room, im_core::wire::PageFrom::After(seq(0)), 1).await.head;
        let change = CheckpointChange {
            base: Base::Held,
            unsubscribe: vec![],
            subscribe: vec![(room.clone(), cursor)],
            confirm: vec![],
            max_rooms: 9,
        };
        let id = &session(id, user).id;
        store.change_checkpoint(id, change).await.unwrap().unwrap();
        let ticket = Ticket {
            secret: SecretHash::of(&Secret::new("t")),
            open_until: at(5),
            opened: false,
            device: None,
            claims: Bytes::from_static(b"bob's claims"),
            expires: None,
        };
        store.put_ticket(id, ticket).await.unwrap();
    }
    let inbox = RoomId::inbox(&bob);
    let members = [(&bob, Role::Reader)];
    commit(&store, create(&inbox, RoomKind::Inbox, false, &members)).await;
    erase(&store, &bob, 2).await;
    assert!(store.sessions_of(&bob, 9).await.unwrap().is_empty());
    for id in ["one", "two"].map(super::fixture::session) {
        assert_eq!(store.session(&id).await.unwrap(), None);
        assert_eq!(store.ticket(&id).await.unwrap(), None);
        assert_eq!(store.checkpoint(&id).await.unwrap(), Checkpoint::default());
    }
    assert_eq!(store.room(&inbox).await.unwrap(), None);
    let anns = super::fixture::session("anns");
    assert!(store.session(&anns).await.unwrap().is_some());
    assert_eq!(store.checkpoint(&anns).await.unwrap().rooms.len(), 1);
    assert!(store.ticket(&anns).await.unwrap().is_some());
}

/// State entries of an erased user become tombstones with the same version.
pub async fn erasure_removes_state_of_user<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let room = conversation(&store, "r").await;
    let update = |key: &str, ms: u64, from: &str, value: &str| {
        Arc::new(StateUpdate {
            room: room.clone(),
            key: StateKey::new(key).unwrap(),
            stamp: Stamp { ms: at(ms), counter: 0, node: NodeId(1) },
            from: user(from),
            value: Some(packed(&text(value))),
        })
    };
    let anns = update("a", 5, "ann", "ann's");
    let (bobs, strangers) = (update("b", 6, "bob", "bob's"), update("c", 7, "mia", "mia's"));
    store.merge_state(vec![anns.clone(), bobs.clone(), strangers.clone()]).await.unwrap();
    let before = store.state(&room).await.unwrap().revision;
    for (gone, left) in [(&bobs, 2), (&strangers, 1)] {
        erase(&store, &gone.from, 3).await;
        let state = store.state(&room).await.unwrap();
        let unset = state.entries.iter().find(|entry| entry.key == gone.key).unwrap();
        assert_eq!(
            (&unset.from, unset.stamp, &unset.value),
            (&UserId::erased(), gone.stamp, &None)
        );
        assert_eq!(state.entries.iter().filter(|entry| entry.value.is_some()).count(), left);
        assert!(state.revision > before);
        is_nowhere(&store, &room, &gone.from).await;
    }
    assert!(store.state(&room).await.unwrap().entries.contains(&anns));
    store.merge_state(vec![update("b", 6, "ann", "again")]).await.unwrap();
    let state = store.state(&room).await.unwrap();
    let unset = state.entries.iter().find(|entry| entry.key == bobs.key).unwrap();
    assert_eq!(unset.value, None, "the tombstone keeps its stamp");
}

/// An erasure in steps ends although events are appended and trimmed meanwhile.
pub async fn erasure_proceeds_under_sends_and_trims<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let room = conversation(&store, "r").await;
    for round in 0.. {
        let step = store.erase_user(&bob, 3).await.unwrap();
        commit(&store, post(&room, &ann, "meanwhile")).await;
        if round % 3 == 0 {
            let keep = Keep { count: Some(9), ..Keep::ALL };
            store.trim(&room, &keep, 1).await.unwrap();
        }
        if !step.more {
            break;
        }
        assert!(round < 1_000, "an erasure ends if its steps cover more events than are appended");
    }
    is_nowhere(&store, &room, &bob).await;
}

/// An erasure continues after a reopen.
pub async fn erasure_resumes_after_reopen<F: StoreFactory>(factory: &F) {
    let (mut store, bob) = (factory.open().await, user("bob"));
    let rooms = [conversation(&store, "one").await, conversation(&store, "two").await];
    commit(&store, change(&rooms[1], &bob, Intent::Leave)).await;
    for _ in 0..100 {
        if !store.erase_user(&bob, 6).await.unwrap().more {
            break;
        }
        let Some(again) = reopened(factory, store).await else { return };
        store = again;
    }
    for room in &rooms {
        is_nowhere(&store, room, &bob).await;
    }
    let Some(store) = reopened(factory, store).await else { return };
    for room in &rooms {
        is_nowhere(&store, room, &bob).await;
    }
}

/// Erasing an unknown user changes nothing.
pub async fn erasing_unknown_user_changes_nothing<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let room = conversation(&store, "r").await;
    let log = whole_log(&store, &room).await;
    let step = store.erase_user(&user("nobody"), 9).await.unwrap();
    assert_eq!((step.events, step.more), (0, false));
    assert_eq!(whole_log(&store, &room).await, log);
}

/// The reserved id of erased users can neither join, be added, own a room nor receive messages.
pub async fn erased_user_id_is_reserved<F: StoreFactory>(factory: &F) {
    let (store, ann, nobody) = (factory.open().await, user("ann"), UserId::erased());
    let group = open_group(&store, "r", &ann).await;
    let add = Intent::Add(nobody.clone(), Role::Member);
    for append in [
        change(&group, &ann, add),
        by_service(change(&group, &nobody, Intent::Join)),
        create(&room("new"), RoomKind::Group, true, &[(&nobody, Role::Owner)]),
        direct(&ann, &nobody, "hi"),
    ] {
        assert!(matches!(append.act, Act::Change { .. } | Act::Create { .. } | Act::Post { .. }));
        assert_eq!(refused(one(&store, append).await), Refusal::Reserved);
    }
}
