//! The client is cut at every step and continues over another transport: over real sockets, on one
//! engine and on two that share a store and a bus, without sticky sessions. The list of cases is in
//! im-testkit, `crossing/suite.rs`.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::LazyLock;

use im_core::engine::Engine;
use im_http::{Edge, Listener, UplinkConfig};
use im_testkit::crossing::Setup;
use im_transport_longpoll::{LongPoll, LongPollConfig};
use im_transport_sse::{Sse, SseConfig};
use im_transport_ws::{WebSocket, WsConfig};

static ONE: LazyLock<Setup> = LazyLock::new(|| Setup::open(1, serve));
static TWO: LazyLock<Setup> = LazyLock::new(|| Setup::open(2, serve));

/// Serves all transports at an address of this engine. Ends with the program's runtime.
async fn serve(engine: Engine) -> SocketAddr {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let edge = Edge::new(engine.clone(), UplinkConfig::default())
        .at("/im")
        .mount(WebSocket::new(engine.clone(), WsConfig::default()))
        .mount(Sse::new(engine.clone(), SseConfig::default()))
        .mount(LongPoll::new(engine, LongPollConfig::default()));
    tokio::spawn(listener.serve(edge));
    address
}

im_testkit::crossing_suite! {
    one_engine: crate::ONE,
    two_engines: crate::TWO,
}

/// The same cases run on one engine and on two.
#[test]
fn one_and_two_engines_share_cases() {
    let program = std::env::current_exe().unwrap();
    let listed = std::process::Command::new(program).arg("--list").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let cases = |setup: &str| -> BTreeSet<&str> {
        let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
        names.filter_map(|name| name.strip_prefix(setup)).collect()
    };
    let (one, two) = (cases("one_engine::"), cases("two_engines::"));
    assert_eq!(one, two);
    assert!(one.len() >= 1000, "{} cases", one.len());
}
