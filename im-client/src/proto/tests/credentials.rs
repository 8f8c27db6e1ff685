//! Credentials that expire, and sources of them that fail.

use super::*;
use crate::config::{Checkpoints, Reconnect};

/// The wall clock when a rig connects.
const WALL: Timestamp = Timestamp::from_millis(1_767_225_600_000);

fn config() -> Config {
    Config { checkpoints: Checkpoints::Manual, ..Config::default() }
}

fn identity(token: Option<&str>) -> Identity {
    Identity { token: token.map(Secret::new), refreshable: true, ..Identity::default() }
}

/// A rig that was welcomed with credentials that last this long.
fn welcome_for(lasting: Duration) -> Rig {
    let mut rig = Rig::with(config(), identity(Some("t1")), Saved::default());
    rig.machine.on_clock(rig.now, WALL);
    rig.machine.on_connected();
    let hello = rig.written().remove(0);
    let welcome = Welcome { expires: Some(WALL.plus(lasting)), ..welcome(false) };
    rig.reply(hello.id, &Reply::Welcome(Box::new(welcome)));
    rig.events();
    rig
}

impl Rig {
    fn token(&mut self, token: Result<&str, &str>) {
        let token = token.map(Secret::new).map_err(Into::into);
        self.machine.on_token(self.now, token);
        self.pump();
    }

    /// Advances the time until a fetch of credentials is due, and returns how long that took.
    fn until_fetched(&mut self) -> Duration {
        let (since, fetches) = (self.now, self.fetches);
        while self.fetches == fetches {
            let at = self.machine.deadline().expect("credentials to be fetched");
            self.pass(at - self.now);
            for command in self.written() {
                if command.body == CommandBody::Ping {
                    self.reply(command.id, &Reply::Pong(Timestamp::from_millis(1)));
                }
            }
        }
        self.now - since
    }

    /// Returns the written `refresh`, which must be the only command.
    fn refresh(&mut self) -> (CommandId, Secret) {
        let mut written = self.written();
        assert_eq!(names(&written), ["refresh"]);
        let command = written.remove(0);
        let CommandBody::Refresh { token } = command.body else { unreachable!() };
        (command.id, token)
    }
}

/// Each reply to `refresh` plans the next one: a connection outlives any number of tokens.
#[test]
fn credentials_are_refreshed_again_and_again() {
    let hour = Duration::from_secs(3600);
    let mut rig = welcome_for(hour);
    let start = rig.now;
    for n in 1..=5_u32 {
        rig.until_fetched();
        assert_eq!(rig.now - start, hour * n - Duration::from_secs(60), "a minute before the end");
        rig.token(Ok(&format!("t{}", n + 1)));
        let (id, token) = rig.refresh();
        assert_eq!(token.expose(), format!("t{}", n + 1));
        let expires = Some(WALL.plus(hour * (n + 1)));
        rig.reply(id, &Reply::Refreshed { expires });
    }
    assert_eq!((rig.disconnects, rig.connects), (0, 1));
}

#[test]
fn short_credentials_refresh_at_half_time() {
    let mut rig = welcome_for(Duration::from_secs(20));
    assert_eq!(rig.until_fetched(), Duration::from_secs(10));
}

/// A failing source or a refusing server is retried; the connection stays open.
#[test]
fn failed_refresh_is_tried_again_online() {
    let mut rig = welcome_for(Duration::from_secs(600));
    rig.until_fetched();
    rig.token(Err("the service is away"));
    assert!(rig.until_fetched() <= Duration::from_secs(1));
    rig.token(Ok("stale"));
    let (id, _) = rig.refresh();
    rig.refuse(id, Code::BadCredentials);
    assert!(rig.until_fetched() <= Duration::from_secs(1));
    rig.token(Ok("t3"));
    let (id, _) = rig.refresh();
    rig.reply(id, &Reply::Refreshed { expires: None });
    rig.pass(Duration::from_secs(29));
    assert_eq!((rig.fetches, rig.disconnects), (3, 0));
}

/// A source that never returns is called again after its time limit.
#[test]
fn silent_token_source_is_asked_again() {
    let mut rig = welcome_for(Duration::from_secs(600));
    rig.until_fetched();
    let waited = rig.until_fetched();
    let timeout = Config::default().token_timeout;
    assert!(waited >= timeout && waited <= timeout + Duration::from_secs(1), "{waited:?}");
    rig.token(Ok("t2"));
    assert_eq!(rig.refresh().1.expose(), "t2");
}

/// The reply to an overtaken call plans nothing.
#[test]
fn overtaken_refresh_does_not_plan() {
    let mut rig = welcome_for(Duration::from_secs(600));
    let refresh = |token| CommandBody::Refresh { token: Secret::new(token) };
    let first = rig.ask(refresh("a"));
    let second = rig.ask(refresh("b"));
    rig.written();
    rig.reply(second, &Reply::Refreshed { expires: Some(WALL.plus(Duration::from_secs(1200))) });
    rig.reply(first, &Reply::Refreshed { expires: Some(WALL.plus(Duration::from_secs(100))) });
    assert_eq!(rig.until_fetched(), Duration::from_secs(1140));
}

#[test]
fn source_is_asked_before_first_connection() {
    let mut rig = Rig::with(config(), identity(None), Saved::default());
    assert_eq!((rig.connects, rig.fetches), (0, 1));
    rig.token(Ok("t1"));
    rig.pass(Duration::from_secs(1));
    rig.machine.on_connected();
    let CommandBody::Hello(hello) = rig.written().remove(0).body else { panic!("hello first") };
    assert_eq!(hello.token, Some(Secret::new("t1")));
}

/// A source that fails between two connections delays the next one, but does not end the client.
#[test]
fn failed_source_delays_the_next_connection() {
    let mut rig = welcome_for(Duration::from_secs(600));
    rig.lost(Some(Code::Expired));
    assert_eq!(rig.fetches, 1);
    for fetches in 2..8 {
        rig.token(Err("the service is away"));
        assert!(!rig.machine.is_ended());
        rig.until_fetched();
        assert_eq!(rig.fetches, fetches);
    }
    rig.until_fetched();
    rig.token(Ok("new"));
    let until = rig.machine.deadline().unwrap();
    rig.pass(until - rig.now);
    assert_eq!(rig.connects, 2);
    rig.machine.on_connected();
    let CommandBody::Hello(hello) = rig.written().remove(0).body else { panic!("hello first") };
    assert_eq!(hello.token, Some(Secret::new("new")));
}

#[test]
fn failing_source_ends_after_attempts() {
    let reconnect = Reconnect::attempts(2);
    let mut rig = Rig::with(Config { reconnect, ..config() }, identity(None), Saved::default());
    for _ in 0..2 {
        rig.token(Err("away"));
        assert!(!rig.machine.is_ended());
        rig.until_fetched();
    }
    rig.token(Err("away"));
    assert!(rig.machine.is_ended());
}

/// A clock that is wrong costs a reconnection at most, never a flood of tries.
#[test]
fn wrong_clock_delays_fetch() {
    let mut rig = Rig::with(config(), identity(Some("t1")), Saved::default());
    rig.machine.on_clock(rig.now, WALL.plus(Duration::from_secs(86_400)));
    rig.machine.on_connected();
    let hello = rig.written().remove(0);
    let welcome = Welcome { expires: Some(WALL), ..welcome(false) };
    rig.reply(hello.id, &Reply::Welcome(Box::new(welcome)));
    rig.pass(Duration::from_secs(29));
    assert_eq!(rig.fetches, 0);
}
