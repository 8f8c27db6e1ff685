//! Members: creating rooms, and membership.

use std::sync::Arc;

use futures::future::join_all;
use im_core::RoomId;
use im_core::ports::{Appended, Store};
use im_core::state::{Intent, Membership, Refusal, RoomRecord, RoomSeed};
use im_core::wire::{MemberChange, Role, RoomKind};

use super::StoreFactory;
use super::fixture::*;

async fn record(store: &Arc<dyn Store>, room: &RoomId) -> RoomRecord {
    store.room(room).await.unwrap().expect("an existing room")
}

async fn count(store: &Arc<dyn Store>, room: &RoomId) -> u32 {
    let counted = record(store, room).await.members;
    let listed = store.members(room, None, 10_000).await.unwrap().len();
    assert_eq!(counted as usize, listed, "the count agrees with the list");
    counted
}

/// The first event of a room creates it with its members.
pub async fn room_starts_with_first_event<F: StoreFactory>(factory: &F) {
    let (store, ann, bob, room) = (factory.open().await, user("ann"), user("bob"), room("r"));
    let members = [(&ann, Role::Owner), (&bob, Role::Reader)];
    let event = commit(&store, create(&room, RoomKind::Channel, true, &members)).await;
    assert_eq!((event.seq, &event.from, event.at), (seq(1), &ann, at(1_000)));
    let joined = |(user, role): (&im_core::UserId, Role)| MemberChange::Joined(user.clone(), role);
    assert_eq!(event.member_changes(), members.map(joined));
    let expected = RoomRecord {
        id: room.clone(),
        kind: RoomKind::Channel,
        open: true,
        epoch: event.epoch,
        head: seq(1),
        first: seq(1),
        created: at(1_000),
        members: 2,
        bytes: event.content.packed().len() as u64,
        erased: 0,
    };
    assert_eq!(record(&store, &room).await, expected);
    for (user, role) in members {
        let membership = store.membership(&room, user).await.unwrap();
        assert_eq!(membership, Some(Membership::Member(role)));
    }
    assert_eq!(whole_log(&store, &room).await, [event]);
}

/// A second creation of a room is refused and changes nothing.
pub async fn a_room_is_made_once<F: StoreFactory>(factory: &F) {
    let (store, ann, eve) = (factory.open().await, user("ann"), user("eve"));
    let room = open_group(&store, "r", &ann).await;
    let before = record(&store, &room).await;
    for kind in [RoomKind::Group, RoomKind::Channel] {
        let again = create(&room, kind, false, &[(&eve, Role::Owner)]);
        assert_eq!(refused(one(&store, again).await), Refusal::Exists);
    }
    assert_eq!(record(&store, &room).await, before);
    assert_eq!(store.membership(&room, &eve).await.unwrap(), None);
}

/// Of concurrent creations of one room, exactly one succeeds.
pub async fn concurrent_creates_make_one_room<F: StoreFactory>(factory: &F) {
    let (store, room) = (factory.open().await, room("r"));
    let makers = (0..12).map(|n| {
        let (store, room) = (Arc::clone(&store), room.clone());
        let maker = user(&format!("maker{n}"));
        tokio::spawn(async move {
            one(&store, create(&room, RoomKind::Group, true, &[(&maker, Role::Owner)])).await
        })
    });
    let answers = join_all(makers).await.into_iter().map(Result::unwrap);
    let (made, refusals): (Vec<_>, Vec<_>) = answers.partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    assert!(refusals.into_iter().all(|answer| refused(answer) == Refusal::Exists));
    assert_eq!(whole_log(&store, &room).await.len(), 1);
    assert_eq!(count(&store, &room).await, 1);
}

/// A join or leave is one event; repeated, it is a duplicate with the head.
pub async fn join_and_leave_are_idempotent_events<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let room = open_group(&store, "r", &ann).await;
    let join = change(&room, &bob, Intent::Join);
    let joined = commit(&store, join.clone()).await;
    assert_eq!((joined.seq, &joined.from), (seq(2), &bob));
    assert_eq!(joined.member_changes(), [MemberChange::Joined(bob.clone(), Role::Member)]);
    assert_eq!(count(&store, &room).await, 2);
    commit(&store, post(&room, &ann, "between")).await;
    let (epoch, again) = duplicate(one(&store, join).await);
    assert_eq!((epoch, again.seq), (joined.epoch, seq(3)), "a duplicate returns the head");
    assert_eq!(count(&store, &room).await, 2);
    let leave = change(&room, &bob, Intent::Leave);
    let left = commit(&store, leave.clone()).await;
    assert_eq!(left.member_changes(), [MemberChange::Left(bob.clone())]);
    assert_eq!(duplicate(one(&store, leave).await).1.seq, seq(4));
    assert_eq!(store.membership(&room, &bob).await.unwrap(), None);
    assert_eq!((count(&store, &room).await, head(&store, &room).await), (1, 4));
}

/// A join gives the role of the kind: member in groups, reader in channels.
pub async fn joining_assigns_role_of_kind<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    for (kind, role) in [(RoomKind::Group, Role::Member), (RoomKind::Channel, Role::Reader)] {
        let room = room(kind.word());
        commit(&store, create(&room, kind, true, &[(&ann, Role::Owner)])).await;
        commit(&store, change(&room, &bob, Intent::Join)).await;
        let membership = store.membership(&room, &bob).await.unwrap();
        assert_eq!(membership, Some(Membership::Member(role)));
    }
}

/// A change of role is an event and does not change the number of members.
pub async fn role_change_adds_no_member<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let room = open_group(&store, "r", &ann).await;
    let mut expected = 1;
    for role in [Role::Reader, Role::Owner, Role::Member] {
        let add = change(&room, &ann, Intent::Add(bob.clone(), role));
        let event = commit(&store, add.clone()).await;
        expected += 1;
        assert_eq!(event.seq, seq(expected));
        assert_eq!(event.member_changes(), [MemberChange::Joined(bob.clone(), role)]);
        assert_eq!(duplicate(one(&store, add).await).1.seq, seq(expected));
        let membership = store.membership(&room, &bob).await.unwrap();
        assert_eq!(membership, Some(Membership::Member(role)));
        assert_eq!(count(&store, &room).await, 2);
        let listed = store.rooms_of(&bob, None, 10).await.unwrap();
        assert_eq!(listed, [(room.clone(), RoomKind::Group, role)]);
    }
}

/// A repeated removal is a duplicate; a removed user may join again.
pub async fn removing_is_idempotent<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let room = open_group(&store, "r", &ann).await;
    commit(&store, change(&room, &bob, Intent::Join)).await;
    let remove = change(&room, &ann, Intent::Remove(bob.clone()));
    let removed = commit(&store, remove.clone()).await;
    assert_eq!(removed.member_changes(), [MemberChange::Removed(bob.clone())]);
    assert_eq!(duplicate(one(&store, remove).await).1.seq, removed.seq);
    assert_eq!(count(&store, &room).await, 1);
    commit(&store, change(&room, &bob, Intent::Join)).await;
    assert_eq!(count(&store, &room).await, 2, "a removed user may join again");
}

/// A ban lasts until it is lifted, for members and non-members.
pub async fn banned_user_stays_out_until_unbanned<F: StoreFactory>(factory: &F) {
    let (store, ann, bob, eve) = (factory.open().await, user("ann"), user("bob"), user("eve"));
    let room = open_group(&store, "r", &ann).await;
    commit(&store, change(&room, &bob, Intent::Join)).await;
    // A member, and a user who never was one.
    for (target, members) in [(&bob, 1), (&eve, 1)] {
        let ban = change(&room, &ann, Intent::Ban(target.clone()));
        let event = commit(&store, ban.clone()).await;
        assert_eq!(event.member_changes(), [MemberChange::Banned(target.clone())]);
        assert_eq!(duplicate(one(&store, ban).await).1.seq, event.seq);
        assert_eq!(store.membership(&room, target).await.unwrap(), Some(Membership::Banned));
        assert_eq!(count(&store, &room).await, members);
        assert!(store.rooms_of(target, None, 10).await.unwrap().is_empty());
        for back in [
            change(&room, target, Intent::Join),
            change(&room, &ann, Intent::Add(target.clone(), Role::Member)),
        ] {
            assert_eq!(refused(one(&store, back).await), Refusal::Banned);
        }
        // Neither a leave nor a removal lifts a ban.
        let leave = by_service(change(&room, target, Intent::Leave));
        duplicate(one(&store, leave).await);
        duplicate(one(&store, change(&room, &ann, Intent::Remove(target.clone()))).await);
        assert_eq!(store.membership(&room, target).await.unwrap(), Some(Membership::Banned));
    }
    let unban = change(&room, &ann, Intent::Unban(bob.clone()));
    let event = commit(&store, unban.clone()).await;
    assert_eq!(event.member_changes(), [MemberChange::Unbanned(bob.clone())]);
    assert_eq!(duplicate(one(&store, unban).await).1.seq, event.seq);
    assert_eq!(store.membership(&room, &bob).await.unwrap(), None);
    assert_eq!(count(&store, &room).await, 1, "an unbanned user is not a member yet");
    commit(&store, change(&room, &bob, Intent::Join)).await;
    assert_eq!(count(&store, &room).await, 2);
}

/// A room refuses members over its maximum.
pub async fn room_refuses_members_over_maximum<F: StoreFactory>(factory: &F) {
    let (store, ann, bob, eve) = (factory.open().await, user("ann"), user("bob"), user("eve"));
    let full = room("full");
    let members = [(&ann, Role::Owner), (&bob, Role::Member)];
    let limited = |mut append: im_core::state::Append| {
        append.max_members = 2;
        append
    };
    let mut too_many = create(&full, RoomKind::Group, true, &members);
    too_many.max_members = 1;
    assert_eq!(refused(one(&store, too_many).await), Refusal::Full);
    assert_eq!(store.room(&full).await.unwrap(), None);
    commit(&store, limited(create(&full, RoomKind::Group, true, &members))).await;
    let join = limited(change(&full, &eve, Intent::Join));
    assert_eq!(refused(one(&store, join.clone()).await), Refusal::Full);
    assert_eq!(refused(one(&store, by_service(join.clone())).await), Refusal::Full);
    let promote = Intent::Add(bob.clone(), Role::Moderator);
    commit(&store, limited(change(&full, &ann, promote))).await;
    commit(&store, limited(change(&full, &bob, Intent::Leave))).await;
    commit(&store, join).await;
    assert_eq!(count(&store, &full).await, 2);
}

/// Concurrent joins do not exceed the maximum.
pub async fn concurrent_joins_stop_at_the_maximum<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    let joins = (0..24).map(|n| {
        let mut join = change(&room, &user(&format!("user{n}")), Intent::Join);
        join.max_members = 9;
        let store = Arc::clone(&store);
        tokio::spawn(async move { one(&store, join).await })
    });
    let answers = join_all(joins).await.into_iter().map(Result::unwrap);
    let (joined, refusals): (Vec<_>, Vec<_>) = answers.partition(Result::is_ok);
    assert_eq!(joined.len(), 8);
    assert!(refusals.into_iter().all(|answer| refused(answer) == Refusal::Full));
    assert_eq!(count(&store, &room).await, 9);
    assert_eq!(whole_log(&store, &room).await.len(), 9);
}

/// The first message between two users creates their direct room with both as members.
pub async fn first_send_creates_direct_room<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let event = commit(&store, direct(&ann, &bob, "hi")).await;
    assert_eq!((event.seq, event.content.value()), (seq(1), text("hi")));
    let made = record(&store, &event.room).await;
    assert_eq!((made.kind, made.open, made.members), (RoomKind::Direct, false, 2));
    for user in [&ann, &bob] {
        let listed = store.rooms_of(user, None, 10).await.unwrap();
        assert_eq!(listed, [(event.room.clone(), RoomKind::Direct, Role::Member)]);
    }
    let answer = commit(&store, direct(&bob, &ann, "hi yourself")).await;
    assert_eq!((&answer.room, answer.epoch, answer.seq), (&event.room, event.epoch, seq(2)));
}

/// A refused first message creates no room and no membership.
pub async fn refused_first_send_creates_nothing<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let mut send = direct(&ann, &bob, "hi");
    let room = send.room.clone();
    send.max_members = 1;
    assert_eq!(refused(one(&store, send).await), Refusal::Full);
    assert_eq!(store.room(&room).await.unwrap(), None);
    assert_eq!(store.membership(&room, &ann).await.unwrap(), None);
    assert!(store.members(&room, None, 10).await.unwrap().is_empty());
    assert!(store.rooms_of(&bob, None, 10).await.unwrap().is_empty());
    assert_eq!(store.heads(&[room]).await.unwrap(), [None]);
}

/// Concurrent first messages of two users are stored in one room of one epoch.
pub async fn concurrent_first_sends_share_one_room<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    for round in 0..6 {
        let (ann, bob) = (user(&format!("ann{round}")), user(&format!("bob{round}")));
        let sends = (0..8).map(|n| {
            let (from, to) = if n % 2 == 0 { (&ann, &bob) } else { (&bob, &ann) };
            let (store, send) = (Arc::clone(&store), direct(from, to, &n.to_string()));
            tokio::spawn(async move { commit(&store, send).await })
        });
        let mut events: Vec<_> = join_all(sends).await.into_iter().map(Result::unwrap).collect();
        events.sort_by_key(|event| event.seq);
        let room = RoomId::direct(&ann, &bob);
        assert_eq!(whole_log(&store, &room).await, events, "one room of one epoch with all events");
        assert_eq!(count(&store, &room).await, 2);
    }
}

/// The seed of a room is ignored if the room exists.
pub async fn seed_leaves_existing_room_unchanged<F: StoreFactory>(factory: &F) {
    let (store, ann, eve) = (factory.open().await, user("ann"), user("eve"));
    let room = open_group(&store, "r", &ann).await;
    let seed = RoomSeed {
        kind: RoomKind::Channel,
        open: false,
        members: vec![(eve.clone(), Role::Owner)],
    };
    let own = seeded(post(&room, &ann, "x"), seed.clone());
    assert!(
        matches!(one(&store, own).await, Ok(Appended::Committed(event)) if event.seq == seq(2))
    );
    assert_eq!(refused(one(&store, seeded(post(&room, &eve, "x"), seed)).await), Refusal::Role);
    let kept = record(&store, &room).await;
    assert_eq!((kept.kind, kept.open, kept.members), (RoomKind::Group, true, 1));
    assert_eq!(store.membership(&room, &eve).await.unwrap(), None);
}
