//! Conformance suites, fault injection and the history checker, for stores and transports of this workspace and yours.
//!
//! | module | what it holds |
//! |---|---|
//! | [`store_suite`] | what every store must do, as tests: see [`store_suite!`] |

pub mod store_suite;
