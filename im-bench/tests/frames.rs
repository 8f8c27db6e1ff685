//! Short runs of the check of raw frames over each transport. `cargo xtask prove frames` is the
//! long one.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::process::{Command, Output};

fn frames(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_im-bench")).arg("frames").args(args).output().unwrap()
}

/// Runs peers over one transport, through kills of the server.
fn check(transport: &str) {
    let peers = ["--subscriptions", "160", "--rooms-per-session", "8", "--rooms", "9"];
    let run = ["--sends", "1500", "--kills", "2", "--transport", transport];
    let output = frames(&[&peers[..], &run].concat());
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("seed 1: 20 sessions of 8 of 9 rooms"), "{out}");
    assert!(out.contains("1,500 of 1,500 sends acknowledged"), "{out}");
}

#[test]
fn web_socket_never_skips() {
    check("ws");
}

#[test]
fn event_stream_never_skips() {
    check("sse");
}

#[test]
fn long_poll_never_skips() {
    check("long");
}

#[test]
fn short_poll_never_skips() {
    check("short");
}

#[test]
fn impossible_frames_run_is_refused() {
    for (args, reason) in [
        (&["--store", "memory"][..], "needs another --store"),
        (&["--rooms", "3", "--rooms-per-session", "4"], "there are 3 rooms"),
        (&["--transport", "mix"], "short"),
    ] {
        let output = frames(args);
        assert!(!output.status.success(), "{args:?}");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains(reason), "{args:?}: {words}");
    }
}
