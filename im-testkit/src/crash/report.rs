//! What comes out of a run.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CrashReport {
    /// Workers killed.
    pub kills: u32,
    /// Of these, how many while they were still opening the store.
    pub kills_while_opening: u32,
    /// How often the database was killed.
    pub database_kills: u32,
    /// Of these, how often the worker was killed while it was dead.
    pub both_at_once: u32,
    /// Sends that had no answer when the database was killed, over all its kills.
    pub pending: u64,
    /// Answers that said that nothing was written, since the database was away.
    pub refused: u64,
    /// Answers that said that it is not known whether something was written.
    pub unknown: u64,
    /// Sends that were acknowledged to a worker.
    pub acknowledged: u64,
    /// Sends that a kill left without an answer, and that were acknowledged when they were sent again.
    pub retried: u64,
    /// Of these, how many had been written.
    pub retried_and_there: u64,
    /// Events in the store at the end.
    pub events: u64,
    /// How long it took.
    pub took: Duration,
    /// What was wrong. The run ends after the first round that shows something.
    pub violations: Vec<Violation>,
}

impl CrashReport {
    /// All kills, of workers and of the database.
    pub fn all_kills(&self) -> u32 {
        self.kills + self.database_kills
    }
}

impl AddAssign for CrashReport {
    /// Both runs, on stores of their own, as one.
    fn add_assign(&mut self, other: Self) {
        self.kills += other.kills;
        self.kills_while_opening += other.kills_while_opening;
        self.database_kills += other.database_kills;
        self.both_at_once += other.both_at_once;
        self.pending += other.pending;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.acknowledged += other.acknowledged;
        self.retried += other.retried;
        self.retried_and_there += other.retried_and_there;
        self.events += other.events;
        self.took += other.took;
        self.violations.extend(other.violations);
    }
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Violation {
    /// An acknowledged send, or its record, is not there.
    Lost(String),
    /// An acknowledged send is at another place than where it was acknowledged.
    Reordered(String),
    /// A message id stands twice, or was acknowledged at two places.
    Duplicated(String),
    /// A seq is missing, or a log has become shorter.
    Gap(String),
    /// A room has another epoch than before.
    Epoch(String),
    /// Something else that was read is not what was written, or a worker did not do what it should.
    Wrong(String),
}

impl Violation {
    /// Whether it is none of lost, repeated and reordered.
    pub fn is_other(&self) -> bool {
        !matches!(self, Self::Lost(_) | Self::Duplicated(_) | Self::Reordered(_))
    }
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |is: fn(&Violation) -> bool| self.violations.iter().filter(|v| is(v)).count();
        if self.database_kills == 0 {
            write!(f, "{} kills ({} while opening)", self.kills, self.kills_while_opening)?;
        } else {
            write!(
                f,
                "{} kills of the process ({} while opening), {} of the database ({} with the process)",
                self.kills, self.kills_while_opening, self.database_kills, self.both_at_once
            )?;
        }
        write!(
            f,
            " in {:.1?}: {} acknowledged, {} lost, {} repeated, {} reordered, {} otherwise wrong; {} sent again, {} of \
             them had been written; {} events",
            self.took,
            self.acknowledged,
            count(|v| matches!(v, Violation::Lost(_))),
            count(|v| matches!(v, Violation::Duplicated(_))),
            count(|v| matches!(v, Violation::Reordered(_))),
            count(Violation::is_other),
            self.retried,
            self.retried_and_there,
            self.events,
        )?;
        if self.database_kills > 0 {
            let Self { pending, refused, unknown, .. } = self;
            write!(
                f,
                "; {pending} sends pending when the database was killed, {refused} refused and {unknown} of unknown \
                 outcome while it was away"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_kills_are_counted_separately() {
        let mut report = CrashReport { kills: 8, acknowledged: 5, ..CrashReport::default() };
        report.violations.push(Violation::Lost("one".into()));
        let words = report.to_string();
        assert!(words.starts_with("8 kills (0 while opening) in"), "{words}");
        assert!(words.contains("5 acknowledged, 1 lost, 0 repeated"), "{words}");
        assert!(!words.contains("database"), "{words}");
        (report.database_kills, report.both_at_once, report.refused) = (2, 1, 7);
        let words = report.to_string();
        let kills =
            "8 kills of the process (0 while opening), 2 of the database (1 with the process) in";
        assert!(words.starts_with(kills), "{words}");
        assert!(words.contains("7 refused and 0 of unknown"), "{words}");
        assert_eq!(report.all_kills(), 10);
    }
}
