//! Members: joins, leaves, roles, bans, and their effect on subscriptions.

use im_core::wire::{
    CommandBody, MemberAct, MemberChange, PageFrom, Role, RoomKind, RoomsPage, Status,
};
use im_core::{Code, Seq};

use super::*;

/// A removed or banned subscriber receives no event after the removal, gets `denied`, and is
/// refused afterwards.
pub async fn nothing_is_delivered_after_a_removal<F: TransportFactory>(shape: Shape) {
    for act in [MemberAct::Remove, MemberAct::Ban] {
        let world = World::<F>::new(shape).await;
        let r = world.group("r", &["ann", "bob"]).await;
        let other = world.group("other", &["ann", "bob"]).await;
        let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
        bob.subscribe(&r, None).await.unwrap();
        bob.subscribe(&other, None).await.unwrap();
        ann.say(&r, "before").await.unwrap();
        let removal = ann.member(&r, "bob", act).await.unwrap();
        ann.say(&r, "after").await.unwrap();
        ann.say(&other, "elsewhere").await.unwrap();
        let mut seen = Vec::new();
        let mut denied = false;
        loop {
            match bob.push().await {
                im_core::wire::Push::Event(event) if event.room == other => break,
                im_core::wire::Push::Event(event) => seen.push(event.seq),
                im_core::wire::Push::Room(status) => {
                    assert_eq!((&status.room, status.status), (&r, Status::Denied));
                    denied = true;
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
        assert!(
            seen.iter().all(|seen| *seen <= removal.seq),
            "no event beyond {}: {seen:?}",
            removal.seq
        );
        assert!(
            seen.windows(2).all(|pair| pair[1] == pair[0].next()),
            "no gap before the removal: {seen:?}"
        );
        assert!(denied, "the status `denied` was pushed");
        let expected = if act == MemberAct::Ban { Code::Banned } else { Code::NotFound };
        assert_eq!(bob.subscribe(&r, None).await.unwrap_err(), expected);
        assert_eq!(bob.history(&r, PageFrom::Before(Seq::MAX), 5).await.unwrap_err(), expected);
        assert_eq!(bob.say(&r, "hello?").await.unwrap_err(), expected);
    }
}

/// After a leave, `denied` with 4602 replaces the event of the leave, and nothing more is
/// delivered.
pub async fn leaver_receives_nothing_more<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let own = world.group("own", &["bob"]).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    bob.subscribe(&r, None).await.unwrap();
    bob.subscribe(&own, None).await.unwrap();
    ann.say(&r, "before").await.unwrap();
    assert_eq!(bob.heard().await, "before");
    let left = bob.leave(&r).await.unwrap();
    assert_eq!((left.seq, left.duplicate), (seq(3), false));
    ann.say(&r, "behind your back").await.unwrap();
    let notice = bob.status().await;
    assert_eq!((notice.room, notice.status, notice.head), (r, Status::Denied, Seq::ZERO));
    assert_eq!((notice.code, notice.cursor), (Some(Code::Removed.number()), None));
    bob.say(&own, "alone").await.unwrap();
    assert_eq!(bob.heard().await, "alone", "no further event of the room that was left");
}

/// A leaver that may read the channel without membership stays subscribed.
pub async fn leaver_of_open_channel_keeps_subscription<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let news = world.room("news", RoomKind::Channel, true, &["ann"]).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    bob.join(&news).await.unwrap();
    bob.subscribe(&news, None).await.unwrap();
    let left = bob.leave(&news).await.unwrap();
    let event = bob.event().await;
    assert_eq!(
        (event.seq, event.member_changes()),
        (left.seq, vec![MemberChange::Left(user("bob"))])
    );
    ann.say(&news, "to all").await.unwrap();
    assert_eq!(bob.heard().await, "to all");
}

/// Member changes are events of the log; a repeated join is a duplicate.
pub async fn member_changes_are_idempotent_events<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.room("r", RoomKind::Group, true, &["ann"]).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    ann.subscribe(&r, None).await.unwrap();
    assert_eq!(bob.join(&r).await.unwrap().seq, seq(2));
    assert!(bob.join(&r).await.unwrap().duplicate);
    ann.member(&r, "bob", MemberAct::Add(Role::Moderator)).await.unwrap();
    ann.member(&r, "bob", MemberAct::Remove).await.unwrap();
    let mut changes = Vec::new();
    for _ in 0..3 {
        changes.extend(ann.event().await.member_changes());
    }
    let bob = user("bob");
    assert_eq!(
        changes,
        [
            MemberChange::Joined(bob.clone(), Role::Member),
            MemberChange::Joined(bob.clone(), Role::Moderator),
            MemberChange::Removed(bob),
        ]
    );
}

/// Members may change no membership; moderators may remove members, but not the owner.
pub async fn roles_decide_member_changes<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann", "bob", "eve"]).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    assert_eq!(bob.member(&r, "eve", MemberAct::Remove).await.unwrap_err(), Code::Forbidden);
    assert_eq!(bob.member(&r, "ann", MemberAct::Ban).await.unwrap_err(), Code::Forbidden);
    assert_eq!(
        bob.member(&r, "bob", MemberAct::Add(Role::Owner)).await.unwrap_err(),
        Code::Forbidden
    );
    ann.member(&r, "bob", MemberAct::Add(Role::Moderator)).await.unwrap();
    bob.member(&r, "eve", MemberAct::Remove).await.unwrap();
    assert_eq!(bob.member(&r, "ann", MemberAct::Remove).await.unwrap_err(), Code::Forbidden);
}

/// A banned user can neither join nor be added until the ban is lifted.
pub async fn ban_lasts_until_lifted<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.room("r", RoomKind::Group, true, &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    ann.member(&r, "bob", MemberAct::Ban).await.unwrap();
    assert_eq!(bob.join(&r).await.unwrap_err(), Code::Banned);
    assert_eq!(
        ann.member(&r, "bob", MemberAct::Add(Role::Member)).await.unwrap_err(),
        Code::Banned
    );
    ann.member(&r, "bob", MemberAct::Unban).await.unwrap();
    bob.join(&r).await.unwrap();
    bob.subscribe(&r, None).await.unwrap();
    bob.say(&r, "back").await.unwrap();
    assert_eq!(bob.heard().await, "back");
}

/// Pages of members and of rooms cover all entries, each once.
pub async fn members_and_rooms_page<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let names: Vec<String> = (0..7).map(|n| format!("u{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let r = world.group("r0", &names).await;
    for n in 1..5 {
        world.group(&format!("r{n}"), &["u0"]).await;
    }
    let mut peer = world.peer("u0").await;
    let (mut members, mut after) = (Vec::new(), None);
    loop {
        let page = peer.members(&r, after.clone(), 3).await.unwrap();
        after = page.members.last().map(|entry| entry.user.clone());
        members.extend(page.members.into_iter().map(|entry| entry.user.to_string()));
        if !page.more {
            break;
        }
    }
    assert_eq!(members, names);
    let (mut rooms, mut after) = (Vec::new(), None);
    loop {
        let fields = peer.ask(CommandBody::Rooms { after: after.clone(), limit: 2 }).await.unwrap();
        let page = RoomsPage::from_value(fields).unwrap();
        after = page.rooms.last().map(|(room, ..)| room.clone());
        rooms.extend(page.rooms.into_iter().map(|(room, ..)| room.to_string()));
        if !page.more {
            break;
        }
    }
    assert_eq!(rooms, ["r0", "r1", "r2", "r3", "r4"]);
}

/// Of concurrent creations of one room id, one succeeds. Clients cannot create direct rooms.
pub async fn a_room_is_made_once<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let mut peers = [world.peer("ann").await, world.peer("bob").await];
    let r = room("r");
    let making = peers.iter_mut().map(|peer| peer.create(&r, RoomKind::Group, false, &[]));
    let made = futures::future::join_all(making).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
    // The room is closed, so the refusal reveals only that the id cannot be used.
    assert_eq!(made.iter().filter(|made| **made == Err(Code::Forbidden)).count(), 1, "{made:?}");
    assert_eq!(
        peers[0].create(&room("d"), RoomKind::Direct, true, &[]).await.unwrap_err(),
        Code::Forbidden
    );
}
