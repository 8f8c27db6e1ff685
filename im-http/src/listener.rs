//! HTTP on a socket of our own, bounded in time and number.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::body::BoxError;
use crate::credentials::PeerAddr;
use crate::crowd::Crowd;
use crate::speaking::{OneConnection, WithPeer};
#[cfg(feature = "tls")]
use crate::tls::Certificates;

/// The bounds of a [`Listener`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ListenerConfig {
    /// Connections that speak HTTP at the same time. Further ones wait in the system's backlog. 16,384 by default:
    /// an event stream and a poll that is held take one each, all the time; a WebSocket only until it is upgraded, and
    /// is the engine's to count from then on. Worst case in memory: this many times twice `max_header_bytes` and about
    /// 4 KB; the system must allow as many open files.
    pub max_connections: usize,
    /// The same for one address (of IPv6, one /64). 1,024 by default: many people share one address, each with a stream
    /// and a connection for commands. Further ones are closed at once. Behind a proxy all come from its address: set this
    /// to `max_connections` there.
    pub max_connections_per_address: usize,
    /// Time for a whole request head, TLS handshake included, also between two requests. 10 s by default: long
    /// enough for a poor mobile network, short enough that silent sockets do not pile up.
    pub header_timeout: Duration,
    /// How long nothing may be taken of what is to be written until the peer counts as gone. 30 s by default: a reader in a
    /// tunnel comes back sooner, or resumes.
    ///
    /// On Linux and Android also how long a peer may confirm nothing of what was sent (`TCP_USER_TIMEOUT`). So one that
    /// vanishes without a word costs its connection for no longer than this and one heartbeat (20 s by default), which is
    /// what a silent stream sends it. Elsewhere the system decides how long, a quarter of an hour perhaps.
    pub write_timeout: Duration,
    /// Bytes of a request head. 16 KiB by default, at least 8 KiB: cookies and tokens fit.
    pub max_header_bytes: usize,
    /// How long requests in flight may take to end once the listener stops. 10 s by default.
    pub stop_within: Duration,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_connections_per_address: 1024,
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            max_header_bytes: 16 * 1024,
            stop_within: Duration::from_secs(10),
        }
    }
}

impl ListenerConfig {
    /// Sets [`Self::max_connections`]; at least one.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// Sets [`Self::max_connections_per_address`]; at least one.
    #[must_use]
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.max_connections_per_address = connections.max(1);
        self
    }

    /// Sets [`Self::header_timeout`].
    #[must_use]
    pub fn header_timeout(mut self, time: Duration) -> Self {
        self.header_timeout = time;
        self
    }

    /// Sets [`Self::write_timeout`].
    #[must_use]
    pub fn write_timeout(mut self, time: Duration) -> Self {
        self.write_timeout = time;
        self
    }

    /// Sets [`Self::max_header_bytes`]; at least 8 KiB.
    #[must_use]
    pub fn max_header_bytes(mut self, bytes: usize) -> Self {
        self.max_header_bytes = bytes.max(8 * 1024);
        self
    }

    /// Sets [`Self::stop_within`].
    #[must_use]
    pub fn stop_within(mut self, time: Duration) -> Self {
        self.stop_within = time;
        self
    }
}

/// A socket that answers HTTP requests by a tower service, upgrades included, with or without TLS. With TLS it also speaks
/// HTTP/2, where the client wishes it: browsers allow six connections of HTTP/1.1 for one host, which a few tabs with a
/// stream each use up.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    config: ListenerConfig,
    #[cfg(feature = "tls")]
    certificates: Option<Certificates>,
}

impl Listener {
    /// Takes the address. Port 0 takes any free port; see [`Self::local_addr`].
    ///
    /// # Errors
    ///
    /// If the address cannot be had.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self::from_socket(TcpListener::bind(address).await?))
    }

    /// Takes over a socket that listens already.
    pub fn from_socket(socket: TcpListener) -> Self {
        Self {
            socket,
            config: ListenerConfig::default(),
            #[cfg(feature = "tls")]
            certificates: None,
        }
    }

    /// Sets the bounds.
    #[must_use]
    pub fn config(mut self, config: ListenerConfig) -> Self {
        self.config = config;
        self
    }

    /// Speaks TLS with these certificates, and nothing else.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, certificates: Certificates) -> Self {
        self.certificates = Some(certificates);
        self
    }

    /// The address that was taken.
    ///
    /// # Errors
    ///
    /// If the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until the future is dropped. Dropping it ends the requests in flight, but not what has been upgraded.
    ///
    /// # Errors
    ///
    /// None now; kept open for sockets that fail for good.
    pub async fn serve<S, B>(self, service: S) -> io::Result<()>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.serve_until(service, std::future::pending()).await
    }

    /// Serves until `stop` is ready; then takes no further connection, lets the requests in flight end within the time
    /// configured, and returns. What has been upgraded goes on: it belongs to the service that took it.
    ///
    /// # Errors
    ///
    /// None now; kept open for sockets that fail for good.
    pub async fn serve_until<S, B>(
        self,
        service: S,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut stop = pin!(stop);
        let tasks = Tasks::new(&self.config);
        loop {
            let (stream, peer, slot) = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = next_connection(&self.socket, &tasks.slots) => accepted,
            };
            let most = self.config.max_connections_per_address;
            let Some(place) = tasks.crowd.enter(peer.ip(), most) else {
                tracing::debug!(%peer, "too many connections of one address");
                continue;
            };
            let service =
                TowerToHyperService::new(WithPeer { inner: service.clone(), peer: PeerAddr(peer) });
            let one = OneConnection {
                config: self.config.clone(),
                #[cfg(feature = "tls")]
                certificates: self.certificates.clone(),
                stop: tasks.stop.clone(),
                held: (slot, place),
            };
            let end = tasks.end.clone();
            tasks
                .tracker
                .spawn(async move { end.run_until_cancelled(one.run(stream, service)).await });
        }
        drop(self.socket);
        tasks.finish(self.config.stop_within).await;
        Ok(())
    }
}

/// What a running listener owns. Dropping it ends its tasks.
struct Tasks {
    slots: Arc<Semaphore>,
    crowd: Crowd,
    tracker: TaskTracker,
    /// Asks the connections to end after the request in flight.
    stop: CancellationToken,
    /// Ends them.
    end: CancellationToken,
}

impl Tasks {
    fn new(config: &ListenerConfig) -> Self {
        let slots = config.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            crowd: Crowd::default(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            end: CancellationToken::new(),
        }
    }

    async fn finish(self, within: Duration) {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(within, self.tracker.wait()).await.is_err() {
            tracing::warn!(connections = self.tracker.len(), "requests in flight were cut off");
            self.end.cancel();
            self.tracker.wait().await;
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// The next connection, once there is a slot for it. Errors of accepting pass: they concern one connection that is gone
/// already, or a lack of file handles that the end of another connection mends.
async fn next_connection(
    socket: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        // The semaphore is never closed; if it were, nobody could be served.
        let Ok(slot) = slots.clone().acquire_owned().await else { std::future::pending().await };
        match socket.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            Err(e) if is_about_one_connection(&e) => {}
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept connections; trying again in a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn is_about_one_connection(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(e.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
