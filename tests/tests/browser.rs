//! Two browser tabs on the real quickstart server: they chat, reload, lose the server and
//! reconnect.
//!
//! The steps of the users are in `tests/browser/quickstart.mjs`; requirements and variables are in
//! [`im_tests::browser`]. `IM_TEST_QUICKSTART` names a server that is built already.

#![allow(clippy::unwrap_used, reason = "this file is all test")]

#[test]
fn two_tabs_chat_across_restart() {
    let data = tempfile::tempdir().unwrap();
    let server = ("quickstart", "IM_TEST_QUICKSTART");
    im_tests::browser::run("quickstart.mjs", server, "quickstart.png", &data.path().join("data"));
}
