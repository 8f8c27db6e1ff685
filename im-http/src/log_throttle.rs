//! Warnings that come seldom, whoever causes them.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The shortest time between two warnings of one kind: a flood of bad requests is not to be a flood of log lines.
const PAUSE: Duration = Duration::from_secs(10);

/// When a warning of one kind may be written again: after 10 s.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: Option<Instant>,
    left_out: u64,
}

impl LogThrottle {
    /// How many warnings were left out before this one; `None` if this one is to be left out too.
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
