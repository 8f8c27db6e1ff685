//! The embedder's API: everything that needs no connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{Cursor, EventKind, MessageId, RoomId, SessionId, StateKey, UserId};
use crate::ports::{Resource, Store};
use crate::state::{Act, Intent, NewEvent, RoomSeed, answer};
use crate::time::Stamp;
use crate::wire::{
    AppendAck, Content, HistoryPage, Limits, PageFrom, ServerLimits, SessionEntry, Signal, Target,
    Value,
};

use super::builder::{EngineBuilder, NeedsAuthenticator};
use super::commands;
use super::config::EngineConfig;
use super::connection::{Conn, Connection, Half, Peer};
use super::core::Core;
use super::outbox::{Outbox, SubscriptionStart};
use super::registry::Most;
use super::subscription::Subscription;
use super::usage::Usage;

/// An instant-messaging engine.
///
/// Clones are handles to the same engine; when the last is dropped, its tasks end.
///
/// ```
/// # async fn example() -> im_core::Result<()> {
/// use im_core::engine::{Engine, Publish};
/// use im_core::wire::{Role, RoomKind, Target};
/// use im_core::{RoomId, UserId, state::RoomSeed};
///
/// let engine = Engine::builder().allow_anonymous().start().await?;
/// let (shop, room) = (UserId::new("shop").unwrap(), RoomId::new("orders").unwrap());
/// let members = vec![(shop.clone(), Role::Owner)];
/// let seed = RoomSeed { kind: RoomKind::Group, open: true, members };
/// engine.create_room(room.clone(), seed, &shop).await?;
/// let order = Publish::text(Target::Room(room), shop, "order 17 was placed");
/// let ack = engine.publish(order).await?;
/// assert_eq!(ack.seq.get(), 2); // 1 lists the members of the room
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
/// #     .block_on(example()).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Engine(Arc<Owner>);

/// Ends the tasks when the last handle is dropped.
#[derive(Debug)]
struct Owner(Arc<Core>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stopped.cancel();
        self.0.tasks.close();
    }
}

/// A message of the service, on its own authority: membership is not checked.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The target. [`Target::User`] is the user's inbox, which is created if necessary.
    pub to: Target,
    /// The user in whose name it is published.
    pub from: UserId,
    /// The kind of the event.
    pub kind: EventKind,
    /// The content.
    pub content: Value,
    /// An idempotency key, if the call may be retried: a retry then returns the first ack.
    pub id: Option<MessageId>,
}

impl Publish {
    /// An ordinary message: `{"text": …}`.
    pub fn text(to: Target, from: UserId, text: &str) -> Self {
        let content = crate::wire::Map::from_iter([("text", text)]).into();
        Self { to, from, kind: EventKind::message(), content, id: None }
    }

    /// Sets the idempotency key, so that the call may be retried.
    #[must_use]
    pub fn id(mut self, id: MessageId) -> Self {
        self.id = Some(id);
        self
    }
}

impl Engine {
    /// Starts a builder.
    pub fn builder() -> EngineBuilder<NeedsAuthenticator> {
        EngineBuilder::new()
    }

    pub(super) fn new(core: Arc<Core>) -> Self {
        Self(Arc::new(Owner(core)))
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.0.0
    }

    /// The bounds of one message. Transports enforce `max_message_bytes` before they buffer.
    pub fn limits(&self) -> &Limits {
        &self.core().config.limits
    }

    /// The configuration in use.
    pub fn config(&self) -> &EngineConfig {
        &self.core().config
    }

    /// The limits for clients, as in the ack of `hello`.
    pub fn server_limits(&self) -> ServerLimits {
        commands::server_limits(self.core())
    }

    /// Checks that the engine accepts new connections.
    ///
    /// # Errors
    ///
    /// [`Code::Draining`], with the delay before a reconnect.
    pub fn check_open(&self) -> Result<()> {
        let core = self.core();
        if core.is_draining() {
            let wait = core.spread(Duration::from_secs(5));
            return Err(Error::of(Code::Draining, "accept").retry_after(wait));
        }
        Ok(())
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.core().store
    }

    /// Memory use, in bytes as the configured bounds count them.
    pub fn usage(&self) -> Usage {
        self.core().usage()
    }

    /// The number of connections.
    pub fn connections(&self) -> usize {
        self.core().registry.len()
    }

    /// Accepts a peer's connection. The peer must then send `hello` in time.
    ///
    /// # Errors
    ///
    /// [`Code::Draining`] or [`Code::TooManyConnections`]. The transport refuses the peer with this
    /// error: if it has no means of its own, by a frame [`Disconnect`](crate::wire::Disconnect)
    /// made of the error.
    pub fn accept(&self, peer: Peer) -> Result<Connection> {
        self.open(peer, Half::Duplex)
    }

    pub(super) fn open(&self, peer: Peer, half: Half) -> Result<Connection> {
        let core = self.core();
        self.check_open()?;
        let most = Most {
            all: core.config.max_connections,
            of_address: core.config.max_connections_per_address,
            handshakes_of_address: core.config.max_handshakes_per_address,
        };
        let conn = core
            .registry
            .open(peer.address, most, |number| Conn::new(number, peer, half, core))
            .map_err(|_| Error::of(Code::TooManyConnections, "accept"))?;
        // Charged to the address for a connection, a call, a stream and a poll alike.
        commands::address_quota(core, &conn, Resource::Commands, 1)
            .inspect_err(|_| core.registry.close(&conn))?;
        Ok(Connection::new(self.clone(), conn))
    }

    /// Creates a room.
    ///
    /// # Errors
    ///
    /// [`Code::Exists`]; [`Code::Forbidden`] for ids reserved for the engine; errors of the store.
    pub async fn create_room(
        &self,
        room: RoomId,
        seed: RoomSeed,
        by: &UserId,
    ) -> Result<AppendAck> {
        if room.is_reserved() {
            return Err(Error::of(Code::Forbidden, "create"));
        }
        self.core().append(room, Act::Create { by: by.clone(), seed }).await
    }

    /// Changes a membership in the name of `by`, whose role is not checked.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::Banned`], [`Code::TooMany`]; errors of the store.
    pub async fn change_members(
        &self,
        room: &RoomId,
        by: &UserId,
        intent: Intent,
    ) -> Result<AppendAck> {
        self.core().append(room.clone(), Act::Change { by: by.clone(), intent }).await
    }

    /// Stores a message and delivers it to the subscribers of the room. Returns once it is stored.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::Conflict`], a limit of the content; errors of the store.
    pub async fn publish(&self, publish: Publish) -> Result<AppendAck> {
        let (room, act) = self.submitted(publish)?;
        self.core().append(room, act).await
    }

    /// Converts a message of the service to an append, checked against the limits.
    pub(super) fn submitted(&self, publish: Publish) -> Result<(RoomId, Act)> {
        let Publish { to, from, kind, content, id } = publish;
        let (content, key) = commands::submitted(self.core(), &kind, &content, id)?;
        let (room, seed) = match to {
            Target::Room(room) => (room, None),
            Target::Peer(peer) => {
                (RoomId::direct(&from, &peer), Some(commands::direct_seed(&from, &peer)))
            }
            Target::User(user) => (RoomId::inbox(&user), Some(commands::inbox_seed(&user))),
        };
        Ok((
            room,
            Act::Post { event: NewEvent { from, kind, content, idempotency_key: key }, seed },
        ))
    }

    /// Delivers an ephemeral message to current subscribers, on every node.
    ///
    /// # Errors
    ///
    /// A limit of the content.
    pub fn signal(
        &self,
        to: Target,
        from: &UserId,
        kind: EventKind,
        content: &Value,
    ) -> Result<()> {
        let core = self.core();
        let content = Content::new(content, self.limits())
            .map_err(|e| Error::new(e.code(), "signal", e.to_string()))?;
        let to = match to {
            Target::Peer(peer) => Target::Room(RoomId::direct(from, &peer)),
            other => other,
        };
        core.signal(Signal { to, from: from.clone(), at: core.now(), kind, content });
        Ok(())
    }

    /// Writes the value of a state key, or removes it. Returns the stamp of the change.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::Stale`], [`Code::StampAhead`], a limit; errors of the store.
    pub async fn put_state(
        &self,
        room: &RoomId,
        key: &StateKey,
        value: Option<&Value>,
        from: &UserId,
        stamp: Option<Stamp>,
    ) -> Result<Stamp> {
        let core = self.core();
        let pack = |value| Content::new(value, self.limits());
        let value = value
            .map(pack)
            .transpose()
            .map_err(|e| Error::new(e.code(), "put_state", e.to_string()))?;
        commands::check_stamp(core, stamp)?;
        commands::put_state(core, room.clone(), key.clone(), value, from.clone(), stamp).await
    }

    /// Returns a page of a room's log, at most [`EngineConfig::max_page`](super::EngineConfig)
    /// events.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]; errors of the store.
    pub async fn history(&self, room: &RoomId, from: PageFrom, limit: u32) -> Result<HistoryPage> {
        commands::history_page(self.core(), room, from, limit).await
    }

    /// Subscribes to a room from `since`, or from its head.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]; errors of the store.
    pub async fn subscribe(&self, room: &RoomId, since: Option<Cursor>) -> Result<Subscription> {
        let core = self.core();
        let (_, head) = core.look_up(room).await?;
        let (status, from) = match since {
            Some(cursor) => answer(cursor, head.cursor, head.first),
            None => (crate::wire::Status::Ok, head.cursor),
        };
        let outbox = Arc::new(Outbox::new(core.outboxes.clone()));
        core.subscribe(
            &outbox,
            room,
            SubscriptionStart { cursor: from, authorised_at: head.cursor.seq, state_digest: None },
        )
        .await?;
        Ok(Subscription::new(self.clone(), outbox, status, from))
    }

    /// Returns the sessions of `user` that can be resumed.
    ///
    /// # Errors
    ///
    /// Errors of the store.
    pub async fn sessions(&self, user: &UserId) -> Result<Vec<SessionEntry>> {
        commands::list_sessions(self.core(), user).await
    }

    /// Ends one session of `user`, or all of them, permanently, on every node.
    ///
    /// # Errors
    ///
    /// Errors of the store.
    pub async fn kick(&self, user: &UserId, session: Option<&SessionId>, code: Code) -> Result<()> {
        commands::end_sessions(self.core(), user, session, code).await
    }

    /// Shuts down in an orderly way within about `within`.
    ///
    /// The engine accepts no new connections, disconnects every client with a delay that has random
    /// jitter, waits for pending work, writes state, and stops. The store stays open.
    pub async fn drain(&self, within: Duration) {
        let core = self.core();
        core.draining.store(true, Ordering::Relaxed);
        let most = within.max(Duration::from_secs(1));
        core.registry.all().iter().for_each(|conn| conn.disconnect_draining(core.spread(most)));
        if tokio::time::timeout(within, core.registry.emptied()).await.is_err() {
            tracing::warn!(connections = core.registry.len(), "drained with connections left");
        }
        core.stopped.cancel();
        core.tasks.close();
        if tokio::time::timeout(within, core.tasks.wait()).await.is_err() {
            tracing::warn!("drained with work left");
        }
        if !core.state_writer.flush(&core.store).await {
            // `end_state` is skipped: the next start then has another state generation, and clients
            // replace their state.
            return tracing::warn!("drained with state that could not be written");
        }
        if let Err(error) = core.store.end_state(core.node).await {
            tracing::warn!(%error, "state was not ended properly");
        }
    }
}
