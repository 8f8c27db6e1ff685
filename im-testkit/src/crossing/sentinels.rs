//! Two who stand on different servers and call to each other: what one server told the other before a call has arrived
//! when the call does.

use im_core::wire::Encoding;

use super::case::Transport;
use super::deed::Deed;
use super::ground::Route;
use super::person::Person;
use crate::history::Checker;
use crate::transport_suite::peer::room;

/// One on each of two servers, in a room of their own.
pub(super) struct Sentinels {
    pair: [Person; 2],
    calls: usize,
}

impl Sentinels {
    /// They connect one right after the other, and so to different servers.
    pub(super) async fn post(number: usize, route: &Route) -> Self {
        let (r, checker) = (room(&format!("{number}.between")), Checker::new());
        let one = |name| Person::new(&format!("{name}-{number}"), &r, &checker, route);
        let mut pair = [one("here"), one("there")];
        for person in &mut pair {
            person.dial(Transport::Ws, Encoding::Json).await;
            person.greets().await;
        }
        let at = pair[0].founds(&[&pair[1].name.clone()]).await;
        for person in &mut pair {
            person.starts_in(at);
            person.follows().await;
            // Who was handed an event hears signals from then on.
            person.level().await;
        }
        Self { pair, calls: 0 }
    }

    /// Both call, and both hear.
    pub(super) async fn call(&mut self) {
        self.calls += 1;
        for _ in 0..2 {
            let [from, to] = &mut self.pair;
            let call = Deed::Signal { words: format!("{} {}", from.name, self.calls) };
            from.does(&call).await;
            assert!(to.hear(call.words()).await, "a call crosses over");
            self.pair.swap(0, 1);
        }
    }
}
