//! The two inputs of an outbox: live events of rooms, and events read from their logs for catch-up.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::code::Code;
use crate::id::{Cursor, Epoch, Seq, StateKey};
use crate::ports::Head;
use crate::state::{Arrival, arrival};
use crate::wire::{Push, RoomStatus, Status};

use super::super::outgoing::Outgoing;
use super::super::room::Room;
use super::inner::Inner;
use super::subscriptions::{CatchUp, RoomSubscription, SubscriptionRef};
use super::{CatchUpOutcome, EnqueueOutcome, Outbox, OutboxBounds};

impl Outbox {
    /// Enqueues an event that the room has applied, if it is the next one of this subscription.
    pub(crate) fn enqueue_live(
        &self,
        of: SubscriptionRef<'_>,
        item: &Arc<Outgoing>,
        open: bool,
    ) -> EnqueueOutcome {
        let Some(event) = item.as_event() else { return EnqueueOutcome::Kept };
        let mut inner = self.inner.lock();
        let subscription_id = of.subscription_id;
        if inner.closed {
            return EnqueueOutcome::Kept;
        }
        if item.ends_any()
            && inner.subscriptions.find(of).is_some()
            && inner.end_membership(subscription_id, item, open, &self.bounds)
        {
            drop(inner);
            self.ready.notify_one();
            return EnqueueOutcome::AccessLost;
        }
        let Some(subscription) = inner.subscriptions.find(of) else { return EnqueueOutcome::Kept };
        if subscription.delivered.epoch != event.epoch {
            // Either the subscription has reached a new epoch before its room, or its log is read
            // first.
            return EnqueueOutcome::Kept;
        }
        subscription.high_watermark = subscription.high_watermark.max(event.seq);
        subscription.applied = subscription.applied.max(event.seq);
        if subscription.catching_up {
            return EnqueueOutcome::Kept;
        }
        match arrival(subscription.enqueued, event.seq) {
            Arrival::Seen => return EnqueueOutcome::Kept,
            Arrival::Next => {
                subscription.enqueued = event.seq;
                inner.enqueue_bounded(subscription_id, event.seq, item.clone(), &self.bounds);
            }
            Arrival::Gap => {
                subscription.catching_up = true;
                inner.catching_up.push_back(subscription_id);
            }
        }
        drop(inner);
        self.ready.notify_one();
        EnqueueOutcome::Kept
    }

    /// Returns subscriptions that may catch up before this one, whose log has to be read from the
    /// store. None once it was passed often enough.
    pub(crate) fn may_pass(&self, catch_up: &CatchUp) -> Vec<CatchUp> {
        self.inner.lock().may_pass(catch_up)
    }

    /// Counts a subscription that caught up before the one whose turn it is.
    pub(crate) fn passed(&self) {
        self.inner.lock().passed += 1;
    }

    /// Enqueues events read from the log, in their order, from just after the cursor of `catch_up`.
    pub(crate) fn enqueue_history(
        &self,
        catch_up: &CatchUp,
        items: &[Arc<Outgoing>],
        open: bool,
    ) -> CatchUpOutcome {
        let mut inner = self.inner.lock();
        if inner.closed {
            // The connection ended while the log was read: the subscriber resumes from its cursor
            // later.
            return CatchUpOutcome::Advanced;
        }
        if inner
            .subscriptions
            .find(catch_up.subscription())
            .is_some_and(|subscription| subscription.erased != catch_up.erased)
        {
            // The events read may contain contents erased since: read them again.
            inner.settle_catch_up(catch_up);
            return CatchUpOutcome::Advanced;
        }
        let mut outcome = CatchUpOutcome::Stalled;
        for item in items {
            let Some(event) = item.as_event() else { continue };
            if inner.subscriptions.find(catch_up.subscription()).is_none() {
                return CatchUpOutcome::Advanced;
            }
            if item.ends_any()
                && inner.end_membership(catch_up.subscription_id, item, open, &self.bounds)
            {
                return CatchUpOutcome::AccessLost;
            }
            let Some(subscription) = inner.subscriptions.find(catch_up.subscription()) else {
                return CatchUpOutcome::Advanced;
            };
            if event.epoch != subscription.delivered.epoch {
                // The room's epoch changed while the log was read.
                outcome = CatchUpOutcome::Advanced;
                break;
            }
            match arrival(subscription.enqueued, event.seq) {
                Arrival::Seen => outcome = CatchUpOutcome::Advanced,
                Arrival::Gap => {
                    if subscription.enqueued < catch_up.after.seq {
                        // The queue was dropped while the log was read: read again, from the
                        // current cursor.
                        outcome = CatchUpOutcome::Advanced;
                    }
                    break;
                }
                Arrival::Next => {
                    subscription.enqueued = event.seq;
                    subscription.high_watermark = subscription.high_watermark.max(event.seq);
                    inner.enqueue(catch_up.subscription_id, event.seq, item.clone(), &self.bounds);
                    outcome = CatchUpOutcome::Advanced;
                    let all_full = self.bounds.used.load(Ordering::Relaxed) > self.bounds.all_bytes;
                    if all_full || inner.bytes >= self.bounds.bytes {
                        break;
                    }
                }
            }
        }
        inner.settle_catch_up(catch_up);
        outcome
    }

    /// Handles a read that found nothing after the cursor of `catch_up`; the log ended at `head`.
    pub(crate) fn caught_up_to(&self, catch_up: &CatchUp, head: Seq) {
        let mut inner = self.inner.lock();
        if let Some(subscription) = inner.subscriptions.find(catch_up.subscription()) {
            // A higher high watermark was a hint that did not hold. But events that the room has
            // applied since the read were not enqueued for a subscription that was catching up, and
            // have to be read.
            subscription.high_watermark = subscription.enqueued.max(head).max(subscription.applied);
        }
        inner.settle_catch_up(catch_up);
    }

    /// Moves the subscription to another cursor and enqueues its status. Access was checked after
    /// `head` was read. Does nothing if the subscription has reached another epoch since `catch_up`
    /// was made: then the status was enqueued already.
    pub(crate) fn jump(&self, catch_up: &CatchUp, status: Status, to: Cursor, head: Seq) {
        let mut inner = self.inner.lock();
        match inner.subscriptions.find(catch_up.subscription()) {
            Some(subscription) if subscription.delivered.epoch == catch_up.after.epoch => {
                inner.jump(catch_up, status, to, head, &self.bounds);
            }
            _ => inner.settle_catch_up(catch_up),
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// The same, for a subscription that may be in sync: its room, which was in the epoch `from`,
    /// continues from `to`. A subscription beyond the first retained event, or in the new epoch
    /// before its room, keeps its cursor.
    pub(crate) fn restart(
        &self,
        of: SubscriptionRef<'_>,
        from: Epoch,
        status: Status,
        to: Cursor,
        head: Head,
    ) {
        let mut inner = self.inner.lock();
        let Some(subscription) = inner.subscriptions.find(of) else { return };
        subscription.erased = head.erased;
        let head = head.cursor.seq;
        let catch_up = subscription.catch_up(of.subscription_id);
        let is_further = match status {
            Status::Gap => subscription.delivered.seq >= to.seq,
            _ => from != to.epoch,
        };
        if subscription.delivered.epoch == to.epoch && is_further {
            subscription.high_watermark = subscription.high_watermark.max(head);
            subscription.authorised_at = subscription.authorised_at.max(head);
            subscription.applied = subscription.applied.max(to.seq);
            inner.settle_catch_up(&catch_up);
            if from != to.epoch {
                // The delivered state is of the old epoch.
                inner.want_snapshot(of.subscription_id);
            }
        } else {
            inner.jump(&catch_up, status, to, head, &self.bounds);
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// Drops the queued events of a room and reads them from the log again: `erased` events of the
    /// log were changed by erasures.
    pub(crate) fn read_again(&self, of: SubscriptionRef<'_>, erased: u64) {
        let mut inner = self.inner.lock();
        let subscription_id = of.subscription_id;
        let Some(subscription) = inner.subscriptions.find(of) else { return };
        subscription.enqueued = subscription.delivered.seq;
        subscription.erased = erased;
        let catch_up = subscription.catch_up(subscription_id);
        inner.note_moved(subscription_id);
        inner.drop_enqueued(subscription_id, &self.bounds);
        inner.want_snapshot(subscription_id);
        inner.settle_catch_up(&catch_up);
        drop(inner);
        self.ready.notify_one();
    }

    /// Ends a subscription without access, with the status `denied`. Returns `false` if it has
    /// ended already.
    pub(crate) fn deny(&self, of: SubscriptionRef<'_>, code: Code) -> bool {
        self.deny_if(of, code, |_| true)
    }

    /// The same, if it is in this epoch.
    pub(crate) fn deny_in(&self, of: SubscriptionRef<'_>, epoch: Epoch, code: Code) -> bool {
        self.deny_if(of, code, |subscription| subscription.delivered.epoch == epoch)
    }

    fn deny_if(
        &self,
        of: SubscriptionRef<'_>,
        code: Code,
        wanted: impl FnOnce(&RoomSubscription) -> bool,
    ) -> bool {
        let mut inner = self.inner.lock();
        let is_it = inner.subscriptions.find(of).is_some_and(|subscription| wanted(subscription));
        if is_it {
            inner.deny(of.subscription_id, code, &self.bounds);
        }
        drop(inner);
        self.ready.notify_one();
        is_it
    }

    /// Requires a snapshot of the room's whole state, which could not be taken now.
    pub(crate) fn require_snapshot(&self, room: &Room) {
        let mut inner = self.inner.lock();
        if let Some(subscription_id) = inner.subscriptions.id_of(room.id()) {
            inner.want_snapshot(subscription_id);
        }
    }

    /// Records that state of this room was delivered.
    pub(crate) fn state_delivered(&self, room: &Room) {
        let mut inner = self.inner.lock();
        if let Some(subscription_id) = inner.subscriptions.id_of(room.id())
            && let Some(subscription) = inner.subscriptions.get_mut(subscription_id)
        {
            subscription.state_delivered = true;
            inner.note_moved(subscription_id);
        }
    }

    /// Enqueues the status of a room.
    pub(crate) fn notify_status(&self, status: RoomStatus) {
        self.inner.lock().enqueue_unbounded(Outgoing::new(Push::Room(status)), &self.bounds);
        self.ready.notify_one();
    }

    /// Enqueues an ephemeral message. If there are too many, the oldest one is dropped.
    pub(crate) fn signal(&self, item: Arc<Outgoing>) {
        let mut inner = self.inner.lock();
        if inner.closed || inner.bytes + inner.unreleased + item.size > self.bounds.bytes {
            return;
        }
        if inner.signals >= self.bounds.signals {
            let Some(at) = inner.pushes.iter().position(|q| matches!(q.item.push, Push::Signal(_)))
            else {
                return;
            };
            if let Some(old) = inner.pushes.remove(at) {
                inner.uncount(old.item.size, &self.bounds);
                inner.signals -= 1;
            }
        }
        inner.signals += 1;
        inner.enqueue_unbounded(item, &self.bounds);
        drop(inner);
        self.ready.notify_one();
    }

    /// Enqueues the newer value of a state key, in place of the queued one.
    pub(crate) fn state(&self, of: SubscriptionRef<'_>, key: &StateKey, item: &Arc<Outgoing>) {
        let mut inner = self.inner.lock();
        let subscription_id = of.subscription_id;
        if inner.closed {
            return;
        }
        match inner.subscriptions.find(of) {
            // The snapshot that is still to be sent will contain it.
            Some(subscription) if subscription.snapshot => return,
            Some(_) => {}
            None => return,
        }
        inner.count(item.size, &self.bounds);
        let old = inner.state.insert((subscription_id, key.clone()), item.clone());
        if let Some(subscription) = inner.subscriptions.get_mut(subscription_id) {
            subscription.state_delivered = true;
            subscription.state_enqueued += usize::from(old.is_none());
        }
        inner.note_moved(subscription_id);
        if let Some(old) = old {
            inner.uncount(old.size, &self.bounds);
        }
        if inner.bytes + inner.unreleased > self.bounds.bytes {
            inner.conflate_state(&self.bounds);
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// Requires a snapshot of the whole state for this subscription.
    pub(crate) fn require_snapshot_of(&self, of: SubscriptionRef<'_>) {
        self.with_ready(|inner| {
            if inner.subscriptions.find(of).is_some() {
                inner.want_snapshot(of.subscription_id);
            }
        });
    }
}

impl Inner {
    /// Moves the subscription to `to`, and enqueues its status.
    fn jump(
        &mut self,
        catch_up: &CatchUp,
        status: Status,
        to: Cursor,
        head: Seq,
        bounds: &OutboxBounds,
    ) {
        let Some(subscription) = self.subscriptions.find(catch_up.subscription()) else { return };
        let room = subscription.room.id().clone();
        subscription.delivered = to;
        subscription.enqueued = to.seq;
        if status == Status::Reset {
            subscription.applied = to.seq;
            subscription.authorised_at = head;
        }
        subscription.authorised_at = subscription.authorised_at.max(head);
        subscription.high_watermark = head.max(to.seq).max(subscription.applied);
        let status = RoomStatus { room, status, cursor: Some(to), head, code: None };
        self.note_moved(catch_up.subscription_id);
        self.drop_enqueued(catch_up.subscription_id, bounds);
        self.enqueue_unbounded(Outgoing::new(Push::Room(status)), bounds);
        self.want_snapshot(catch_up.subscription_id);
        self.settle_catch_up(catch_up);
    }
}
