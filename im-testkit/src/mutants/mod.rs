//! Twelve faults, injected into a running engine, that the history checker must catch.
//!
//! Faults are injected at the edges of the engine: [`MutantStore`] between engine and store,
//! [`MutantFrames`] between engine and transport. The engine itself is the real one. [`backend`] has
//! six faults under a store, for the backend suite.
//!
//! | mutant | fault | injected in | caught by |
//! |---|---|---|---|
//! | [`Mutant::Lose`] | all events of a subscriber after one of them are dropped | frames | lost |
//! | [`Mutant::Redeliver`] | an event is sent twice | frames | duplicated |
//! | [`Mutant::Swap`] | two events are swapped | frames | out of order |
//! | [`Mutant::Gap`] | one event is skipped | frames | silent gap |
//! | [`Mutant::StaleEpoch`] | an event names another epoch of its room | frames | stale epoch |
//! | [`Mutant::AckBeforeCommit`] | the store reports a commit, and the process dies before it | store | lost |
//! | [`Mutant::DedupLost`] | after a restart, a retry is stored as a new send | store | duplicated |
//! | [`Mutant::ConflictAccepted`] | other content under a used id is acked | store | conflict accepted |
//! | [`Mutant::SpliceOffByOne`] | the first live event after a resume is skipped | frames | silent gap |
//! | [`Mutant::PartialResume`] | the second half of a resume is skipped | frames | partial resume |
//! | [`Mutant::AfterRemoval`] | a removed user receives later events | frames | delivered after removal |
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

    /// Returns the rule that must catch it. It may break others as well.
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
