//! Removal of old data: retention, deleted rooms, erased users.
//!
//! A removal from the store is announced here and on the other nodes at once, by a hint; if the
//! hint is lost, the comparison with the store finds it. Subscribers whose next events were trimmed
//! receive the status `gap`, by the same comparison or when they catch up, and only after their
//! access was checked again: the event that ended it may be gone.

use std::sync::Arc;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{Epoch, RoomId, StateKey, UserId};
use crate::ports::BusMessage;
use crate::state::{Act, Intent, Keep, RoomRecord, Trimmed};
use crate::wire::RoomKind;

use super::Engine;
use super::commands;
use super::core::Core;
use super::metrics;
use super::outbox::CatchUp;
use super::outbox::Outbox;
use super::room::Room;

/// Rooms in one read.
const PAGE: usize = 64;
/// Records that one store call removes or examines.
const STEP: usize = 512;

impl Engine {
    /// Trims a room's log now, whatever the retention policy is. Returns the first retained event
    /// and the number of events removed.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]; errors of the store.
    pub async fn trim_room(&self, room: &RoomId, keep: &Keep) -> Result<Trimmed> {
        let core = self.core();
        let (record, _) = core.look_up(room).await?;
        let mut removed = 0;
        loop {
            let trimmed = core.trim(&record, keep, STEP).await?;
            removed += trimmed.removed;
            if !trimmed.more {
                return Ok(Trimmed { removed, ..trimmed });
            }
        }
    }

    /// Deletes a room permanently.
    ///
    /// Its subscribers, on any node, receive `denied` with [`Code::NotFound`] and are unsubscribed;
    /// a room created under the same id later is another one. Its data is purged from the store in
    /// the background, a part at a time.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`] if there is no such room; errors of the store. After [`Code::Unknown`],
    /// delete it again.
    pub async fn delete_room(&self, room: &RoomId) -> Result<()> {
        let core = self.core();
        let existed = core.store.delete_room(room).await?;
        core.compare(room).await;
        core.publish(BusMessage::RoomChanged { room: room.clone() });
        if !existed {
            return Err(Error::of(Code::NotFound, "delete"));
        }
        ::metrics::counter!(metrics::DELETED).increment(1);
        tracing::info!(%room, "a room was deleted");
        Ok(())
    }

    /// Erases a user: ends their sessions everywhere, removes their memberships and the state that
    /// they wrote, and empties every event that they sent, leaving one of kind `im.erased`. Returns
    /// the number of events changed.
    ///
    /// [`Upkeep::erase_user`] lists exactly what is erased. A room whose only owner this was
    /// remains without an owner: [`Engine::change_members`] assigns another.
    ///
    /// Disable sign-in of this user before the call, and never reuse the id for another user. The
    /// duration is proportional to the logs of the user's rooms. If it is interrupted, or a node
    /// was disconnected meanwhile that still had state of theirs to write, call it again.
    ///
    /// [`Upkeep::erase_user`]: crate::ports::Upkeep::erase_user
    ///
    /// # Errors
    ///
    /// Errors of the store; call it again.
    pub async fn erase_user(&self, user: &UserId) -> Result<u64> {
        let core = self.core();
        commands::end_sessions(core, user, None, Code::Kicked).await?;
        core.remove_from_rooms(user).await?;
        core.drop_pending_of(user).await?;
        core.publish(BusMessage::Erased { user: user.clone() });
        let mut events = 0;
        loop {
            let step = core.store.erase_user(user, STEP).await?;
            events += step.events;
            if !step.more {
                break;
            }
            tokio::task::yield_now().await;
        }
        core.compare_all().await;
        core.publish(BusMessage::Erased { user: user.clone() });
        ::metrics::counter!(metrics::ERASED).increment(events);
        tracing::info!(events, "a user was erased");
        Ok(events)
    }
}

impl Core {
    /// Runs one round: purges some remains of deleted rooms, and trims some rooms.
    pub(crate) async fn run_upkeep(self: &Arc<Self>) {
        if let Err(error) = self.purge().await {
            tracing::warn!(%error, "the remains of deleted rooms could not be purged; the next round retries");
        }
        if self.retention.is_needed()
            && let Err(error) = self.retain().await
        {
            tracing::warn!(%error, "old events could not be removed; the next round retries");
        }
    }

    async fn purge(&self) -> Result<()> {
        let mut left = self.config.upkeep_events;
        while left > 0 && self.store.purge(STEP).await? {
            left = left.saturating_sub(STEP);
        }
        Ok(())
    }

    /// Trims rooms, starting where the last round stopped.
    async fn retain(self: &Arc<Self>) -> Result<()> {
        let (mut rooms, mut events) = (self.config.upkeep_rooms, self.config.upkeep_events);
        while rooms > 0 && events > 0 {
            let after = self.swept.lock().clone();
            let page = self.store.rooms(after.as_ref(), rooms.min(PAGE)).await?;
            if page.is_empty() {
                *self.swept.lock() = None;
                return Ok(());
            }
            for record in page {
                // Recorded first: a policy that panics on a room, or a log that cannot be read,
                // does not block the other rooms.
                *self.swept.lock() = Some(record.id.clone());
                rooms = rooms.saturating_sub(1);
                let keep = self.retention.keep(&record, self.now());
                let wanted = keep.after.is_some() || keep.drops_some(&record);
                while wanted && record.kept() > 0 && events > 0 {
                    let trimmed = self.trim(&record, &keep, events.min(STEP)).await?;
                    events -= events.min(trimmed.removed as usize);
                    if !trimmed.more {
                        break;
                    }
                }
                if events == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn trim(
        self: &Arc<Self>,
        record: &RoomRecord,
        keep: &Keep,
        limit: usize,
    ) -> Result<Trimmed> {
        let trimmed = self.store.trim(&record.id, keep, limit).await?;
        let trimmed = trimmed.ok_or_else(|| Error::of(Code::NotFound, "trim"))?;
        if trimmed.removed > 0 {
            ::metrics::counter!(metrics::TRIMMED).increment(trimmed.removed);
            if let Some(room) = self.hub.get(&record.id) {
                room.trim_window(record.epoch, trimmed.first);
            }
            self.publish(BusMessage::RoomChanged { room: record.id.clone() });
        }
        Ok(trimmed)
    }

    /// Removes a user from the rooms that have other members, so that those are notified, and
    /// removes their state.
    async fn remove_from_rooms(self: &Arc<Self>, user: &UserId) -> Result<()> {
        let mut after: Option<RoomId> = None;
        loop {
            let rooms = self.store.rooms_of(user, after.as_ref(), PAGE).await?;
            let Some((last, ..)) = rooms.last() else { return Ok(()) };
            after = Some(last.clone());
            for (room, kind, _) in rooms {
                self.remove_state_of(&room, user).await?;
                if matches!(kind, RoomKind::Group | RoomKind::Channel) {
                    let intent = Intent::Remove(user.clone());
                    let act = Act::Change { by: UserId::erased(), intent };
                    match self.append(room, act).await {
                        Err(error) if error.code() != Code::NotFound => return Err(error),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Removes state with a newer stamp, so that clients that have the values drop them.
    async fn remove_state_of(self: &Arc<Self>, room: &RoomId, user: &UserId) -> Result<()> {
        let mut entries = self.store.state(room).await?.entries;
        entries.extend(self.state_writer.pending(room));
        let keys: std::collections::BTreeSet<_> = entries
            .iter()
            .filter(|entry| entry.from == *user && entry.value.is_some())
            .map(|entry| entry.key.clone())
            .collect();
        for key in keys {
            self.remove_state(room, key).await?;
        }
        Ok(())
    }

    async fn remove_state(self: &Arc<Self>, room: &RoomId, key: StateKey) -> Result<()> {
        let erased = UserId::erased();
        match commands::put_state(self, room.clone(), key, None, erased, None).await {
            // A newer value was written, or the room was deleted.
            Err(error) if !matches!(error.code(), Code::Stale | Code::NotFound) => Err(error),
            _ => Ok(()),
        }
    }

    /// Drops this node's pending data of a user who is being erased: waiting values must not be
    /// written afterwards.
    pub(crate) async fn drop_pending_of(self: &Arc<Self>, user: &UserId) -> Result<()> {
        self.state_writer.drop_user(user);
        self.remote_state.drop_user(user);
        for room in self.hub.rooms() {
            let _hold = self.hold_state(&room).await?;
            for key in room.state_keys_of(user) {
                self.remove_state(room.id(), key).await?;
            }
        }
        Ok(())
    }

    /// Compares a room with the store, if it is in memory, after a change other than an append.
    pub(crate) async fn compare(self: &Arc<Self>, room: &RoomId) {
        if let Some(room) = self.hub.get(room) {
            self.check(&[room]).await;
        }
        if matches!(self.store.room(room).await, Ok(None)) {
            self.state_writer.drop_room(room);
            self.remote_state.drop_room(room);
        }
    }

    /// Denies and removes the subscribers of a room that is not in the store. They are listed
    /// before the store is read once more, so that subscribers of a room that is created again
    /// meanwhile are not among them.
    pub(crate) async fn retire_deleted(&self, room: &Arc<Room>, epoch: Epoch) {
        let subscribers = room.subscribers();
        match self.store.heads(std::slice::from_ref(room.id())).await.as_deref() {
            Ok([None]) => {}
            _ => return,
        }
        for subscriber in &subscribers {
            if subscriber.outbox.deny_in(subscriber.subscription(room), epoch, Code::NotFound) {
                room.remove_subscriber(subscriber.subscriber_id, &subscriber.outbox);
            }
        }
        self.hub.retire_if_idle(room);
    }

    /// Checks that a subscriber still has access, after an event that may have ended it was read
    /// without its name. If not, the subscription is denied.
    pub(crate) async fn check_subscriber(
        &self,
        outbox: &Arc<Outbox>,
        catch_up: &CatchUp,
    ) -> Checked {
        let checked = match self.look_up(catch_up.room.id()).await {
            Ok((record, _)) => self.may_read_on(&record, outbox).await,
            Err(error) => Err(error),
        };
        match checked {
            Ok(()) => Checked::MayRead,
            Err(error) if error.is_retryable() => Checked::NotNow,
            Err(error) => {
                outbox.deny(catch_up.subscription(), error.code());
                Checked::Denied
            }
        }
    }
}

/// The outcome of a check of a subscriber's access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// The subscription continues.
    MayRead,
    /// The store's read failed.
    NotNow,
    /// It was denied; remove it from the room's list.
    Denied,
}
