//! The transport suite over real sockets: commands by POST, pushes by an event stream.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::net::SocketAddr;

use im_http::{Edge, Listener, UplinkConfig};
use im_testkit::transport_suite::{
    Dial, Downlink, Engine, HttpLink, Kind, RawLink, Refused, TransportFactory, async_trait,
};
use im_transport_sse::{Sse, SseConfig};
use tokio::task::JoinSet;

struct Served {
    addresses: Vec<SocketAddr>,
    /// Aborted when the factory is dropped.
    _listeners: JoinSet<()>,
}

#[async_trait]
impl TransportFactory for Served {
    fn kind() -> Kind {
        Kind::RequestStream
    }

    async fn serve(engines: &[Engine]) -> Self {
        let (mut addresses, mut listeners) = (Vec::new(), JoinSet::new());
        for engine in engines {
            let sse = Sse::new(engine.clone(), SseConfig::default());
            let edge = Edge::new(engine.clone(), UplinkConfig::default()).at("/im").mount(sse);
            let listener = Listener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            listeners.spawn(async move { listener.serve(edge).await.unwrap() });
        }
        Self { addresses, _listeners: listeners }
    }

    async fn dial(&self, dial: Dial) -> Result<Box<dyn RawLink>, Refused> {
        let address = self.addresses[dial.engine];
        Ok(Box::new(HttpLink::dial(address, Downlink::Stream, dial).await?))
    }
}

im_testkit::transport_suite!(request_stream: Served);
