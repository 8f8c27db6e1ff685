//! Appends within a transaction of the embedder's own database.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{RoomId, Seq, UserId};
use crate::ports::{BusMessage, LogRange};
use crate::state::{Act, Append, Authority, Intent, RoomSeed};
use crate::wire::{Event, PageFrom};

use super::api::{Engine, Publish};
use super::{append_shards, metrics};

impl Engine {
    /// Converts a message to an append, without appending it: for a store that executes it in a
    /// transaction of the embedder's own.
    ///
    /// On the authority of the service, as by [`Engine::publish`].
    ///
    /// # Errors
    ///
    /// A limit of the content.
    pub fn prepare(&self, publish: Publish) -> Result<Append> {
        let (room, act) = self.submitted(publish)?;
        Ok(self.prepared(room, act))
    }

    /// Converts the creation of a room to an append, as [`Engine::prepare`] does for a message: the
    /// room is created with the embedder's own rows or not at all. On the authority of the service,
    /// as by [`Engine::create_room`].
    ///
    /// ```
    /// # use im_core::{engine::Engine, ports::Appended, state::RoomSeed, wire::{Role, RoomKind}, RoomId, UserId};
    /// # async fn example(engine: Engine) -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = engine.store().clone();
    /// let (shop, ann) = (UserId::new("shop")?, UserId::new("ann")?);
    /// let members = vec![(shop.clone(), Role::Owner), (ann, Role::Member)];
    /// let seed = RoomSeed { kind: RoomKind::Group, open: false, members };
    /// let room = engine.prepare_room(RoomId::new("order-17")?, seed, &shop)?;
    /// // With a store in SQL: `store.append_in(&mut transaction, &[room]).await?`, and after the commit
    /// # let answer = store.append(vec![room]).await.remove(0);
    /// if let Appended::Committed(event) = answer? {
    ///     engine.announce(vec![event]).await?;
    /// }
    /// # Ok(()) }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async { example(Engine::builder().allow_anonymous().start().await.unwrap()).await }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`Code::Forbidden`] for ids reserved for the engine. An existing room is refused by the
    /// store.
    pub fn prepare_room(&self, room: RoomId, seed: RoomSeed, by: &UserId) -> Result<Append> {
        if room.is_reserved() {
            return Err(Error::of(Code::Forbidden, "create"));
        }
        Ok(self.prepared(room, Act::Create { by: by.clone(), seed }))
    }

    /// Converts a membership change to an append. On the authority of the service, as by
    /// [`Engine::change_members`].
    pub fn prepare_change(&self, room: RoomId, by: &UserId, intent: Intent) -> Append {
        self.prepared(room, Act::Change { by: by.clone(), intent })
    }

    fn prepared(&self, room: RoomId, act: Act) -> Append {
        let core = self.core();
        let max_members = core.config.max_members;
        Append { room, authority: Authority::Service, act, at: core.now(), max_members }
    }

    /// Delivers events that were committed in a transaction of the embedder's own: call it once,
    /// after the commit.
    ///
    /// It has all effects of an append by the engine: subscribers receive the events, new members
    /// the signal `im.room`, the hook is called, and the events are counted. A process that does
    /// not call it, or crashes before it, loses no event: the comparison with the store finds new
    /// events some seconds later.
    ///
    /// Each event is looked up in the store first; events that are not stored (the transaction was
    /// rolled back) are ignored.
    ///
    /// # Errors
    ///
    /// Errors of the store. The comparison then finds the events, too.
    pub async fn announce(&self, events: Vec<Arc<Event>>) -> Result<()> {
        let core = self.core();
        let mut by_room: BTreeMap<RoomId, Vec<Arc<Event>>> = BTreeMap::new();
        for event in events {
            by_room.entry(event.room.clone()).or_default().push(event);
        }
        for (room, events) in by_room {
            let stored = self.stored(&room, &events).await?;
            for event in &stored {
                append_shards::announce(core, event, self.first_members(event).await);
                append_shards::fan_out(core, Arc::clone(event));
            }
            if !stored.is_empty() {
                ::metrics::counter!(metrics::EVENTS).increment(stored.len() as u64);
                core.publish(BusMessage::Events(stored));
            }
        }
        Ok(())
    }

    /// Returns the members of a room that this event created without listing them, as the first
    /// message of a direct room does.
    async fn first_members(&self, event: &Event) -> Vec<UserId> {
        if event.seq != Seq::FIRST || !event.member_changes().is_empty() {
            return Vec::new();
        }
        let core = self.core();
        let most = core.config.max_members as usize;
        match core.store.members(&event.room, None, most).await {
            Ok(members) => members.into_iter().map(|(user, _)| user).collect(),
            Err(error) => {
                // The signal is a hint: `rooms` always lists a user's rooms.
                tracing::warn!(room = %event.room, %error, "the members of a new room could not be read, and are not told of it");
                Vec::new()
            }
        }
    }

    /// Returns those of a room's events that are in its log, in its order.
    async fn stored(&self, room: &RoomId, events: &[Arc<Event>]) -> Result<Vec<Arc<Event>>> {
        let core = self.core();
        let seqs = events.iter().map(|event| event.seq);
        let (Some(first), Some(last)) = (seqs.clone().min(), seqs.max()) else {
            return Ok(Vec::new());
        };
        let (mut after, mut stored) = (first.prev(), Vec::new());
        while after < last {
            let range = LogRange {
                from: PageFrom::After(after),
                limit: core.config.max_page as usize,
                max_bytes: core.config.max_page_bytes,
            };
            let page = core.store.read(room, range).await?;
            let Some(end) = page.as_ref().and_then(|page| page.events.last()) else { break };
            after = end.seq;
            stored.extend(
                page.into_iter().flat_map(|page| page.events).filter(|e| events.contains(e)),
            );
        }
        Ok(stored)
    }
}
