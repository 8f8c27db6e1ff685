//! Two engines on one store. These cases run in [`Shape::Two`] only.

use std::sync::Arc;
use std::time::Duration;

use im_core::wire::{CommandBody, MemberAct, Push, Snapshot, Status, Target};
use im_core::{Code, Cursor, Seq, UserId};

use super::upkeep::{last, reads_on};
use super::*;

/// All hints are lost; only the periodic comparison with the store finds changes.
fn deaf() -> Setup {
    Setup {
        config: EngineConfig::default()
            .head_check(Duration::from_millis(50))
            .session_check(Duration::from_millis(50))
            .state_delay(Duration::from_millis(10)),
        bus_loses: Arc::new(|_| true),
        ..Setup::default()
    }
}

/// Events of the other engine are found by the head check when their hints are lost.
pub async fn quiet_room_recovers_lost_hint<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, deaf()).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.nth_peer(0, "ann").await, world.nth_peer(1, "bob").await);
    ann.subscribe(&r, None).await.unwrap();
    bob.subscribe(&r, None).await.unwrap();
    bob.say(&r, "can you hear me?").await.unwrap();
    assert_eq!(ann.heard().await, "can you hear me?");
    ann.say(&r, "yes").await.unwrap();
    assert_eq!(ann.heard().await, "yes");
    assert_eq!(bob.heard().await, "can you hear me?");
    assert_eq!(bob.heard().await, "yes");
}

/// State of the other engine is found when its hint is lost.
pub async fn a_lost_state_hint_is_found<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, deaf()).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.nth_peer(0, "ann").await, world.nth_peer(1, "bob").await);
    ann.subscribe(&r, None).await.unwrap();
    let stamp = bob.put_state(&r, "k", "v", None).await.unwrap();
    // A snapshot may replace the update: the engines have just discovered each other.
    let update = match ann.push().await {
        Push::State(update) => update,
        Push::Snapshot(Snapshot { mut entries, .. }) if entries.len() == 1 => entries.remove(0),
        other => panic!("state was expected, not {other:?}"),
    };
    assert_eq!((update.stamp, &update.from), (stamp, &user("bob")));
}

/// With every other hint lost, all events are delivered in order.
pub async fn every_other_hint_lost_loses_nothing<F: TransportFactory>(shape: Shape) {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let every_other =
        move |_: &_| count.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(2);
    let setup = Setup { bus_loses: Arc::new(every_other), ..deaf() };
    let world = World::<F>::with(shape, setup).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.nth_peer(0, "ann").await, world.nth_peer(1, "bob").await);
    ann.subscribe(&r, None).await.unwrap();
    for n in 0..50 {
        bob.say(&r, &n.to_string()).await.unwrap();
    }
    for n in 0..50 {
        assert_eq!(ann.heard().await, n.to_string());
    }
}

/// Ephemeral messages and kicks reach connections on the other engine.
pub async fn signals_kicks_and_removals_cross_over<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.nth_peer(0, "ann").await, world.nth_peer(1, "bob").await);
    bob.subscribe(&r, None).await.unwrap();
    ann.signal(Target::Room(r.clone()), "typing").await.unwrap();
    assert_eq!(bob.signalled().await.from, user("ann"));
    let mut second = world.nth_peer(0, "bob").await;
    let session = bob.token().session;
    second.ask(CommandBody::Kick { session }).await.unwrap();
    bob.ended_with(Code::Kicked).await;
}

/// A session resumes on either engine in turn, with its checkpoint, and loses no event.
pub async fn session_moves_between_engines<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut peer = world.nth_peer(0, "ann").await;
    let start = peer.subscribe(&r, None).await.unwrap().cursor.unwrap();
    let (token, mut rev) = (peer.token(), None);
    let mut cursor = start;
    for n in 1..=4 {
        peer.cut();
        peer = world.dial_by(world.nth(n)).await;
        assert!(peer.hello(hello_again("ann", token.clone())).await.unwrap().resumed);
        let (statuses, new) = peer.resume(vec![(r.clone(), cursor)], rev).await.unwrap();
        assert_eq!(statuses.len(), 1);
        rev = Some(new);
        peer.say(&r, &n.to_string()).await.unwrap();
        assert_eq!(peer.heard().await, n.to_string());
        cursor.seq = cursor.seq.next();
    }
}

/// A session that was ended on the other engine is disconnected when the hint is lost.
pub async fn a_lost_kick_is_found<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, deaf()).await;
    let (mut here, mut there) = (world.nth_peer(0, "ann").await, world.nth_peer(1, "ann").await);
    let session = there.token().session;
    here.ask(CommandBody::Kick { session }).await.unwrap();
    there.ended_with(Code::Kicked).await;
    assert_eq!(here.ping().await, Ok(()));
}

/// A session that was resumed on the other engine is disconnected when the hint is lost.
pub async fn a_lost_takeover_is_found<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, deaf()).await;
    let mut older = world.nth_peer(0, "ann").await;
    let mut newer = world.dial_by(world.nth(1)).await;
    assert!(newer.hello(hello_again("ann", older.token())).await.unwrap().resumed);
    older.ended_with(Code::Superseded).await;
    assert_eq!(newer.ping().await, Ok(()));
}

/// A room that was deleted on the other engine is denied when the hint is lost.
pub async fn a_lost_deletion_is_found<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, deaf()).await;
    let r = world.group("r", &["bob"]).await;
    let mut bob = world.nth_peer(1, "bob").await;
    bob.subscribe(&r, None).await.unwrap();
    world.engine().delete_room(&r).await.unwrap();
    let status = bob.status().await;
    assert_eq!((&status.room, status.status), (&r, Status::Denied));
}

/// A user erased on the other engine is disconnected, and leaves the windows, when the hint is
/// lost.
pub async fn a_lost_erasure_is_found<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, deaf()).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.nth_peer(1, "ann").await, world.nth_peer(1, "bob").await);
    ann.subscribe(&r, None).await.unwrap();
    bob.say(&r, "a secret").await.unwrap();
    assert_eq!(ann.heard().await, "a secret");
    world.engine().erase_user(&user("bob")).await.unwrap();
    bob.ended_with(Code::Kicked).await;
    assert_eq!(ann.event().await.from, UserId::erased());
    let begin = Cursor { seq: Seq::ZERO, ..world.head(&r).await };
    // Until the comparison, the window of that engine may still have the event.
    loop {
        let mut again = world.nth_peer(1, "ann").await;
        again.subscribe(&r, Some(begin)).await.unwrap();
        again.event().await;
        if again.event().await.from == UserId::erased() {
            break;
        }
    }
}

/// A subscriber whose removal was trimmed gets the status `denied` and no more events.
pub async fn trimmed_removal_still_stops_reading<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, deaf()).await;
    let r = world.group("r", &["ann", "bob", "eve"]).await;
    let (mut ann, mut bob) = (world.nth_peer(0, "ann").await, world.nth_peer(1, "bob").await);
    let mut eve = world.nth_peer(1, "eve").await;
    bob.subscribe(&r, None).await.unwrap();
    eve.subscribe(&r, None).await.unwrap();
    let removal = ann.member(&r, "bob", MemberAct::Remove).await.unwrap();
    for n in 0..5 {
        ann.say(&r, &format!("behind bob's back {n}")).await.unwrap();
    }
    world.engine().trim_room(&r, &last(2)).await.unwrap();
    loop {
        match bob.push().await {
            Push::Event(event) => assert!(event.seq <= removal.seq, "beyond the removal"),
            Push::Room(status) => {
                assert_eq!((&status.room, status.status), (&r, Status::Denied));
                break;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    reads_on(&mut eve, &r, seq(1), seq(7)).await;
}
