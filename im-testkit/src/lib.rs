//! Conformance suites, fault injection and the history checker, for stores and transports of this workspace and yours.
//!
//! | module | what it holds |
//! |---|---|
//! | [`backend_suite`](mod@backend_suite) | what every backend must do, as tests: see [`backend_suite!`] |
//! | [`crash`] | kill -9 of a writing process, again and again, and what must be true after each |
//! | [`crossing`] | a client that is cut off at every step and goes on over another transport |
//! | [`disk`] | power cuts and failing calls below a store, at the level of system calls |
//! | [`faulty_store`] | a store that fails when it is told to, and holds calls |
//! | [`history`] | the history checker: was everything kept, in order, once, and resumed whole? |
//! | [`mutants`] | twelve faults put into a running engine from outside, which the checker must catch |
//! | [`store_suite`](mod@store_suite) | what every store must do, as tests: see [`store_suite!`] |
//! | [`transport_suite`](mod@transport_suite) | what every transport must do, as tests: see [`transport_suite!`] |

pub mod backend_suite;
pub mod crash;
pub mod crossing;
pub mod disk;
pub mod faulty_store;
pub mod history;
pub mod mutants;
pub mod store_suite;
pub mod transport_suite;
