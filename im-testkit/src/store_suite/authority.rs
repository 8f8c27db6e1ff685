//! Authority: which user may append, and which the service decides for.

use std::sync::Arc;

use im_core::ports::{Appended, Store, StoreErrorKind, StoreResult};
use im_core::state::{Act, Authority, Intent, Refusal, RoomSeed};
use im_core::wire::{Role, RoomKind};
use im_core::{RoomId, UserId};

use super::StoreFactory;
use super::fixture::*;

/// An append to a missing room is refused and creates nothing.
pub async fn append_without_room_is_refused<F: StoreFactory>(factory: &F) {
    let (store, ann, room) = (factory.open().await, user("ann"), room("r"));
    let tries = [
        post(&room, &ann, "x"),
        by_service(post(&room, &ann, "x")),
        change(&room, &ann, Intent::Join),
        by_service(change(&room, &ann, Intent::Leave)),
    ];
    for append in tries {
        assert_eq!(refused(one(&store, append).await), Refusal::NoSuchRoom);
    }
    assert_eq!(store.room(&room).await.unwrap(), None);
}

async fn refuses_post(store: &Arc<dyn Store>, room: &RoomId, from: &UserId, why: Refusal) {
    let before = head(store, room).await;
    assert_eq!(refused(one(store, post(room, from, "x")).await), why, "{from} in {room}");
    assert_eq!(head(store, room).await, before);
}

/// A non-member may not send: in a closed room with the code of a missing room.
pub async fn strangers_may_not_send<F: StoreFactory>(factory: &F) {
    let (store, ann, eve) = (factory.open().await, user("ann"), user("eve"));
    let open = open_group(&store, "open", &ann).await;
    let closed = room("closed");
    commit(&store, create(&closed, RoomKind::Group, false, &[(&ann, Role::Owner)])).await;
    // A non-member of a closed room gets the same code as for a missing room.
    refuses_post(&store, &closed, &eve, Refusal::Stranger).await;
    refuses_post(&store, &open, &eve, Refusal::Role).await;
    assert_eq!(Refusal::Stranger.code(), Refusal::NoSuchRoom.code());
}

/// Members with the role `reader` may not send.
pub async fn read_only_members_may_not_send<F: StoreFactory>(factory: &F) {
    let (store, ann, bob, room) = (factory.open().await, user("ann"), user("bob"), room("r"));
    let members = [(&ann, Role::Owner), (&bob, Role::Reader)];
    commit(&store, create(&room, RoomKind::Group, false, &members)).await;
    refuses_post(&store, &room, &bob, Refusal::Role).await;
    commit(&store, change(&room, &ann, Intent::Add(bob.clone(), Role::Member))).await;
    commit(&store, post(&room, &bob, "at last")).await;
    commit(&store, change(&room, &ann, Intent::Add(bob.clone(), Role::Reader))).await;
    refuses_post(&store, &room, &bob, Refusal::Role).await;
}

/// A banned user may not send, and after the ban is lifted not without joining.
pub async fn the_banned_may_not_send<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let room = open_group(&store, "r", &ann).await;
    commit(&store, change(&room, &bob, Intent::Join)).await;
    commit(&store, post(&room, &bob, "hello")).await;
    commit(&store, change(&room, &ann, Intent::Ban(bob.clone()))).await;
    refuses_post(&store, &room, &bob, Refusal::Banned).await;
    commit(&store, change(&room, &ann, Intent::Unban(bob.clone()))).await;
    refuses_post(&store, &room, &bob, Refusal::Role).await;
}

/// A user who left or was removed may not send.
pub async fn former_members_may_not_send<F: StoreFactory>(factory: &F) {
    let (store, ann, bob, room) = (factory.open().await, user("ann"), user("bob"), room("r"));
    let members = [(&ann, Role::Owner), (&bob, Role::Member)];
    commit(&store, create(&room, RoomKind::Group, false, &members)).await;
    commit(&store, post(&room, &bob, "hello")).await;
    commit(&store, change(&room, &bob, Intent::Leave)).await;
    refuses_post(&store, &room, &bob, Refusal::Stranger).await;
    commit(&store, change(&room, &ann, Intent::Add(bob.clone(), Role::Member))).await;
    commit(&store, post(&room, &bob, "back")).await;
    commit(&store, change(&room, &ann, Intent::Remove(bob.clone()))).await;
    refuses_post(&store, &room, &bob, Refusal::Stranger).await;
}

/// Only members of a channel with a role above `reader` may send.
pub async fn channel_readers_may_not_send<F: StoreFactory>(factory: &F) {
    let (store, ann, bob, room) = (factory.open().await, user("ann"), user("bob"), room("news"));
    commit(&store, create(&room, RoomKind::Channel, true, &[(&ann, Role::Owner)])).await;
    refuses_post(&store, &room, &bob, Refusal::Role).await;
    commit(&store, change(&room, &bob, Intent::Join)).await;
    refuses_post(&store, &room, &bob, Refusal::Role).await;
    commit(&store, post(&room, &ann, "read all about it")).await;
    commit(&store, change(&room, &ann, Intent::Add(bob.clone(), Role::Member))).await;
    commit(&store, post(&room, &bob, "me too")).await;
}

/// An inbox accepts appends of the service only, and no member changes.
pub async fn inbox_accepts_service_appends_only<F: StoreFactory>(factory: &F) {
    let (store, ann, bot) = (factory.open().await, user("ann"), user("bot"));
    let inbox = RoomId::inbox(&ann);
    let seed = RoomSeed { kind: RoomKind::Inbox, open: false, members: Vec::new() };
    let first = commit(&store, by_service(seeded(post(&inbox, &bot, "a"), seed.clone()))).await;
    assert_eq!(first.seq, seq(1));
    assert_eq!(commit(&store, by_service(post(&inbox, &bot, "b"))).await.seq, seq(2));
    for from in [&ann, &bot] {
        let answer = one(&store, seeded(post(&inbox, from, "x"), seed.clone())).await;
        assert_eq!(refused(answer), Refusal::Stranger);
    }
    let join = one(&store, by_service(change(&inbox, &ann, Intent::Join))).await;
    assert_eq!(refused(join), Refusal::FixedMembers);
    assert_eq!(head(&store, &inbox).await, 2);
}

/// A direct room accepts appends of its two members only and keeps its members.
pub async fn direct_room_is_limited_to_two<F: StoreFactory>(factory: &F) {
    let (store, ann, bob, eve) = (factory.open().await, user("ann"), user("bob"), user("eve"));
    let room = commit(&store, direct(&ann, &bob, "hi")).await.room.clone();
    commit(&store, post(&room, &bob, "hi")).await;
    refuses_post(&store, &room, &eve, Refusal::Stranger).await;
    for intent in [
        Intent::Join,
        Intent::Leave,
        Intent::Add(eve.clone(), Role::Member),
        Intent::Remove(bob.clone()),
        Intent::Ban(bob.clone()),
        Intent::Unban(eve.clone()),
    ] {
        for append in [change(&room, &ann, intent.clone()), by_service(change(&room, &ann, intent))]
        {
            assert_eq!(refused(one(&store, append).await), Refusal::FixedMembers);
        }
    }
    assert_eq!(head(&store, &room).await, 2);
}

/// Appends of the service need no membership, and a ban does not apply to them.
pub async fn the_service_may_send_anywhere<F: StoreFactory>(factory: &F) {
    let (store, ann, bot) = (factory.open().await, user("ann"), user("bot"));
    let mut expected = 1;
    for kind in [RoomKind::Group, RoomKind::Channel] {
        let room = room(kind.word());
        commit(&store, create(&room, kind, false, &[(&ann, Role::Owner)])).await;
        commit(&store, by_service(post(&room, &bot, "a"))).await;
        commit(&store, by_service(change(&room, &bot, Intent::Ban(bot.clone())))).await;
        let event = commit(&store, by_service(post(&room, &bot, "b"))).await;
        assert_eq!(event.from, bot);
        expected = expected.max(event.seq.get());
    }
    assert_eq!(expected, 4);
}

fn refusal_of(answer: StoreResult<Appended>) -> Option<Refusal> {
    match answer.map_err(|error| error.kind()) {
        Ok(_) => None,
        Err(StoreErrorKind::Refused(refusal)) => Some(refusal),
        Err(other) => panic!("{other:?}"),
    }
}

/// The only owner may neither leave nor step down while other members remain, also within one
/// batch.
pub async fn last_owner_names_another_before_leaving<F: StoreFactory>(factory: &F) {
    let (store, ann, bob, cat) = (factory.open().await, user("ann"), user("bob"), user("cat"));
    let room = room("r");
    let members = [(&ann, Role::Owner), (&bob, Role::Moderator), (&cat, Role::Member)];
    commit(&store, create(&room, RoomKind::Group, false, &members)).await;
    let steps_down = Intent::Add(ann.clone(), Role::Moderator);
    for guarded in [change(&room, &ann, Intent::Leave), change(&room, &ann, steps_down.clone())] {
        let allowed_by_a_hook = by_service(guarded.clone());
        for append in [guarded, allowed_by_a_hook] {
            assert_eq!(refused(one(&store, append).await), Refusal::LastOwner);
        }
    }
    assert_eq!(head(&store, &room).await, 1);
    // In one batch, with either order of the two owners.
    let names = |user: &UserId| change(&room, &ann, Intent::Add(user.clone(), Role::Owner));
    let answers = store
        .append(vec![
            change(&room, &ann, Intent::Leave),
            names(&bob),
            change(&room, &ann, steps_down),
            change(&room, &bob, Intent::Leave),
        ])
        .await;
    let refusals: Vec<Option<Refusal>> = answers.into_iter().map(refusal_of).collect();
    assert_eq!(refusals, [Some(Refusal::LastOwner), None, None, Some(Refusal::LastOwner)]);
    // Other members may always leave, and so may the last member.
    for leaves in [&cat, &ann, &bob] {
        commit(&store, change(&room, leaves, Intent::Leave)).await;
    }
}

/// The check for another owner covers all members of a large room.
pub async fn owner_leaves_among_many_members<F: StoreFactory>(factory: &F) {
    let (store, room) = (factory.open().await, room("r"));
    let users: Vec<UserId> = (0..500).map(|n| user(&format!("u{n:03}"))).collect();
    let role = |n| if n == 0 || n == 499 { Role::Owner } else { Role::Member };
    let members: Vec<_> = users.iter().enumerate().map(|(n, user)| (user, role(n))).collect();
    commit(&store, create(&room, RoomKind::Group, false, &members)).await;
    commit(&store, change(&room, &users[0], Intent::Leave)).await;
    let last = one(&store, change(&room, &users[499], Intent::Leave)).await;
    assert_eq!(refused(last), Refusal::LastOwner);
    // The service may remove the last owner.
    commit(&store, by_service(change(&room, &user("admin"), Intent::Remove(users[499].clone()))))
        .await;
}

/// A repeated create by its owner is a duplicate; other settings, members or users are refused.
pub async fn owner_creates_again_as_wished<F: StoreFactory>(factory: &F) {
    let (store, ann, bob, eve) = (factory.open().await, user("ann"), user("bob"), user("eve"));
    let room = room("r");
    let wanted = [(&ann, Role::Owner), (&bob, Role::Member)];
    let create_as = |who: &UserId, members: &[(&UserId, Role)]| {
        let mut append = create(&room, RoomKind::Group, false, members);
        append.authority = Authority::User(who.clone());
        append
    };
    commit(&store, create_as(&ann, &wanted)).await;
    commit(&store, post(&room, &bob, "hello")).await;
    match one(&store, create_as(&ann, &wanted)).await.unwrap() {
        Appended::Duplicate { record, .. } => assert_eq!(record.seq, seq(2)),
        other => panic!("{other:?}"),
    }
    let with_eve = [(&ann, Role::Owner), (&eve, Role::Member)];
    assert_eq!(refused(one(&store, create_as(&ann, &with_eve)).await), Refusal::Exists);
    let mut open = create_as(&ann, &wanted);
    if let Act::Create { seed, .. } = &mut open.act {
        seed.open = true;
    }
    assert_eq!(refused(one(&store, open).await), Refusal::Exists);
    assert_eq!(refused(one(&store, create_as(&bob, &wanted)).await), Refusal::Exists);
    assert_eq!(
        refused(one(&store, create_as(&eve, &[(&eve, Role::Owner)])).await),
        Refusal::IdTaken
    );
    assert_eq!(head(&store, &room).await, 2);
}

/// Roles decide which member changes a user may make.
pub async fn roles_decide_who_changes_members<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let [owner, mo, member, reader] = ["owner", "mo", "member", "reader"].map(user);
    let (new, room) = (user("new"), room("r"));
    let members = [
        (&owner, Role::Owner),
        (&mo, Role::Moderator),
        (&member, Role::Member),
        (&reader, Role::Reader),
    ];
    commit(&store, create(&room, RoomKind::Group, true, &members)).await;
    let add = |user: &UserId, role| Intent::Add(user.clone(), role);
    let refusals = [
        (&member, add(&new, Role::Reader)),
        (&reader, Intent::Remove(member.clone())),
        (&member, Intent::Ban(reader.clone())),
        (&member, Intent::Unban(new.clone())),
        (&mo, add(&new, Role::Moderator)),
        (&mo, add(&member, Role::Moderator)),
        (&mo, add(&owner, Role::Member)),
        (&mo, Intent::Remove(owner.clone())),
        (&mo, Intent::Ban(owner.clone())),
        (&new, Intent::Remove(member.clone())),
    ];
    for (by, intent) in refusals {
        let answer = one(&store, change(&room, by, intent.clone())).await;
        assert_eq!(refused(answer), Refusal::Role, "{by}: {intent:?}");
    }
    assert_eq!(head(&store, &room).await, 1);
    let commits = [
        (&mo, add(&new, Role::Member)),
        (&mo, Intent::Remove(new.clone())),
        (&mo, Intent::Ban(reader.clone())),
        (&mo, Intent::Unban(reader.clone())),
        (&owner, add(&member, Role::Moderator)),
        (&owner, add(&new, Role::Owner)),
        (&owner, Intent::Remove(mo.clone())),
    ];
    for (n, (by, intent)) in commits.into_iter().enumerate() {
        let event = commit(&store, change(&room, by, intent)).await;
        assert_eq!(event.seq, seq(n as u64 + 2));
        assert_eq!((event.from.clone(), event.member_changes().len()), (by.clone(), 1));
    }
}

/// Non-members and banned users may change no membership.
pub async fn strangers_change_nothing<F: StoreFactory>(factory: &F) {
    let (store, ann, eve, room) = (factory.open().await, user("ann"), user("eve"), room("r"));
    commit(&store, create(&room, RoomKind::Group, false, &[(&ann, Role::Owner)])).await;
    for intent in [
        Intent::Join,
        Intent::Add(eve.clone(), Role::Owner),
        Intent::Remove(ann.clone()),
        Intent::Ban(ann.clone()),
        Intent::Unban(ann.clone()),
    ] {
        let answer = one(&store, change(&room, &eve, intent)).await;
        assert_eq!(refused(answer), Refusal::Stranger);
    }
    commit(&store, change(&room, &ann, Intent::Ban(eve.clone()))).await;
    for intent in [Intent::Join, Intent::Remove(ann.clone()), Intent::Unban(eve.clone())] {
        let answer = one(&store, change(&room, &eve, intent)).await;
        assert_eq!(refused(answer), Refusal::Banned);
    }
}

/// A refused append changes no record, log, membership or idempotency record.
pub async fn a_refusal_writes_nothing<F: StoreFactory>(factory: &F) {
    let (store, ann, eve) = (factory.open().await, user("ann"), user("eve"));
    let room = open_group(&store, "r", &ann).await;
    commit(&store, change(&room, &ann, Intent::Ban(eve.clone()))).await;
    let before = (store.room(&room).await.unwrap(), whole_log(&store, &room).await);
    let tries = vec![
        keyed(&room, &eve, "x", &mid("1")),
        change(&room, &eve, Intent::Join),
        by_service(change(&room, &eve, Intent::Join)),
        create(&room, RoomKind::Channel, true, &[(&eve, Role::Owner)]),
    ];
    for answer in store.append(tries).await {
        refused(answer);
    }
    assert_eq!((store.room(&room).await.unwrap(), whole_log(&store, &room).await), before);
    assert_eq!(store.idempotency_record(&room, &eve, &mid("1")).await.unwrap(), None);
    assert!(store.rooms_of(&eve, None, 10).await.unwrap().is_empty());
}
