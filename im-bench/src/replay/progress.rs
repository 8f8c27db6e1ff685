//! The end of a run without progress, or with too low a rate of sends.
//!
//! No run is ended by its duration alone. Progress is an ack, a fault that struck, a step of the
//! preparation, or the first delivery of an event to a client. Each is finite, so a run with
//! progress also ends.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The interval in which the rate is recorded.
const NOTE: Duration = Duration::from_secs(1);

/// The progress of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Acked sends.
    pub(super) acknowledged: u64,
    /// Faults that struck.
    pub(super) struck: usize,
    /// First deliveries of events to a client.
    pub(super) news: u64,
    /// Rooms created and subscriptions made in the preparation.
    pub(super) steps: u64,
    /// Sends without an ack.
    pub(super) waiting: u64,
}

impl Counters {
    fn moved(self, before: Self) -> bool {
        let counts = |at: Self| (at.acknowledged, at.struck, at.news, at.steps);
        counts(self) != counts(before)
    }
}

/// Detects that a run makes no progress.
#[derive(Debug)]
pub(super) struct StallTimeout {
    last: Counters,
    since: Instant,
    most: Duration,
    /// A run at the log's own pace has pauses in which no client sends.
    may_idle: bool,
}

impl StallTimeout {
    /// `most` is the longest time without progress; it must cover a restart of the server and the
    /// clients' back-off.
    pub(super) fn new(now: Instant, most: Duration, may_idle: bool) -> Self {
        Self { last: Counters::default(), since: now, most, may_idle }
    }

    /// Returns whether there was no progress for that time.
    pub(super) fn is_over(&mut self, now: Instant, counters: Counters) -> bool {
        let idles = self.may_idle && counters.waiting == 0;
        if idles || counters.moved(self.last) {
            (self.last, self.since) = (counters, now);
        }
        now.duration_since(self.since) >= self.most
    }
}

/// The rate of sends over the last window.
#[derive(Debug)]
pub(super) struct Rate {
    window: Duration,
    /// The rate in sends a second below which a run fails; 0 disables it.
    least: u32,
    /// Counts of acks with their times, once a second.
    notes: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// Creates it for windows of `window`.
    pub(super) fn new(now: Instant, window: Duration, least: u32) -> Self {
        Self { window, least, notes: [(now, 0)].into() }
    }

    /// Returns the rate over the window, if a whole window has passed and the rate is too low.
    pub(super) fn too_low(&mut self, now: Instant, acknowledged: u64) -> Option<f64> {
        while self.notes.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= self.window) {
            self.notes.pop_front();
        }
        if self.notes.back().is_none_or(|(at, _)| now.duration_since(*at) >= NOTE) {
            self.notes.push_back((now, acknowledged));
        }
        let (begin, before) = *self.notes.front()?;
        let passed = now.duration_since(begin);
        let rate = (acknowledged - before) as f64 / passed.as_secs_f64();
        (passed >= self.window && rate < f64::from(self.least)).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    const WINDOW: Duration = Duration::from_secs(120);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn patience_lasts_while_anything_moves() {
        let begin = Instant::now();
        let mut stall = StallTimeout::new(begin, PATIENCE, false);
        let mut counters = Counters { waiting: 1, ..Counters::default() };
        let mut now = begin;
        let moves: [fn(&mut Counters); 4] =
            [|at| at.acknowledged += 1, |at| at.struck += 1, |at| at.news += 1, |at| at.steps += 1];
        for step in moves {
            now += PATIENCE - SECOND;
            assert!(!stall.is_over(now, counters));
            step(&mut counters);
            assert!(!stall.is_over(now, counters));
        }
        // A pending send is no progress, whether their number grows or not.
        counters.waiting += 1;
        now += PATIENCE - SECOND;
        assert!(!stall.is_over(now, counters));
        assert!(stall.is_over(now + SECOND, counters));
    }

    #[test]
    fn patience_outlasts_silence_of_all_speakers() {
        let begin = Instant::now();
        let mut stall = StallTimeout::new(begin, PATIENCE, true);
        let mut counters = Counters::default();
        assert!(!stall.is_over(begin + 2 * PATIENCE, counters), "no send is pending");
        counters.waiting = 1;
        assert!(stall.is_over(begin + 4 * PATIENCE, counters), "a send is pending");
    }

    /// Records `rate` sends a second for `seconds`, and returns whether that was ever too low.
    fn run(rate: &mut Rate, now: &mut Instant, sent: &mut u64, each: u64, seconds: u32) -> bool {
        (0..seconds).fold(false, |low, _| {
            *now += SECOND;
            *sent += each;
            rate.too_low(*now, *sent).is_some() || low
        })
    }

    #[test]
    fn rate_is_judged_over_whole_windows() {
        let begin = Instant::now();
        let (mut now, mut sent) = (begin, 0);
        let mut rate = Rate::new(begin, WINDOW, 50);
        assert!(!run(&mut rate, &mut now, &mut sent, 0, 119), "before the first full window");
        assert!(run(&mut rate, &mut now, &mut sent, 0, 1));

        let (mut now, mut sent) = (begin, 0);
        let mut rate = Rate::new(begin, WINDOW, 50);
        assert!(!run(&mut rate, &mut now, &mut sent, 50, 600));
        assert!(!run(&mut rate, &mut now, &mut sent, 5_000, 1), "a burst");
        assert!(
            !run(&mut rate, &mut now, &mut sent, 9, 119),
            "while the window contains the burst"
        );
        assert!(run(&mut rate, &mut now, &mut sent, 9, 2));
    }

    #[test]
    fn zero_rate_is_never_too_low() {
        let begin = Instant::now();
        let mut rate = Rate::new(begin, WINDOW, 0);
        assert_eq!(rate.too_low(begin + 10 * WINDOW, 0), None);
    }
}
