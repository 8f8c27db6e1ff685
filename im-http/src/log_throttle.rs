//! Rate-limited warnings.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Shortest time between two warnings of one kind, so that a flood of bad requests does not flood
/// the log.
const PAUSE: Duration = Duration::from_secs(10);

/// Rate limit for warnings of one kind: one in 10 s.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: Option<Instant>,
    left_out: u64,
}

impl LogThrottle {
    /// Returns how many warnings were suppressed since the last one; `None` if this one is
    /// suppressed too.
    pub fn due(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.0.lock();
        if state.next.is_some_and(|next| now < next) {
            state.left_out += 1;
            return None;
        }
        state.next = Some(now + PAUSE);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn warnings_in_a_flood_are_counted() {
        let seldom = LogThrottle::default();
        let due: Vec<_> = (0..5).map(|_| seldom.due()).collect();
        assert_eq!(due, [Some(0), None, None, None, None]);
        tokio::time::advance(PAUSE).await;
        assert_eq!((seldom.due(), seldom.due()), (Some(4), None));
    }
}
