//! Whose turn it is among the sends of one session to one room: what was refused for the time being is to come again before
//! what was sent after it.
//!
//! A client may send A, B and C without waiting. If A is refused for the time being while B and C are on their way, they
//! must not be taken before A comes again, or the sender's own order is lost. So A is remembered, and the others are
//! refused as well, until A comes; whoever then sends them again in their order has kept it.
//!
//! Each lane has one of these for its rooms. It is asked in the order in which sends come to the lane, so a client that
//! sends A again at once, with B and C of the first time still on their way before it, keeps its order too.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::id::{MessageId, RoomId, SessionId};

/// How long a send that was refused is waited for. Who never sends it again is held up for so long and no longer; what was
/// on its way behind it has arrived by then.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How many are waited for in one lane, of one session in one room each. It takes some hundred bytes for each, two
/// megabytes at worst. Of any more the order is not kept.
const MOST: usize = 4096;

/// How often those are forgotten that were waited for long enough.
const SWEEP: Duration = Duration::from_secs(1);

/// A send: where, whose, and which.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) room: RoomId,
    pub(super) session: SessionId,
    pub(super) id: MessageId,
}

/// The sends that are to come again before others.
#[derive(Debug, Default)]
pub(super) struct OwnOrder {
    awaited: HashMap<(RoomId, SessionId), Awaited>,
    sweep: Option<Instant>,
}

#[derive(Debug)]
struct Awaited {
    id: MessageId,
    until: Instant,
}

impl OwnOrder {
    /// Whether none is waited for, so that everybody may pass.
    pub(super) fn is_empty(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Forgets those that were waited for long enough. To be called now and then.
    pub(super) fn sweep(&mut self, now: Instant) {
        if self.sweep.is_none_or(|at| at <= now) {
            self.awaited.retain(|_, awaited| awaited.until > now);
            self.sweep = (!self.is_empty()).then(|| now + SWEEP);
        }
    }

    /// Lets a send pass if none before it is waited for, and if it is the one that is: then it is waited for no longer.
    ///
    /// # Errors
    ///
    /// How long another one is still waited for.
    pub(super) fn pass(&mut self, sent: &Sent, now: Instant) -> Result<(), Duration> {
        if self.is_empty() {
            return Ok(());
        }
        let key = sent.key();
        match self.awaited.get(&key) {
            Some(awaited) if awaited.until > now && awaited.id != sent.id => {
                Err(awaited.until - now)
            }
            _ => {
                self.awaited.remove(&key);
                Ok(())
            }
        }
    }

    /// Waits for this one, whichever was waited for before: the store refused it for the time being, and had been given
    /// it before any other was refused.
    pub(super) fn wait_for(&mut self, sent: &Sent, now: Instant) {
        let key = sent.key();
        if self.awaited.len() < MOST || self.awaited.contains_key(&key) {
            self.awaited.insert(key, Awaited { id: sent.id.clone(), until: now + PATIENCE });
        }
    }

    /// Waits for this one, unless an earlier one is waited for already: it was refused for the time being before it came
    /// to the store.
    pub(super) fn wait_for_later(&mut self, sent: &Sent, now: Instant) {
        let earlier = self.awaited.get(&sent.key());
        if earlier.is_none_or(|awaited| awaited.until <= now || awaited.id == sent.id) {
            self.wait_for(sent, now);
        }
    }

    /// This one was answered for good.
    pub(super) fn settle(&mut self, sent: &Sent) {
        let key = sent.key();
        if self.awaited.get(&key).is_some_and(|awaited| awaited.id == sent.id) {
            self.awaited.remove(&key);
        }
    }
}

impl Sent {
    fn key(&self) -> (RoomId, SessionId) {
        (self.room.clone(), self.session.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(room: &str, session: &str, n: usize) -> Sent {
        let room = RoomId::new(room).unwrap();
        let session = SessionId::new(session).unwrap();
        Sent { room, session, id: MessageId::new(format!("message-number-{n:04}")).unwrap() }
    }

    #[test]
    fn one_that_is_waited_for_holds_up_its_session_in_its_room_until_it_comes() {
        let (mut order, now) = (OwnOrder::default(), Instant::now());
        order.wait_for(&sent("r", "s", 1), now);
        assert_eq!(order.pass(&sent("r", "s", 2), now), Err(PATIENCE));
        assert_eq!(order.pass(&sent("r", "another", 2), now), Ok(()));
        assert_eq!(order.pass(&sent("elsewhere", "s", 2), now), Ok(()));
        assert_eq!(order.pass(&sent("r", "s", 1), now), Ok(()));
        assert_eq!(order.pass(&sent("r", "s", 2), now), Ok(()));
        assert!(order.is_empty());
    }

    #[test]
    fn what_the_store_refused_comes_before_what_did_not_get_there() {
        let (mut order, now) = (OwnOrder::default(), Instant::now());
        order.wait_for_later(&sent("r", "s", 2), now);
        order.wait_for_later(&sent("r", "s", 3), now);
        assert!(order.pass(&sent("r", "s", 3), now).is_err());
        order.wait_for(&sent("r", "s", 1), now);
        assert!(order.pass(&sent("r", "s", 2), now).is_err());
        assert_eq!(order.pass(&sent("r", "s", 1), now), Ok(()));
    }

    #[test]
    fn only_the_answer_for_good_to_the_one_that_is_waited_for_ends_it() {
        let (mut order, now) = (OwnOrder::default(), Instant::now());
        order.wait_for(&sent("r", "s", 1), now);
        order.settle(&sent("r", "s", 2));
        assert!(order.pass(&sent("r", "s", 2), now).is_err());
        order.settle(&sent("r", "s", 1));
        assert_eq!(order.pass(&sent("r", "s", 2), now), Ok(()));
    }

    #[test]
    fn none_is_waited_for_without_end_but_one_that_comes_again_and_again() {
        let (mut order, now) = (OwnOrder::default(), Instant::now());
        order.wait_for_later(&sent("r", "s", 1), now);
        order.wait_for_later(&sent("r", "s", 1), now + PATIENCE / 2);
        assert!(order.pass(&sent("r", "s", 2), now + PATIENCE).is_err());
        assert_eq!(order.pass(&sent("r", "s", 2), now + PATIENCE * 3 / 2), Ok(()));
    }

    #[test]
    fn only_so_many_are_waited_for_and_those_of_long_ago_make_room() {
        let (mut order, now) = (OwnOrder::default(), Instant::now());
        for n in 0..=MOST {
            order.wait_for(&sent("r", &format!("s{n}"), 1), now);
        }
        assert_eq!(order.pass(&sent("r", &format!("s{MOST}"), 2), now), Ok(()));
        let later = now + PATIENCE;
        order.sweep(later);
        assert!(order.is_empty());
        order.wait_for(&sent("r", "s", 1), later);
        assert!(order.pass(&sent("r", "s", 2), later).is_err());
    }
}
