//! Twelve faults, put into a running engine from outside, that the history checker must catch: who proves the prover?
//!
//! A fault is put in where the engine meets the world: [`MutantStore`] stands between engine and store,
//! [`MutantFrames`] between engine and transport. The engine itself is the real one. [`backend`] has six faults under a
//! store, for the backend suite.
//!
//! | mutant | what it does | put in | caught by |
//! |---|---|---|---|
//! | [`Mutant::Lose`] | a reader's events are dropped from one on | frames | lost |
//! | [`Mutant::Redeliver`] | an event is sent twice | frames | repeated |
//! | [`Mutant::Swap`] | two events change places | frames | out of order |
//! | [`Mutant::Gap`] | one event is left out | frames | silent gap |
//! | [`Mutant::StaleEpoch`] | an event names another life of its room | frames | stale epoch |
//! | [`Mutant::AckBeforeCommit`] | the store says that it has committed, and the process dies before it does | store | lost |
//! | [`Mutant::DedupLost`] | after a restart, a retry is stored as a new send | store | repeated |
//! | [`Mutant::ConflictAccepted`] | another content under a used id is acknowledged | store | conflict accepted |
//! | [`Mutant::SpliceOffByOne`] | the first live event after a resume is left out | frames | silent gap |
//! | [`Mutant::PartialResume`] | the second half of what a resume promises is left out | frames | partial resume |
//! | [`Mutant::AfterRemoval`] | a removed user is handed what comes later | frames | delivered after removal |
//! | [`Mutant::OlderState`] | the store keeps a state key's older value | store | older state won |

pub mod backend;
mod frames;
mod store;

pub use frames::{MutantFrames, Overheard};
pub use store::MutantStore;

use crate::history::Rule;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table of the module says what each one does")]
pub enum Mutant {
    Lose,
    Redeliver,
    Swap,
    Gap,
    StaleEpoch,
    AckBeforeCommit,
    DedupLost,
    ConflictAccepted,
    SpliceOffByOne,
    PartialResume,
    AfterRemoval,
    OlderState,
}

impl Mutant {
    /// All twelve.
    pub const ALL: [Self; 12] = [
        Self::Lose,
        Self::Redeliver,
        Self::Swap,
        Self::Gap,
        Self::StaleEpoch,
        Self::AckBeforeCommit,
        Self::DedupLost,
        Self::ConflictAccepted,
        Self::SpliceOffByOne,
        Self::PartialResume,
        Self::AfterRemoval,
        Self::OlderState,
    ];

    /// The rule that must catch it. Others may be broken by it as well.
    pub const fn caught_by(self) -> Rule {
        match self {
            Self::Lose | Self::AckBeforeCommit => Rule::Lost,
            Self::Redeliver | Self::DedupLost => Rule::Duplicated,
            Self::Swap => Rule::OutOfOrder,
            Self::Gap | Self::SpliceOffByOne => Rule::SilentGap,
            Self::StaleEpoch => Rule::StaleEpoch,
            Self::ConflictAccepted => Rule::ConflictAccepted,
            Self::PartialResume => Rule::PartialResume,
            Self::AfterRemoval => Rule::AfterRemoval,
            Self::OlderState => Rule::OlderState,
        }
    }
}
