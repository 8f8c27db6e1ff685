//! Reporting that a test cannot run.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;

use crate::Error;

/// Reports that `test` cannot run because something is `missing`. Adds a line to the file in
/// `IM_TEST_SKIPPED`.
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

/// Returns the requirement of `test`. `None` if this machine does not have it: then the test is
/// [skipped](skip).
///
/// # Panics
///
/// If the requirement exists and does not work, or as [`skip`] does.
#[allow(clippy::panic, reason = "a test fails by a panic")]
pub fn or_skip<T>(test: &str, outcome: Result<T, Error>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(Error::Absent(missing)) => {
            skip(test, &missing);
            None
        }
        Err(Error::Failed(why)) => panic!("{test}: {why}"),
    }
}
