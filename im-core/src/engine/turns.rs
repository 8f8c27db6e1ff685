//! Whose turn it is among the appends that wait in one lane.
//!
//! As long as all that came goes to the store in one batch, there is nothing to decide. Behind that, each user gets the same
//! share of rows: an append's turn is the number of rows that were served when it came, or, if that is later, where its user's
//! earlier ones end (start-time fair queueing, Goyal et al., 1996). So a user who makes large rooms waits behind their own
//! rooms, and a user who sends a message now and then waits for the batch under way and for nothing else. The appends of one
//! user keep their order.

use std::collections::{BTreeMap, HashMap};

use crate::id::{RoomId, UserId};

/// Whose share of the rows something counts against.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Share {
    /// A user's, over all of their sessions.
    User(UserId),
    /// The service's own, in a room: it speaks for many.
    Room(RoomId),
}

/// What an append is in its store: rows that it writes, and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// What one call of the store may be handed.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchBounds {
    pub(super) appends: usize,
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// How much of a batch is taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    appends: usize,
    weight: Weight,
}

impl Taken {
    /// Adds something of this weight, if it still fits. The first always does.
    pub(super) fn add(&mut self, weight: Weight, bounds: &BatchBounds) -> bool {
        let rows = self.weight.rows.saturating_add(weight.rows);
        let bytes = self.weight.bytes.saturating_add(weight.bytes);
        let fits = self.appends < bounds.appends && rows <= bounds.rows && bytes <= bounds.bytes;
        if fits || self.appends == 0 {
            *self = Self { appends: self.appends + 1, weight: Weight { rows, bytes } };
            return true;
        }
        false
    }
}

/// What waits, in the order of its turns.
///
/// Invariant: `ends` holds no share whose end has been served, but for some that are about to be forgotten.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// By the turn, and of one turn by arrival.
    waiting: BTreeMap<(u64, u64), (T, Weight)>,
    /// Where the rows of each share end.
    ends: HashMap<Share, u64>,
    /// Rows served, as seen by the one whose turn it was last.
    served: u64,
    arrived: u64,
}

impl<T> Turns<T> {
    pub(super) fn new() -> Self {
        Self { waiting: BTreeMap::new(), ends: HashMap::new(), served: 0, arrived: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds something to what waits.
    pub(super) fn push(&mut self, share: Share, weight: Weight, item: T) {
        let end = self.ends.entry(share).or_default();
        let turn = self.served.max(*end);
        *end = turn.saturating_add(weight.rows.max(1) as u64);
        self.arrived += 1;
        self.waiting.insert((turn, self.arrived), (item, weight));
    }

    /// The next batch; empty only if nothing waits.
    pub(super) fn batch(&mut self, bounds: &BatchBounds) -> Vec<T> {
        let (mut taken, mut batch) = (Taken::default(), Vec::new());
        while let Some(first) = self.waiting.first_entry() {
            if !taken.add(first.get().1, bounds) {
                break;
            }
            let ((turn, _), (item, _)) = first.remove_entry();
            self.served = turn;
            batch.push(item);
        }
        self.forget();
        batch
    }

    /// Forgets the shares that have had no more than was their due.
    fn forget(&mut self) {
        if self.waiting.is_empty() {
            // Nobody waited for anybody: it begins anew.
            *self = Self::new();
        } else if self.ends.len() > 2 * self.waiting.len() + 64 {
            let served = self.served;
            self.ends.retain(|_, end| *end > served);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Share {
        Share::User(UserId::new(name).unwrap())
    }

    fn rows(rows: usize) -> Weight {
        Weight { rows, bytes: 1 }
    }

    const BOUNDS: BatchBounds = BatchBounds { appends: 4, rows: 100, bytes: 10 };

    fn drain(turns: &mut Turns<&'static str>) -> Vec<Vec<&'static str>> {
        std::iter::from_fn(|| Some(turns.batch(&BOUNDS)).filter(|batch| !batch.is_empty()))
            .collect()
    }

    #[test]
    fn light_user_goes_before_backlog_of_heavy_ones() {
        let mut turns = Turns::new();
        for _ in 0..3 {
            turns.push(user("a"), rows(80), "a");
            turns.push(user("b"), rows(80), "b");
        }
        assert_eq!(turns.batch(&BOUNDS), ["a"]);
        turns.push(user("c"), rows(2), "c1");
        turns.push(user("c"), rows(2), "c2");
        assert_eq!(
            drain(&mut turns),
            [vec!["b", "c1", "c2"], vec!["a"], vec!["b"], vec!["a"], vec!["b"]]
        );
    }

    #[test]
    fn appends_of_one_user_keep_their_order() {
        let mut turns = Turns::new();
        turns.push(user("a"), rows(80), "1");
        turns.push(user("b"), rows(1), "other");
        turns.push(user("a"), rows(1), "2");
        turns.push(user("a"), rows(200), "3");
        turns.push(user("a"), rows(1), "4");
        let order: Vec<_> =
            drain(&mut turns).concat().into_iter().filter(|n| *n != "other").collect();
        assert_eq!(order, ["1", "2", "3", "4"]);
    }

    #[test]
    fn batch_ends_at_its_first_bound() {
        let mut turns = Turns::new();
        (0..5).for_each(|_| turns.push(user("a"), rows(1), "small"));
        assert_eq!(turns.batch(&BOUNDS).len(), 4, "appends");
        turns.push(user("a"), rows(100), "rows");
        assert_eq!(drain(&mut turns), [vec!["small"], vec!["rows"]]);
        let heavy = Weight { rows: 1, bytes: 9 };
        (0..2).for_each(|_| turns.push(user("a"), heavy, "bytes"));
        assert_eq!(drain(&mut turns), [vec!["bytes"], vec!["bytes"]]);
        turns.push(user("a"), rows(5000), "more than a batch");
        assert_eq!(drain(&mut turns), [vec!["more than a batch"]]);
    }

    #[test]
    fn shares_are_forgotten_once_served() {
        let mut turns = Turns::new();
        turns.push(user("slow"), rows(100_000), "slow");
        turns.push(user("slow"), rows(1), "slow");
        for n in 0..1000 {
            turns.push(user(&format!("u{n}")), rows(1), "fast");
            turns.batch(&BOUNDS);
        }
        assert!(turns.ends.len() < 100, "{}", turns.ends.len());
        drain(&mut turns);
        assert!(turns.ends.is_empty());
    }
}
