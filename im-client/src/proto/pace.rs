//! How many bytes of commands may be under way: as many as the connection has shown to carry.
//!
//! A backlog that is written at once keeps a slow uplink busy for minutes in which nothing is acknowledged, heartbeats wait
//! behind it, and a cut loses all of it. So little is written at first, and more with each answer that comes quickly, as TCP
//! does (slow start, RFC 5681 section 3.1).

use std::time::{Duration, Instant};

/// Bytes under way at first. At 1,500 bytes a second they take less than 3 s.
const START: usize = 4 * 1024;

/// Bytes under way at most: a few of the largest messages that servers take by default. In memory they are held anyway,
/// until they are answered.
const MOST: usize = 1024 * 1024;

/// The window grows with answers that take no longer than this, and shrinks with those that take more than twice as long.
const QUICK: Duration = Duration::from_secs(2);

/// What the connection carries, as far as answers have shown it.
#[derive(Debug)]
pub(super) struct Pace {
    window: usize,
    under_way: usize,
    /// The window shrank then. What was written before says nothing about it.
    shrank: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { window: START, under_way: 0, shrank: None }
    }

    /// Bytes that may be written now. Where nothing is under way, one frame of any size may be.
    pub(super) fn room(&self) -> usize {
        match self.under_way {
            0 => self.window,
            under_way => self.window.saturating_sub(under_way),
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.under_way += bytes;
    }

    /// They are not under way any more, and nothing is learned from that.
    pub(super) fn unwrote(&mut self, bytes: usize) {
        self.under_way = self.under_way.saturating_sub(bytes);
    }

    /// What was written at `at` has its answer.
    pub(super) fn answered(&mut self, now: Instant, bytes: usize, at: Instant) {
        let took = now.saturating_duration_since(at);
        // Only a window that was used says what the connection carries.
        if took <= QUICK && self.under_way >= self.window / 2 {
            self.window = (self.window + bytes).min(MOST);
        } else if took > 2 * QUICK && self.shrank.is_none_or(|shrank| shrank <= at) {
            self.window = (self.window / 2).max(START);
            self.shrank = Some(now);
        }
        self.unwrote(bytes);
    }

    /// How long what is under way may take to arrive: four times as long as the window has taken at the slowest.
    pub(super) fn drain_time(&self) -> Duration {
        (4 * QUICK).mul_f64(self.under_way as f64 / self.window as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that arrive within `time` over an uplink of so many bytes a second, with `rtt` until an answer is back.
    fn carried(rate: usize, rtt: Duration, time: Duration) -> usize {
        let (mut pace, begin) = (Pace::new(), Instant::now());
        let (mut now, mut arrived) = (begin, 0);
        while now - begin < time {
            let bytes = pace.room();
            pace.wrote(bytes);
            let at = now;
            now += rtt + Duration::from_secs_f64(bytes as f64 / rate as f64);
            pace.answered(now, bytes, at);
            arrived += bytes;
        }
        arrived
    }

    #[test]
    fn window_grows_with_throughput() {
        let second = Duration::from_secs(1);
        let fast = carried(10_000_000, Duration::from_millis(50), 3 * second);
        assert!(fast > 10_000_000, "{fast}");
        let slow = carried(1_500, Duration::from_millis(300), 60 * second);
        assert!(slow > 60 * 1_000, "{slow}");
    }

    #[test]
    fn window_shrinks_when_answers_become_slow() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        for _ in 0..8 {
            let bytes = pace.room();
            pace.wrote(bytes);
            pace.answered(now, bytes, now);
        }
        let wide = pace.room();
        assert!(wide > 100 * START);
        pace.wrote(1000);
        pace.answered(now + Duration::from_secs(5), 1000, now);
        assert_eq!(pace.room(), wide / 2);
    }

    #[test]
    fn small_commands_keep_window_size() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        for _ in 0..1000 {
            pace.wrote(100);
            pace.answered(now, 100, now);
        }
        assert_eq!(pace.room(), START);
    }
}
