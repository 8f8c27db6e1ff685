//! The tower service, and who owns its streams.

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
use im_http::{Body, HalfClosed, Origins, Refusal, Roll, Transport};
use tower_service::Service;

use crate::config::{Gzip, SseConfig};
use crate::gzip::{self, Pool};
use crate::opening::Opening;
use crate::probe::Probe;
use crate::stream::Stream;

/// Asks proxies of nginx's kind to hand on every byte at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `GET …/sse` as a tower service. Cheap to clone; all clones share their streams.
///
/// It answers every request that reaches it: mount it in an [`im_http::Edge`], or under a path of your choice. Its streams
/// belong to it: end them by [`Self::shutdown`], or all connections of the engine by the engine's `drain`. Which pages may
/// read is the edge's to say; alone, it lets in pages of the same origin.
///
/// A stream whose reader does not read is held up by the HTTP server: what waits is bounded by the engine's outbox, and
/// our own listener cuts it off after its `write_timeout`, as it does a reader that has vanished: the next heartbeat is not
/// confirmed. In another server, a reader that stopped reading, or has vanished, costs its outbox and one connection until
/// the socket fails: set `TCP_USER_TIMEOUT` there, or else the system takes a quarter of an hour.
#[derive(Clone)]
pub struct Sse {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    config: SseConfig,
    origins: Origins,
    roll: Roll,
    compressors: Arc<Pool>,
}

impl Sse {
    /// Server-Sent Events for this engine.
    pub fn new(engine: Engine, config: SseConfig) -> Self {
        let (origins, roll) = (Origins::default(), Roll::default());
        let compressors = Arc::default();
        Self { shared: Arc::new(Shared { engine, config, origins, roll, compressors }) }
    }

    /// Takes no further streams, ends all with [`im_core::Code::Draining`], and waits until they have ended. A reader who
    /// does not read holds this up until its socket is given up: bound the wait.
    pub async fn shutdown(&self) {
        self.shared.roll.close().await;
    }

    async fn open<B>(&self, request: Request<B>) -> Result<Response<Body>, Refusal> {
        let Shared { engine, config, roll, compressors, .. } = &*self.shared;
        let Opening { access, mark } = Opening::of(request.uri(), request.headers())?;
        let peer = Peer {
            transport: "sse",
            encoding: Encoding::Json,
            address: im_http::peer_address(request.extensions()),
            credentials: im_http::credentials(&request)?,
        };
        let connection = engine.open_stream(peer, &access, mark.as_ref()).await?;
        let entry = roll.enter(connection)?;
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
        // Nothing of the body is looked at.
        let request = request.map(drop);
        Box::pin(async move {
            let origins = &this.shared.origins;
            Ok(im_http::answer(origins, Method::GET, request, |request| this.open(request)).await)
        })
    }
}
