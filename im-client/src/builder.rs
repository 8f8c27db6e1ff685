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

/// Events in the channel to the application. The longer queue is inside the client's task.
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

    /// Sets the token that authenticates the user.
    pub fn token(mut self, token: impl Into<Arc<str>>) -> Self {
        self.identity.token = Some(Secret::new(token));
        self
    }

    /// Sets a source of tokens.
    ///
    /// The client calls it before the first connection unless [`Builder::token`] is set, before the
    /// current token expires, and when the server refuses the current token. A source that fails is
    /// called again after a pause, as often as [`Reconnect`] allows. Without a source, a refused
    /// token ends the client.
    pub fn token_source(mut self, source: TokenSource) -> Self {
        (self.tokens, self.identity.refreshable) = (Some(source), true);
        self
    }

    /// Sets the user id. Only servers that allow anonymous users accept it.
    pub fn user(mut self, user: UserId) -> Self {
        self.identity.user = Some(user);
        self
    }

    /// Sets the device id. A random one by default.
    pub fn device(mut self, device: DeviceId) -> Self {
        self.identity.device = Some(device);
        self
    }

    /// Sets the encoding of frames. MessagePack by default.
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Sets the whole configuration.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets when to reconnect. Without a limit of attempts by default.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.config.reconnect = reconnect;
        self
    }

    /// Sets when to send checkpoints.
    pub fn checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.config.checkpoints = checkpoints;
        self
    }

    /// Sets how many sends may wait for their acks.
    pub fn max_unacknowledged(mut self, sends: usize) -> Self {
        self.config.max_unacknowledged = sends;
        self
    }

    /// Resumes where an earlier client stopped: see [`Client::saved`].
    pub fn resume(mut self, saved: Saved) -> Self {
        self.saved = saved;
        self
    }

    /// Sets a function that is called with every frame as it arrives, redelivered events included.
    /// It must not block.
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
    /// The client ended: the server refused with a final code, or as often as [`Reconnect`] allows.
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
                // Only the last state matters to an application that has seen nothing yet.
                _ => before = vec![event],
            }
        }
        Err(Error::closed(None, "it ended before the first connection was established"))
    }
}
