//! HTTP on one connection.

use std::pin::pin;
use std::sync::Arc;
#[cfg(feature = "tls")]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "tls")]
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
#[cfg(feature = "tls")]
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
#[cfg(feature = "tls")]
use hyper::server::conn::http2;
#[cfg(feature = "tls")]
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::body::BoxError;
use crate::front::Front;
use crate::listener_config::ListenerConfig;
use crate::socket::Socket;
use crate::socket_limiter::SocketPermit;
use crate::timed::TimedBody;
#[cfg(feature = "tls")]
use crate::tls::Certificates;
use crate::watch::{Verdict, Watch};
use crate::write_timeout::{WriteTimeout, set_user_timeout};

/// Concurrent requests of one HTTP/2 connection: a few dozen tabs of one browser, with a stream
/// each.
#[cfg(feature = "tls")]
const MAX_STREAMS: u32 = 100;
/// Bytes of one response that are buffered for their HTTP/2 connection.
#[cfg(feature = "tls")]
const SEND_BUFFER: usize = 64 * 1024;
/// Interval of HTTP/2 pings. A connection without a pong within `header_timeout` is closed.
#[cfg(feature = "tls")]
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// An accepted connection.
pub(crate) struct OneConnection {
    pub(crate) config: Arc<ListenerConfig>,
    pub(crate) front: Front,
    #[cfg(feature = "tls")]
    pub(crate) certificates: Option<Certificates>,
    pub(crate) stop: CancellationToken,
    /// Held as long as the connection speaks HTTP.
    #[allow(dead_code, reason = "only held")]
    pub(crate) connection_permit: OwnedSemaphorePermit,
}

impl OneConnection {
    /// Answers the requests of the connection with the service.
    pub(crate) async fn run<S, B>(
        self,
        stream: TcpStream,
        permit: SocketPermit,
        service: TowerToHyperService<S>,
    ) where
        S: Service<Request<TimedBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| set_user_timeout(&stream, self.config.write_timeout));
        if let Err(e) = prepared {
            tracing::debug!(error = %e, "could not set the options of an accepted socket");
            return;
        }
        let turns = self.front.turns().clone();
        let stream = WriteTimeout::new(stream, self.config.write_timeout, turns);
        #[cfg(feature = "tls")]
        if let Some(certificates) = &self.certificates {
            match tokio::time::timeout(self.config.header_timeout, certificates.accept(stream))
                .await
            {
                Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                    self.speak_two(stream, service).await;
                    drop(permit);
                }
                Ok(Ok(stream)) => self.speak(stream, permit, service).await,
                Ok(Err(e)) => tracing::debug!(error = %e, "the TLS handshake failed"),
                Err(_) => tracing::debug!("the TLS handshake took too long"),
            }
            return;
        }
        self.speak(stream, permit, service).await;
    }

    async fn speak<T, S, B>(&self, stream: T, permit: SocketPermit, service: TowerToHyperService<S>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<TimedBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let turns = self.front.turns().clone();
        let socket = Socket::new(stream, permit, turns.clone());
        let front = self.front.clone();
        let service = hyper::service::service_fn(move |request| {
            front.clone().answer(service.clone(), request)
        });
        // The watch times heads and idleness. A peer that has ended its half still receives its
        // response.
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .half_close(true)
            .max_buf_size(self.config.max_header_bytes.max(8 * 1024))
            .serve_connection(TokioIo::new(socket.clone()), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut watch = pin!(Watch::new(socket, turns, &self.config).verdict());
        let (mut idle, mut stopping) = (false, false);
        let ended = loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => break ended,
                verdict = watch.as_mut(), if !idle => match verdict {
                    Verdict::Idle => {
                        idle = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Verdict::Slow => return tracing::debug!("a request head exceeded header_timeout"),
                    Verdict::Gone => return tracing::debug!("the peer is gone"),
                },
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        };
        if let Err(e) = ended {
            tracing::debug!(error = %e, "an HTTP connection ended early");
        }
    }
}

/// HTTP/2 (RFC 9113), negotiated by TLS.
#[cfg(feature = "tls")]
impl OneConnection {
    async fn speak_two<T, S, B>(&self, stream: T, service: TowerToHyperService<S>)
    where
        TokioIo<T>: Read + Write + Unpin + Send + 'static,
        S: Service<Request<TimedBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let begun = Arc::new(AtomicBool::new(false));
        let (asked, front) = (begun.clone(), self.front.clone());
        let service = hyper::service::service_fn(move |request| {
            asked.store(true, Ordering::Relaxed);
            front.clone().answer(service.clone(), request)
        });
        let headers = self.config.max_header_bytes.max(8 * 1024);
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(headers).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(self.config.header_timeout)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let silent = async {
            tokio::time::sleep(self.config.header_timeout).await;
            if begun.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = silent => return tracing::debug!("no HTTP/2 request within header_timeout"),
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(e) = ended {
            tracing::debug!(error = %e, "an HTTP/2 connection ended early");
        }
    }
}

#[cfg(test)]
mod tests;
