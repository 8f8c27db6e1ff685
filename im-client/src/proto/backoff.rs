//! Pauses that double and are drawn at random ("full jitter").

use std::time::Duration;

use crate::config::Reconnect;

/// The pauses before reconnections.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: Reconnect,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// `seed` determines the random pauses.
    pub(crate) fn new(policy: Reconnect, seed: u64) -> Self {
        Self { policy, failures: 0, random: seed | 1 }
    }

    /// Records a success: the next pause starts from the shortest.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the pause before the next try, or `None` after the last one. `at_least` is the
    /// server's `retry_ms`, to which up to half is added at random.
    pub(crate) fn next(&mut self, at_least: Option<Duration>) -> Option<Duration> {
        if self.policy.attempts.is_some_and(|most| self.failures >= most) {
            return None;
        }
        let ceiling =
            self.policy.base.saturating_mul(1 << self.failures.min(20)).min(self.policy.max);
        self.failures = self.failures.saturating_add(1);
        let pause = ceiling.mul_f64(self.draw());
        Some(match at_least {
            Some(wish) => pause.max(wish.mul_f64(1.0 + self.draw() / 2.0)),
            None => pause,
        })
    }

    /// Returns a number from 0 to 1. xorshift64 (Marsaglia, 2003) suffices to spread clients out.
    fn draw(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pauses grow up to the limit, and a reset starts over with the shortest.
    #[test]
    fn pauses_grow_and_reset() {
        let policy =
            Reconnect::default().pauses(Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(policy, 42);
        for failures in 0..40_u32 {
            let ceiling =
                Duration::from_millis(100 << failures.min(10)).min(Duration::from_secs(2));
            assert!(backoff.next(None).unwrap() <= ceiling, "{failures}");
        }
        backoff.reset();
        assert!(backoff.next(None).unwrap() <= Duration::from_millis(100));
    }

    #[test]
    fn server_delay_is_honoured_with_jitter() {
        let mut backoff = Backoff::new(Reconnect::default(), 7);
        let wish = Duration::from_secs(60);
        let pauses: Vec<_> = (0..20).filter_map(|_| backoff.next(Some(wish))).collect();
        assert!(pauses.iter().all(|pause| *pause >= wish && *pause <= wish * 3 / 2));
        assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn backoff_stops_after_allowed_attempts() {
        let mut backoff = Backoff::new(Reconnect::attempts(2), 7);
        assert!(backoff.next(None).is_some() && backoff.next(None).is_some());
        assert_eq!(backoff.next(None), None);
        assert_eq!(Backoff::new(Reconnect::never(), 1).next(None), None);
    }
}
