//! The client without any I/O: input events in, actions out.
//!
//! A shell calls the `on_…` methods with what happened and when, reads [`Machine::output`] until
//! there is none, delivers [`Machine::event`]s as the application reads them, and calls
//! [`Machine::on_time`] at [`Machine::deadline`]. Nothing here waits, sleeps or reads a clock, so
//! that tests need no network.
//!
//! | module | what it does |
//! |---|---|
//! | `online` | an open connection: frames in, commands out |
//! | `flush` | writing what is ready |
//! | `heartbeat` | timers of an open connection |
//! | `pace` | how many bytes of commands may be in flight |
//! | `flight` | commands until they are answered, across connections |
//! | `rooms`, `room` | cursors, gaps, checkpoints |
//! | `pending_requests` | which command decides about a room |
//! | `cursors` | cursors of many rooms in frames of bounded size |
//! | `calls` | calls of the application |
//! | `credentials` | fetching and sending credentials in time |
//! | `latest` | latest-wins state |
//! | `backoff` | when to reconnect |
//! | `reply` | parsing answers |

mod backoff;
mod calls;
mod credentials;
mod cursors;
mod flight;
mod flush;
mod heartbeat;
mod latest;
mod online;
mod pace;
mod pending_requests;
mod reply;
mod room;
mod rooms;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::scenarios::scenarios;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use im_core::code::{Advice, advice};
use im_core::wire::{
    CommandBody, Encoding, Hello, Limits, Reply, ResumeToken, Secret, ServerLimits, VERSION,
};
use im_core::{Code, CommandId, Cursor, DeviceId, RoomId, UserId};

use crate::config::Config;
use crate::error::Error;
use crate::event::ClientEvent;

use backoff::Backoff;
use calls::Outcome;
use credentials::TokenRefresh;
use flight::{Flight, Origin, Pending};
use rooms::Rooms;

/// The client's identity and credentials.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    pub(crate) token: Option<Secret>,
    /// Whether the shell can fetch another token if this one is refused.
    pub(crate) refreshable: bool,
    pub(crate) user: Option<UserId>,
    pub(crate) device: Option<DeviceId>,
    pub(crate) name: Option<Arc<str>>,
}

/// What a client needs to resume where an earlier one stopped, also in another process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// The session.
    pub session: Option<ResumeToken>,
    /// The subscribed rooms and their cursors.
    pub cursors: Vec<(RoomId, Cursor)>,
}

/// An action for the shell.
#[derive(Debug)]
pub(crate) enum Output {
    /// Open a connection.
    Connect,
    /// Write this message.
    Transmit(Bytes),
    /// Write what is left, then close the connection.
    Disconnect,
    /// Fetch a new token.
    FetchToken,
    /// Return the answer to a command of the application.
    Reply(CommandId, Result<Reply, Error>),
}

/// Why a connection ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cause {
    pub(crate) code: Option<u16>,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

impl Cause {
    pub(crate) fn new(code: Option<u16>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    fn of(code: Code) -> Self {
        Self::new(Some(code.number()), code.meaning())
    }

    fn advice(&self) -> Option<Advice> {
        // Only close codes from 4000 to 4999 are ours and have an advice.
        self.code.filter(|code| (4000..5000).contains(code)).map(advice)
    }

    /// Whether the client's own messages are the cause, so that a retry would fail again. A
    /// greeting that came too late is excepted: it may be faster the next time.
    fn is_our_fault(&self) -> bool {
        self.advice() == Some(Advice::Fix) && self.code != Some(Code::HandshakeTimeout.number())
    }
}

#[derive(Debug)]
enum Phase {
    /// Not started.
    Idle,
    /// A connection is being opened.
    Connecting { until: Instant },
    /// The greeting was written; the welcome is awaited.
    Greeting { until: Instant },
    /// The server has welcomed the client.
    Online(Online),
    /// The next try is due at this time.
    Waiting { until: Instant },
    /// The next try needs other credentials.
    Refreshing,
    /// The client has ended.
    Ended(Cause),
}

#[derive(Debug)]
struct Online {
    since: Instant,
    /// The server expects a frame at least this often.
    idle: Duration,
    heard: Instant,
    written: Instant,
    /// Until when a heartbeat must be answered, if nothing was received since it was written.
    ping_until: Option<Instant>,
}

/// The client as a state machine.
#[derive(Debug)]
pub(crate) struct Machine {
    config: Config,
    encoding: Encoding,
    identity: Identity,
    session: Option<ResumeToken>,
    limits: ServerLimits,
    phase: Phase,
    flight: Flight,
    rooms: Rooms,
    /// The unanswered checkpoint.
    checkpoint: Option<CommandId>,
    backoff: Backoff,
    refresh: TokenRefresh,
    outputs: VecDeque<Output>,
    events: VecDeque<ClientEvent>,
}

impl Machine {
    /// `seed` determines the random pauses between tries.
    pub(crate) fn new(
        config: Config,
        encoding: Encoding,
        identity: Identity,
        saved: Saved,
        seed: u64,
    ) -> Self {
        let rooms = Rooms::saved(saved.cursors, saved.session.is_some());
        Self {
            backoff: Backoff::new(config.reconnect, seed),
            refresh: TokenRefresh::new(config.reconnect, seed),
            config,
            encoding,
            identity,
            session: saved.session,
            limits: assumed_limits(),
            phase: Phase::Idle,
            flight: Flight::new(),
            rooms,
            checkpoint: None,
            outputs: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Returns the next action.
    pub(crate) fn output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether an event is queued for the application.
    pub(crate) fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// Returns the next event for the application. To be followed by
    /// [`Machine::on_events_consumed`] after a run of them.
    pub(crate) fn event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// Whether the shell should continue to read. It may stop while many events are queued for the
    /// application and no answer is awaited, which puts backpressure on the server.
    pub(crate) fn wants_input(&self) -> bool {
        self.events.len() < self.config.max_queued_events || self.flight.awaits_answer()
    }

    /// Whether the client has ended.
    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// Returns what another client needs to resume from here.
    pub(crate) fn saved(&self) -> Saved {
        Saved { session: self.session.clone(), cursors: self.rooms.cursors() }
    }

    /// Starts, or tries again.
    pub(crate) fn start(&mut self, now: Instant) {
        if self.identity.refreshable && self.identity.token.is_none() {
            return self.refresh(now);
        }
        self.phase = Phase::Connecting { until: now + self.config.connect_timeout };
        self.outputs.push_back(Output::Connect);
    }

    /// The connection is open: sends the greeting, and the resume of all rooms in the same message.
    pub(crate) fn on_connected(&mut self) {
        let Phase::Connecting { until } = self.phase else { return };
        self.phase = Phase::Greeting { until };
        let hello = Hello {
            version: VERSION,
            token: self.identity.token.clone(),
            user: self.identity.user.clone(),
            device: self.identity.device.clone(),
            session: self.session.clone(),
            client: self.identity.name.clone(),
        };
        let (_, first) =
            self.flight.write(CommandBody::Hello(Box::new(hello)), Origin::Hello, self.encoding);
        self.write_resume(Some(first));
    }

    /// The connection ended, or could not be opened.
    pub(crate) fn on_lost(&mut self, now: Instant, cause: Cause) {
        let lasted = match &self.phase {
            Phase::Ended(_) | Phase::Idle | Phase::Waiting { .. } | Phase::Refreshing => return,
            Phase::Online(online) => Some(now.saturating_duration_since(online.since)),
            Phase::Connecting { .. } | Phase::Greeting { .. } => None,
        };
        let all = cause.is_our_fault() && lasted.is_some();
        self.cut(all, &cause);
        if lasted.is_some_and(|lasted| {
            lasted >= self.config.reconnect.stable || cause.advice() == Some(Advice::Done)
        }) {
            self.backoff.reset();
        }
        self.decide(now, cause, lasted.is_some());
    }

    /// Drops the connection's state.
    fn cut(&mut self, all: bool, cause: &Cause) {
        let undoes = |pending: &Pending| self.rooms.undoes(&pending.body, pending.order());
        for (id, pending) in self.flight.cut(all, undoes) {
            self.call_failed(id, &pending, Outcome::Unknown);
            let error = Error::unknown(cause.code, &cause.message).about(message_id(&pending));
            self.outputs.push_back(Output::Reply(id, Err(error)));
        }
        self.rooms.cut(|id| self.flight.contains(id));
        self.checkpoint = None;
        self.refresh.cut();
    }

    /// Decides whether and when to reconnect.
    fn decide(&mut self, now: Instant, cause: Cause, was_online: bool) {
        let known = cause.code.and_then(Code::from_number);
        match cause.advice() {
            Some(Advice::Stop) => return self.end(cause),
            // A greeting that is invalid will be refused again.
            Some(Advice::Fix) if !was_online && cause.is_our_fault() => return self.end(cause),
            Some(Advice::Refresh) if self.identity.refreshable => {
                self.notify_disconnected(cause, None);
                return self.refresh(now);
            }
            Some(Advice::Refresh) => return self.end(cause),
            Some(Advice::Resync) => {
                if known == Some(Code::UnknownSession) {
                    self.session = None;
                }
                self.rooms.drop_checkpoint();
            }
            // Another client uses this session, for example an application that was started twice.
            // Taking it back would make both take turns forever. Subscriptions and unanswered sends
            // do not depend on the session.
            Some(Advice::Retry) if known == Some(Code::Superseded) => {
                self.session = None;
                self.rooms.drop_checkpoint();
            }
            _ => {}
        }
        match self.backoff.next(cause.retry_after) {
            Some(pause) => {
                self.phase = Phase::Waiting { until: now + pause };
                self.notify_disconnected(cause, Some(pause));
            }
            None => self.end(cause),
        }
    }

    fn notify_disconnected(&mut self, cause: Cause, retry_in: Option<Duration>) {
        self.events.push_back(ClientEvent::Disconnected {
            code: cause.code,
            message: cause.message,
            retry_in,
        });
    }

    /// Ends the client. Commands that have no answer fail.
    pub(crate) fn close(&mut self) {
        self.end(Cause::of(Code::Closed));
    }

    fn end(&mut self, cause: Cause) {
        if self.is_ended() {
            return;
        }
        for (id, pending) in self.flight.end() {
            let done = matches!(pending.body, CommandBody::Logout)
                && cause.code == Some(Code::LoggedOut.number());
            if done {
                // The end of the client answers a logout, if it comes before the server's answer.
                self.outputs.push_back(Output::Reply(id, Ok(Reply::Done)));
                continue;
            }
            let error = Error::closed(cause.code, &cause.message).about(message_id(&pending));
            self.outputs.push_back(Output::Reply(id, Err(error)));
        }
        self.outputs.push_back(Output::Disconnect);
        self.events
            .push_back(ClientEvent::Closed { code: cause.code, message: cause.message.clone() });
        self.phase = Phase::Ended(cause);
    }

    /// Returns when [`Machine::on_time`] is due, if nothing else happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Connecting { until } | Phase::Greeting { until } | Phase::Waiting { until } => {
                Some(*until)
            }
            Phase::Online(online) => self.online_deadline(online),
            Phase::Refreshing => self.refresh.deadline(),
            Phase::Idle | Phase::Ended(_) => None,
        }
    }

    /// Carries out what is due.
    pub(crate) fn on_time(&mut self, now: Instant) {
        match &self.phase {
            Phase::Waiting { until } if *until <= now => self.start(now),
            Phase::Connecting { until } | Phase::Greeting { until } if *until <= now => {
                self.drop_connection(now, Cause::new(None, "the server did not answer in time"));
            }
            Phase::Online(_) => self.online_time(now),
            Phase::Refreshing => self.refresh_time(now),
            _ => {}
        }
    }

    /// Ends the connection, for a reason of the client's own.
    fn drop_connection(&mut self, now: Instant, cause: Cause) {
        self.outputs.push_back(Output::Disconnect);
        self.on_lost(now, cause);
    }
}

/// Limits until the server has announced its own: the servers' defaults.
fn assumed_limits() -> ServerLimits {
    let limits = Limits::default();
    ServerLimits {
        message_bytes: limits.max_message_bytes as u64,
        content_bytes: limits.max_content_bytes as u64,
        batch: limits.max_batch as u64,
        in_flight: 64,
        page: 100,
        rooms: 1000,
        depth: limits.max_depth as u64,
        values: limits.max_values as u64,
    }
}

fn message_id(pending: &Pending) -> Option<im_core::MessageId> {
    if let CommandBody::Send { id, .. } = &pending.body { Some(id.clone()) } else { None }
}
