//! Sessions: several devices, ending sessions, draining a server.

use std::time::Duration;

use im_core::wire::CommandBody;
use im_core::{Code, DeviceId};

use super::*;

/// A device sees all sessions of its user and can end one; the ended session cannot be resumed.
pub async fn listed_device_can_end_another<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let (mut phone, mut laptop) = (world.dial().await, world.dial().await);
    phone.hello(hello_on("ann", "phone")).await.unwrap();
    laptop.hello(hello_on("ann", "laptop")).await.unwrap();
    let sessions = phone.sessions().await;
    let mut devices: Vec<DeviceId> = sessions.iter().map(|entry| entry.device.clone()).collect();
    devices.sort();
    assert_eq!(devices, ["laptop", "phone"].map(|name| DeviceId::new(name).unwrap()));
    let token = laptop.token();
    phone.ask(CommandBody::Kick { session: token.session.clone() }).await.unwrap();
    laptop.ended_with(Code::Kicked).await;
    assert_eq!(phone.sessions().await.len(), 1);
    let mut again = world.dial().await;
    assert_eq!(again.hello(hello_again("ann", token)).await.unwrap_err(), Code::UnknownSession);
}

/// A session of another user cannot be ended: the answer is 4520, as for an unknown one.
pub async fn foreign_session_cannot_be_ended<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let (mut ann, mut eve) = (world.peer("ann").await, world.peer("eve").await);
    let session = ann.token().session;
    assert_eq!(eve.ask(CommandBody::Kick { session }).await.unwrap_err(), Code::NotFound);
    assert_eq!(ann.ping().await, Ok(()));
}

/// After `logout` the connection closes and the session cannot be resumed.
pub async fn logout_ends_session_for_good<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let mut ann = world.peer("ann").await;
    let token = ann.token();
    ann.ask(CommandBody::Logout).await.unwrap();
    ann.ended_with(Code::LoggedOut).await;
    let mut again = world.dial().await;
    assert_eq!(again.hello(hello_again("ann", token)).await.unwrap_err(), Code::UnknownSession);
}

/// The service disconnects all sessions of a user; other users stay connected.
pub async fn service_ends_all_sessions_of_user<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let (mut first, mut second, mut other) =
        (world.peer("ann").await, world.peer("ann").await, world.peer("bob").await);
    world.engine().kick(&user("ann"), None, Code::Kicked).await.unwrap();
    first.ended_with(Code::Kicked).await;
    second.ended_with(Code::Kicked).await;
    assert_eq!(other.ping().await, Ok(()));
}

/// A draining server disconnects with 4001 and a retry delay, loses no message, and accepts no new
/// connection.
pub async fn draining_server_sends_retry_delay<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.nth_peer(0, "ann").await;
    ann.subscribe(&r, None).await.unwrap();
    ann.say(&r, "last words").await.unwrap();
    let engine = world.engine().clone();
    let draining = engine.drain(Duration::from_secs(5));
    let leaving = async {
        let ended = ann.ended().await;
        assert_eq!(ended.code, Some(Code::Draining.number()));
        assert!(
            ended.disconnect.is_some_and(|disconnect| disconnect.retry_after.is_some()),
            "the disconnect has a retry delay"
        );
        drop(ann);
    };
    futures::future::join(draining, leaving).await;
    assert_eq!(world.said(&r).await.len(), 1);
    // New connections are refused, in whatever way the transport reports it.
    match world.try_dial(world.nth(0)).await {
        Err(refused) => assert!(refused.code.is_none_or(|code| code == Code::Draining.number())),
        Ok(mut peer) => peer.ended_with(Code::Draining).await,
    }
}

/// Of connections that resume one session concurrently, exactly one keeps it.
pub async fn concurrent_resumes_leave_one_connection<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(
        shape,
        Setup {
            config: EngineConfig::default().session_check(Duration::from_millis(50)),
            ..Setup::default()
        },
    )
    .await;
    let token = world.peer("ann").await.token();
    let take = |n| {
        let (world, token) = (&world, token.clone());
        async move {
            let mut peer = world.dial_by(world.nth(n)).await;
            if let Err(code) = peer.hello(hello_again("ann", token)).await {
                assert_eq!(code, Code::Superseded);
            }
            peer
        }
    };
    let mut peers = futures::future::join_all((0..8).map(take)).await;
    while peers.len() > 1 {
        let ends = peers.iter_mut().map(|peer| Box::pin(peer.ended_with(Code::Superseded)));
        let (_, ended, _) = futures::future::select_all(ends).await;
        peers.remove(ended);
    }
    assert_eq!(peers[0].ping().await, Ok(()), "the remaining connection owns the session");
}

/// A session over the bound per user ends the one that was unused for longest.
pub async fn excess_session_ends_longest_unused<F: TransportFactory>(shape: Shape) {
    let config = EngineConfig::default().max_sessions_per_user(2);
    let world = World::<F>::with(shape, Setup { config, ..Setup::default() }).await;
    let mut left = world.nth_peer(0, "ann").await;
    let gone = left.token();
    left.cut();
    let kept = world.nth_peer(0, "ann").await;
    let mut third = world.nth_peer(0, "ann").await;
    let mut sessions: Vec<_> =
        third.sessions().await.into_iter().map(|entry| entry.session).collect();
    let mut expected = vec![kept.token().session, third.token().session];
    sessions.sort();
    expected.sort();
    assert_eq!(sessions, expected);
    let mut again = world.dial().await;
    assert_eq!(again.hello(hello_again("ann", gone)).await.unwrap_err(), Code::UnknownSession);
}
