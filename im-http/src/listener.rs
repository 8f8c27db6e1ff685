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
    /// If the system does not say which address the socket has.
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

    /// Serves until `stop` is ready; then takes no further connection, lets the requests in flight end within the time
    /// configured, and returns. What has been upgraded goes on: it belongs to the service that took it.
    ///
    /// # Errors
    ///
    /// If the system does not say which address the socket has.
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

/// What a running listener owns. Dropping it ends its tasks.
struct Tasks {
    connections: Arc<Semaphore>,
    sockets: SocketLimiter,
    warned: LogThrottle,
    tracker: TaskTracker,
    /// Asks the connections to end after the request in flight.
    stop: CancellationToken,
    /// Ends them.
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

    /// A permit for one more socket of this address, if there is one.
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
                        "closed a connection at once: {setting} of the listener is reached; if this address is a \
                         proxy's, name it in ListenerConfig::proxies (quickstart: --proxy)"
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
    connections: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        // The semaphore is never closed; if it were, nobody could be served.
        let Ok(connection_permit) = connections.clone().acquire_owned().await else {
            std::future::pending().await
        };
        match socket.accept().await {
            Ok((stream, peer)) => return (stream, peer, connection_permit),
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
