//! Conformance suites, fault injection and the history checker, for stores and transports of this workspace and yours.
//!
//! | module | what it holds |
//! |---|---|
<<<<<<< HEAD
//! | [`faulty_store`] | a store that fails when it is told to, and holds calls |
//! | [`history`] | the history checker: was everything kept, in order, once, and resumed whole? |
//! | [`store_suite`](mod@store_suite) | what every store must do, as tests: see [`store_suite!`] |
//! | [`mutants`] | twelve faults put into a running engine from outside, which the checker must catch |

pub mod faulty_store;
pub mod history;
pub mod mutants;
=======
//! | [`crash`] | kill -9, many times, and what must be there afterwards |
//! | [`store_suite`] | what every store must do, as tests: see [`store_suite!`] |

pub mod crash;
>>>>>>> sled
pub mod store_suite;
