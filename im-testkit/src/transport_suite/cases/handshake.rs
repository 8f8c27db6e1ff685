//! Handshake: `hello`, credentials, time-outs, bounds on connections, resumed sessions.

use std::sync::Arc;
use std::time::Duration;

use im_core::ports::{Identity, ManualClock, StaticTokens};
use im_core::wire::{CommandBody, Hello, Reply, ResumeToken, Secret};
use im_core::{Code, DeviceId, Timestamp};

use super::bystander::Bystander;
use super::*;

const TICK: Duration = Duration::from_millis(10);

fn tokens() -> Setup {
    let expired =
        Identity { expires: Some(Timestamp::from_millis(1)), ..Identity::of(user("old")) };
    let known = StaticTokens::new()
        .with("token-of-ann", Identity::of(user("ann")))
        .with("token-of-bob", Identity::of(user("bob")))
        .with("token-of-old", expired);
    Setup { authenticator: Arc::new(known), ..Setup::default() }
}

/// `hello` opens a session with the claimed user and device, a secret and the limits.
pub async fn hello_is_welcomed<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let mut peer = world.dial().await;
    let welcome = peer.hello(hello_on("ann", "phone")).await.unwrap();
    assert_eq!(welcome.user, user("ann"));
    assert_eq!(welcome.device, DeviceId::new("phone").unwrap());
    assert!(!welcome.resumed && welcome.expires.is_none());
    assert!(welcome.secret.expose().len() >= 22, "128 bits or more");
    assert!(welcome.limits.message_bytes > 0 && welcome.limits.batch > 0);
    assert_eq!(peer.ping().await, Ok(()));
}

/// A command before `hello` is refused with 4509 and closes the connection.
pub async fn anything_before_hello_closes<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let mut peer = world.dial().await;
    let id = peer.begin(CommandBody::Ping).await;
    assert_eq!(peer.code(id).await, Code::OutOfOrder);
    peer.ended_with(Code::OutOfOrder).await;
    bystander.ends_untouched(&world).await;
}

/// A second `hello` is refused with 4509; the connection stays open.
pub async fn second_hello_is_refused_without_closing<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let mut peer = world.peer("ann").await;
    assert_eq!(peer.hello(hello_as("bob")).await.unwrap_err(), Code::OutOfOrder);
    assert_eq!(peer.ping().await, Ok(()));
}

/// An unknown protocol version is refused with 4505 and closes the connection.
pub async fn another_version_is_refused<F: TransportFactory>(shape: Shape) {
    refused::<F>(
        shape,
        Setup::default(),
        Hello { version: 99, ..hello_as("ann") },
        Code::WrongVersion,
    )
    .await;
}

/// A `hello` without a token is refused with 4300 where tokens are required.
pub async fn no_credentials_are_refused<F: TransportFactory>(shape: Shape) {
    refused::<F>(shape, tokens(), hello_as("ann"), Code::Unauthenticated).await;
}

/// An unknown token is refused with 4301.
pub async fn wrong_credentials_are_refused<F: TransportFactory>(shape: Shape) {
    refused::<F>(shape, tokens(), hello_with_token("guess"), Code::BadCredentials).await;
}

/// An expired token is refused with 4302.
pub async fn expired_credentials_are_refused<F: TransportFactory>(shape: Shape) {
    refused::<F>(shape, tokens(), hello_with_token("token-of-old"), Code::Expired).await;
}

/// Checks that `hello` is refused with `code`, that the connection closes with it, and that another
/// connection is unaffected.
async fn refused<F: TransportFactory>(shape: Shape, setup: Setup, hello: Hello, code: Code) {
    let world = World::<F>::with(shape, setup).await;
    let mut other = world.dial().await;
    let known = Hello { token: Some(Secret::new("token-of-bob")), ..hello_as("bob") };
    other.hello(known).await.unwrap();
    let mut peer = world.dial().await;
    assert_eq!(peer.hello(hello).await.unwrap_err(), code);
    peer.ended_with(code).await;
    assert_eq!(other.ping().await, Ok(()));
}

/// A token in `hello` authenticates the connection.
pub async fn credentials_may_come_in_hello<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, tokens()).await;
    let mut peer = world.dial().await;
    assert_eq!(peer.hello(hello_with_token("token-of-ann")).await.unwrap().user, user("ann"));
}

/// A token in the transport's own handshake, such as a header, authenticates `hello`.
pub async fn credentials_may_come_with_the_connection<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, tokens()).await;
    let mut peer = world.dial_with_token("token-of-ann").await;
    let bare = Hello { user: None, ..hello_as("nobody") };
    assert_eq!(peer.hello(bare).await.unwrap().user, user("ann"));
}

/// The token decides the user; a different user claimed in `hello` is ignored.
pub async fn claimed_user_proves_nothing<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::with(shape, tokens()).await;
    let mut peer = world.dial().await;
    let hello = Hello { user: Some(user("bob")), ..hello_with_token("token-of-ann") };
    assert_eq!(peer.hello(hello).await.unwrap().user, user("ann"));
}

/// A connection closes with 4302 when its credentials expire, unless `refresh` renewed them. A
/// `refresh` with the token of another user is refused.
pub async fn expired_credentials_close_unless_refreshed<F: TransportFactory>(shape: Shape) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000)));
    let until =
        |ms| Identity { expires: Some(Timestamp::from_millis(ms)), ..Identity::of(user("ann")) };
    let known = StaticTokens::new()
        .with("short", until(2_000))
        .with("long", until(9_000))
        .with("token-of-bob", Identity::of(user("bob")));
    let setup = Setup {
        authenticator: Arc::new(known),
        clock: clock.clone(),
        config: EngineConfig::default().tick(TICK),
        ..Setup::default()
    };
    let world = World::<F>::with(shape, setup).await;
    let mut lax = world.dial().await;
    let welcome = lax.hello(hello_with_token("short")).await.unwrap();
    assert_eq!(welcome.expires, Some(Timestamp::from_millis(2_000)));
    let mut careful = world.dial().await;
    careful.hello(hello_with_token("short")).await.unwrap();
    let refresh = |token| CommandBody::Refresh { token: Secret::new(token) };
    assert_eq!(careful.ask(refresh("token-of-bob")).await.unwrap_err(), Code::BadCredentials);
    let expires = Some(Timestamp::from_millis(9_000));
    let renewed = careful.ask(refresh("long")).await.unwrap();
    assert_eq!(Reply::refreshed_from_value(renewed), Ok(Reply::Refreshed { expires }));
    clock.set(Timestamp::from_millis(2_500));
    lax.ended_with(Code::Expired).await;
    assert_eq!(careful.ping().await, Ok(()));
}

/// A connection without `hello` closes with 4510 after the handshake time-out.
pub async fn a_silent_handshake_is_closed<F: TransportFactory>(shape: Shape) {
    let config = EngineConfig::default().handshake_timeout(Duration::from_secs(1)).tick(TICK);
    let world = World::<F>::with(shape, Setup { config, ..Setup::default() }).await;
    let bystander = Bystander::new(&world).await;
    let mut silent = world.dial().await;
    silent.ended_with(Code::HandshakeTimeout).await;
    bystander.ends_untouched(&world).await;
}

/// A silent connection is disconnected after the idle time-out; a busy one stays open.
pub async fn silent_connection_is_disconnected<F: TransportFactory>(shape: Shape) {
    let config = EngineConfig::default().idle_timeout(Duration::from_secs(1)).tick(TICK);
    let world = World::<F>::with(shape, Setup { config, ..Setup::default() }).await;
    let mut silent = world.peer("ann").await;
    let mut lively = world.peer("bob").await;
    let talk = async {
        loop {
            assert_eq!(lively.ping().await, Ok(()));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = silent.ended() => assert_eq!(ended.code, Some(Code::IdleTimeout.number())),
        () = talk => {}
    }
    assert_eq!(lively.ping().await, Ok(()));
}

/// A connection over the bound per user is refused with 4204; other users are unaffected.
pub async fn connections_per_user_are_bounded<F: TransportFactory>(shape: Shape) {
    let config = EngineConfig::default().max_connections_per_user(2);
    let world = World::<F>::with(shape, Setup { config, ..Setup::default() }).await;
    let place = world.nth(0);
    let mut first = world.dial_by(place.clone()).await;
    first.welcome_as("ann").await;
    let mut second = world.dial_by(place.clone()).await;
    second.welcome_as("ann").await;
    let mut third = world.dial_by(place.clone()).await;
    assert_eq!(third.hello(hello_as("ann")).await.unwrap_err(), Code::TooManyConnections);
    third.ended_with(Code::TooManyConnections).await;
    let mut other = world.dial_by(place).await;
    other.welcome_as("bob").await;
    assert_eq!((first.ping().await, second.ping().await), (Ok(()), Ok(())));
}

/// A connection over the engine's bound is refused with 4204 until another one closes.
pub async fn connections_are_bounded<F: TransportFactory>(shape: Shape) {
    let config = EngineConfig::default().max_connections(3);
    let world = World::<F>::with(shape, Setup { config, ..Setup::default() }).await;
    let bystander = Bystander::new(&world).await;
    let place = world.nth(0);
    let mut others = Vec::new();
    for name in ["ann", "bob"] {
        let mut peer = world.dial_by(place.clone()).await;
        peer.welcome_as(name).await;
        others.push(peer);
    }
    // The refusal precedes `hello`, so each transport reports it in its own way.
    match world.try_dial(place.clone()).await {
        Err(refused) => assert_eq!(refused.code, Some(Code::TooManyConnections.number())),
        Ok(mut peer) => peer.ended_with(Code::TooManyConnections).await,
    }
    for peer in &mut others {
        assert_eq!(peer.ping().await, Ok(()));
    }
    // A cut connection frees its permit.
    others.remove(0).cut();
    let gone = async {
        while world.engine().connections() > 2 {
            tokio::task::yield_now().await;
        }
    };
    super::super::peer::soon(gone).await;
    world.dial_by(place).await.welcome_as("eve").await;
    bystander.ends_untouched(&world).await;
}

/// A connection that resumes a session disconnects the older one as superseded.
pub async fn resumed_session_supersedes_older_connection<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let mut older = world.peer("ann").await;
    let token = older.token();
    let mut newer = world.dial().await;
    let welcome = newer.hello(hello_again("ann", token.clone())).await.unwrap();
    assert!(welcome.resumed);
    assert_eq!(welcome.session, token.session);
    older.ended_with(Code::Superseded).await;
    assert_eq!(newer.ping().await, Ok(()));
}

/// Another user, or a wrong secret, cannot resume a session; the connection may still open a new
/// one.
pub async fn session_is_bound_to_its_user<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let ann = world.peer("ann").await;
    let token = ann.token();
    let wrong = ResumeToken { secret: Secret::new("x".repeat(32)), ..token.clone() };
    for hello in [hello_again("bob", token), hello_again("ann", wrong)] {
        let mut peer = world.dial().await;
        assert_eq!(peer.hello(hello).await.unwrap_err(), Code::UnknownSession);
        // The refusal does not close the connection.
        assert!(!peer.hello(hello_as("bob")).await.unwrap().resumed);
    }
}
