//! Keyed state: the newest version wins on every engine.

use std::time::{SystemTime, UNIX_EPOCH};

use im_core::state::StateLimits;
use im_core::wire::{Content, Status};
use im_core::{Code, NodeId, Stamp, Timestamp};

use super::bystander::Bystander;
use super::*;

fn in_ms(ahead: i64) -> Stamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    Stamp { ms: Timestamp::from_millis((now + ahead) as u64), counter: 0, node: NodeId(1) }
}

/// The newest value is pushed to subscribers and is in the snapshot of new ones. State is not part
/// of the log.
pub async fn newest_state_reaches_new_subscribers<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    bob.subscribe(&r, None).await.unwrap();
    let first = ann.put_state(&r, "score", "1", None).await.unwrap();
    assert_eq!(bob.state().await.stamp, first);
    let second = ann.put_state(&r, "score", "2", None).await.unwrap();
    assert!(second > first);
    let update = bob.state().await;
    assert_eq!(
        (update.stamp, update.value.as_ref().map(Content::value)),
        (second, Some(says("2")))
    );
    let mut late = world.peer("bob").await;
    assert_eq!(late.subscribe(&r, None).await.unwrap().status, Status::Ok);
    let snapshot = late.snapshot().await;
    assert_eq!(snapshot.entries.len(), 1);
    assert_eq!((snapshot.entries[0].stamp, &snapshot.entries[0].from), (second, &user("ann")));
    assert_eq!(world.head(&r).await.seq, seq(1), "state is not in the log");
}

/// A version that is not newer is refused as stale on every engine and changes nothing.
pub async fn older_value_changes_nothing<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    bob.subscribe(&r, None).await.unwrap();
    let newer = in_ms(1_000);
    assert_eq!(ann.put_state(&r, "k", "new", Some(newer)).await, Ok(newer));
    // Wait until the update has reached the other engine, so that both refuse the same.
    assert_eq!(bob.state().await.stamp, newer);
    for peer in [&mut ann, &mut bob] {
        assert_eq!(peer.put_state(&r, "k", "same", Some(newer)).await.unwrap_err(), Code::Stale);
        assert_eq!(
            peer.put_state(&r, "k", "old", Some(in_ms(-60_000))).await.unwrap_err(),
            Code::Stale
        );
        assert_eq!(
            peer.remove_state(&r, "k", Some(in_ms(-60_000))).await.unwrap_err(),
            Code::Stale
        );
    }
    let latest = bob.put_state(&r, "k", "newest", None).await.unwrap();
    assert!(latest > newer, "a stamp of the server is newer than all stamps it has seen");
    assert_eq!(bob.state().await.stamp, latest);
    bystander.ends_untouched(&world).await;
}

/// A stamp a minute ahead of the server's clock is refused and does not affect later stamps.
pub async fn a_stamp_far_ahead_is_refused<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    assert_eq!(
        ann.put_state(&r, "k", "v", Some(in_ms(60_000))).await.unwrap_err(),
        Code::StampAhead
    );
    assert_eq!(ann.remove_state(&r, "k", Some(in_ms(60_000))).await.unwrap_err(), Code::StampAhead);
    ann.subscribe(&r, None).await.unwrap();
    let stamp = ann.put_state(&r, "k", "v", None).await.unwrap();
    assert!(stamp < in_ms(30_000));
    assert_eq!(ann.state().await.stamp, stamp);
    bystander.ends_untouched(&world).await;
}

/// A removed key is pushed without a value and refuses values older than the removal.
pub async fn removed_key_refuses_older_values<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    let set = ann.put_state(&r, "k", "v", None).await.unwrap();
    ann.subscribe(&r, None).await.unwrap();
    assert_eq!(ann.snapshot().await.entries.len(), 1);
    let unset = ann.remove_state(&r, "k", None).await.unwrap();
    let update = ann.state().await;
    assert!(update.stamp == unset && update.value.is_none());
    assert_eq!(ann.put_state(&r, "k", "again", Some(set)).await.unwrap_err(), Code::Stale);
}

/// Only members whose role may write can put state; non-members and readers are refused.
pub async fn only_members_write_state<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.room("r", im_core::wire::RoomKind::Channel, true, &["ann"]).await;
    let mut eve = world.peer("eve").await;
    assert_eq!(eve.put_state(&r, "k", "v", None).await.unwrap_err(), Code::Forbidden);
    eve.join(&r).await.unwrap();
    assert_eq!(eve.put_state(&r, "k", "v", None).await.unwrap_err(), Code::Forbidden);
    assert!(world.peer("ann").await.put_state(&r, "k", "v", None).await.is_ok());
}

/// A key or bytes over the room's limit are refused with 4508. Present keys may change, and a
/// removal frees its share.
pub async fn state_over_room_limit_is_refused<F: TransportFactory>(shape: Shape) {
    let mut limits = StateLimits::default();
    (limits.max_keys, limits.max_bytes) = (2, 300);
    let config = EngineConfig::default().state(limits);
    let world = World::<F>::with(shape, Setup { config, ..Setup::default() }).await;
    let bystander = Bystander::new(&world).await;
    let (few, large) = (world.group("few", &["ann"]).await, world.group("large", &["ann"]).await);
    // One connection, and so one engine: the limit is checked on the engine that writes.
    let mut ann = world.peer("ann").await;
    ann.subscribe(&few, None).await.unwrap();
    ann.subscribe(&large, None).await.unwrap();
    for key in ["a", "b"] {
        ann.put_state(&few, key, "v", None).await.unwrap();
        assert_eq!(ann.state().await.key, super::key(key));
    }
    assert_eq!(
        ann.put_state(&few, "c", "v", None).await.unwrap_err(),
        Code::TooMany,
        "a third key"
    );
    ann.put_state(&large, "a", &"x".repeat(200), None).await.unwrap();
    assert_eq!(ann.state().await.room, large);
    let more = ann.put_state(&large, "b", &"y".repeat(200), None).await;
    assert_eq!(more.unwrap_err(), Code::TooMany, "more bytes");
    // A present key may change, and a removed one frees its share.
    ann.put_state(&few, "a", "w", None).await.unwrap();
    ann.remove_state(&few, "b", None).await.unwrap();
    ann.put_state(&few, "c", "v", None).await.unwrap();
    let told = [ann.state().await, ann.state().await, ann.state().await];
    assert_eq!(told.map(|update| update.key.to_string()), ["a", "b", "c"]);
    bystander.ends_untouched(&world).await;
}

/// State survives a shutdown and restart of the engines.
pub async fn state_survives_clean_restart<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let stamp = world.peer("ann").await.put_state(&r, "k", "v", None).await.unwrap();
    let world = world.restart().await;
    let mut ann = world.peer("ann").await;
    ann.subscribe(&r, None).await.unwrap();
    let snapshot = ann.snapshot().await;
    assert_eq!(snapshot.entries.iter().map(|entry| entry.stamp).collect::<Vec<_>>(), [stamp]);
}
