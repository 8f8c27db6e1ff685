//! Two clients on different servers that exchange signals.
//!
//! Hints are ordered: once a signal has crossed, all earlier hints of its server have, too.

use im_core::wire::Encoding;

use super::action::Action;
use super::case::Transport;
use super::setup::Route;
use super::user::User;
use crate::history::Checker;
use crate::transport_suite::peer::room;

/// One client on each of two servers, in a room of their own.
pub(super) struct Sentinels {
    pair: [User; 2],
    calls: usize,
}

impl Sentinels {
    /// Connects the clients one right after the other, and so to different servers.
    pub(super) async fn post(number: usize, route: &Route) -> Self {
        let (r, checker) = (room(&format!("{number}.between")), Checker::new());
        let one = |name| User::new(&format!("{name}-{number}"), &r, &checker, route);
        let mut pair = [one("here"), one("there")];
        for user in &mut pair {
            user.dial(Transport::Ws, Encoding::Json).await;
            user.greets().await;
        }
        let at = pair[0].founds(&[&pair[1].name.clone()]).await;
        for user in &mut pair {
            user.starts_in(at);
            user.subscribes().await;
            // A subscriber that received an event receives signals from then on.
            user.sync_up().await;
        }
        Self { pair, calls: 0 }
    }

    /// Sends a signal in each direction and waits for both.
    pub(super) async fn call(&mut self) {
        self.calls += 1;
        for _ in 0..2 {
            let [from, to] = &mut self.pair;
            let call = Action::Signal { words: format!("{} {}", from.name, self.calls) };
            from.does(&call).await;
            assert!(to.hear(call.words()).await, "a signal reaches the other server");
            self.pair.swap(0, 1);
        }
    }
}
