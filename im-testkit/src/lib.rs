//! Conformance suites, fault injection and the history checker, for stores and transports of this workspace and yours.
//!
//! | module | what it holds |
//! |---|---|
//! | [`history`] | the history checker: was everything kept, in order, once, and resumed whole? |
//! | [`store_suite`] | what every store must do, as tests: see [`store_suite!`] |

pub mod history;
pub mod store_suite;
