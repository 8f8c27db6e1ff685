//! The choice among several links: the best that works, and a better one again after a while. No
//! I/O, no clock.
//!
//! Failures do not count while no other link works either: then the server is down. A link is
//! passed over only when another one works in its place, for a time that doubles each time:
//! wire/SPEC.md, "Which transport".

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which a link is passed over that has worked, or whose gateway had no
/// answer from the server.
const PATIENCE: u32 = 3;
/// Longest time for which a link is passed over, unless the first time is longer.
const LONGEST: Duration = Duration::from_secs(600);

/// How a link failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The link does not work here, however often it has worked.
    Unfit,
    /// A gateway had no answer from the server.
    Gateway,
    /// The connection was refused, cut or silent.
    Cut,
}

/// The state of one link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rung {
    worked: bool,
    /// Failures in a row.
    failures: u32,
    /// The link failed too often since another link worked.
    failing: bool,
    /// How long the link was passed over the last time; zero if it has worked since.
    pause: Duration,
    /// Until when the link is passed over.
    until: Option<Instant>,
}

impl Rung {
    fn is_due(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }
}

/// All links, the best one first.
#[derive(Debug)]
pub(crate) struct Ladder {
    rungs: Vec<Rung>,
    /// How long a link is passed over the first time.
    pub(crate) first: Duration,
}

impl Ladder {
    pub(crate) fn new(count: usize, first: Duration) -> Self {
        Self { rungs: vec![Rung::default(); count], first }
    }

    /// Returns the link for the next connection.
    pub(crate) fn choose(&self, now: Instant) -> usize {
        let untried = || self.rungs.iter().enumerate().filter(|(_, rung)| !rung.failing);
        let due = untried().find(|(_, rung)| rung.is_due(now));
        due.or_else(|| untried().next()).map_or(0, |(at, _)| at)
    }

    /// Records that a connection over the link carried nothing, or showed that the link does not
    /// work here.
    pub(crate) fn failed(&mut self, at: usize, how: Failure) {
        let Some(rung) = self.rungs.get_mut(at) else { return };
        rung.failures = rung.failures.saturating_add(1);
        let patience = if rung.worked || how == Failure::Gateway { PATIENCE } else { 1 };
        rung.failing |= how == Failure::Unfit || rung.failures >= patience;
        // All links failed, so the server is down: start again with the first.
        if self.rungs.iter().all(|rung| rung.failing) {
            self.rungs.iter_mut().for_each(|rung| rung.failing = false);
        }
    }

    /// Records that the link works. Better links that failed are passed over for a time. Returns
    /// the link's previous state.
    pub(crate) fn works(&mut self, at: usize, now: Instant) -> Rung {
        let working = Rung { worked: true, ..Rung::default() };
        let before = self.rungs.get_mut(at).map(|rung| std::mem::replace(rung, working));
        for other in 0..self.rungs.len() {
            if self.rungs.get(other).is_some_and(|rung| rung.failing) {
                self.pass_over(other, now);
            }
        }
        before.unwrap_or_default()
    }

    /// Records that a link that seemed to work does not: restores the state `before`, and counts an
    /// unfit failure.
    pub(crate) fn unfit_after_all(&mut self, at: usize, before: Rung) {
        if let Some(rung) = self.rungs.get_mut(at) {
            *rung = before;
        }
        self.failed(at, Failure::Unfit);
    }

    /// Passes over the link, for twice as long as the last time.
    pub(crate) fn pass_over(&mut self, at: usize, now: Instant) {
        let (first, longest) = (self.first, LONGEST.max(self.first));
        let Some(rung) = self.rungs.get_mut(at) else { return };
        let pause = if rung.pause.is_zero() { first } else { rung.pause.saturating_mul(2) };
        rung.pause = pause.min(longest);
        (rung.until, rung.failing, rung.failures) = (Some(now + rung.pause), false, 0);
    }

    /// Does not try the link before `at`, without counting a failure.
    pub(crate) fn due_at(&mut self, link: usize, at: Instant) {
        if let Some(rung) = self.rungs.get_mut(link) {
            rung.until = Some(at);
        }
    }

    /// Returns the link better than `at` that is to be tried first, and when.
    pub(crate) fn better(&self, at: usize) -> Option<(usize, Option<Instant>)> {
        let better = self.rungs.iter().enumerate().take(at);
        better.map(|(at, rung)| (at, rung.until)).min_by_key(|(_, until)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn pauses_double_to_ten_minutes() {
        let mut now = Instant::now();
        let mut ladder = Ladder::new(2, MINUTE);
        ladder.failed(0, Failure::Cut);
        ladder.works(1, now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let (at, until) = ladder.better(1).unwrap();
            pauses.push((until.unwrap() - now).as_secs() / 60);
            now = until.unwrap();
            assert_eq!((at, ladder.choose(now)), (0, 0));
            ladder.pass_over(0, now);
            assert_eq!(ladder.choose(now), 1);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        ladder.works(0, now);
        ladder.failed(0, Failure::Unfit);
        ladder.works(1, now);
        assert_eq!(ladder.better(1), Some((0, Some(now + MINUTE))), "it had worked meanwhile");
    }

    #[test]
    fn longer_first_pause_is_kept() {
        let now = Instant::now();
        let mut ladder = Ladder::new(2, MINUTE * 60);
        for _ in 0..3 {
            ladder.pass_over(0, now);
            assert_eq!(ladder.better(1), Some((0, Some(now + MINUTE * 60))));
        }
    }

    #[test]
    fn false_success_keeps_the_pause() {
        let now = Instant::now();
        let mut ladder = Ladder::new(3, MINUTE);
        for pause in [1, 2, 4] {
            let before = ladder.works(1, now);
            ladder.unfit_after_all(1, before);
            ladder.works(2, now);
            assert_eq!(ladder.rungs[1].until, Some(now + MINUTE * pause));
        }
    }

    #[test]
    fn no_link_is_chosen_of_none() {
        let mut ladder = Ladder::new(0, MINUTE);
        ladder.failed(0, Failure::Cut);
        ladder.works(0, Instant::now());
        assert_eq!((ladder.choose(Instant::now()), ladder.better(0)), (0, None));
    }
}
