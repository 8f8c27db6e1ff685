//! The factory of the transport suite for polling.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::net::SocketAddr;
use std::time::Duration;

use im_http::{Edge, Listener, UplinkConfig};
use im_testkit::transport_suite::{
    Dial, Downlink, Engine, HttpLink, Kind, RawLink, Refused, TransportFactory, async_trait,
};
use im_transport_longpoll::{LongPoll, LongPollConfig};
use tokio::task::JoinSet;

/// Engines with polls that are held for up to `HOLD` seconds.
pub(crate) struct Served<const HOLD: u64> {
    addresses: Vec<SocketAddr>,
    /// Aborted when the factory is dropped.
    _listeners: JoinSet<()>,
}

#[async_trait]
impl<const HOLD: u64> TransportFactory for Served<HOLD> {
    fn kind() -> Kind {
        Kind::Polls
    }

    async fn serve(engines: &[Engine]) -> Self {
        let (mut addresses, mut listeners) = (Vec::new(), JoinSet::new());
        for engine in engines {
            let poll = LongPoll::new(engine.clone(), LongPollConfig::default());
            let edge = Edge::new(engine.clone(), UplinkConfig::default()).at("/im").mount(poll);
            let listener = Listener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            listeners.spawn(async move { listener.serve(edge).await.unwrap() });
        }
        Self { addresses, _listeners: listeners }
    }

    async fn dial(&self, dial: Dial) -> Result<Box<dyn RawLink>, Refused> {
        let address = self.addresses[dial.engine];
        let hold = Duration::from_secs(HOLD);
        Ok(Box::new(HttpLink::dial(address, Downlink::Poll(hold), dial).await?))
    }
}
