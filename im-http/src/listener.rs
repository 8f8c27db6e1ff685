//! HTTP on a socket of our own, bounded in time and number.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::body::BoxError;
use crate::files::file_limit;
use crate::forwarded::is_proxy;
use crate::front::Front;
use crate::hosts::HostCheck;
use crate::listener_config::ListenerConfig;
use crate::log_throttle::LogThrottle;
use crate::socket_limiter::{Full, SocketLimiter, SocketPermit};
use crate::speaking::OneConnection;
use crate::timed::TimedBody;
#[cfg(feature = "tls")]
use crate::tls::Certificates;

/// A socket that serves a tower service over HTTP, with upgrades and optional TLS.
///
/// With TLS it also offers HTTP/2: browsers allow six connections of HTTP/1.1 per host, which a few
/// tabs with a stream each use up.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    config: ListenerConfig,
    #[cfg(feature = "tls")]
    certificates: Option<Certificates>,
}

impl Listener {
    /// Binds to an address. Port 0 picks any free port; see [`Self::local_addr`].
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self::from_socket(TcpListener::bind(address).await?))
    }

    /// Uses a socket that listens already.
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

    /// Serves TLS with these certificates, and no plain HTTP.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, certificates: Certificates) -> Self {
        self.certificates = Some(certificates);
        self
    }

    /// Returns the bound address.
    ///
    /// # Errors
    ///
    /// If the system cannot report it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until the future is dropped. Requests in flight are then cancelled; upgraded
    /// connections continue.
    ///
    /// # Errors
    ///
    /// If the system cannot report the address of the socket.
    pub async fn serve<S, B>(self, service: S) -> io::Result<()>
    where
        S: Service<Request<TimedBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.serve_until(service, std::future::pending()).await
    }

    /// Serves until `stop` is ready, then shuts down gracefully.
    ///
    /// It stops accepting, waits up to [`ListenerConfig::stop_within`] for requests in flight, and
    /// returns. Upgraded connections continue: they belong to the service that upgraded them.
    ///
    /// # Errors
    ///
    /// If the system cannot report the address of the socket.
    pub async fn serve_until<S, B>(
        self,
        service: S,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()>
    where
        S: Service<Request<TimedBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut stop = pin!(stop);
        let on_loopback = self.socket.local_addr()?.ip().is_loopback();
        let config = Arc::new(self.config.within_files(file_limit()));
        let host = Arc::new(HostCheck::new(config.hosts.clone(), on_loopback));
        let tasks = Tasks::new(&config);
        loop {
            let (stream, peer, connection_permit) = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = next_connection(&self.socket, &tasks.connections) => accepted,
            };
            let Some(permit) = tasks.permit(&config, peer) else { continue };
            let one = OneConnection {
                config: config.clone(),
                front: Front::new(config.clone(), host.clone(), peer),
                #[cfg(feature = "tls")]
                certificates: self.certificates.clone(),
                stop: tasks.stop.clone(),
                connection_permit,
            };
            let service = TowerToHyperService::new(service.clone());
            let end = tasks.end.clone();
            tasks.tracker.spawn(async move {
                end.run_until_cancelled(one.run(stream, permit, service)).await
            });
        }
        drop(self.socket);
        tasks.finish(config.stop_within).await;
        Ok(())
    }
}

/// The tasks and bounds of a running listener. Dropping it cancels its tasks.
struct Tasks {
    connections: Arc<Semaphore>,
    sockets: SocketLimiter,
    warned: LogThrottle,
    tracker: TaskTracker,
    /// Asks the connections to end after the request in flight.
    stop: CancellationToken,
    /// Cancels the connections.
    end: CancellationToken,
}

impl Tasks {
    fn new(config: &ListenerConfig) -> Self {
        let connections = config.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            connections: Arc::new(Semaphore::new(connections)),
            sockets: SocketLimiter::default(),
            warned: LogThrottle::default(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            end: CancellationToken::new(),
        }
    }

    /// Returns a permit for one more socket of this address, or `None` if a bound is reached.
    fn permit(&self, config: &ListenerConfig, peer: SocketAddr) -> Option<SocketPermit> {
        let counted = (!is_proxy(&config.proxies, peer.ip())).then(|| peer.ip());
        let (most, share) = (config.max_sockets, config.max_connections_per_address);
        match self.sockets.enter(counted, most, share) {
            Ok(permit) => Some(permit),
            Err(full) => {
                if let Some(left_out) = self.warned.due() {
                    let (bound, setting) = match full {
                        Full::Address => (share, "max_connections_per_address"),
                        Full::All => (most, "max_sockets"),
                    };
                    tracing::warn!(
                        %peer,
                        bound,
                        left_out,
                        "closed a new connection: the listener's {setting} is reached; if this address is a \
                         proxy's, list it in ListenerConfig::proxies (quickstart: --proxy)"
                    );
                }
                None
            }
        }
    }

    async fn finish(self, within: Duration) {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(within, self.tracker.wait()).await.is_err() {
            tracing::warn!(
                connections = self.tracker.len(),
                "requests in flight were cancelled after stop_within"
            );
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

/// Returns the next connection, once a permit is free. Errors of `accept` are not fatal: they
/// concern one connection that is gone already, or a lack of file handles that passes when other
/// connections end.
async fn next_connection(
    socket: &TcpListener,
    connections: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        // Unreachable: the semaphore is never closed.
        let Ok(connection_permit) = connections.clone().acquire_owned().await else {
            std::future::pending().await
        };
        match socket.accept().await {
            Ok((stream, peer)) => return (stream, peer, connection_permit),
            Err(e) if is_about_one_connection(&e) => {}
            Err(e) => {
                tracing::warn!(error = %e, "could not accept a connection; retrying in 1 s");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn is_about_one_connection(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(e.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
