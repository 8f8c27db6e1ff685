//! Token buckets: bounded use over time, by key.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

use crate::time::Timestamp;

/// A rate and a burst: `amount` per `per` on average, `at_once` at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The amount earned within `per`. At least 1.
    pub amount: u64,
    /// The time in which `amount` is earned. At least a millisecond.
    pub per: Duration,
    /// The maximum that can be saved up, and so used at once.
    pub at_once: u64,
}

/// Maximum number of buckets, one per user or network: about 100 bytes each, 10 MB at worst.
const MOST: usize = 100_000;

/// The wait for a new key while the table is full.
const CROWDED: Duration = Duration::from_secs(1);

/// A bucket for each `K` that was active recently, on this node.
///
/// Invariant: at most [`MOST`] buckets. A full bucket holds no information and is dropped first;
/// while no bucket is full, new keys are refused.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    /// Units earned in a millisecond. One thing counted costs `unit` units.
    earned: u64,
    unit: u64,
    full: u64,
    held: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u64,
    /// The cost of refused requests that were not retried yet, as far as is known. At most `full`.
    owed: u64,
    at: Timestamp,
}

impl<K: Eq + Hash + Clone> Buckets<K> {
    pub(crate) fn new(allowance: Allowance) -> Self {
        let unit = u64::try_from(allowance.per.as_millis()).unwrap_or(u64::MAX).max(1);
        Self {
            earned: allowance.amount.max(1),
            unit,
            full: allowance.at_once.max(1).saturating_mul(unit),
            held: Mutex::default(),
        }
    }

    /// Charges `cost`; a cost above the burst counts as the burst.
    ///
    /// # Errors
    ///
    /// The time until the bucket covers this cost and those refused before.
    pub(crate) fn take(&self, key: &K, cost: u64, now: Timestamp) -> Result<(), Duration> {
        self.charge_more(key, 0, cost, now)
    }

    /// Charges a further cost beside the `paid` that was charged already. The sum is capped at the
    /// burst: without the cap a larger cost could never be paid.
    ///
    /// # Errors
    ///
    /// The time until the bucket covers both and the costs refused before.
    pub(crate) fn charge_more(
        &self,
        key: &K,
        paid: u64,
        more: u64,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let whole = self.units(paid.saturating_add(more));
        let cost = whole - self.units(paid);
        let mut held = self.held.lock();
        if let Some(bucket) = held.get_mut(key) {
            self.refill(bucket, now);
            if bucket.left < cost {
                bucket.owed = bucket.owed.saturating_add(whole).min(self.full);
                return Err(self.wait(bucket).max(Duration::from_millis(1)));
            }
            bucket.left -= cost;
            bucket.owed = bucket.owed.saturating_sub(cost);
            return Ok(());
        }
        if held.len() >= MOST {
            held.retain(|_, bucket| {
                self.refill(bucket, now);
                bucket.left < self.full
            });
            if held.len() >= MOST {
                return Err(CROWDED);
            }
        }
        held.insert(key.clone(), Bucket { left: self.full - cost, owed: 0, at: now });
        Ok(())
    }

    /// Refunds the cost of an operation that was not done and will be retried. Returns the time
    /// until the bucket covers it and the costs refused before.
    pub(crate) fn refund(&self, key: &K, cost: u64, now: Timestamp) -> Duration {
        let cost = self.units(cost);
        let mut held = self.held.lock();
        let Some(bucket) = self.refilled(&mut held, key, cost, now) else { return Duration::ZERO };
        bucket.owed = bucket.owed.saturating_add(cost).min(self.full);
        self.wait(bucket)
    }

    /// Refunds the cost of an operation that was not done, whether or not it is retried.
    pub(crate) fn return_unused(&self, key: &K, cost: u64, now: Timestamp) {
        self.refilled(&mut self.held.lock(), key, self.units(cost), now);
    }

    /// Returns the bucket with `cost` units added. An unknown key has a full bucket.
    fn refilled<'a>(
        &self,
        held: &'a mut HashMap<K, Bucket>,
        key: &K,
        cost: u64,
        now: Timestamp,
    ) -> Option<&'a mut Bucket> {
        let bucket = held.get_mut(key)?;
        self.refill(bucket, now);
        bucket.left = bucket.left.saturating_add(cost).min(self.full);
        Some(bucket)
    }

    fn units(&self, cost: u64) -> u64 {
        cost.saturating_mul(self.unit).min(self.full)
    }

    fn refill(&self, bucket: &mut Bucket, now: Timestamp) {
        let time = u64::try_from(now.since(bucket.at).as_millis()).unwrap_or(u64::MAX);
        let left = bucket.left.saturating_add(time.saturating_mul(self.earned)).min(self.full);
        // A clock that goes backwards must not earn the same time twice.
        *bucket = Bucket { left, at: bucket.at.max(now), ..*bucket };
    }

    fn wait(&self, bucket: &Bucket) -> Duration {
        Duration::from_millis(bucket.owed.saturating_sub(bucket.left).div_ceil(self.earned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets() -> Buckets<usize> {
        let per = Duration::from_secs(1);
        Buckets::new(Allowance { amount: 10, per, at_once: 20 })
    }

    #[test]
    fn wait_covers_all_that_was_refused() {
        let (buckets, at) = (buckets(), Timestamp::from_millis);
        assert_eq!(buckets.take(&1, 20, at(0)), Ok(()));
        let waits: Vec<u64> = (0..30)
            .map(|_| buckets.take(&1, 1, at(0)).unwrap_err().as_millis().try_into().unwrap())
            .collect();
        let expected: Vec<u64> = (1..=30).map(|n: u64| (n * 100).min(2000)).collect();
        assert_eq!(waits, expected);
        // After that wait, a client has as many requests accepted as the burst allows.
        assert!((0..20).all(|_| buckets.take(&1, 1, at(2000)).is_ok()));
        assert_eq!(buckets.take(&1, 1, at(2000)), Err(Duration::from_millis(100)));
    }

    /// A refunded cost adds to the wait and is not charged.
    #[test]
    fn refunded_cost_is_not_charged() {
        let (buckets, at) = (buckets(), Timestamp::from_millis);
        assert_eq!(buckets.take(&1, 20, at(0)), Ok(()));
        assert_eq!(buckets.take(&1, 1, at(0)), Err(Duration::from_millis(100)));
        for n in 2..=10_u64 {
            assert_eq!(buckets.take(&1, 1, at(100)), Ok(()), "{n}");
            buckets.refund(&1, 1, at(100));
        }
        assert_eq!(buckets.take(&1, 1, at(100)), Ok(()), "refused costs are not charged");
    }

    #[test]
    fn cost_is_capped_at_the_burst() {
        let (buckets, at) = (buckets(), Timestamp::from_millis);
        assert_eq!(buckets.take(&1, 1_000_000, at(0)), Ok(()));
        assert_eq!(buckets.take(&1, 1_000_000, at(0)), Err(Duration::from_secs(2)));
        assert_eq!(buckets.take(&1, 1_000_000, at(2000)), Ok(()));
    }

    #[test]
    fn cost_of_two_charges_is_capped() {
        let (buckets, at) = (buckets(), Timestamp::from_millis);
        assert_eq!(buckets.take(&1, 11, at(0)), Ok(()));
        assert_eq!(buckets.charge_more(&1, 11, 11, at(0)), Ok(()), "22 count as 20");
        assert_eq!(buckets.take(&1, 1, at(1000)), Ok(()));
        let wait = buckets.charge_more(&1, 1, 1_000_000, at(1000));
        assert_eq!(
            wait,
            Err(Duration::from_millis(1100)),
            "the wait covers the retry of the whole cost"
        );
        assert_eq!(buckets.take(&1, 1, at(2100)), Ok(()));
        assert_eq!(buckets.charge_more(&1, 1, 1_000_000, at(2100)), Ok(()));
    }

    #[test]
    fn unused_share_is_returned_once() {
        let (buckets, at) = (buckets(), Timestamp::from_millis);
        assert_eq!(buckets.take(&1, 20, at(0)), Ok(()));
        buckets.return_unused(&1, 15, at(0));
        assert_eq!(buckets.take(&1, 15, at(0)), Ok(()));
        assert_eq!(buckets.take(&1, 1, at(0)), Err(Duration::from_millis(100)));
        buckets.return_unused(&1, 1000, at(0));
        assert_eq!(buckets.take(&1, 20, at(0)), Ok(()), "no more than the burst is earned");
        assert!(buckets.take(&1, 1, at(0)).is_err());
    }

    /// New keys wait while each bucket is in use.
    #[test]
    fn full_table_delays_new_keys() {
        let (buckets, at) = (buckets(), Timestamp::from_millis);
        for n in 0..MOST {
            assert_eq!(buckets.take(&n, 1, at(0)), Ok(()));
        }
        assert_eq!(buckets.take(&MOST, 1, at(0)), Err(CROWDED));
        assert_eq!(buckets.take(&MOST, 1, at(100)), Ok(()), "the others are full again");
    }
}
