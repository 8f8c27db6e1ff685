//! The transport suite on the engine alone: messages are passed directly to [`Connection`]s. A
//! failure here is one of the engine, independent of any transport.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::collections::VecDeque;

use bytes::Bytes;
use im_core::Code;
use im_core::engine::{Connection, Engine, Peer};
use im_core::ports::Credentials;
use im_testkit::transport_suite::{
    Dial, Encoding, RawLink, Received, Refused, TransportFactory, async_trait,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

struct Loopback(Vec<Engine>);

#[async_trait]
impl TransportFactory for Loopback {
    async fn serve(engines: &[Engine]) -> Self {
        Self(engines.to_vec())
    }

    async fn dial(&self, dial: Dial) -> Result<Box<dyn RawLink>, Refused> {
        let credentials = Credentials { token: dial.token, ..Credentials::default() };
        let peer =
            Peer { transport: "loopback", encoding: dial.encoding, address: None, credentials };
        let accepted = self.0[dial.engine].accept(peer);
        let connection = accepted.map_err(|error| Refused { code: Some(error.code().number()) })?;
        Ok(Box::new(Link::new(connection)))
    }
}

/// A connection with an inbound queue, like a socket's, so that writing never waits for the engine.
struct Link {
    connection: Connection,
    inbound: mpsc::UnboundedSender<Bytes>,
    pump: JoinHandle<()>,
    arrived: VecDeque<Received>,
}

impl Link {
    fn new(connection: Connection) -> Self {
        let (inbound, mut messages) = mpsc::unbounded_channel();
        let taker = connection.clone();
        let pump = tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                taker.submit(message).await;
            }
        });
        Self { connection, inbound, pump, arrived: VecDeque::new() }
    }
}

#[async_trait]
impl RawLink for Link {
    async fn send(&mut self, message: Bytes, encoding: Encoding) {
        if encoding == self.connection.encoding() {
            // The pump ends with this link.
            self.inbound.send(message).unwrap();
        } else {
            self.connection.close(Code::WrongEncoding);
        }
    }

    async fn receive(&mut self) -> Received {
        while self.arrived.is_empty() {
            let batch = self.connection.next(16 * 1024).await;
            self.arrived.extend(batch.frames.into_iter().map(Received::Message));
            self.connection.release(batch.id);
            self.arrived
                .extend(batch.close.map(|disconnect| Received::Closed(Some(disconnect.code))));
        }
        self.arrived.pop_front().unwrap()
    }

    fn cut(self: Box<Self>) {}
}

impl Drop for Link {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

im_testkit::transport_suite!(Loopback);
