//! Which transports the clients go over, and in which turns.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use im_client::{Down, Http, WebSocket};
use serde::Serialize;

use crate::serve::EDGE;

/// One transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transport {
    Ws,
    Sse,
    Long,
    Short,
}

/// What `--transport` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Choice {
    /// WebSocket.
    Ws,
    /// Commands by POST, pushes by Server-Sent Events.
    Sse,
    /// Commands by POST, pushes by long polling.
    Long,
    /// Commands by POST, pushes by short polling.
    Short,
    /// All four: clients are spread over them, and go on over the next one whenever they come back.
    Mix,
}

/// Between two short polls. Shorter than people would choose, so that a run ends soon.
const BETWEEN_POLLS: Duration = Duration::from_millis(100);

impl Transport {
    pub(super) const ALL: [Self; 4] = [Self::Ws, Self::Sse, Self::Long, Self::Short];

    /// A link to the server at `server`.
    pub(super) fn link(self, server: SocketAddr) -> Way {
        let http = |down| Way::Http(Http::new(format!("http://{server}{EDGE}"), down));
        match self {
            Self::Ws => Way::WebSocket(WebSocket::new(format!("ws://{server}{EDGE}/ws"))),
            Self::Sse => http(Down::Stream),
            Self::Long => http(Down::LongPoll(Duration::from_secs(25))),
            Self::Short => http(Down::ShortPoll(BETWEEN_POLLS)),
        }
    }
}

/// A link that is not disturbed yet.
pub(super) enum Way {
    WebSocket(WebSocket),
    Http(Http),
}

impl Choice {
    fn transports(self) -> &'static [Transport] {
        let at = |at: usize| &Transport::ALL[at..=at];
        match self {
            Self::Ws => at(0),
            Self::Sse => at(1),
            Self::Long => at(2),
            Self::Short => at(3),
            Self::Mix => &Transport::ALL,
        }
    }

    /// The turns of the client of this number.
    pub(super) fn turns(self, client: usize) -> Turns {
        Turns { transports: self.transports(), at: AtomicUsize::new(client) }
    }
}

/// Over what one client connects: over the same until a connection has come about, then over the next.
#[derive(Debug)]
pub(super) struct Turns {
    transports: &'static [Transport],
    at: AtomicUsize,
}

impl Turns {
    pub(super) fn now(&self) -> Transport {
        self.transports[self.at.load(Ordering::Relaxed) % self.transports.len()]
    }

    /// A connection has come about: the one after it has its turn.
    pub(super) fn next(&self) {
        self.at.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ws => "ws",
            Self::Sse => "sse",
            Self::Long => "long",
            Self::Short => "short",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_spread_and_go_on_over_the_next() {
        let begin: Vec<_> = (0..5).map(|client| Choice::Mix.turns(client).now()).collect();
        assert_eq!(
            begin,
            [Transport::Ws, Transport::Sse, Transport::Long, Transport::Short, Transport::Ws]
        );
        let turns = Choice::Mix.turns(3);
        assert_eq!((turns.now(), turns.now()), (Transport::Short, Transport::Short));
        turns.next();
        assert_eq!(turns.now(), Transport::Ws, "after the last comes the first");
        let turns = Choice::Long.turns(7);
        turns.next();
        assert_eq!(turns.now(), Transport::Long);
    }
}
