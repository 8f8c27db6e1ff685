//! Conformance suites, fault injection and the history checker, for stores and transports.
//!
//! | module | what it holds |
//! |---|---|
//! | [`backend_suite`](mod@backend_suite) | the cases that every backend has to pass: see [`backend_suite!`] |
//! | [`crash`] | repeated SIGKILL of a writing process, and the checks after each |
//! | [`crossing`] | a client that is cut at every step and resumes over another transport |
//! | [`disk`] | power cuts and failing calls below a store, at the level of system calls |
//! | [`faulty_store`] | a store with planned faults and held calls |
//! | [`history`] | the history checker: were all events stored, in order, once, and resumed whole? |
//! | [`mutants`] | twelve faults injected into a running engine, which the checker must catch |
//! | [`store_suite`](mod@store_suite) | the cases that every store has to pass: see [`store_suite!`] |
//! | [`transport_suite`](mod@transport_suite) | the cases that every transport has to pass: see [`transport_suite!`] |

pub mod backend_suite;
pub mod crash;
pub mod crossing;
pub mod disk;
pub mod faulty_store;
pub mod history;
pub mod mutants;
pub mod store_suite;
mod suite;
pub mod transport_suite;
