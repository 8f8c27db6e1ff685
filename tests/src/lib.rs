//! Tests across crates: conformance matrix, end to end, browser, clients that were not written here.

pub mod browser;
pub mod shim;
pub mod stores;

use std::env;
use std::fs::OpenOptions;
use std::io::Write;

/// Says that `test` cannot run because something is `missing`. Adds a line to the file that `IM_TEST_SKIPPED` names.
///
/// # Panics
///
/// If `IM_TEST_REQUIRE` is `all`: then a test that would be skipped fails.
#[allow(clippy::panic, reason = "a test fails by a panic")]
pub fn skip(test: &str, missing: &str) {
    if env::var("IM_TEST_REQUIRE").is_ok_and(|all| all == "all") {
        panic!("{test} cannot run: {missing}");
    }
    eprintln!("SKIPPED {test}: {missing}");
    let listed = env::var_os("IM_TEST_SKIPPED")
        .map(|path| OpenOptions::new().append(true).create(true).open(path));
    if let Some(Ok(mut list)) = listed {
        let _ = writeln!(list, "{test}: {missing}");
    }
}

/// The README's example, compiled as a doctest so that it stays true.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
