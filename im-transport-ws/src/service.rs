//! The tower service, the owner of its connections.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::SEC_WEBSOCKET_KEY;
use http::{Request, Response};
use http_body_util::Full;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use im_core::engine::{Connection, Engine, Peer};
use im_core::wire::Encoding;
use im_core::{Code, Error};
use im_http::{LogThrottle, Origins, Refusal, SocketPermit, Transport};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use tracing::Instrument;

use crate::config::WsConfig;
use crate::connection::Session;
use crate::handshake;

/// WebSocket as a tower service. Cheap to clone; all clones share their connections.
///
/// It answers every request that it receives, so mount it under a path of your choice. The
/// [`im_http::Edge`] decides which pages may connect; without one, pages of the same origin may.
/// The service owns its connections: end them with [`Self::shutdown`], or all connections of the
/// engine with the engine's `drain`.
#[derive(Clone)]
pub struct WebSocket {
    shared: Arc<Shared>,
}

impl WebSocket {
    /// Creates the WebSocket service of an engine.
    pub fn new(engine: Engine, config: WsConfig) -> Self {
        let live = Mutex::new(Some(HashMap::new()));
        Self {
            shared: Arc::new(Shared {
                engine,
                config,
                origins: Origins::default(),
                warned: LogThrottle::default(),
                live,
                last: AtomicU64::new(0),
                tasks: TaskTracker::new(),
            }),
        }
    }

    /// Refuses new connections, closes all with [`Code::Draining`], and waits until they have
    /// ended. That takes at most about as long as the time-outs for writing and closing.
    pub async fn shutdown(&self) {
        let live = self.shared.live.lock().take();
        for connection in live.into_iter().flat_map(HashMap::into_values) {
            connection.close(Code::Draining);
        }
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn handshake<B>(&self, mut request: Request<B>) -> Result<Response<Full<Bytes>>, Refusal> {
        let (response, encoding) = handshake::agree(&request, Full::default)
            .inspect_err(|refusal| self.warn(&request, refusal))?;
        self.shared.origins.check(&request)?;
        let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(|| {
            handshake::upgrade_required(
                Code::Malformed,
                "this connection cannot be upgraded; use HTTP/1.1",
            )
        })?;
        let live = self.accept(&request, encoding)?;
        let span = tracing::debug_span!("ws", peer = ?im_http::peer_address(request.extensions()), ?encoding);
        self.shared.tasks.spawn(begin(upgrade, live, span.clone()).instrument(span));
        Ok(response)
    }

    /// Warns of handshakes that a proxy in front has probably changed. Others are faults of the
    /// client.
    fn warn<B>(&self, request: &Request<B>, refusal: &Refusal) {
        if request.headers().contains_key(SEC_WEBSOCKET_KEY)
            && let Some(left_out) = self.shared.warned.due()
        {
            tracing::warn!(left_out, "refused a WebSocket handshake: {}", refusal.message());
        }
    }

    fn accept<B>(&self, request: &Request<B>, encoding: Encoding) -> im_core::Result<Live> {
        let credentials = im_http::credentials(request)?;
        let address = im_http::peer_address(request.extensions());
        let connection =
            self.shared.engine.accept(Peer { transport: "ws", encoding, address, credentials })?;
        Live::register(&self.shared, connection)
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Transport for WebSocket {
    fn name(&self) -> &'static str {
        "ws"
    }
}

impl<B> Service<Request<B>> for WebSocket {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.handshake(request).unwrap_or_else(Refusal::into_response)))
    }
}

/// Waits for the upgrade, and spawns the connection's own task, whose future is sized for its
/// socket.
async fn begin(upgrade: OnUpgrade, mut live: Live, span: tracing::Span) {
    let shared = live.shared.clone();
    let upgraded = match tokio::time::timeout(shared.config.upgrade_timeout, upgrade).await {
        Ok(Ok(upgraded)) => upgraded,
        _ => return live.connection.close(Code::Closed),
    };
    let Some(raw) = Raw::of(upgraded) else { return live.connection.close(Code::Closed) };
    match raw {
        Raw::Tcp(socket, early, permit) => {
            live.permit = permit;
            // Fails only for a socket that is gone already.
            let _ = socket.set_nodelay(true);
            shared.tasks.spawn(Session::new(socket, early, live).await.run().instrument(span));
        }
        Raw::Other(upgraded) => {
            shared.tasks.spawn(
                Session::new(TokioIo::new(upgraded), Bytes::new(), live)
                    .await
                    .run()
                    .instrument(span),
            );
        }
    }
}

/// The stream under a connection.
pub(crate) enum Raw {
    /// The socket itself, the bytes read from it already, and its permit at our listener.
    Tcp(TcpStream, Bytes, Option<Box<SocketPermit>>),
    /// TLS, a Unix socket, or a router that wraps the socket: hyper's boxed stream.
    Other(Upgraded),
}

impl Raw {
    /// Unwraps the socket, as our listener (hyper) and as axum and warp (hyper-util) wrap it.
    pub(crate) fn of(upgraded: Upgraded) -> Option<Self> {
        let upgraded = match im_http::into_tcp(upgraded) {
            Ok((socket, early, permit)) => {
                return Some(Self::Tcp(socket, early, Some(Box::new(permit))));
            }
            Err(upgraded) => upgraded?,
        };
        Some(match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
            Ok(parts) => Self::Tcp(parts.io.into_inner(), parts.read_buf, None),
            Err(upgraded) => Self::Other(upgraded),
        })
    }
}

/// State shared by all connections.
pub(crate) struct Shared {
    engine: Engine,
    config: WsConfig,
    origins: Origins,
    warned: LogThrottle,
    /// Open connections; `None` after shutdown.
    live: Mutex<Option<HashMap<u64, Connection>>>,
    last: AtomicU64,
    tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn config(&self) -> &WsConfig {
        &self.config
    }

    pub(crate) fn max_message_bytes(&self) -> usize {
        self.engine.limits().max_message_bytes
    }

    /// Returns the maximum bytes of one message, headers of its frames included.
    pub(crate) fn max_bytes_of_a_message(&self) -> u32 {
        let most = self.max_message_bytes().saturating_add(self.config.max_framing_bytes);
        u32::try_from(most).unwrap_or(u32::MAX)
    }
}

/// A connection that shutdown closes, registered for as long as this lives.
pub(crate) struct Live {
    shared: Arc<Shared>,
    number: u64,
    connection: Connection,
    /// The socket's permit at our listener, for as long as the connection lives.
    permit: Option<Box<SocketPermit>>,
}

impl Live {
    fn register(shared: &Arc<Shared>, connection: Connection) -> im_core::Result<Self> {
        let number = shared.last.fetch_add(1, Ordering::Relaxed);
        match shared.live.lock().as_mut() {
            Some(live) => live.insert(number, connection.clone()),
            None => return Err(Error::of(Code::Draining, "accept")),
        };
        Ok(Self { shared: shared.clone(), number, connection, permit: None })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Dropped after the lock is released: the last clone of a connection detaches its session.
        let _listed = self.shared.live.lock().as_mut().and_then(|live| live.remove(&self.number));
    }
}
