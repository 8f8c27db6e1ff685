//! Sender order: of the sends of one session to one room, a retryably refused one is retried before
//! later ones are accepted.
//!
//! A client may send A, B and C without waiting. If A is retryably refused while B and C are in
//! flight, they must not be accepted before the retry of A arrives, or the sender order is lost. So
//! the retry of A is awaited, and the others are refused as well, until it arrives; a client that
//! then resends them in order has kept the order.
//!
//! Each shard has one of these for its rooms. Sends are checked in the order in which they reach
//! the shard, so a client that retries A at once, with B and C of the first time still in flight
//! before the retry, keeps its order too. The arrival time of a send's message counts, not the time
//! at which the shard processes it: a send that waited behind another command, or in the queue
//! while the store was slow, is still behind A. So an awaited retry is retained for a while after
//! new sends may pass.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::id::{MessageId, RoomId, SessionId};

/// How long a refused send is awaited since its refusal, or since the last refusal behind it. A
/// client that never retries it, and sends nothing else, is blocked for this long and no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long early sends extend the wait, measured from the session's last refusal for a reason
/// other than the wait itself. A client that never retries the awaited send, and continues with
/// others, is blocked for this time and [`PATIENCE`].
const LONGEST: Duration = Duration::from_secs(20);

/// Maximum awaited sessions in one shard, and rooms of each. A room takes some hundred bytes, ten
/// megabytes in all at worst. Beyond that the order is not kept.
const MOST_SESSIONS: usize = 4096;
const MOST_ROOMS: usize = 8;

/// Interval at which expired waits are removed.
const SWEEP: Duration = Duration::from_secs(1);

/// How long awaited retries are retained after that, for sends that arrived before and are
/// processed late: longer than all commands in flight of a connection wait for a store that is
/// locked.
const RETAINED: Duration = Duration::from_secs(600);

/// A send: room, session and message id.
#[derive(Debug, Clone)]
pub(super) struct SendRef {
    pub(super) room: RoomId,
    pub(super) session: SessionId,
    pub(super) id: MessageId,
}

/// The sends whose retry must precede others.
///
/// Invariant: no session has an empty list, or two entries of one room.
#[derive(Debug, Default)]
pub(super) struct SenderOrder {
    awaited: HashMap<SessionId, Vec<AwaitedRetry>>,
    /// When the expired entries are removed next.
    sweep: Option<Instant>,
    /// When capacity may be freed next for new entries.
    clear: Option<Instant>,
}

#[derive(Debug)]
struct AwaitedRetry {
    room: RoomId,
    id: MessageId,
    /// The next send to await, if it is known: the store refused it as well.
    next: Option<MessageId>,
    /// The first send that was refused because this one must be retried first. If its retry arrives
    /// before this one's, the sender has abandoned this one.
    first_behind: Option<MessageId>,
    until: Instant,
    /// A send that comes too early does not extend the wait from then on.
    extend_until: Instant,
}

impl AwaitedRetry {
    fn new(room: &RoomId, id: &MessageId, now: Instant) -> Self {
        let (room, id) = (room.clone(), id.clone());
        let (until, extend_until) = (now + PATIENCE, now + LONGEST);
        Self { room, id, next: None, first_behind: None, until, extend_until }
    }
}

impl SenderOrder {
    /// Returns whether no retry is awaited, so that every send may pass.
    fn is_empty(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Removes the entries that no send can be behind any more. Call it regularly.
    pub(super) fn sweep(&mut self, now: Instant) {
        if !self.is_empty() && self.sweep.is_none_or(|next| next <= now) {
            self.expire(|until| until + RETAINED <= now);
            self.sweep = Some(now + SWEEP);
        }
    }

    /// Removes the entries whose `until` satisfies `is_over`.
    fn expire(&mut self, is_over: impl Fn(Instant) -> bool) {
        self.awaited.retain(|_, rooms| {
            rooms.retain(|awaited| !is_over(awaited.until));
            !rooms.is_empty()
        });
    }

    /// Admits a send that arrived at `at`, if no earlier retry is awaited, or if it is that retry:
    /// then the next one is awaited.
    ///
    /// # Errors
    ///
    /// How long another retry is still awaited.
    pub(super) fn admit(
        &mut self,
        send_ref: &SendRef,
        at: Instant,
        now: Instant,
    ) -> Result<(), Duration> {
        if self.is_empty() {
            return Ok(());
        }
        let Some(awaited) = self.find(send_ref) else { return Ok(()) };
        if awaited.until <= at || awaited.first_behind.as_ref() == Some(&send_ref.id) {
            self.remove(send_ref);
        } else if awaited.id == send_ref.id {
            self.advance(send_ref, now);
        } else {
            awaited.first_behind.get_or_insert_with(|| send_ref.id.clone());
            if at < awaited.extend_until {
                awaited.until = awaited.until.max(now + PATIENCE);
            }
            return Err(awaited.until.saturating_duration_since(now));
        }
        Ok(())
    }

    /// Awaits the retry of an admitted send that was retryably refused, before any send that was
    /// not admitted. Of several calls, the send of the last one comes first.
    pub(super) fn await_retry(&mut self, send_ref: &SendRef, now: Instant) {
        let awaited = AwaitedRetry::new(&send_ref.room, &send_ref.id, now);
        if let Some(held) = self.find(send_ref) {
            // The awaited send came after this one, which was in the store's hands already, or
            // whose turn it would have been next.
            let later = std::mem::replace(held, awaited);
            held.next = Some(later.id).filter(|id| *id != send_ref.id && later.until > now);
            return;
        }
        if !self.has_capacity(&send_ref.session) && self.clear.is_none_or(|next| next <= now) {
            // Only late sends, if any, are behind these.
            self.expire(|until| until <= now);
            self.clear = Some(now + SWEEP);
        }
        if self.has_capacity(&send_ref.session) {
            self.awaited.entry(send_ref.session.clone()).or_default().push(awaited);
        }
    }

    /// Returns whether one more retry can be awaited.
    fn has_capacity(&self, session: &SessionId) -> bool {
        match self.awaited.get(session) {
            Some(rooms) => rooms.len() < MOST_ROOMS,
            None => self.awaited.len() < MOST_SESSIONS,
        }
    }

    /// Extends the wait after a refusal behind the awaited send that would have occurred in any
    /// case.
    pub(super) fn extend(&mut self, send_ref: &SendRef, now: Instant) {
        if let Some(awaited) = self.find(send_ref) {
            (awaited.until, awaited.extend_until) = (now + PATIENCE, now + LONGEST);
        }
    }

    /// Ends the wait for this send: it was stored or finally refused.
    pub(super) fn settle(&mut self, send_ref: &SendRef, now: Instant) {
        if self.find(send_ref).is_some_and(|awaited| awaited.id == send_ref.id) {
            self.advance(send_ref, now);
        }
    }

    fn find(&mut self, send_ref: &SendRef) -> Option<&mut AwaitedRetry> {
        let rooms = self.awaited.get_mut(&send_ref.session)?;
        rooms.iter_mut().find(|awaited| awaited.room == send_ref.room)
    }

    /// The awaited retry arrived: the next one is awaited.
    fn advance(&mut self, send_ref: &SendRef, now: Instant) {
        let Some(awaited) = self.find(send_ref) else { return };
        match awaited.next.take().or(awaited.first_behind.take()) {
            Some(next) => *awaited = AwaitedRetry::new(&send_ref.room, &next, now),
            None => self.remove(send_ref),
        }
    }

    fn remove(&mut self, send_ref: &SendRef) {
        if let Some(rooms) = self.awaited.get_mut(&send_ref.session) {
            rooms.retain(|awaited| awaited.room != send_ref.room);
            if rooms.is_empty() {
                self.awaited.remove(&send_ref.session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn send_ref(room: &str, session: &str, n: usize) -> SendRef {
        let room = RoomId::new(room).unwrap();
        let session = SessionId::new(session).unwrap();
        SendRef { room, session, id: MessageId::new(format!("message-number-{n:04}")).unwrap() }
    }

    fn mine(n: usize) -> SendRef {
        send_ref("r", "s", n)
    }

    /// Admits sends one after the other. Returns which of them pass.
    fn passing(
        order: &mut SenderOrder,
        sends: impl IntoIterator<Item = usize>,
        now: Instant,
    ) -> Vec<bool> {
        sends.into_iter().map(|n| order.admit(&mine(n), now, now).is_ok()).collect()
    }

    /// A retryable refusal blocks its session in its room until the retry arrives.
    #[test]
    fn refused_send_blocks_session_in_room() {
        let (mut order, now) = (SenderOrder::default(), Instant::now());
        order.await_retry(&mine(1), now);
        assert_eq!(order.admit(&mine(2), now, now), Err(PATIENCE));
        assert_eq!(order.admit(&send_ref("r", "another", 2), now, now), Ok(()));
        assert_eq!(order.admit(&send_ref("elsewhere", "s", 2), now, now), Ok(()));
        assert_eq!(passing(&mut order, [1, 2, 3], now), [true; 3]);
        assert!(order.is_empty());
    }

    /// After a retry, the first of the sends refused behind it is awaited.
    #[test]
    fn next_refused_send_is_awaited() {
        let (mut order, now) = (SenderOrder::default(), Instant::now());
        order.await_retry(&mine(1), now);
        // 3 of the first time is still in flight when 1 is retried.
        assert_eq!(passing(&mut order, [2, 1, 3, 2, 3], now), [false, true, false, true, true]);
        assert!(order.is_empty());
    }

    /// Sends that the store refused come in their order before those refused later.
    #[test]
    fn store_refusals_precede_later_refusals() {
        let (mut order, now) = (SenderOrder::default(), Instant::now());
        // As a shard does for a batch: from the last to the first.
        for n in [3, 2, 1] {
            order.await_retry(&mine(n), now);
        }
        assert_eq!(passing(&mut order, [4, 5, 3, 2], now), [false; 4]);
        // The retries start over, and the store refuses the first again.
        assert_eq!(passing(&mut order, [1], now), [true]);
        order.await_retry(&mine(1), now);
        assert_eq!(passing(&mut order, [2, 3, 4, 5], now), [false; 4]);
        assert_eq!(
            passing(&mut order, [1, 3, 2, 3, 4, 5], now),
            [true, false, true, true, true, true]
        );
        assert!(order.is_empty());
    }

    /// Only a final answer to the awaited send ends the wait for it.
    #[test]
    fn final_refusal_ends_only_own_wait() {
        let (mut order, now) = (SenderOrder::default(), Instant::now());
        order.await_retry(&mine(1), now);
        order.settle(&mine(2), now);
        assert_eq!(passing(&mut order, [3], now), [false]);
        order.settle(&mine(1), now);
        assert_eq!(passing(&mut order, [4, 3, 4], now), [false, true, true]);
    }

    /// A retry of a later send shows that the awaited one was abandoned.
    #[test]
    fn retry_behind_awaited_send_abandons_it() {
        let (mut order, now) = (SenderOrder::default(), Instant::now());
        order.await_retry(&mine(1), now);
        assert_eq!(passing(&mut order, [2, 3, 2, 3], now), [false, false, true, true]);
    }

    /// Each store failure extends the wait, and a send that comes too early does not.
    #[test]
    fn wait_extends_on_failures_only() {
        let (mut order, start) = (SenderOrder::default(), Instant::now());
        order.await_retry(&mine(0), start);
        let mut now = start;
        for n in 1..60 {
            now += 4 * SECOND;
            assert_eq!(passing(&mut order, [n], now), [false], "{n}");
            order.extend(&mine(n), now);
        }
        let last = now;
        for n in 60..66 {
            now += 4 * SECOND;
            assert_eq!(passing(&mut order, [n], now), [now >= last + LONGEST + 4 * SECOND], "{n}");
        }
    }

    /// The time of arrival counts, and not the time at which the shard processes a send.
    #[test]
    fn arrival_time_decides_waiting() {
        let (mut order, now) = (SenderOrder::default(), Instant::now());
        order.await_retry(&mine(1), now);
        let later = now + 30 * SECOND;
        order.sweep(now);
        assert!(order.admit(&mine(2), now + SECOND, later).is_err());
        assert!(
            order.admit(&mine(3), later + SECOND, later + SECOND).is_err(),
            "that was just now"
        );
        assert!(order.admit(&mine(4), later + PATIENCE * 2, later + PATIENCE * 2).is_ok());
    }

    /// A later arrival from another session ends no wait of an earlier one.
    #[test]
    fn later_sends_end_no_wait() {
        let (mut order, now) = (SenderOrder::default(), Instant::now());
        order.await_retry(&mine(1), now);
        let later = now + PATIENCE * 2;
        order.sweep(later);
        assert_eq!(order.admit(&send_ref("r", "another", 1), later, later), Ok(()));
        assert!(order.admit(&mine(2), now, later).is_err(), "arrived before 1 was refused");
        assert_eq!(passing(&mut order, [1, 2], later), [true; 2]);
    }

    /// The table of awaited sends is bounded, and old ones make room.
    #[test]
    fn awaited_sends_are_bounded_and_expire() {
        let (mut order, now) = (SenderOrder::default(), Instant::now());
        for n in 0..=MOST_ROOMS {
            order.await_retry(&send_ref(&format!("r{n}"), "s", 1), now);
        }
        assert!(order.admit(&send_ref("r0", "s", 2), now, now).is_err());
        assert!(order.admit(&send_ref(&format!("r{MOST_ROOMS}"), "s", 2), now, now).is_ok());
        for n in 1..=MOST_SESSIONS {
            order.await_retry(&send_ref("r", &format!("s{n}"), 1), now);
        }
        assert!(order.admit(&send_ref("r", "s1", 2), now, now).is_err());
        assert!(order.admit(&send_ref("r", &format!("s{MOST_SESSIONS}"), 2), now, now).is_ok());
        let later = now + PATIENCE;
        order.await_retry(&mine(1), later);
        assert!(order.admit(&mine(2), later, later).is_err());
        let long_after = later + PATIENCE + RETAINED;
        order.sweep(long_after);
        assert!(order.is_empty());
    }
}
