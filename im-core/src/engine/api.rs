//! What the embedder calls: everything that needs no connection.

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

/// An instant-messaging engine. Clones are handles to the same one; when the last is dropped, its tasks end.
///
/// ```
/// # async fn example() -> im_core::Result<()> {
/// use im_core::engine::{Engine, Publish};
/// use im_core::wire::{Role, RoomKind, Target};
/// use im_core::{RoomId, UserId, state::RoomSeed};
///
/// let engine = Engine::builder().allow_anonymous().start().await?;
/// let (shop, room) = (UserId::new("shop").unwrap(), RoomId::new("orders").unwrap());
/// let seed = RoomSeed { kind: RoomKind::Group, open: true, members: vec![(shop.clone(), Role::Owner)] };
/// engine.create_room(room.clone(), seed, &shop).await?;
/// let ack = engine.publish(Publish::text(Target::Room(room), shop, "order 17 was placed")).await?;
/// assert_eq!(ack.seq.get(), 2); // 1 tells who is in the room
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Engine(Arc<Owner>);

/// Ends the tasks with the last handle.
#[derive(Debug)]
struct Owner(Arc<Core>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stopped.cancel();
        self.0.tasks.close();
    }
}

/// A message of the service's own, on the authority of the service: membership is not checked.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Where to. [`Target::User`] is the user's own room, which is made if need be.
    pub to: Target,
    /// In whose name.
    pub from: UserId,
    /// What sort of event.
    pub kind: EventKind,
    /// What it says.
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
    /// Assembles an engine.
    pub fn builder() -> EngineBuilder<NeedsAuthenticator> {
        EngineBuilder::new()
    }

    pub(super) fn new(core: Arc<Core>) -> Self {
        Self(Arc::new(Owner(core)))
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.0.0
    }

    /// What one message may hold. Transports keep to `max_message_bytes` before they buffer.
    pub fn limits(&self) -> &Limits {
        &self.core().config.limits
    }

    /// The knobs that it runs with.
    pub fn config(&self) -> &EngineConfig {
        &self.core().config
    }

    /// What clients have to keep to, as a reply to `hello` tells them.
    pub fn server_limits(&self) -> ServerLimits {
        commands::server_limits(self.core())
    }

    /// Says whether it takes anybody new.
    ///
    /// # Errors
    ///
    /// [`Code::Draining`], and when to come back.
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

    /// What it holds in memory, in bytes as its bounds count them.
    pub fn usage(&self) -> Usage {
        self.core().usage()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.core().registry.len()
    }

    /// Takes a peer's connection. The peer then has to say `hello` in time.
    ///
    /// # Errors
    ///
    /// [`Code::Draining`] or [`Code::TooManyConnections`]. The transport refuses the peer with it: if it has no way of its
    /// own, by a frame [`Bye`](crate::wire::Bye) made of the error.
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
        // Whatever comes of it: a connection, a call, a stream, a poll.
        commands::address_quota(core, &conn, Resource::Commands, 1)
            .inspect_err(|_| core.registry.close(&conn))?;
        Ok(Connection::new(self.clone(), conn))
    }

    /// Makes a room.
    ///
    /// # Errors
    ///
    /// [`Code::Exists`]; [`Code::Forbidden`] for ids that belong to the engine; the store's.
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

    /// Changes who is in a room, in the name of `by`, whose role is not looked at.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::Banned`], [`Code::TooMany`]; the store's.
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
    /// [`Code::NotFound`], [`Code::Conflict`], a limit of the content; the store's.
    pub async fn publish(&self, publish: Publish) -> Result<AppendAck> {
        let (room, act) = self.submitted(publish)?;
        self.core().append(room, act).await
    }

    /// What a message of the service's own is to the store, checked against the limits.
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
        Ok((room, Act::Post { event: NewEvent { from, kind, content, key }, seed }))
    }

    /// Delivers a signal to whoever is there, on every node.
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

    /// Sets the value of a state key, or removes it. Returns the stamp that it has now.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::Stale`], [`Code::StampAhead`], a limit; the store's.
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

    /// A page of a room's log, at most [`EngineConfig::max_page`](super::EngineConfig) events.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]; the store's.
    pub async fn history(&self, room: &RoomId, from: PageFrom, limit: u32) -> Result<HistoryPage> {
        commands::history_page(self.core(), room, from, limit).await
    }

    /// Subscribes to a room from `since`, or from its head.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]; the store's.
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

    /// The sessions of `user` that can be resumed.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn sessions(&self, user: &UserId) -> Result<Vec<SessionEntry>> {
        commands::list_sessions(self.core(), user).await
    }

    /// Ends one session of `user`, or all of them, for good, on every node.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn kick(&self, user: &UserId, session: Option<&SessionId>, code: Code) -> Result<()> {
        commands::end_sessions(self.core(), user, session, code).await
    }

    /// Ends in good order within about `within`: takes no new connections, tells every client to come back after a delay
    /// spread at random, waits for what is under way, writes state, and stops. The store stays open.
    pub async fn drain(&self, within: Duration) {
        let core = self.core();
        core.draining.store(true, Ordering::Relaxed);
        let most = within.max(Duration::from_secs(1));
        core.registry.all().iter().for_each(|conn| conn.disconnect_draining(core.spread(most)));
        if tokio::time::timeout(within, core.registry.emptied()).await.is_err() {
            tracing::warn!(left = core.registry.len(), "drained with connections left");
        }
        core.stopped.cancel();
        core.tasks.close();
        if tokio::time::timeout(within, core.tasks.wait()).await.is_err() {
            tracing::warn!("drained with work left");
        }
        if !core.state_writer.flush(&core.store).await {
            // Not ended: the next start then gives state another generation, and clients replace what they hold.
            return tracing::warn!("drained with state that could not be written");
        }
        if let Err(error) = core.store.end_state(core.node).await {
            tracing::warn!(%error, "state was not ended properly");
        }
    }
}
