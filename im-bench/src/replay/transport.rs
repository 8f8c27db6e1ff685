//! The transports of the clients, and their rotation.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
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

/// The value of `--transport`.
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
    /// All four, or those with a share in `--mix`: clients are spread over them, and reconnect over
    /// the next one.
    Mix,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.alone() {
            Some(transport) => transport.fmt(f),
            None => f.write_str("mix"),
        }
    }
}

/// The pause between two short polls. Shorter than usual, so that a run ends soon.
const BETWEEN_POLLS: Duration = Duration::from_millis(100);

impl Transport {
    pub(super) const ALL: [Self; 4] = [Self::Ws, Self::Sse, Self::Long, Self::Short];

    /// Returns a link to the server at `server`.
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

/// A link without faults.
pub(super) enum Way {
    WebSocket(WebSocket),
    Http(Http),
}

impl Choice {
    fn alone(self) -> Option<Transport> {
        match self {
            Self::Ws => Some(Transport::Ws),
            Self::Sse => Some(Transport::Sse),
            Self::Long => Some(Transport::Long),
            Self::Short => Some(Transport::Short),
            Self::Mix => None,
        }
    }

    /// Returns the route of the choice, with the shares of a mix.
    pub(super) fn route(self, shares: &Shares) -> Route {
        Route(match self.alone() {
            Some(transport) => [transport].into(),
            None => shares.cycle().into(),
        })
    }
}

/// Shares of the transports of a mix: how many clients start on each, and how often each has its
/// turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares([u32; 4]);

impl Default for Shares {
    fn default() -> Self {
        Self([1; 4])
    }
}

/// The greatest share.
const MOST: u32 = 100;

impl Shares {
    /// Returns the transports in the order of their turns, each as often as its share and spread
    /// evenly: smooth weighted round robin, as nginx does for upstream servers.
    fn cycle(self) -> Vec<Transport> {
        let total: u32 = self.0.iter().sum();
        let mut credits = [0_i64; 4];
        let mut turn = || {
            credits.iter_mut().zip(self.0).for_each(|(credit, share)| *credit += i64::from(share));
            // The first of the greatest credits.
            let next = (0..4).rev().max_by_key(|nth| credits[*nth]).unwrap_or(0);
            credits[next] -= i64::from(total);
            Transport::ALL[next]
        };
        (0..total).map(|_| turn()).collect()
    }
}

impl FromStr for Shares {
    type Err = String;

    /// Parses `ws=1,sse=2,long=1,short=1`; a transport that is not named has no share.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut shares = [None; 4];
        for part in text.split(',') {
            let (name, share) = part.split_once('=').unwrap_or((part, ""));
            let nth = Transport::ALL.iter().position(|transport| transport.to_string() == name);
            let nth = nth
                .ok_or_else(|| format!("{name:?} is not a transport: use ws, sse, long, short"))?;
            let share: u32 = share
                .parse()
                .ok()
                .filter(|share| *share <= MOST)
                .ok_or_else(|| format!("expected a share from 0 to {MOST}, as in {name}=2"))?;
            if shares[nth].replace(share).is_some() {
                return Err(format!("{name} is named twice"));
            }
        }
        let shares = shares.map(Option::unwrap_or_default);
        if shares == [0; 4] { Err("no transport has a share".into()) } else { Ok(Self(shares)) }
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            Transport::ALL.iter().zip(self.0).map(|(name, share)| format!("{name}={share}"));
        f.write_str(&shown.collect::<Vec<_>>().join(","))
    }
}

/// The transports of all clients, in the order of their turns.
#[derive(Debug, Clone)]
pub(super) struct Route(Arc<[Transport]>);

impl Route {
    /// Returns the turns of the client with this number.
    pub(super) fn turns(&self, client: usize) -> Turns {
        Turns { transports: self.0.clone(), at: AtomicUsize::new(client) }
    }
}

/// The transport of one client: the same until a connection is established, then the next.
#[derive(Debug)]
pub(super) struct Turns {
    transports: Arc<[Transport]>,
    at: AtomicUsize,
}

impl Turns {
    pub(super) fn now(&self) -> Transport {
        self.transports[self.at.load(Ordering::Relaxed) % self.transports.len()]
    }

    /// Records an established connection: the next one uses the next transport.
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

    fn turns(choice: Choice, client: usize) -> Turns {
        choice.route(&Shares::default()).turns(client)
    }

    /// Clients start on different transports and move to the next one after a cut.
    #[test]
    fn clients_rotate_through_transports() {
        let begin: Vec<_> = (0..5).map(|client| turns(Choice::Mix, client).now()).collect();
        assert_eq!(
            begin,
            [Transport::Ws, Transport::Sse, Transport::Long, Transport::Short, Transport::Ws]
        );
        let mix = turns(Choice::Mix, 3);
        assert_eq!((mix.now(), mix.now()), (Transport::Short, Transport::Short));
        mix.next();
        assert_eq!(mix.now(), Transport::Ws, "after the last comes the first");
        let long = turns(Choice::Long, 7);
        long.next();
        assert_eq!(long.now(), Transport::Long);
    }

    #[test]
    fn shares_set_transport_frequency() {
        let shares: Shares = "short=2,ws=1".parse().unwrap();
        assert_eq!(shares.to_string(), "ws=1,sse=0,long=0,short=2");
        let (ws, short) = (Transport::Ws, Transport::Short);
        assert_eq!(shares.cycle(), [short, ws, short]);
        let many: Shares = "ws=1,sse=2,long=1,short=100".parse().unwrap();
        let cycle = many.cycle();
        let count = |of| cycle.iter().filter(|transport| **transport == of).count();
        assert_eq!(Transport::ALL.map(count), [1, 2, 1, 100]);
    }

    #[test]
    fn invalid_shares_are_refused() {
        for bad in ["", "ws", "ws=", "ws=x", "ws=-1", "ws=101", "pigeon=1", "ws=1,ws=1", "ws=0"] {
            assert!(bad.parse::<Shares>().is_err(), "{bad:?}");
        }
    }
}
