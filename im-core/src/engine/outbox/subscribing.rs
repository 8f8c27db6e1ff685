//! Subscribing and unsubscribing.

use std::sync::Arc;

use crate::id::{Cursor, RoomId, Seq};

use super::super::room::Room;
use super::Outbox;
use super::subscriptions::{RoomSubscription, SubscriptionRef, SubscriptionStart};

impl Outbox {
    /// Subscribes to `room` from `start` and returns the subscription's id; `None` if the
    /// connection has ended.
    ///
    /// The caller holds the room's lock and adds the outbox to its list at `subscriber_id`. `head`
    /// is the last event that the room has applied, and `erased` its count of erasures. If the
    /// epochs of `head` and `start` differ, one of the two is behind: the subscription enqueues no
    /// event before its log was read. With `in_sync`, the subscriber has the room's state already.
    pub(crate) fn subscribe(
        &self,
        room: Arc<Room>,
        subscriber_id: usize,
        start: SubscriptionStart,
        head: Cursor,
        erased: u64,
        in_sync: bool,
    ) -> Option<u32> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return None;
        }
        let from = start.cursor;
        let (applied, least) = match head.epoch == from.epoch {
            true => (head.seq, head.seq),
            false => (Seq::ZERO, from.seq.next()),
        };
        let high_watermark = least.max(start.authorised_at);
        let catching_up = from.seq < high_watermark;
        let subscription = RoomSubscription {
            room,
            subscriber_id,
            delivered: from,
            enqueued: from.seq,
            high_watermark,
            applied,
            catching_up,
            snapshot: false,
            state_enqueued: 0,
            state_delivered: start.state_digest.is_some(),
            authorised_at: start.authorised_at,
            erased,
        };
        let subscription_id = inner.subscriptions.insert(subscription);
        inner.note_moved(subscription_id);
        if !in_sync {
            inner.want_snapshot(subscription_id);
        }
        if catching_up {
            inner.catching_up.push_back(subscription_id);
        }
        drop(inner);
        self.ready.notify_one();
        Some(subscription_id)
    }

    /// Unsubscribes. Returns the subscription, so that the caller can remove it from the room's
    /// list.
    pub(crate) fn unsubscribe(&self, room: &RoomId) -> Option<RoomSubscription> {
        let mut inner = self.inner.lock();
        let subscription_id = inner.subscriptions.id_of(room)?;
        inner.remove_subscription(subscription_id, &self.bounds)
    }

    /// Returns whether this very subscription still exists.
    pub(crate) fn is_subscribed(&self, of: SubscriptionRef<'_>) -> bool {
        self.inner.lock().subscriptions.find(of).is_some()
    }

    /// Removes all subscriptions.
    pub(crate) fn unsubscribe_all(&self) -> Vec<RoomSubscription> {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let subscriptions = inner.subscriptions.remove_all();
        inner.catching_up.clear();
        inner.clear_pushes(&self.bounds);
        let held = inner.held.take();
        drop(inner);
        drop(held);
        self.progress.notify_one();
        subscriptions
    }

    /// The number of subscriptions after subscribing to `more`.
    pub(crate) fn count_with(&self, more: &[RoomId]) -> usize {
        let inner = self.inner.lock();
        inner.subscriptions.len()
            + more.iter().filter(|room| inner.subscriptions.id_of(room).is_none()).count()
    }

    /// Retains the valid ones of a client's cursors: of subscribed rooms, of the same epoch, and
    /// not beyond the last event delivered.
    pub(crate) fn retain_delivered(
        &self,
        mut cursors: Vec<(RoomId, Cursor)>,
    ) -> Vec<(RoomId, Cursor)> {
        let inner = self.inner.lock();
        cursors.retain(|(room, cursor)| {
            let subscription = inner
                .subscriptions
                .id_of(room)
                .and_then(|subscription_id| inner.subscriptions.get(subscription_id));
            subscription.is_some_and(|subscription| {
                cursor.epoch == subscription.delivered.epoch
                    && cursor.seq <= subscription.delivered.seq
            })
        });
        cursors
    }
}
