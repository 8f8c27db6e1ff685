//! Conformance suites, fault injection and the history checker, for stores and transports of this workspace and yours.
//!
//! | module | what it holds |
//! |---|---|
//! | [`store_suite`](mod@store_suite) | what every store must do, as tests: see [`store_suite!`] |
//! | [`faulty_store`] | a store that fails when it is told to, and holds calls |

pub mod faulty_store;
pub mod store_suite;
