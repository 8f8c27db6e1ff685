//! Tests across crates: conformance matrix, end to end, browser, independent clients.

pub mod browser;
pub mod foreign;
pub mod nginx;
pub mod proxy;
pub mod shim;
pub mod stores;

pub use im_test_databases::skip;

/// The README's example, compiled as a doctest so that it stays true.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
