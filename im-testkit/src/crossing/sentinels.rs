//! Two who stand on different servers and call to each other: what one server told the other before a call has arrived
//! when the call does.

use im_core::wire::Encoding;

use super::action::Action;
use super::case::Transport;
use super::setup::Route;
use super::user::User;
use crate::history::Checker;
use crate::transport_suite::peer::room;

/// One on each of two servers, in a room of their own.
pub(super) struct Sentinels {
    pair: [User; 2],
    calls: usize,
}

impl Sentinels {
    /// They connect one right after the other, and so to different servers.
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
            // Who was handed an event hears signals from then on.
            user.sync_up().await;
        }
        Self { pair, calls: 0 }
    }

    /// Both call, and both hear.
    pub(super) async fn call(&mut self) {
        self.calls += 1;
        for _ in 0..2 {
            let [from, to] = &mut self.pair;
            let call = Action::Signal { words: format!("{} {}", from.name, self.calls) };
            from.does(&call).await;
            assert!(to.hear(call.words()).await, "a call crosses over");
            self.pair.swap(0, 1);
        }
    }
}
