//! How many bytes of commands may be in flight: as many as the connection has proved to carry.
//!
//! A backlog written at once keeps a slow uplink busy for minutes, in which nothing is acknowledged
//! and heartbeats wait behind it; a cut loses all of it. So little is written at first, and more
//! with each quick answer, as in TCP's slow start (RFC 5681 section 3.1).

use std::time::{Duration, Instant};

/// Bytes in flight at first. At 1,500 bytes a second they take less than 3 s.
const START: usize = 4 * 1024;

/// Most bytes in flight: a few of the largest messages that servers accept by default. They cost no
/// extra memory: commands are held until they are answered anyway.
const MOST: usize = 1024 * 1024;

/// Answers within this time grow the window, and answers that take more than twice as long shrink
/// it.
const QUICK: Duration = Duration::from_secs(2);

/// The capacity of the connection, as measured by answers.
#[derive(Debug)]
pub(super) struct Pace {
    window: usize,
    under_way: usize,
    /// When the window shrank. Answers to earlier writes do not shrink it again.
    shrank: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { window: START, under_way: 0, shrank: None }
    }

    /// Returns how many bytes may be written now. With nothing in flight, one frame of any size may
    /// be.
    pub(super) fn room(&self) -> usize {
        match self.under_way {
            0 => self.window,
            under_way => self.window.saturating_sub(under_way),
        }
    }

    /// Whether nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.under_way += bytes;
    }

    /// Removes bytes from those in flight, without measuring.
    pub(super) fn unwrote(&mut self, bytes: usize) {
        self.under_way = self.under_way.saturating_sub(bytes);
    }

    /// Handles the answer to what was written at `at`.
    pub(super) fn answered(&mut self, now: Instant, bytes: usize, at: Instant) {
        let took = now.saturating_duration_since(at);
        // An answer measures the connection only if the window was used.
        if took <= QUICK && self.under_way >= self.window / 2 {
            self.window = (self.window + bytes).min(MOST);
        } else if took > 2 * QUICK && self.shrank.is_none_or(|shrank| shrank <= at) {
            self.window = (self.window / 2).max(START);
            self.shrank = Some(now);
        }
        self.unwrote(bytes);
    }

    /// How long the bytes in flight may take to arrive: four times as long as the window has taken
    /// at the slowest.
    pub(super) fn drain_time(&self) -> Duration {
        (4 * QUICK).mul_f64(self.under_way as f64 / self.window as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that arrive within `time` over an uplink of `rate` bytes a second; each answer takes
    /// `rtt`.
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
