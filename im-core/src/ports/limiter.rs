//! How often may somebody do something?

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::id::UserId;
use crate::time::Timestamp;

/// Decides whether a user may issue another command now.
pub trait RateLimiter: Send + Sync {
    /// Takes `cost` commands of `user`'s allowance at `now`, or says how long to wait. Never waits itself.
    ///
    /// # Errors
    ///
    /// How long until it would be allowed.
    fn take(&self, user: &UserId, cost: u32, now: Timestamp) -> Result<(), Duration>;
}

/// No limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

impl RateLimiter for Unlimited {
    fn take(&self, _: &UserId, _: u32, _: Timestamp) -> Result<(), Duration> {
        Ok(())
    }
}

/// A token bucket for each user who was active lately, on this node.
///
/// Invariant: at most `max_users` buckets; a bucket that is full again says nothing and is dropped first.
#[derive(Debug)]
pub struct TokenBuckets {
    per_second: u32,
    burst: u32,
    max_users: usize,
    buckets: Mutex<HashMap<UserId, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Thousandths of a command.
    left: u64,
    at: Timestamp,
}

impl TokenBuckets {
    /// `per_second` commands a second on average, `burst` at once. Remembers up to 100,000 active users, about 100
    /// bytes each.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: per_second.max(1),
            burst: burst.max(1),
            max_users: 100_000,
            buckets: Mutex::default(),
        }
    }

    fn refill(&self, bucket: Bucket, now: Timestamp) -> u64 {
        let earned = u64::try_from(now.since(bucket.at).as_millis()).unwrap_or(u64::MAX);
        let full = u64::from(self.burst) * 1000;
        bucket.left.saturating_add(earned.saturating_mul(u64::from(self.per_second))).min(full)
    }
}

impl RateLimiter for TokenBuckets {
    fn take(&self, user: &UserId, cost: u32, now: Timestamp) -> Result<(), Duration> {
        let full = u64::from(self.burst) * 1000;
        let cost = (u64::from(cost) * 1000).min(full);
        let mut buckets = self.buckets.lock();
        let left = buckets.get(user).map_or(full, |bucket| self.refill(*bucket, now));
        if left < cost {
            return Err(Duration::from_millis((cost - left).div_ceil(u64::from(self.per_second))));
        }
        if buckets.len() >= self.max_users && !buckets.contains_key(user) {
            buckets.retain(|_, bucket| self.refill(*bucket, now) < full);
            if buckets.len() >= self.max_users {
                return Err(Duration::from_secs(1));
            }
        }
        // A clock that goes backwards must not earn the same time twice.
        let at = buckets.get(user).map_or(now, |bucket| bucket.at.max(now));
        buckets.insert(user.clone(), Bucket { left: left - cost, at });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_allows_its_burst_and_then_its_rate_whatever_the_clock_does() {
        let limiter = TokenBuckets::new(10, 3);
        let user = UserId::new("u").unwrap();
        let at = Timestamp::from_millis;
        for _ in 0..3 {
            assert_eq!(limiter.take(&user, 1, at(1000)), Ok(()));
        }
        assert_eq!(limiter.take(&user, 1, at(1000)), Err(Duration::from_millis(100)));
        assert_eq!(limiter.take(&user, 1, at(500)), Err(Duration::from_millis(100)));
        assert_eq!(limiter.take(&user, 1, at(1100)), Ok(()));
        assert_eq!(limiter.take(&user, 1, at(1000)), Err(Duration::from_millis(100)));
        assert_eq!(limiter.take(&user, 1, at(1100)), Err(Duration::from_millis(100)));
    }
}
