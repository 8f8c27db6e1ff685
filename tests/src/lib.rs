//! Tests across crates: conformance matrix, end to end, browser, clients that were not written here.
