//! The tower service, the owner of its streams.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, VARY};
use http::{Method, Request, Response};
use im_core::engine::{Engine, Peer};
use im_core::wire::Encoding;
use im_http::{Body, ConnectionList, HalfClosed, Origins, Refusal, Transport};
use tower_service::Service;

use crate::config::{Gzip, SseConfig};
use crate::gzip::{self, Pool};
use crate::opening::Opening;
use crate::probe::Probe;
use crate::stream::Stream;

/// Asks proxies such as nginx not to buffer the response.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `GET …/sse` as a tower service. Cheap to clone; all clones share their streams.
///
/// It answers every request that it receives: mount it in an [`im_http::Edge`], or under a path of
/// your choice. The service owns its streams: end them with [`Self::shutdown`], or all connections
/// of the engine with the engine's `drain`. The edge decides which pages may read; without one,
/// pages of the same origin may.
///
/// A client that stops reading blocks the stream in the HTTP server. The engine's outbox bounds
/// what waits, and our own listener closes the connection after its `write_timeout`; the same holds
/// for a client that has vanished, because the next heartbeat is not acknowledged. In another
/// server, such a client occupies its outbox and one connection until the socket fails: set
/// `TCP_USER_TIMEOUT` there, or else the system takes a quarter of an hour.
#[derive(Clone)]
pub struct Sse {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    config: SseConfig,
    origins: Origins,
    connections: ConnectionList,
    compressors: Arc<Pool>,
}

impl Sse {
    /// Creates the Server-Sent Events service of an engine.
    pub fn new(engine: Engine, config: SseConfig) -> Self {
        let (origins, connections) = (Origins::default(), ConnectionList::default());
        let compressors = Arc::default();
        Self { shared: Arc::new(Shared { engine, config, origins, connections, compressors }) }
    }

    /// Refuses new streams, ends all with [`im_core::Code::Draining`], and waits until they have
    /// ended. A client that does not read delays this until its socket fails, so bound the wait.
    pub async fn shutdown(&self) {
        self.shared.connections.close().await;
    }

    async fn open<B>(&self, request: Request<B>) -> Result<Response<Body>, Refusal> {
        let Shared { engine, config, connections, compressors, .. } = &*self.shared;
        let Opening { access, position } = Opening::of(request.uri(), request.headers())?;
        let peer = Peer {
            transport: "sse",
            encoding: Encoding::Json,
            address: im_http::peer_address(request.extensions()),
            credentials: im_http::credentials(&request)?,
        };
        let connection = engine.open_stream(peer, &access, position.as_ref()).await?;
        let entry = connections.enter(connection)?;
        let gzip = config.gzip == Gzip::WhenAsked && im_http::accepts_gzip(request.headers());
        let probe = request.extensions().get::<HalfClosed>().map(Probe::new);
        let stream = Stream::new(entry, config.retry, config.max_write_bytes)
            .probed(probe)
            .compressed(gzip.then(|| gzip::Gzip::new(compressors.clone())));
        let mut response = Response::new(Body::new(stream));
        let headers = response.headers_mut();
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if config.gzip == Gzip::WhenAsked {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
        headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        Ok(response)
    }
}

impl fmt::Debug for Sse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sse").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Transport for Sse {
    fn name(&self) -> &'static str {
        "sse"
    }
}

impl<B: Send + 'static> Service<Request<B>> for Sse {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        // The body is ignored.
        let request = request.map(drop);
        Box::pin(async move {
            let origins = &this.shared.origins;
            Ok(im_http::answer(origins, Method::GET, request, |request| this.open(request)).await)
        })
    }
}
