//! All endpoints behind one prefix.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Body as HttpBody;
use im_core::Code;
use im_core::engine::Engine;
use im_core::wire::{Encoding, Map, VERSION, Value, encode};
use tower_service::Service;

use crate::body::{Body, BoxError};
use crate::endpoint::answer;
use crate::front::Target;
use crate::grammar::ambiguous;
use crate::origin::Origins;
use crate::refusal::Refusal;
use crate::request::media_type;
use crate::uplink::{Uplink, UplinkConfig};

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Endpoint = Arc<dyn Fn(Request<Body>) -> Answering + Send + Sync>;

/// The properties of a transport that an [`Edge`] needs besides its tower service.
pub trait Transport {
    /// Returns its name in the offer, which is also the last path segment: `ws`, `sse`, `poll` …
    fn name(&self) -> &'static str;

    /// Returns how long it holds a request without a result; `None` if it does not hold requests.
    fn hold(&self) -> Option<Duration> {
        None
    }
}

/// The endpoints of the protocol behind one prefix. Cheap to clone.
///
/// `GET /` returns the offer, `POST /send` accepts commands, and each transport is mounted at its
/// name.
///
/// In an axum router: `Router::new().nest_service("/im", edge)`. Where the prefix is not stripped
/// (our own listener, warp, `fallback_service`), set it with [`Edge::at`].
///
/// [`Edge::origins`] sets once which pages may connect, for all mounted transports.
#[derive(Clone)]
pub struct Edge {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    engine: Engine,
    origins: Origins,
    prefix: String,
    uplink: Uplink,
    mounted: Vec<Mounted>,
}

#[derive(Clone)]
struct Mounted {
    name: &'static str,
    hold: Option<Duration>,
    endpoint: Endpoint,
}

impl Edge {
    /// Creates the edge of an engine, with the uplink and without transports.
    pub fn new(engine: Engine, config: UplinkConfig) -> Self {
        let uplink = Uplink::new(engine.clone(), config);
        let (origins, prefix, mounted) = (Origins::default(), String::new(), Vec::new());
        Self { shared: Arc::new(Shared { engine, origins, prefix, uplink, mounted }) }
    }

    /// Sets the prefix under which requests arrive, such as `/im`; none by default.
    #[must_use]
    pub fn at(mut self, prefix: &str) -> Self {
        Arc::make_mut(&mut self.shared).prefix = prefix.trim_end_matches('/').to_owned();
        self
    }

    /// Sets which pages may connect: pages of the same origin by default.
    ///
    /// For a transport that is also mounted beside the edge, store the same [`Origins`] in the
    /// extensions of its requests (in axum: `.layer(Extension(origins))`).
    #[must_use]
    pub fn origins(mut self, origins: impl Into<Origins>) -> Self {
        Arc::make_mut(&mut self.shared).origins = origins.into();
        self
    }

    /// Mounts a transport at its name. Clients see the order as the preference of the server.
    #[must_use]
    pub fn mount<S, B>(mut self, transport: S) -> Self
    where
        S: Transport
            + Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (name, hold) = (transport.name(), transport.hold());
        let endpoint: Endpoint = Arc::new(move |request| {
            let mut service = transport.clone();
            Box::pin(async move {
                // Neither call can fail.
                match poll_fn(|cx| service.poll_ready(cx)).await {
                    Ok(()) => match service.call(request).await {
                        Ok(response) => response.map(Body::new),
                        Err(never) => match never {},
                    },
                    Err(never) => match never {},
                }
            })
        });
        Arc::make_mut(&mut self.shared).mounted.push(Mounted { name, hold, endpoint });
        self
    }

    async fn route(self, mut request: Request<Body>) -> Response<Body> {
        let shared = &*self.shared;
        request.extensions_mut().insert(shared.origins.clone());
        // Some proxies and routers merge two slashes into one, so the same path would mean two
        // things.
        if Target::of(&request).path().contains("//") {
            let words = "the path has two slashes in a row";
            return ambiguous(StatusCode::BAD_REQUEST, words).into_response().map(Body::new);
        }
        let path = request.uri().path();
        let segment = path
            .strip_prefix(shared.prefix.as_str())
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
            .map(|rest| rest.strip_prefix('/').unwrap_or(rest));
        match segment {
            Some("") => {
                answer(&shared.origins, Method::GET, request, |_| async { shared.offer() }).await
            }
            Some("send") => match shared.uplink.clone().call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            other => {
                let mounted = shared.mounted.iter().find(|mounted| other == Some(mounted.name));
                match mounted {
                    Some(mounted) => (mounted.endpoint)(request).await,
                    None => refuse(Code::NotFound, "no endpoint at this path"),
                }
            }
        }
    }
}

impl Shared {
    /// Returns the offer of the server.
    fn offer(&self) -> Result<Response<Body>, Refusal> {
        self.engine.check_open()?;
        let names = |names: &mut dyn Iterator<Item = &str>| {
            Value::Array(names.map(|name| Value::Text(name.to_owned().into())).collect())
        };
        let mut offer = Map::default();
        offer.insert("v", Value::Int(VERSION as i64));
        offer.insert("transports", names(&mut self.mounted.iter().map(|mounted| mounted.name)));
        offer.insert("encodings", names(&mut ["json", "msgpack"].into_iter()));
        if let Some(hold) = self.mounted.iter().find_map(|mounted| mounted.hold) {
            offer.insert("hold_ms", millis(hold));
        }
        offer.insert("heartbeat_ms", millis(self.engine.config().heartbeat));
        offer.insert("limits", self.engine.server_limits().to_map());
        let body = encode(&Value::Map(offer), Encoding::Json);
        let mut response = Response::new(Body::from(body));
        let json = HeaderValue::from_static(media_type(Encoding::Json));
        response.headers_mut().insert(CONTENT_TYPE, json);
        Ok(response)
    }
}

fn refuse(code: Code, words: &str) -> Response<Body> {
    Refusal::new(code, words).into_response().map(Body::new)
}

fn millis(time: Duration) -> Value {
    Value::Int(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.shared.mounted.iter().map(|mounted| mounted.name).collect();
        f.debug_struct("Edge").field("mounted", &names).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for Edge
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        let request = request.map(Body::new);
        Box::pin(async move { Ok(this.route(request).await) })
    }
}
