//! Conformance suites, fault injection and the history checker, for stores and transports of this workspace and yours.

pub mod history;
pub mod mutants;
