//! Directory: records and lists of rooms and members.

use std::collections::BTreeMap;

use im_core::state::{Intent, Membership};
use im_core::wire::{Role, RoomKind};
use im_core::{RoomId, UserId};

use super::StoreFactory;
use super::fixture::*;

/// Names in which byte order differs from collation, and some that are prefixes of others.
const NAMES: [&str; 12] =
    ["a", "B", "ab", "a-b", "a.b", "a:b", "b", "z", "é", "用户", "🦀", "a\u{301}"];

/// A missing room has no record, members or memberships; names are case-sensitive.
pub async fn missing_rooms_have_no_record<F: StoreFactory>(factory: &F) {
    let (store, ann) = (factory.open().await, user("ann"));
    assert_eq!(store.room(&room("r")).await.unwrap(), None);
    assert_eq!(store.membership(&room("r"), &ann).await.unwrap(), None);
    assert!(store.members(&room("r"), None, 10).await.unwrap().is_empty());
    assert!(store.rooms_of(&ann, None, 10).await.unwrap().is_empty());
    let group = open_group(&store, "r", &ann).await;
    assert_eq!(store.membership(&group, &user("bob")).await.unwrap(), None);
    assert_eq!(store.room(&room("R")).await.unwrap(), None);
}

/// Members are listed in byte order in pages, without the banned.
pub async fn members_page_without_banned<F: StoreFactory>(factory: &F) {
    let (store, owner, room) = (factory.open().await, user("owner"), room("r"));
    let users = NAMES.map(user);
    let roles = [Role::Reader, Role::Member, Role::Moderator];
    let mut members: Vec<_> = users.iter().zip(roles.into_iter().cycle()).collect();
    members.push((&owner, Role::Owner));
    commit(&store, create(&room, RoomKind::Group, false, &members)).await;
    for banned in ["B", "a.b", "🦀"] {
        commit(&store, change(&room, &owner, Intent::Ban(user(banned)))).await;
        members.retain(|(user, _)| user.as_str() != banned);
    }
    let sorted: BTreeMap<UserId, Role> =
        members.into_iter().map(|(user, role)| (user.clone(), role)).collect();
    let sorted: Vec<_> = sorted.into_iter().collect();
    for limit in [1, 2, 3, sorted.len(), 100, usize::MAX] {
        let mut listed: Vec<(UserId, Role)> = Vec::new();
        loop {
            let after = listed.last().map(|(user, _)| user);
            let page = store.members(&room, after, limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            assert!(page.len() == limit || listed.len() + page.len() == sorted.len());
            listed.extend(page);
            assert!(listed.len() <= sorted.len(), "a page begins after `after`");
        }
        assert_eq!(listed, sorted, "in pages of {limit}");
    }
    // `after` may be a non-member or a banned user.
    for after in ["a.b", "aa", "zz"] {
        let page = store.members(&room, Some(&user(after)), 2).await.unwrap();
        let rest = sorted.iter().filter(|(user, _)| user.as_str() > after);
        assert_eq!(page, rest.take(2).cloned().collect::<Vec<_>>());
    }
    assert!(store.members(&room, None, 0).await.unwrap().is_empty());
}

/// The rooms of a user are listed in byte order in pages.
pub async fn rooms_of_user_page_in_order<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let mut expected = BTreeMap::new();
    for (n, name) in NAMES.into_iter().enumerate() {
        let (room, kind) =
            (room(name), if n % 2 == 0 { RoomKind::Group } else { RoomKind::Channel });
        let role = if n % 3 == 0 { Role::Reader } else { Role::Moderator };
        let members = [(&bob, Role::Owner), (&ann, role)];
        commit(&store, create(&room, kind, false, &members[..1 + usize::from(n != 4)])).await;
        if n != 4 {
            expected.insert(room, (kind, role));
        }
    }
    let dm = commit(&store, direct(&bob, &ann, "hi")).await.room.clone();
    expected.insert(dm, (RoomKind::Direct, Role::Member));
    let expected: Vec<_> =
        expected.into_iter().map(|(room, (kind, role))| (room, kind, role)).collect();
    for limit in [1, 3, expected.len(), 100] {
        let mut listed: Vec<(RoomId, RoomKind, Role)> = Vec::new();
        loop {
            let after = listed.last().map(|(room, ..)| room);
            let page = store.rooms_of(&ann, after, limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            listed.extend(page);
            assert!(listed.len() <= expected.len(), "a page begins after `after`");
        }
        assert_eq!(listed, expected, "in pages of {limit}");
    }
    let page = store.rooms_of(&ann, Some(&room("aa")), 1).await.unwrap();
    assert_eq!(page, [expected.iter().find(|(room, ..)| room.as_str() > "aa").unwrap().clone()]);
}

/// Membership, member list and room list agree after every member change.
pub async fn directory_reflects_every_change<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    let room = open_group(&store, "r", &ann).await;
    let add = |role| change(&room, &ann, Intent::Add(bob.clone(), role));
    let member = |role| Some(Membership::Member(role));
    let steps = [
        (change(&room, &bob, Intent::Join), member(Role::Member)),
        (add(Role::Moderator), member(Role::Moderator)),
        (change(&room, &bob, Intent::Leave), None),
        (add(Role::Reader), member(Role::Reader)),
        (change(&room, &ann, Intent::Remove(bob.clone())), None),
        (add(Role::Owner), member(Role::Owner)),
        (by_service(change(&room, &ann, Intent::Ban(bob.clone()))), Some(Membership::Banned)),
        (change(&room, &ann, Intent::Unban(bob.clone())), None),
    ];
    for (step, expected) in steps {
        commit(&store, step).await;
        assert_eq!(store.membership(&room, &bob).await.unwrap(), expected);
        let role = if let Some(Membership::Member(role)) = expected { Some(role) } else { None };
        let listed = store.members(&room, Some(&ann), 10).await.unwrap();
        assert_eq!(listed, role.map(|role| (bob.clone(), role)).into_iter().collect::<Vec<_>>());
        let rooms = store.rooms_of(&bob, None, 10).await.unwrap();
        let expected = role.map(|role| (room.clone(), RoomKind::Group, role));
        assert_eq!(rooms, expected.into_iter().collect::<Vec<_>>());
    }
}

/// Ids that are prefixes of each other share no members, rooms or logs.
pub async fn ids_sharing_prefixes_stay_separate<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    // Concatenated, several of these pairs give the same text.
    let pairs = [("a", "bc"), ("ab", "c"), ("abc", "d"), ("a", "b"), ("a/", "b"), ("a:b", "c")];
    for (n, (name, member)) in pairs.into_iter().enumerate() {
        let (room, member) = (room(name), user(member));
        if store.room(&room).await.unwrap().is_none() {
            commit(&store, create(&room, RoomKind::Group, true, &[])).await;
        }
        commit(&store, change(&room, &member, Intent::Join)).await;
        commit(&store, keyed(&room, &member, &n.to_string(), &mid("1"))).await;
    }
    for (name, _) in pairs {
        let members: Vec<_> = pairs.into_iter().filter(|(room, _)| *room == name).collect();
        let mut expected: Vec<_> = members.iter().map(|(_, member)| user(member)).collect();
        expected.sort();
        let listed = store.members(&room(name), None, 10).await.unwrap();
        assert_eq!(listed.into_iter().map(|(user, _)| user).collect::<Vec<_>>(), expected);
        assert_eq!(whole_log(&store, &room(name)).await.len(), 1 + 2 * expected.len());
    }
    for (_, member) in pairs {
        let own = pairs.iter().filter(|(_, other)| *other == member);
        let mut expected: Vec<_> = own.map(|(name, _)| room(name)).collect();
        expected.sort();
        let listed = store.rooms_of(&user(member), None, 10).await.unwrap();
        assert_eq!(listed.into_iter().map(|(room, ..)| room).collect::<Vec<_>>(), expected);
    }
}

/// All rooms are listed in byte order in pages.
pub async fn all_rooms_page_in_byte_order<F: StoreFactory>(factory: &F) {
    let (store, ann, bob) = (factory.open().await, user("ann"), user("bob"));
    assert!(store.rooms(None, 10).await.unwrap().is_empty());
    for name in NAMES {
        open_group(&store, name, &ann).await;
    }
    let dm = commit(&store, direct(&bob, &ann, "hi")).await.room.clone();
    let mut names: Vec<RoomId> = NAMES.into_iter().map(room).chain([dm]).collect();
    names.sort();
    let mut expected = Vec::new();
    for name in &names {
        expected.push(store.room(name).await.unwrap().unwrap());
    }
    for limit in [1, 3, expected.len(), 100, usize::MAX] {
        let mut listed: Vec<im_core::state::RoomRecord> = Vec::new();
        loop {
            let after = listed.last().map(|record| &record.id);
            let page = store.rooms(after, limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            listed.extend(page);
            assert!(listed.len() <= expected.len(), "a page begins after `after`");
        }
        assert_eq!(listed, expected, "in pages of {limit}");
    }
    let page = store.rooms(Some(&room("aa")), 1).await.unwrap();
    assert_eq!(page, [expected.iter().find(|one| one.id.as_str() > "aa").unwrap().clone()]);
    assert!(store.rooms(None, 0).await.unwrap().is_empty());
}

/// Memberships, bans included, are listed in byte order in pages.
pub async fn memberships_page_in_byte_order<F: StoreFactory>(factory: &F) {
    let (store, owner) = (factory.open().await, user("owner"));
    let (group, other) =
        (open_group(&store, "r", &owner).await, open_group(&store, "r1", &owner).await);
    let mut expected = BTreeMap::from([(owner.clone(), Membership::Member(Role::Owner))]);
    for (n, name) in NAMES.into_iter().enumerate() {
        let user = user(name);
        commit(&store, change(&other, &user, Intent::Join)).await;
        let (intent, membership) = match n % 3 {
            0 => (Intent::Add(user.clone(), Role::Reader), Some(Membership::Member(Role::Reader))),
            1 => (Intent::Ban(user.clone()), Some(Membership::Banned)),
            _ => (Intent::Add(user.clone(), Role::Member), None),
        };
        commit(&store, change(&group, &owner, intent)).await;
        match membership {
            Some(membership) => {
                expected.insert(user, membership);
            }
            None => {
                commit(&store, change(&group, &user, Intent::Leave)).await;
            }
        }
    }
    let expected: Vec<_> = expected.into_iter().collect();
    for limit in [1, 2, expected.len(), 100] {
        let mut listed: Vec<(UserId, Membership)> = Vec::new();
        loop {
            let after = listed.last().map(|(user, _)| user);
            let page = store.memberships(&group, after, limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            listed.extend(page);
            assert!(listed.len() <= expected.len(), "a page begins after `after`");
        }
        assert_eq!(listed, expected, "in pages of {limit}");
    }
    assert!(store.memberships(&group, None, 0).await.unwrap().is_empty());
    assert!(store.memberships(&room("none"), None, 9).await.unwrap().is_empty());
}
