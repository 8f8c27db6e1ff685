//! The rules, what broke them, and the report.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;
use serde::Serialize;

/// A promise that can be broken. The module's documentation says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rule {
    /// Acknowledged and gone, or never delivered to a subscriber that had every chance.
    Lost,
    /// One message twice.
    Duplicated,
    /// Not in the order of seqs, or not in the order of its sender.
    OutOfOrder,
    /// Something is missing and nobody said so.
    SilentGap,
    /// A resume that is not what it says.
    PartialResume,
    /// Of another epoch of the room.
    StaleEpoch,
    /// Handed to somebody who may not read any more.
    AfterRemoval,
    /// An older value in place of a newer one.
    OlderState,
    /// Another content under a message id that was used.
    ConflictAccepted,
    /// Two events under one seq.
    Forked,
    /// Not what was sent.
    Altered,
    /// Sent by nobody.
    Invented,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 12] = [
        Self::Lost,
        Self::Duplicated,
        Self::OutOfOrder,
        Self::SilentGap,
        Self::PartialResume,
        Self::StaleEpoch,
        Self::AfterRemoval,
        Self::OlderState,
        Self::ConflictAccepted,
        Self::Forked,
        Self::Altered,
        Self::Invented,
    ];

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::OutOfOrder => "out of order",
            Self::SilentGap => "silent gaps",
            Self::PartialResume => "partial resumes",
            Self::StaleEpoch => "stale epoch",
            Self::AfterRemoval => "delivered after removal",
            Self::OlderState => "older state won",
            Self::ConflictAccepted => "conflicts accepted",
            Self::Forked => "forked",
            Self::Altered => "altered",
            Self::Invented => "invented",
        }
    }
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// Where and how, for a person.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.detail)
    }
}

/// What the checker found.
#[derive(Debug, Clone, Default, Serialize)]
#[must_use]
pub struct Verdict {
    /// Different messages that were sent.
    pub sends: u64,
    /// Messages that were acknowledged.
    pub acked: u64,
    /// Events that were delivered to subscribers, repeats after a reconnect included.
    pub deliveries: u64,
    /// Events that the store held at the end.
    pub stored: u64,
    /// How often each rule was broken. A rule that holds is not in it.
    pub broken: BTreeMap<Rule, u64>,
    /// The first violations in full.
    pub examples: Vec<Violation>,
}

impl Verdict {
    /// How often `rule` was broken.
    pub fn count(&self, rule: Rule) -> u64 {
        self.broken.get(&rule).copied().unwrap_or(0)
    }

    /// How many violations there were in all.
    pub fn violations(&self) -> u64 {
        self.broken.values().sum()
    }

    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} sent, {} acknowledged, {} delivered, {} stored",
            self.sends, self.acked, self.deliveries, self.stored
        )?;
        let shown = [Rule::Lost, Rule::Duplicated, Rule::OutOfOrder, Rule::SilentGap];
        let main: Vec<_> =
            shown.iter().map(|rule| format!("{} {}", self.count(*rule), rule.name())).collect();
        writeln!(f, "{}", main.join(", "))?;
        for (rule, count) in self.broken.iter().filter(|(rule, _)| !shown.contains(rule)) {
            writeln!(f, "{count} {}", rule.name())?;
        }
        for violation in &self.examples {
            writeln!(f, "  - {violation}")?;
        }
        Ok(())
    }
}

/// How many violations are kept in full. The rest are counted.
const EXAMPLES: usize = 50;

/// Collects violations from all sides.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<(BTreeMap<Rule, u64>, Vec<Violation>)>);

impl Tally {
    pub(super) fn add(&self, rule: Rule, detail: impl FnOnce() -> String) {
        self.add_many(rule, 1, detail);
    }

    pub(super) fn add_many(&self, rule: Rule, times: u64, detail: impl FnOnce() -> String) {
        if times == 0 {
            return;
        }
        let (broken, examples) = &mut *self.0.lock();
        *broken.entry(rule).or_default() += times;
        if examples.len() < EXAMPLES {
            examples.push(Violation { rule, detail: detail() });
        }
    }

    pub(super) fn read(&self) -> (BTreeMap<Rule, u64>, Vec<Violation>) {
        self.0.lock().clone()
    }
}
