//! The monster battle in a browser: over all four transports at once, with late updates, on a
//! desktop and on a phone.
//!
//! The steps of the users are in `tests/browser/battle.mjs`; requirements and variables are in
//! [`im_tests::browser`]. `IM_TEST_BATTLE` names a server that is built already.

#![allow(clippy::unwrap_used, reason = "this file is all test")]

/// Four transports show the same battle and drop late state.
#[test]
fn four_transports_agree_without_late_state() {
    let data = tempfile::tempdir().unwrap();
    let server = ("monster-battle", "IM_TEST_BATTLE");
    im_tests::browser::run("battle.mjs", server, "monster-battle.png", &data.path().join("data"));
}
