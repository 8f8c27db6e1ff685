//! Assembling a client.

use std::sync::Arc;

use im_core::wire::{Encoding, Secret};
use im_core::{DeviceId, UserId, id};
use tokio::sync::{Semaphore, mpsc};

use crate::client::{Client, Events};
use crate::config::{Checkpoints, Config, Reconnect};
use crate::error::{Error, Result};
use crate::event::ClientEvent;
use crate::link::Link;
use crate::proto::{Identity, Machine, Saved};
use crate::shell::{Shell, Tap, TokenSource};

/// How the events wait between the client's task and the application; the longer queue is inside the task.
const EVENT_CHANNEL: usize = 64;

/// Assembles a client. Get one from [`Client::builder`] or [`Client::over`].
#[derive(Clone)]
#[must_use]
pub struct Builder {
    link: Arc<dyn Link>,
    identity: Identity,
    encoding: Encoding,
    config: Config,
    saved: Saved,
    tokens: Option<TokenSource>,
    tap: Option<Tap>,
}

impl Builder {
    pub(crate) fn new(link: Arc<dyn Link>) -> Self {
        let identity = Identity {
            name: Some(concat!("im-client-rust/", env!("CARGO_PKG_VERSION")).into()),
            ..Identity::default()
        };
        let (encoding, config, saved) = (Encoding::MsgPack, Config::default(), Saved::default());
        Self { link, identity, encoding, config, saved, tokens: None, tap: None }
    }

    /// Proves who the user is.
    pub fn token(mut self, token: impl Into<Arc<str>>) -> Self {
        self.identity.token = Some(Secret::new(token));
        self
    }

    /// Fetches a token before the first connection, unless one was given, before the one in use expires, and whenever the
    /// server says that it is wrong. A source that fails is asked again after a pause, as often as [`Reconnect`] allows. Without
    /// a source, a token that is refused ends the client.
    pub fn token_source(mut self, source: TokenSource) -> Self {
        (self.tokens, self.identity.refreshable) = (Some(source), true);
        self
    }

    /// Says who the user is. Believed only by servers that allow anonymous users.
    pub fn user(mut self, user: UserId) -> Self {
        self.identity.user = Some(user);
        self
    }

    /// Says which device this is. A random one if not given.
    pub fn device(mut self, device: DeviceId) -> Self {
        self.identity.device = Some(device);
        self
    }

    /// How frames are written. MessagePack by default.
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// All settings at once.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// When to come back after a connection ended. For ever by default.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.config.reconnect = reconnect;
        self
    }

    /// When to tell the server how far events have arrived.
    pub fn checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.config.checkpoints = checkpoints;
        self
    }

    /// How many sends may wait for their acks.
    pub fn max_unacknowledged(mut self, sends: usize) -> Self {
        self.config.max_unacknowledged = sends;
        self
    }

    /// Goes on where an earlier client left off: see [`Client::saved`].
    pub fn resume(mut self, saved: Saved) -> Self {
        self.saved = saved;
        self
    }

    /// Sees every frame as it arrives, before repeats are dropped. For checks and for curiosity; it must not block.
    pub fn tap(mut self, tap: Tap) -> Self {
        self.tap = Some(tap);
        self
    }

    /// Starts the client without waiting for it to be connected. Needs a tokio runtime.
    pub fn start(self) -> (Client, Events) {
        let (asks_in, asks) = mpsc::unbounded_channel();
        let (events_in, events) = mpsc::channel(EVENT_CHANNEL);
        let sends = Arc::new(Semaphore::new(self.config.max_unacknowledged.max(1)));
        let commands = Arc::new(Semaphore::new(self.config.max_commands.max(1)));
        let seed = u64::from_be_bytes(id::random_bytes());
        let shell = Shell {
            machine: Machine::new(self.config, self.encoding, self.identity, self.saved, seed),
            link: self.link,
            encoding: self.encoding,
            tokens: self.tokens,
            tap: self.tap,
            asks,
            events: events_in,
        };
        tokio::spawn(shell.run());
        (Client::new(asks_in, sends, commands), Events::new(events))
    }

    /// Starts the client and waits until it is connected for the first time.
    ///
    /// # Errors
    ///
    /// The client gave up: the server refused for good, or as often as [`Reconnect`] allows.
    pub async fn connect(self) -> Result<(Client, Events)> {
        let (client, mut events) = self.start();
        let mut before = Vec::new();
        while let Some(event) = events.next().await {
            match &event {
                ClientEvent::Closed { code, message } => return Err(Error::closed(*code, message)),
                ClientEvent::Connected(_) => {
                    before.push(event);
                    events.put_back(before);
                    return Ok((client, events));
                }
                // Only what happened last matters to somebody who has seen nothing yet.
                _ => before = vec![event],
            }
        }
        Err(Error::closed(None, "it ended before it was connected"))
    }
}
