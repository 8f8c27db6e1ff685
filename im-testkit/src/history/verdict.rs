//! The rules, their violations and the report.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;
use serde::Serialize;

/// A rule that a history can break. [The module](super) defines each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rule {
    /// Acked and not stored, or never delivered to a subscriber that had every chance to receive
    /// it.
    Lost,
    /// One message twice.
    Duplicated,
    /// Out of the order of seqs, or of the sender order.
    OutOfOrder,
    /// Events are missing without a status that says so.
    SilentGap,
    /// A resume that differs from its status.
    PartialResume,
    /// An event of another epoch of the room.
    StaleEpoch,
    /// Delivered to a user who may not read any more.
    AfterRemoval,
    /// An older value in place of a newer one.
    OlderState,
    /// Other content acked under a used message id.
    ConflictAccepted,
    /// Two events under one seq.
    Forked,
    /// Other content than was sent.
    Altered,
    /// A message that was never sent.
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

    /// Returns its name in reports.
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

/// One violation of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// Room, position and cause, as text.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.detail)
    }
}

/// The result of the checker.
#[derive(Debug, Clone, Default, Serialize)]
#[must_use]
pub struct Verdict {
    /// Number of different messages that were sent.
    pub sends: u64,
    /// Number of messages that were acked.
    pub acked: u64,
    /// Number of events delivered to subscribers, redeliveries included.
    pub deliveries: u64,
    /// Number of events in the store at the end.
    pub stored: u64,
    /// Number of violations of each rule. Rules without violations are absent.
    pub broken: BTreeMap<Rule, u64>,
    /// The first violations in full.
    pub examples: Vec<Violation>,
}

impl Verdict {
    /// Returns the number of violations of `rule`.
    pub fn count(&self, rule: Rule) -> u64 {
        self.broken.get(&rule).copied().unwrap_or(0)
    }

    /// Returns the number of all violations.
    pub fn violations(&self) -> u64 {
        self.broken.values().sum()
    }

    /// Returns whether no rule was broken.
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

/// Number of violations that are stored in full. The others are counted.
const EXAMPLES: usize = 50;

/// Collects violations from all parts of a checker.
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
