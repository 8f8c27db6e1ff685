//! Credentials that expire: when other ones are fetched and shown, and what happens when that fails.
//!
//! Other credentials are due before those in use expire, whenever the server says when that is: in the welcome, and in
//! the reply to each `refresh`. A source that fails, or says nothing for too long, is asked again after a pause; so is
//! one whose credentials the server refuses. None of this ends a connection that stands.

use std::time::{Duration, Instant};

use im_core::wire::{CommandBody, Secret};
use im_core::{Code, CommandId, Timestamp};

use crate::config::Reconnect;

use super::backoff::Backoff;
use super::flight::Origin;
use super::{Cause, Machine, Output, Phase};

/// Other credentials are fetched so long before those in use expire, or half way if that is later.
const MARGIN: Duration = Duration::from_secs(60);

/// Credentials are never fetched sooner than this after the last ones, however soon they expire.
const LEAST: Duration = Duration::from_secs(1);

/// What is going on with the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing: they do not expire, or nothing can be done about it.
    Rest,
    /// Others are to be fetched then.
    Due(Instant),
    /// Others are being fetched, until then.
    Fetching(Instant),
    /// Others are being shown to the server.
    Shown(CommandId),
}

/// Fetching and showing credentials.
#[derive(Debug)]
pub(super) struct TokenRefresh {
    step: Step,
    /// Pauses between tries while a connection stands.
    backoff: Backoff,
    /// The clock on the wall showed this at that time. It says how long credentials last, and nothing else.
    wall: Option<(Instant, Timestamp)>,
}

impl TokenRefresh {
    pub(super) fn new(reconnect: Reconnect, seed: u64) -> Self {
        let policy = Reconnect { attempts: None, ..reconnect };
        Self { step: Step::Rest, backoff: Backoff::new(policy, seed), wall: None }
    }

    /// Plans for the time at which the credentials in use expire.
    fn plan(&mut self, now: Instant, expires: Option<Timestamp>) {
        let left = expires.zip(self.wall).map(|(expires, (at, wall))| {
            expires.since(wall).saturating_sub(now.saturating_duration_since(at))
        });
        // If they had expired already by this clock, it would be the clock that is wrong: the server took them.
        let left = left.filter(|left| !left.is_zero());
        let wait = left.map(|left| (left / 2).max(left.saturating_sub(MARGIN)).max(LEAST));
        self.step = wait.and_then(|wait| now.checked_add(wait)).map_or(Step::Rest, Step::Due);
    }

    /// The last try failed while a connection stands.
    fn failed(&mut self, now: Instant) {
        let pause = self.backoff.next(None).unwrap_or_default();
        self.step = Step::Due(now + pause.max(LEAST));
    }

    /// When [`Machine::refresh_time`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.step {
            Step::Due(at) | Step::Fetching(at) => Some(at),
            Step::Rest | Step::Shown(_) => None,
        }
    }

    /// The connection is gone, and what was planned for it. A source that was asked may still answer.
    pub(super) fn cut(&mut self) {
        if !matches!(self.step, Step::Fetching(_)) {
            self.step = Step::Rest;
        }
    }
}

impl Machine {
    /// The clock on the wall shows this. Call it when a connection stands, and when credentials were fetched: clocks are
    /// set, and machines sleep.
    pub(crate) fn on_clock(&mut self, now: Instant, wall: Timestamp) {
        self.refresh.wall = Some((now, wall));
    }

    /// The credentials that the server knows now expire then.
    pub(super) fn plan_refresh(&mut self, now: Instant, expires: Option<Timestamp>) {
        if self.identity.refreshable {
            self.refresh.plan(now, expires);
        }
    }

    /// Fetches other credentials before the next try to connect.
    pub(super) fn refresh(&mut self, now: Instant) {
        self.phase = Phase::Refreshing;
        // A source that is at it already need not begin again.
        if !matches!(self.refresh.step, Step::Fetching(_)) {
            self.fetch_token(now);
        }
    }

    fn fetch_token(&mut self, now: Instant) {
        self.refresh.step = Step::Fetching(now + self.config.token_timeout);
        self.outputs.push_back(Output::FetchToken);
    }

    /// Does what is due.
    pub(super) fn refresh_time(&mut self, now: Instant) {
        match self.refresh.step {
            Step::Due(at) if at <= now => self.fetch_token(now),
            Step::Fetching(until) if until <= now => {
                self.no_token(now, "the source of credentials did not answer in time");
            }
            _ => {}
        }
    }

    /// The credentials that were asked for, or why there are none this time. Also if they come late.
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
                // One that is refused at once is not to be fetched over and over.
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

    /// The server has taken credentials that the application or the client has shown with `token`.
    pub(super) fn on_refreshed(
        &mut self,
        now: Instant,
        token: &Secret,
        expires: Option<Timestamp>,
    ) {
        // A later call has shown others, and its reply counts.
        if self.identity.token.as_ref() == Some(token) {
            self.refresh.backoff.reset();
            self.plan_refresh(now, expires);
        }
    }

    /// The server has refused what the client has shown with the command `id`.
    pub(super) fn on_refresh_refused(&mut self, now: Instant, id: CommandId) {
        if self.refresh.step == Step::Shown(id) {
            self.refresh.failed(now);
        }
    }
}
