//! Engines, a store and a bus, served over the transport under test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use im_core::engine::{Engine, EngineConfig};
use im_core::memory::{MemoryBus, MemoryStore};
use im_core::ports::{
    AllowAnonymous, Authenticator, Bus, Clock, Envelope, Hooks, NoHooks, RateLimiter,
};
use im_core::ports::{Store, SystemClock, Unlimited};
use im_core::state::RoomSeed;
use im_core::wire::{Encoding, PageFrom, Role, RoomKind, Secret};
use im_core::{Cursor, RoomId, Seq, UserId};

use super::link::{Dial, Refused, TransportFactory};
use super::peer::{Peer, room, user};

/// The number of engines, and the encodings of the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One engine; all clients use this encoding.
    One(Encoding),
    /// Two engines on one store, joined by a bus; clients are spread over both, and over the
    /// transport's encodings.
    Two,
}

type Loses = Arc<dyn Fn(&Envelope) -> bool + Send + Sync>;

/// The settings that differ between cases.
#[derive(Clone)]
pub struct Setup {
    pub config: EngineConfig,
    pub store: Arc<dyn Store>,
    pub authenticator: Arc<dyn Authenticator>,
    pub clock: Arc<dyn Clock>,
    pub hooks: Arc<dyn Hooks>,
    pub limiter: Arc<dyn RateLimiter>,
    pub bus_loses: Loses,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: EngineConfig::default(),
            store: Arc::new(MemoryStore::new()),
            authenticator: Arc::new(AllowAnonymous),
            clock: Arc::new(SystemClock),
            hooks: Arc::new(NoHooks),
            limiter: Arc::new(Unlimited),
            bus_loses: Arc::new(|_| false),
        }
    }
}

/// A running system and its factory.
pub struct World<F> {
    pub engines: Vec<Engine>,
    factory: F,
    shape: Shape,
    setup: Setup,
    dialled: AtomicUsize,
}

impl<F: TransportFactory> World<F> {
    pub async fn new(shape: Shape) -> Self {
        Self::with(shape, Setup::default()).await
    }

    pub async fn with(shape: Shape, setup: Setup) -> Self {
        let engines = start(shape, &setup).await;
        let factory = F::serve(&engines).await;
        Self { engines, factory, shape, setup, dialled: AtomicUsize::new(0) }
    }

    /// Restarts: new engines on the same store.
    pub async fn restart(self) -> Self {
        let Self { engines, factory, shape, setup, .. } = self;
        drop(factory);
        for engine in &engines {
            engine.drain(std::time::Duration::from_millis(1)).await;
        }
        drop(engines);
        Self::with(shape, setup).await
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.setup.store
    }

    pub fn engine(&self) -> &Engine {
        &self.engines[0]
    }

    /// Returns the settings of the next connection: engines and encodings alternate.
    fn next(&self) -> Dial {
        self.nth(self.dialled.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the settings of the `n`th connection. In [`Shape::Two`], adjacent connections differ
    /// in engine and, with two encodings, in encoding.
    pub fn nth(&self, n: usize) -> Dial {
        let encodings = F::encodings();
        let (engine, encoding) = match self.shape {
            Shape::One(encoding) => (0, encoding),
            Shape::Two => (n % 2, encodings[(n / 2 + n) % encodings.len()]),
        };
        Dial { engine, encoding, token: None }
    }

    /// Connects without sending `hello`.
    pub async fn dial(&self) -> Peer {
        let dial = self.next();
        self.dial_by(dial).await
    }

    pub async fn dial_by(&self, dial: Dial) -> Peer {
        self.try_dial(dial).await.expect("the server accepts the connection")
    }

    pub async fn try_dial(&self, dial: Dial) -> Result<Peer, Refused> {
        let encoding = dial.encoding;
        Ok(Peer::new(self.factory.dial(dial).await?, encoding, F::kind()))
    }

    /// Connects with a token in the transport's own handshake.
    pub async fn dial_with_token(&self, token: &str) -> Peer {
        let dial = Dial { token: Some(Secret::new(token)), ..self.next() };
        self.dial_by(dial).await
    }

    /// Connects and opens a session as `name`.
    pub async fn peer(&self, name: &str) -> Peer {
        let mut peer = self.dial().await;
        peer.welcome_as(name).await;
        peer
    }

    /// As [`World::peer`], as the `n`th connection.
    pub async fn nth_peer(&self, n: usize, name: &str) -> Peer {
        let mut peer = self.dial_by(self.nth(n)).await;
        peer.welcome_as(name).await;
        peer
    }

    /// Creates a closed group owned by its first member. Its log then has one event.
    pub async fn group(&self, id: &str, members: &[&str]) -> RoomId {
        self.room(id, RoomKind::Group, false, members).await
    }

    pub async fn room(&self, id: &str, kind: RoomKind, open: bool, members: &[&str]) -> RoomId {
        let role = |at| if at == 0 { Role::Owner } else { Role::Member };
        let members =
            members.iter().enumerate().map(|(at, name)| (user(name), role(at))).collect::<Vec<_>>();
        let owner = members[0].0.clone();
        let seed = RoomSeed { kind, open, members };
        self.engine().create_room(room(id), seed, &owner).await.expect("a new room");
        room(id)
    }

    /// Returns the head of the room from the store.
    pub async fn head(&self, room: &RoomId) -> Cursor {
        let heads =
            self.store().heads(std::slice::from_ref(room)).await.expect("heads from the store");
        heads[0].expect("an existing room").cursor
    }

    /// Returns sender and text of each message in the room, in order, from the store.
    pub async fn said(&self, room: &RoomId) -> Vec<(UserId, String)> {
        let mut said = Vec::new();
        let mut after = Seq::ZERO;
        loop {
            let page = self
                .engine()
                .history(room, PageFrom::After(after), 200)
                .await
                .expect("a page from the store");
            let Some(last) = page.events.last() else { return said };
            after = last.seq;
            said.extend(
                page.events
                    .iter()
                    .filter_map(|event| Some((event.from.clone(), super::peer::text(event)?))),
            );
        }
    }
}

async fn start(shape: Shape, setup: &Setup) -> Vec<Engine> {
    let loses = setup.bus_loses.clone();
    let bus: Arc<dyn Bus> = Arc::new(MemoryBus::lossy(4096, move |envelope| loses(envelope)));
    let mut engines = Vec::new();
    for _ in 0..if shape == Shape::Two { 2 } else { 1 } {
        let builder = Engine::builder()
            .authenticator(setup.authenticator.clone())
            .store(setup.store.clone())
            .bus(bus.clone())
            .hooks(setup.hooks.clone())
            .clock(setup.clock.clone())
            .rate_limiter(setup.limiter.clone())
            .config(setup.config.clone());
        engines.push(builder.start().await.expect("an engine that starts"));
    }
    engines
}
