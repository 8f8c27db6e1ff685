//! Credentials that expire: when new ones are fetched and sent, and what follows a failure.
//!
//! New credentials are due before the current ones expire, if the server announces that time: in
//! the welcome, and in the reply to each `refresh`. A source that fails or takes too long is called
//! again after a pause; so is one whose credentials the server refuses. None of this ends an open
//! connection.

use std::time::{Duration, Instant};

use im_core::wire::{CommandBody, Secret};
use im_core::{Code, CommandId, Timestamp};

use crate::config::Reconnect;

use super::backoff::Backoff;
use super::flight::Origin;
use super::{Cause, Machine, Output, Phase};

/// New credentials are fetched this long before the current ones expire, or half way if that is
/// later.
const MARGIN: Duration = Duration::from_secs(60);

/// Least time between two fetches of credentials, however soon they expire.
const LEAST: Duration = Duration::from_secs(1);

/// The state of the refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing is planned: the credentials do not expire, or there is no source.
    Rest,
    /// A fetch is due at this time.
    Due(Instant),
    /// A fetch is in progress, until this time at most.
    Fetching(Instant),
    /// New credentials were sent to the server with this command.
    Shown(CommandId),
}

/// Fetching and sending credentials.
#[derive(Debug)]
pub(super) struct TokenRefresh {
    step: Step,
    /// Pauses between tries while the connection is open.
    backoff: Backoff,
    /// A wall clock reading and its instant. Used only to compute how long credentials last.
    wall: Option<(Instant, Timestamp)>,
}

impl TokenRefresh {
    pub(super) fn new(reconnect: Reconnect, seed: u64) -> Self {
        let policy = Reconnect { attempts: None, ..reconnect };
        Self { step: Step::Rest, backoff: Backoff::new(policy, seed), wall: None }
    }

    /// Plans the next fetch by the time at which the current credentials expire.
    fn plan(&mut self, now: Instant, expires: Option<Timestamp>) {
        let left = expires.zip(self.wall).map(|(expires, (at, wall))| {
            expires.since(wall).saturating_sub(now.saturating_duration_since(at))
        });
        // Credentials that have expired by this clock mean that the clock is wrong: the server
        // accepted them.
        let left = left.filter(|left| !left.is_zero());
        let wait = left.map(|left| (left / 2).max(left.saturating_sub(MARGIN)).max(LEAST));
        self.step = wait.and_then(|wait| now.checked_add(wait)).map_or(Step::Rest, Step::Due);
    }

    /// Records that a try failed while the connection is open.
    fn failed(&mut self, now: Instant) {
        let pause = self.backoff.next(None).unwrap_or_default();
        self.step = Step::Due(now + pause.max(LEAST));
    }

    /// Returns the time of the next call of [`Machine::refresh_time`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.step {
            Step::Due(at) | Step::Fetching(at) => Some(at),
            Step::Rest | Step::Shown(_) => None,
        }
    }

    /// Drops what was planned for the connection, which has ended. A source in progress may still
    /// answer.
    pub(super) fn cut(&mut self) {
        if !matches!(self.step, Step::Fetching(_)) {
            self.step = Step::Rest;
        }
    }
}

impl Machine {
    /// Sets the wall clock. To be called when a connection is open and when credentials were
    /// fetched: clocks are adjusted, and machines sleep.
    pub(crate) fn on_clock(&mut self, now: Instant, wall: Timestamp) {
        self.refresh.wall = Some((now, wall));
    }

    /// Plans the refresh for credentials that the server knows and that expire then.
    pub(super) fn plan_refresh(&mut self, now: Instant, expires: Option<Timestamp>) {
        if self.identity.refreshable {
            self.refresh.plan(now, expires);
        }
    }

    /// Fetches new credentials before the next try to connect.
    pub(super) fn refresh(&mut self, now: Instant) {
        self.phase = Phase::Refreshing;
        // A fetch in progress is awaited.
        if !matches!(self.refresh.step, Step::Fetching(_)) {
            self.fetch_token(now);
        }
    }

    fn fetch_token(&mut self, now: Instant) {
        self.refresh.step = Step::Fetching(now + self.config.token_timeout);
        self.outputs.push_back(Output::FetchToken);
    }

    /// Carries out what is due.
    pub(super) fn refresh_time(&mut self, now: Instant) {
        match self.refresh.step {
            Step::Due(at) if at <= now => self.fetch_token(now),
            Step::Fetching(until) if until <= now => {
                self.no_token(now, "the token source timed out");
            }
            _ => {}
        }
    }

    /// Handles the result of a fetch, or the reason for its failure. It may be late.
    pub(crate) fn on_token(&mut self, now: Instant, token: Result<Secret, String>) {
        let token = match token {
            Ok(token) => token,
            Err(why) => return self.no_token(now, &why),
        };
        self.identity.token = Some(token.clone());
        match self.phase {
            Phase::Online(_) => {
                let id = self.flight.push(CommandBody::Refresh { token }, Origin::Refresh);
                self.refresh.step = Step::Shown(id);
                self.flush(now);
            }
            Phase::Refreshing => {
                self.refresh.step = Step::Rest;
                // A token that is refused at once must not be fetched in a loop.
                match self.backoff.next(None) {
                    Some(pause) => self.phase = Phase::Waiting { until: now + pause },
                    None => self.end(Cause::of(Code::BadCredentials)),
                }
            }
            _ => self.refresh.step = Step::Rest,
        }
    }

    fn no_token(&mut self, now: Instant, why: &str) {
        match self.phase {
            Phase::Online(_) => self.refresh.failed(now),
            Phase::Refreshing => {
                let message = format!("no credentials: {why}");
                match self.backoff.next(None) {
                    Some(pause) => {
                        self.refresh.step = Step::Due(now + pause);
                        self.notify_disconnected(Cause::new(None, message), Some(pause));
                    }
                    None => self.end(Cause::new(Some(Code::Unauthenticated.number()), message)),
                }
            }
            _ => self.refresh.step = Step::Rest,
        }
    }

    /// The server accepted credentials that the application or the client sent with `token`.
    pub(super) fn on_refreshed(
        &mut self,
        now: Instant,
        token: &Secret,
        expires: Option<Timestamp>,
    ) {
        // If a later call has sent other credentials, the reply to that one counts.
        if self.identity.token.as_ref() == Some(token) {
            self.refresh.backoff.reset();
            self.plan_refresh(now, expires);
        }
    }

    /// The server refused the credentials that the client sent with the command `id`.
    pub(super) fn on_refresh_refused(&mut self, now: Instant, id: CommandId) {
        if self.refresh.step == Step::Shown(id) {
            self.refresh.failed(now);
        }
    }
}
