//! How often may somebody do something?

use std::time::Duration;

use crate::id::UserId;
use crate::time::Timestamp;

use super::allowance::{Allowance, Buckets};

/// Decides whether a user may issue another command now.
///
/// The unit is a token: what a short `send` costs. Commands that read or write more rows cost more of them.
pub trait RateLimiter: Send + Sync {
    /// Takes `cost` tokens of `user`'s allowance at `now`, or says how long to wait. Never waits itself.
    ///
    /// # Errors
    ///
    /// How long until this command is allowed, with all that were refused before it and have not come again: a client that waits
    /// so long and then sends them all again gets them through, as far as they fit into what may come at once.
    fn take(&self, user: &UserId, cost: u32, now: Timestamp) -> Result<(), Duration>;

    /// Takes the `more` tokens that a command turns out to cost beside the `paid` that it has taken. By default as [`Self::take`]
    /// does. A limiter that takes less of a command that costs more than a user can ever have has to look at both together:
    /// otherwise such a command never gets through.
    ///
    /// # Errors
    ///
    /// As [`Self::take`]. What was paid is not returned, and the command, when it comes again, pays it again.
    fn charge_more(
        &self,
        user: &UserId,
        paid: u32,
        more: u32,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let _ = paid;
        self.take(user, more, now)
    }

    /// Returns what a command took that was refused all the same, since an earlier one comes first
    /// ([`Code::SenderOrder`](crate::Code::SenderOrder)). Returns how long to wait, as [`Self::take`] does.
    ///
    /// By default nothing is returned, and there is nothing to wait for.
    fn refund(&self, user: &UserId, cost: u32, now: Timestamp) -> Duration {
        let _ = (user, cost, now);
        Duration::ZERO
    }
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
#[derive(Debug)]
pub struct TokenBuckets(Buckets<UserId>);

impl TokenBuckets {
    /// `per_second` tokens a second on average, `burst` at once. A command that costs more than `burst` costs all of it.
    /// Remembers up to 100,000 active users, about 100 bytes each.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let allowance = Allowance {
            amount: per_second.max(1).into(),
            per: Duration::from_secs(1),
            at_once: burst.max(1).into(),
        };
        Self(Buckets::new(allowance))
    }
}

impl RateLimiter for TokenBuckets {
    fn take(&self, user: &UserId, cost: u32, now: Timestamp) -> Result<(), Duration> {
        self.0.take(user, cost.into(), now)
    }

    fn charge_more(
        &self,
        user: &UserId,
        paid: u32,
        more: u32,
        now: Timestamp,
    ) -> Result<(), Duration> {
        self.0.charge_more(user, paid.into(), more.into(), now)
    }

    fn refund(&self, user: &UserId, cost: u32, now: Timestamp) -> Duration {
        self.0.refund(user, cost.into(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bucket keeps its burst and rate also when the clock goes backwards.
    #[test]
    fn bucket_allows_burst_then_rate() {
        let limiter = TokenBuckets::new(10, 3);
        let user = UserId::new("u").unwrap();
        let at = Timestamp::from_millis;
        for _ in 0..3 {
            assert_eq!(limiter.take(&user, 1, at(1000)), Ok(()));
        }
        assert_eq!(limiter.take(&user, 1, at(1000)), Err(Duration::from_millis(100)));
        assert_eq!(limiter.take(&user, 1, at(500)), Err(Duration::from_millis(200)));
        assert_eq!(limiter.take(&user, 1, at(1100)), Ok(()));
        assert_eq!(limiter.take(&user, 1, at(1000)), Err(Duration::from_millis(200)));
        assert_eq!(limiter.take(&user, 1, at(1200)), Ok(()));
    }
}
