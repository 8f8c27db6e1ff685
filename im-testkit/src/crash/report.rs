//! The report of a run.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The counts of a run, and its violations.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CrashReport {
    /// Number of workers killed.
    pub kills: u32,
    /// Of these, killed while opening the store.
    pub kills_while_opening: u32,
    /// Number of kills of the database.
    pub database_kills: u32,
    /// Of these, with the worker killed while the database was down.
    pub both_at_once: u32,
    /// Sends without an answer when the database was killed, over all its kills.
    pub pending: u64,
    /// Answers that reported nothing was written, since the database was down.
    pub refused: u64,
    /// Answers with an unknown outcome.
    pub unknown: u64,
    /// Acked sends.
    pub acknowledged: u64,
    /// Sends that a kill left without an answer and whose retry was acked.
    pub retried: u64,
    /// Of these, the ones that had been stored.
    pub retried_and_there: u64,
    /// Events in the store at the end.
    pub events: u64,
    /// Duration of the run.
    pub took: Duration,
    /// The violations. The run ends after the first round with one.
    pub violations: Vec<Violation>,
}

impl CrashReport {
    /// Returns the number of all kills, of workers and of the database.
    pub fn all_kills(&self) -> u32 {
        self.kills + self.database_kills
    }
}

impl AddAssign for CrashReport {
    /// Adds a run on another store.
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

/// A violation of a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Violation {
    /// An acked send, or its record, is not stored.
    Lost(String),
    /// An acked send is stored at another seq than in its ack.
    Reordered(String),
    /// A message id is stored twice, or was acked at two seqs.
    Duplicated(String),
    /// A seq is missing, or a log has become shorter.
    Gap(String),
    /// A room has another epoch than before.
    Epoch(String),
    /// Another difference between what was written and read, or a misbehaving worker.
    Wrong(String),
}

impl Violation {
    /// Returns whether it is none of lost, duplicated and reordered.
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
            " in {:.1?}: {} acknowledged, {} lost, {} duplicated, {} reordered, {} otherwise wrong; {} retried, {} of \
             them stored before; {} events",
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
                 outcome while it was down"
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
        assert!(words.contains("5 acknowledged, 1 lost, 0 duplicated"), "{words}");
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
