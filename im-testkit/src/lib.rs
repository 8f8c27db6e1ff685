//! Conformance suites, fault injection and the history checker, for stores and transports of this workspace and yours.
//!
//! | module | what it holds |
//! |---|---|
//! | [`crash`] | kill -9, many times, and what must be there afterwards |
//! | [`store_suite`] | what every store must do, as tests: see [`store_suite!`] |

pub mod crash;
pub mod store_suite;
