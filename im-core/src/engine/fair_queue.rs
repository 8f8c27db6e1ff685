//! The queue of the appends of one shard, fair among users.
//!
//! While all arrived appends fit into one batch, nothing has to be ordered. Beyond that, each user
//! gets the same share of rows: an append starts at the number of rows that each user had been
//! served when it arrived, or, if that is later, where its user's earlier appends end, and the one
//! that ends first is served first (packet-by-packet generalized processor sharing, Parekh and
//! Gallager, 1993). So a user who creates large rooms waits behind their own rooms, and a user who
//! sends a message now and then waits only for the batch in progress, however many users create
//! large rooms. The appends of one user keep their order.

use std::collections::{BTreeMap, HashMap};

use crate::id::{RoomId, UserId};

/// The user or room whose share of the rows an append uses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Share {
    /// A user, over all of their sessions.
    User(UserId),
    /// The service, in a room: it acts for many users.
    Room(RoomId),
}

/// The size of an append in the store: rows and bytes written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// Bounds of one store call.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchBounds {
    pub(super) appends: usize,
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl BatchBounds {
    /// Returns whether an append is sent alone: it writes more than a quarter of the rows of a
    /// batch.
    pub(super) fn is_heavy(&self, weight: Weight) -> bool {
        weight.rows > self.rows / 4
    }
}

/// The used part of a batch.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BatchSize {
    appends: usize,
    weight: Weight,
    /// The batch consists of one heavy append.
    is_full: bool,
}

impl BatchSize {
    /// Adds an append of this weight, if it still fits. The first always fits; a heavy one fits
    /// only as the first, and is then the last.
    pub(super) fn add(&mut self, weight: Weight, bounds: &BatchBounds) -> bool {
        let rows = self.weight.rows.saturating_add(weight.rows);
        let bytes = self.weight.bytes.saturating_add(weight.bytes);
        let heavy = bounds.is_heavy(weight) || self.is_full;
        let fits = self.appends < bounds.appends && rows <= bounds.rows && bytes <= bounds.bytes;
        if self.appends == 0 || (fits && !heavy) {
            let appends = self.appends + 1;
            *self = Self { appends, weight: Weight { rows, bytes }, is_full: heavy };
            return true;
        }
        false
    }
}

/// Fractions of a row in which shares are counted, so that the part of one row served to each of
/// thousands of users counts as well.
const PARTS: u64 = 1 << 16;

/// The queued appends, in the order of their turns.
///
/// Invariant: `shares` has no share whose end has been served, except some that are about to be
/// retired. `active` is the number of shares with queued appends.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    /// Keyed by end, then by arrival.
    waiting: BTreeMap<(u64, u64), (T, Weight, Share)>,
    shares: HashMap<Share, Account>,
    active: u64,
    /// Fractions of rows served to a share that was active all the time.
    served: u64,
    arrived: u64,
}

/// The use of a share.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    /// The end of its last append.
    end: u64,
    /// The number of its queued appends.
    waiting: usize,
}

impl<T> FairQueue<T> {
    pub(super) fn new() -> Self {
        Self { waiting: BTreeMap::new(), shares: HashMap::new(), active: 0, served: 0, arrived: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds an append to the queue.
    pub(super) fn push(&mut self, share: Share, weight: Weight, item: T) {
        let account = self.shares.entry(share.clone()).or_default();
        account.end = self.served.max(account.end).saturating_add(parts(weight));
        account.waiting += 1;
        self.active += u64::from(account.waiting == 1);
        self.arrived += 1;
        self.waiting.insert((account.end, self.arrived), (item, weight, share));
    }

    /// The weight of the next append.
    pub(super) fn next(&self) -> Option<Weight> {
        self.waiting.first_key_value().map(|(_, (_, weight, _))| *weight)
    }

    /// Returns the next batch; empty only if the queue is empty.
    pub(super) fn batch(&mut self, bounds: &BatchBounds) -> Vec<T> {
        let (mut size, mut batch) = (BatchSize::default(), Vec::new());
        while let Some(first) = self.waiting.first_entry() {
            if !size.add(first.get().1, bounds) {
                break;
            }
            let (item, weight, share) = first.remove();
            // Each active share was due an equal part of the rows served.
            self.served = self.served.saturating_add(parts(weight) / self.active.max(1));
            if let Some(account) = self.shares.get_mut(&share) {
                account.waiting -= 1;
                self.active -= u64::from(account.waiting == 0);
            }
            batch.push(item);
        }
        self.retire_idle();
        batch
    }

    /// Removes the shares that have used no more than their due.
    fn retire_idle(&mut self) {
        if self.waiting.is_empty() {
            // The queue is empty: the count starts over.
            *self = Self::new();
        } else if self.shares.len() > 2 * self.waiting.len() + 64 {
            let served = self.served;
            self.shares.retain(|_, account| account.waiting > 0 || account.end > served);
        }
    }
}

fn parts(weight: Weight) -> u64 {
    (weight.rows.max(1) as u64).saturating_mul(PARTS)
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

    fn drain(queue: &mut FairQueue<&'static str>) -> Vec<Vec<&'static str>> {
        std::iter::from_fn(|| Some(queue.batch(&BOUNDS)).filter(|batch| !batch.is_empty()))
            .collect()
    }

    #[test]
    fn light_user_precedes_heavy_backlog() {
        let mut queue = FairQueue::new();
        for _ in 0..3 {
            queue.push(user("a"), rows(80), "a");
            queue.push(user("b"), rows(80), "b");
        }
        assert_eq!(queue.batch(&BOUNDS), ["a"]);
        queue.push(user("c"), rows(2), "c1");
        queue.push(user("c"), rows(2), "c2");
        assert_eq!(
            drain(&mut queue),
            [vec!["c1", "c2"], vec!["b"], vec!["a"], vec!["b"], vec!["a"], vec!["b"]]
        );
    }

    #[test]
    fn light_user_precedes_many_heavy_users() {
        let mut queue = FairQueue::new();
        (0..40).for_each(|n| queue.push(user(&format!("h{n}")), rows(80), "heavy"));
        assert_eq!(queue.batch(&BOUNDS), ["heavy"]);
        queue.push(user("c"), rows(2), "light");
        assert_eq!(queue.batch(&BOUNDS), ["light"]);
        assert_eq!(queue.batch(&BOUNDS), ["heavy"]);
    }

    /// Each light append is of a new user, and yet the heavy one gets its turn once each was served
    /// as much.
    #[test]
    fn heavy_user_is_eventually_served() {
        let mut queue = FairQueue::new();
        queue.push(user("heavy"), rows(100), "heavy");
        let mut passed = 0;
        for n in 0.. {
            queue.push(user(&format!("u{n}")), rows(1), "light");
            match queue.batch(&BatchBounds { appends: 1, ..BOUNDS })[..] {
                ["light"] => passed += 1,
                _ => break,
            }
        }
        assert!((100..=250).contains(&passed), "{passed}");
    }

    #[test]
    fn appends_of_user_keep_order() {
        let mut queue = FairQueue::new();
        queue.push(user("a"), rows(80), "1");
        queue.push(user("b"), rows(1), "other");
        queue.push(user("a"), rows(1), "2");
        queue.push(user("a"), rows(200), "3");
        queue.push(user("a"), rows(1), "4");
        let order: Vec<_> =
            drain(&mut queue).concat().into_iter().filter(|n| *n != "other").collect();
        assert_eq!(order, ["1", "2", "3", "4"]);
    }

    #[test]
    fn batch_stops_at_first_bound() {
        let mut queue = FairQueue::new();
        (0..5).for_each(|_| queue.push(user("a"), rows(1), "small"));
        assert_eq!(queue.batch(&BOUNDS).len(), 4, "appends");
        queue.push(user("a"), rows(100), "rows");
        assert_eq!(drain(&mut queue), [vec!["small"], vec!["rows"]]);
        let heavy = Weight { rows: 1, bytes: 9 };
        (0..2).for_each(|_| queue.push(user("a"), heavy, "bytes"));
        assert_eq!(drain(&mut queue), [vec!["bytes"], vec!["bytes"]]);
        queue.push(user("a"), rows(5000), "more than a batch");
        assert_eq!(drain(&mut queue), [vec!["more than a batch"]]);
    }

    #[test]
    fn shares_expire_once_served() {
        let mut queue = FairQueue::new();
        queue.push(user("slow"), rows(100_000), "slow");
        queue.push(user("slow"), rows(1), "slow");
        for n in 0..1000 {
            queue.push(user(&format!("u{n}")), rows(1), "fast");
            queue.batch(&BOUNDS);
        }
        assert!(queue.shares.len() < 100, "{}", queue.shares.len());
        drain(&mut queue);
        assert!(queue.shares.is_empty());
    }
}
