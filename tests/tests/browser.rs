//! Two browser tabs on the real quickstart server: they chat, reload, lose the server and find it again.
//!
//! What a person does is in `tests/browser/quickstart.mjs`; what it takes to run it, and the variables that change that,
//! in [`im_tests::browser`]. `IM_TEST_QUICKSTART` names a server that is built already.

#![allow(clippy::unwrap_used, reason = "this file is all test")]

#[test]
fn two_tabs_chat_across_restart() {
    let data = tempfile::tempdir().unwrap();
    let server = ("quickstart", "IM_TEST_QUICKSTART");
    im_tests::browser::run("quickstart.mjs", server, "quickstart.png", &data.path().join("data"));
}
