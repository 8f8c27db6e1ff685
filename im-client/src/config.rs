//! Settings, each with its unit, its default and its cost.

use std::time::Duration;

/// Configuration of a client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// When to reconnect.
    pub reconnect: Reconnect,
    /// When to send checkpoints.
    pub checkpoints: Checkpoints,
    /// Sends that wait for their ack; the next call of `send` waits. 64 by default, which most
    /// servers allow in flight. The content of each is held in memory. Sends to one room or user
    /// keep their order, however many there are: after a retryable refusal the later sends to that
    /// room wait for its retry, and count meanwhile.
    pub max_unacknowledged: usize,
    /// Other commands that wait for their answers. 32 by default.
    pub max_commands: usize,
    /// Events that the application has not read yet. 4,096 by default; the worst case in memory is
    /// that many events of the greatest size. Beyond it the client stops reading or, while answers
    /// are awaited, drops arriving events and fetches them again later: nothing durable is lost.
    pub max_queued_events: usize,
    /// Time from the start of a connection until the server's welcome. 10 s by default.
    pub connect_timeout: Duration,
    /// Time in which a heartbeat must be answered, otherwise the connection counts as dead. 10 s by
    /// default.
    pub ping_timeout: Duration,
    /// Time limit of a call of a token source. 30 s by default: a person may have to agree. After
    /// it the call is dropped, and the source is called again after a pause.
    pub token_timeout: Duration,
    /// Retries of a send after retryable refusals (codes 41xx and 42xx) that were not due to an
    /// earlier send. 5 by default. After them the send fails, and those behind it continue without
    /// it.
    pub send_retries: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            reconnect: Reconnect::default(),
            checkpoints: Checkpoints::default(),
            max_unacknowledged: 64,
            max_commands: 32,
            max_queued_events: 4096,
            connect_timeout: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(10),
            token_timeout: Duration::from_secs(30),
            send_retries: 5,
        }
    }
}

/// When to reconnect. The pause doubles with each failure and is drawn at random, so that many
/// clients do not reconnect at once; a longer `retry_ms` of the server takes precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconnect {
    /// The first pause is drawn from zero to this. 250 ms by default.
    pub base: Duration,
    /// The longest pause, unless the server asks for a longer one. 30 s by default.
    pub max: Duration,
    /// Failures in a row after which the client ends; `None`, the default, means no limit.
    pub attempts: Option<u32>,
    /// A connection that lasted this long counts as a success: the next pause starts from `base`.
    /// 10 s by default. A connection that ended through no fault of the server counts as a success
    /// at once.
    pub stable: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(250),
            max: Duration::from_secs(30),
            attempts: None,
            stable: Duration::from_secs(10),
        }
    }
}

impl Reconnect {
    /// Ends the client at the first failure.
    pub fn never() -> Self {
        Self::attempts(0)
    }

    /// Ends the client after so many failures in a row.
    pub fn attempts(attempts: u32) -> Self {
        Self { attempts: Some(attempts), ..Self::default() }
    }

    /// Sets the bounds of the pauses: the first is drawn from zero to `base`, later ones up to
    /// `max`.
    #[must_use]
    pub fn pauses(mut self, base: Duration, max: Duration) -> Self {
        (self.base, self.max) = (base, max);
        self
    }
}

/// When to send checkpoints, which store cursors at the server. A resume names only the cursors
/// that the server does not have, so after a checkpoint it fits into one small message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoints {
    /// By itself: after so many events, or after a quiet time. A checkpoint of many rooms is
    /// expensive for the server, so a client that catches up sends checkpoints no faster than that
    /// either.
    Auto {
        /// Events since the last checkpoint.
        events: u32,
        /// Quiet time after an event, and least time from one checkpoint to the next.
        idle: Duration,
    },
    /// Only by [`Client::checkpoint`](crate::Client::checkpoint): for applications that need, after
    /// a restart of their own, the events that they had received and not yet processed.
    Manual,
}

impl Default for Checkpoints {
    /// After 256 events, no more often than every 5 s, or 5 s without events.
    fn default() -> Self {
        Self::Auto { events: 256, idle: Duration::from_secs(5) }
    }
}
