//! Rate limits of commands.

use std::time::Duration;

use crate::id::UserId;
use crate::time::Timestamp;

use super::allowance::{Allowance, Buckets};

/// Decides whether a user may issue another command now.
///
/// The unit is a token: the cost of a short `send`. Commands that read or write more rows cost
/// more.
pub trait RateLimiter: Send + Sync {
    /// Charges `cost` tokens to `user` at `now`. Never waits itself.
    ///
    /// # Errors
    ///
    /// The time until tokens cover this command and all commands refused since the last accepted
    /// one. A client that waits so long and then resends them in order has as many accepted as the
    /// burst allows.
    fn take(&self, user: &UserId, cost: u32, now: Timestamp) -> Result<(), Duration>;

    /// Charges `more` tokens that a command turned out to cost beyond the `paid` ones. Calls
    /// [`Self::take`] by default.
    ///
    /// A limiter that caps the charge of commands above its burst must look at the sum of both:
    /// otherwise such a command is never accepted.
    ///
    /// # Errors
    ///
    /// As [`Self::take`]. The `paid` tokens are not refunded, and a retry of the command pays them
    /// again.
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

    /// Refunds a command that was charged and then refused because an earlier one must be retried
    /// first ([`Code::SenderOrder`](crate::Code::SenderOrder)). Returns the time to wait, as
    /// [`Self::take`] does.
    ///
    /// By default nothing is refunded, and the wait is zero.
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

/// A token bucket for each recently active user, on this node.
#[derive(Debug)]
pub struct TokenBuckets(Buckets<UserId>);

impl TokenBuckets {
    /// Creates buckets that earn `per_second` tokens a second and hold at most `burst`.
    ///
    /// A command that costs more than `burst` costs all of it. The table holds up to 100,000 active
    /// users, about 100 bytes each.
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

    /// A bucket respects its burst and rate also when the clock goes backwards.
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
