//! Shared parts of an engine, and the synchronisation of rooms: loading, gap repair, checks.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::code::Code;
use crate::error::{Error, Fault, Result};
use crate::id::{CommandId, Cursor, NodeId, RoomId, UserId};
use crate::ports::{
    Action, Authenticator, Bus, BusMessage, Clock, Envelope, Head, Hooks, Identity, LogPage,
    LogRange, Quotas, RateLimiter, RetentionPolicy, Store, Verdict,
};
use crate::state::{Membership, RoomRecord};
use crate::time::{Stamp, StampClock, Timestamp};
use crate::wire::{ErrorReply, PageFrom};

use super::acks::AckBudget;
use super::append_shards::AppendShards;
use super::catch_up_reads::CatchUpReads;
use super::config::EngineConfig;
use super::health::Vitals;
use super::hub::Hub;
use super::metrics;
use super::outbox::{Outbox, OutboxBounds};
use super::outgoing::Outgoing;
use super::registry::Registry;
use super::remote_state::RemoteState;
use super::room::{Applied, Room, Subscriber};
use super::state_writer::StateWriter;

/// The shared parts of an engine.
pub(crate) struct Core {
    pub(crate) node: NodeId,
    pub(crate) config: EngineConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limiter: Arc<dyn RateLimiter>,
    pub(crate) quotas: Arc<dyn Quotas>,
    pub(crate) retention: Arc<dyn RetentionPolicy>,
    /// The room after which the next round of retention begins.
    pub(crate) swept: Mutex<Option<RoomId>>,
    pub(crate) bus: Option<Arc<dyn Bus>>,
    pub(crate) hub: Hub,
    pub(crate) append_shards: AppendShards,
    pub(crate) registry: Arc<Registry>,
    pub(crate) catch_up_reads: CatchUpReads,
    pub(crate) state_writer: StateWriter,
    pub(crate) remote_state: RemoteState,
    /// The store's generation of state, as last read here.
    pub(super) state_generation: AtomicU64,
    pub(crate) stamps: Mutex<StampClock>,
    pub(crate) outboxes: Arc<OutboxBounds>,
    pub(crate) acks: Arc<AckBudget>,
    /// When the engine started, for timeouts.
    pub(crate) started: Instant,
    /// Measurements for the health probe.
    pub(crate) vitals: Vitals,
    /// Tasks of this engine. All of them end when it stops.
    pub(crate) tasks: TaskTracker,
    /// No new connections are accepted.
    pub(crate) draining: AtomicBool,
    /// Cancelled when the engine's own tasks must end.
    pub(crate) stopped: CancellationToken,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine(node {:08x}, {})", self.node.0, self.store.name())
    }
}

/// Events in one read of a gap repair.
const REPAIR_PAGE: usize = 512;

impl Core {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Milliseconds since the start, by the runtime's clock, which tests may pause.
    pub(crate) fn running(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Publishes a message to the other nodes.
    pub(crate) fn publish(&self, message: BusMessage) {
        if let Some(bus) = &self.bus {
            bus.publish(Envelope { from: self.node, message });
        }
    }

    /// Converts an error to the ack for a peer. A backend's failure is logged with its cause.
    pub(crate) fn refusal(&self, id: Option<CommandId>, error: &Error) -> ErrorReply {
        if error.fault() == Fault::Backend {
            let cause =
                std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(
                operation = error.operation(),
                code = error.code().number(),
                cause,
                "a backend failed"
            );
        }
        ::metrics::counter!(metrics::REFUSALS, "code" => error.code().number().to_string())
            .increment(1);
        ErrorReply {
            id,
            code: error.code().number(),
            message: error.message().to_owned(),
            retry_after: error.delay(),
        }
    }

    /// Calls the embedder's hook.
    pub(crate) async fn ask(&self, actor: &Identity, action: &Action) -> Result<Verdict> {
        if !self.hooks.wants(action.kind()) {
            return Ok(Verdict::Default);
        }
        match tokio::time::timeout(self.config.hook_timeout, self.hooks.before(actor, action)).await
        {
            Ok(Verdict::Refuse(words)) => Err(Error::new(Code::Refused, "hook", words)),
            Ok(verdict) => Ok(verdict),
            Err(_) => Err(Error::of(Code::Overloaded, "hook").because("the hook took too long")),
        }
    }

    /// Returns a stamp greater than every stamp seen here.
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamps.lock().tick(self.now())
    }

    // ---- rooms ----

    /// Returns the room in memory, with its head read from the store.
    pub(crate) async fn activate(self: &Arc<Self>, id: &RoomId) -> Result<Arc<Room>> {
        let room = self.hub.get_or_insert(id);
        // If this future is dropped meanwhile, the room must not stay in memory.
        let unused = Unused { core: self, room: &room };
        room.loaded.get_or_try_init(|| self.load(&room)).await?;
        std::mem::forget(unused);
        Ok(room)
    }

    async fn load(self: &Arc<Self>, room: &Arc<Room>) -> Result<()> {
        // Read before the store: an update that is written in between is then found in the store.
        let pending = self.pending_state(room.id());
        let (record, head) = self.look_up(room.id()).await?;
        let state = self.stored_state(room.id(), pending, head.state_revision == 0).await?;
        let applied = room.load(&record, head, state, self.state_generation(), &self.config.state);
        self.hub.evict_state();
        // Not for a room that is in sync: it has no subscriber yet, and is about to get one.
        if applied != Applied::InSync {
            self.handle_applied(room, applied);
        }
        Ok(())
    }

    /// Reads the room's record and head from the store.
    pub(crate) async fn look_up(&self, id: &RoomId) -> Result<(RoomRecord, Head)> {
        let missing = || Error::of(Code::NotFound, "room");
        let record = self.store.room(id).await?.ok_or_else(missing)?;
        let heads = self.store.heads(std::slice::from_ref(id)).await?;
        let head = heads.into_iter().next().flatten().ok_or_else(missing)?;
        Ok((record, head))
    }

    /// Reads the room with its head, if it exists, and then the membership of `user`: always three
    /// reads, for the reason in [`Self::rights`].
    pub(crate) async fn look_up_for(
        &self,
        id: &RoomId,
        user: &UserId,
    ) -> Result<(Option<(RoomRecord, Head)>, Option<Membership>)> {
        let record = self.store.room(id).await?;
        let heads = self.store.heads(std::slice::from_ref(id)).await?;
        let membership = self.store.membership(id, user).await?;
        Ok((record.zip(heads.into_iter().next().flatten()), membership))
    }

    /// Reads the room and the membership of `user` from the store: two reads, whether or not the
    /// room exists, so that a non-member of a closed room learns nothing from the response time.
    pub(crate) async fn rights(
        &self,
        room: &RoomId,
        user: &UserId,
    ) -> Result<(Option<RoomRecord>, Option<Membership>)> {
        let record = self.store.room(room).await?;
        let membership = self.store.membership(room, user).await?;
        Ok((record, membership))
    }

    /// Returns the room if `user` may read it now. The cost is the same for a room that does not
    /// exist and one without access.
    pub(crate) async fn readable(
        &self,
        room: &RoomId,
        user: &UserId,
        verdict: &Verdict,
    ) -> Result<RoomRecord> {
        let (record, membership) = self.rights(room, user).await?;
        let record = record.ok_or_else(|| Error::of(Code::NotFound, "read"))?;
        check_read(&record, user, membership, verdict)?;
        Ok(record)
    }

    /// Checks that `user` may read the room now. Call it after the data to be delivered was read.
    pub(crate) async fn may_read(
        &self,
        record: &RoomRecord,
        user: &UserId,
        verdict: &Verdict,
    ) -> Result<()> {
        let membership = self.store.membership(&record.id, user).await?;
        check_read(record, user, membership, verdict)
    }

    /// Handles the outcome after an event or a head was applied to a room.
    pub(crate) fn handle_applied(self: &Arc<Self>, room: &Arc<Room>, applied: Applied) {
        match applied {
            // Its last subscriber may just have been removed.
            Applied::InSync if room.is_idle() => self.hub.retire_if_idle(room),
            Applied::InSync => {}
            Applied::GapDetected => {
                let (core, room) = (self.clone(), room.clone());
                self.tasks.spawn(async move { core.repair_gap(&room).await });
            }
            Applied::OtherEpoch => {
                let (core, room) = (self.clone(), room.clone());
                self.tasks.spawn(async move { core.check(&[room]).await });
            }
        }
    }

    /// Reads the missing events of a room from the store, page by page.
    async fn repair_gap(self: &Arc<Self>, room: &Arc<Room>) {
        ::metrics::counter!(metrics::GAP_REPAIRS).increment(1);
        if AssertUnwindSafe(self.repair_gap_pages(room)).catch_unwind().await.is_err() {
            tracing::error!(room = %room.id(), "gap repair panicked; the next head check retries");
            room.repair_failed();
        }
        self.hub.retire_if_idle(room);
    }

    async fn repair_gap_pages(&self, room: &Arc<Room>) {
        loop {
            let erased = room.erased();
            let Some(head) = room.head() else { return room.repair_failed() };
            let range = LogRange {
                from: PageFrom::After(head.seq),
                limit: REPAIR_PAGE,
                max_bytes: self.config.max_page_bytes,
            };
            let page = match self.store.read(room.id(), range).await {
                Ok(Some(page)) => page,
                Ok(None) => return room.repair_failed(),
                Err(error) => {
                    tracing::warn!(room = %room.id(), %error, "a gap could not be repaired; the next head check retries");
                    return room.repair_failed();
                }
            };
            if !continues(&page, head) {
                self.reset_room(room).await;
                // If the first retained event moved past the gap, the repair continues from there.
                if room.head().is_some_and(|now| now.epoch == head.epoch && now.seq > head.seq) {
                    continue;
                }
                return room.repair_failed();
            }
            let end = page.events.is_empty();
            let items: Vec<_> = page.events.into_iter().map(Outgoing::event).collect();
            if items.iter().any(|item| item.ends_nameless()) && !self.check_subscribers(room).await
            {
                return room.repair_failed();
            }
            if !items.into_iter().all(|item| room.apply_read(item, erased)) {
                continue;
            }
            if end {
                // The high watermark is not in the store (yet): the next event or check starts
                // another repair.
                return room.repair_failed();
            }
            if room.repair_done() != Applied::GapDetected {
                return;
            }
        }
    }

    /// The generation of state, as last read from the store.
    pub(crate) fn state_generation(&self) -> u64 {
        self.state_generation.load(Ordering::Relaxed)
    }

    /// Reads the generation of state from the store. If it changed, some node may have lost
    /// updates: all state is sent again to all subscribers.
    pub(crate) async fn check_generation(&self) {
        match self.store.state_generation().await {
            Ok(now) if now != self.state_generation() => {
                // Set first, so that rooms loaded meanwhile start with it; the other rooms have the
                // old one until the loop reaches them.
                self.state_generation.store(now, Ordering::Relaxed);
                self.hub.rooms().iter().for_each(|room| room.set_state_generation(now));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the generation of state could not be read"),
        }
    }

    /// Compares rooms with the store: heads, epochs and state.
    pub(crate) async fn check(self: &Arc<Self>, rooms: &[Arc<Room>]) {
        let ids: Vec<RoomId> = rooms.iter().map(|room| room.id().clone()).collect();
        let heads = match self.store.heads(&ids).await {
            Ok(heads) => heads,
            Err(error) => {
                return tracing::warn!(%error, "heads could not be compared with the store");
            }
        };
        for (room, head) in rooms.iter().zip(heads) {
            let Some(held) = room.head() else { continue };
            let Some(head) = head else {
                self.retire_deleted(room, held.epoch).await;
                continue;
            };
            if head.cursor.epoch != held.epoch {
                self.reset_room(room).await;
                continue;
            }
            room.trim_window(held.epoch, head.first);
            room.rewritten(head.erased);
            let applied = room.raise_high_watermark(head.cursor.seq);
            self.handle_applied(room, applied);
            if room.state_revision() != head.state_revision {
                self.check_state(room).await;
            }
        }
    }

    /// Merges the store's state of the room after it changed. If the store fails, the next check
    /// retries.
    async fn check_state(&self, room: &Arc<Room>) {
        if room.is_state_evicted() {
            let held = self.hold_state(room).await;
            drop(held);
        } else if let Ok(state) = self.store.state(room.id()).await {
            room.merge_stored(state, &self.config.state);
            self.hub.evict_state();
        }
    }

    /// Resets a room whose epoch changed, whose tail was lost, or whose events after the local head
    /// were trimmed.
    ///
    /// Authorised subscribers are reset to the new head, or to the first retained event; the others
    /// are denied. If the store fails meanwhile, nothing changes, and the next check retries.
    async fn reset_room(&self, room: &Room) {
        let (record, head) = match self.look_up(room.id()).await {
            Ok(found) => found,
            Err(error) => {
                return tracing::warn!(room = %room.id(), %error, "could not read the room after its epoch changed");
            }
        };
        loop {
            let Some(subscribers) = self.authorised_subscribers(room, &record).await else {
                return;
            };
            if room.restart(&record, head, &subscribers) {
                return;
            }
        }
    }

    /// Ends the subscriptions without access. Returns `false` if the store failed.
    async fn check_subscribers(&self, room: &Room) -> bool {
        match self.look_up(room.id()).await {
            Ok((record, _)) => self.authorised_subscribers(room, &record).await.is_some(),
            Err(_) => false,
        }
    }

    /// Returns the room's subscribers after denying and removing those without access. `None` if
    /// the store failed.
    async fn authorised_subscribers(
        &self,
        room: &Room,
        record: &RoomRecord,
    ) -> Option<Vec<Subscriber>> {
        let subscribers = room.subscribers();
        for subscriber in &subscribers {
            match self.may_read_on(record, &subscriber.outbox).await {
                Ok(()) => {}
                Err(error) if error.is_retryable() => return None,
                Err(error) => {
                    if subscriber.outbox.deny(subscriber.subscription(room), error.code()) {
                        room.remove_subscriber(subscriber.subscriber_id, &subscriber.outbox);
                    }
                }
            }
        }
        Some(subscribers)
    }

    /// Checks that a subscriber still has access to the room. The service's own subscriptions
    /// always have.
    pub(crate) async fn may_read_on(
        &self,
        record: &RoomRecord,
        outbox: &Arc<Outbox>,
    ) -> Result<()> {
        let Some(user) = outbox.user() else { return Ok(()) };
        let conns = self.registry.of_user(&user);
        let conn = conns.iter().find(|conn| Arc::ptr_eq(&conn.outbox, outbox));
        // A connection without a session is ending already.
        let Some(session) = conn.and_then(|conn| conn.session()) else { return Ok(()) };
        let action = Action::Read { room: record.id.clone() };
        let verdict = self.ask(&session.identity(), &action).await?;
        self.may_read(record, &user, &verdict).await
    }

    /// A random delay of at most `most` before a reconnect, so that clients do not all return at
    /// once.
    pub(crate) fn spread(&self, most: Duration) -> Duration {
        let random = u32::from_be_bytes(crate::id::random_bytes());
        most.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// Checks that a user with this membership may read the room.
pub(crate) fn check_read(
    record: &RoomRecord,
    user: &UserId,
    membership: Option<Membership>,
    verdict: &Verdict,
) -> Result<()> {
    if *verdict == Verdict::Allow || record.may_read(user, membership) {
        return Ok(());
    }
    match membership {
        Some(Membership::Banned) => Err(Error::of(Code::Banned, "read")),
        // Non-members do not learn whether a closed room exists.
        _ => Err(Error::of(Code::NotFound, "read")),
    }
}

/// A room about to be used; on drop it is retired from memory unless it has subscribers.
struct Unused<'a> {
    core: &'a Core,
    room: &'a Arc<Room>,
}

impl Drop for Unused<'_> {
    fn drop(&mut self) {
        self.core.hub.retire_if_idle(self.room);
    }
}

/// Returns whether a page read after `cursor` continues it without a gap.
fn continues(page: &LogPage, cursor: Cursor) -> bool {
    let next = page.events.first().map_or(cursor.seq.next(), |event| event.seq);
    let is_there = page.first <= cursor.seq.next() && page.head.seq >= cursor.seq;
    page.head.epoch == cursor.epoch && next == cursor.seq.next() && is_there
}
