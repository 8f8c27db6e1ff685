//! Settings, each with its unit, its default and what it costs.

use std::time::Duration;

/// How a client behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// When to come back after a connection ended.
    pub reconnect: Reconnect,
    /// When to tell the server how far events have arrived.
    pub checkpoints: Checkpoints,
    /// Sends that wait for their ack; the next call of `send` waits. 64 by default: as many as most servers let be
    /// in flight. Each holds its content in memory. Those to one room or user keep their order, however many there are: after
    /// one was refused for now, the others to that room wait until it is written again, and count meanwhile.
    pub max_unacknowledged: usize,
    /// Other commands that wait for their answer. 32 by default.
    pub max_commands: usize,
    /// Events that the application has not taken yet. 4,096 by default; the worst case in memory is that many events of
    /// the greatest size. Beyond it no more is read, or, while answers are awaited, what arrives is dropped and fetched
    /// again later: nothing durable is lost.
    pub max_queued_events: usize,
    /// From the start of a connection until the server's welcome. 10 s by default.
    pub connect_timeout: Duration,
    /// How long the answer to a heartbeat may take before the connection counts as dead. 10 s by default.
    pub ping_timeout: Duration,
    /// How long a source of credentials may take until it is asked again. 30 s by default: a person may have to agree. A
    /// call that has not returned by then is dropped.
    pub token_timeout: Duration,
    /// How often a send is tried again that the server refused for now (codes 41xx and 42xx), when it was its turn. 5 by
    /// default. After that it fails, and those behind it go on without it.
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

/// When to come back after a connection ended. The pause doubles with each failure and is drawn at random, so that many
/// clients do not come back at once; a server's own wish for a longer one is honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconnect {
    /// The first pause is drawn from zero to this. 250 ms by default.
    pub base: Duration,
    /// No pause is longer, unless the server asks for it. 30 s by default.
    pub max: Duration,
    /// After so many failures in a row the client gives up; `None`, the default, means never.
    pub attempts: Option<u32>,
    /// A connection that lasted this long was a success: the next pause is a first one again. 10 s by default. One that
    /// ended for no fault of the server's counts as a success at once.
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
    /// Gives up at the first failure.
    pub fn never() -> Self {
        Self::attempts(0)
    }

    /// Gives up after so many failures in a row.
    pub fn attempts(attempts: u32) -> Self {
        Self { attempts: Some(attempts), ..Self::default() }
    }

    /// Draws pauses from zero to `base` at first and up to `max` later.
    #[must_use]
    pub fn pauses(mut self, base: Duration, max: Duration) -> Self {
        (self.base, self.max) = (base, max);
        self
    }
}

/// When to tell the server how far events have arrived. What it knows need not be told again at the next resume, which
/// then fits into one small message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoints {
    /// By itself: after so many events, or when nothing came for so long. A checkpoint of many rooms is dear for the server, so
    /// a client that catches up sends them no faster than that either.
    Auto {
        /// Events since the last checkpoint.
        events: u32,
        /// Quiet time after an event, and time from one checkpoint to the next.
        idle: Duration,
    },
    /// Only by [`Client::checkpoint`](crate::Client::checkpoint): for applications that want to find, after a restart of
    /// their own, what they had received and not yet dealt with.
    Manual,
}

impl Default for Checkpoints {
    /// After 256 events, no more often than every 5 s, or 5 s without events.
    fn default() -> Self {
        Self::Auto { events: 256, idle: Duration::from_secs(5) }
    }
}
