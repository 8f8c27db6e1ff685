//! A tower service as a warp filter.
//!
//! `warp::ws()` lacks the settings that a server of many connections needs, so it is not used.
//! hyper stores the pending upgrade in the request's extensions, from which the service takes it as
//! in any other router.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::warp::filters::BoxedFilter;
use ::warp::reply::Response as Reply;
use ::warp::{Filter, Reply as _};
use bytes::{Buf, Bytes};
use futures::Stream;
use http::{Extensions, HeaderMap, Method, Request, Response, Uri};
use http_body_util::BodyDataStream;
use hyper::body::{Body, Frame};
use hyper::upgrade::OnUpgrade;
use im_core::ports::Identity;
use tower_service::Service;

use crate::body::BoxError;
use crate::credentials::PeerAddr;
use crate::origin::Origins;
use crate::timed::BodyTime;
use crate::turns::HalfClosed;

/// Serves every request that reaches the filter with the tower service. Put path filters before it:
///
/// ```no_run
/// # use std::convert::Infallible;
/// # use warp::Filter;
/// # async fn run<S, B>(service: S)
/// # where
/// #     S: tower_service::Service<http::Request<im_http::warp::RequestBody>, Response = http::Response<B>, Error = Infallible>
/// #         + Clone + Send + Sync + 'static,
/// #     S::Future: Send,
/// #     B: hyper::body::Body<Data = bytes::Bytes> + Send + Sync + 'static,
/// #     B::Error: Into<im_http::BoxError> + Send + 'static,
/// # {
/// let routes = warp::path("ws").and(warp::path::end()).and(im_http::warp::mount(service));
/// warp::serve(routes).run(([127, 0, 0, 1], 8080)).await;
/// # }
/// ```
///
/// Of the request's extensions, an [`Identity`], the [`Origins`], and those of our own listener are
/// copied. Others are lost, because warp does not list them.
pub fn mount<S, B>(service: S) -> BoxedFilter<(Reply,)>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError> + Send + 'static,
{
    request()
        .then(move |request| {
            let mut service = service.clone();
            async move {
                // Neither call can fail.
                match std::future::poll_fn(|cx| service.poll_ready(cx)).await {
                    Ok(()) => match service.call(request).await {
                        Ok(response) => reply(response),
                        Err(never) => match never {},
                    },
                    Err(never) => match never {},
                }
            }
        })
        .boxed()
}

/// Rebuilds the request from what warp exposes of it.
fn request() -> impl Filter<Extract = (Request<RequestBody>,), Error = ::warp::Rejection> + Clone {
    let query = ::warp::query::raw().map(Some).or(::warp::any().map(|| None)).unify();
    let body = ::warp::body::stream().map(RequestBody::new);
    ::warp::method()
        .and(::warp::path::full())
        .and(query)
        .and(::warp::header::headers_cloned())
        .and(::warp::addr::remote())
        .and(extensions())
        .and(body)
        .map(assemble)
}

/// Copies the known extensions.
fn extensions() -> impl Filter<Extract = (Extensions,), Error = Infallible> + Clone {
    ::warp::ext::optional::<OnUpgrade>()
        .and(::warp::ext::optional::<Identity>())
        .and(::warp::ext::optional::<Origins>())
        .and(::warp::ext::optional::<PeerAddr>())
        .and(::warp::ext::optional::<HalfClosed>())
        .and(::warp::ext::optional::<BodyTime>())
        .map(|upgrade, identity, origins, peer, half_closed, body_time| {
            let mut extensions = Extensions::new();
            put(&mut extensions, upgrade);
            put(&mut extensions, identity);
            put(&mut extensions, origins);
            put(&mut extensions, peer);
            put(&mut extensions, half_closed);
            put(&mut extensions, body_time);
            extensions
        })
}

fn put<T: Clone + Send + Sync + 'static>(extensions: &mut Extensions, value: Option<T>) {
    if let Some(value) = value {
        extensions.insert(value);
    }
}

fn assemble(
    method: Method,
    path: ::warp::path::FullPath,
    query: Option<String>,
    headers: HeaderMap,
    peer: Option<SocketAddr>,
    extensions: Extensions,
    body: RequestBody,
) -> Request<RequestBody> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    let target = match query {
        Some(query) => format!("{}?{query}", path.as_str()),
        None => path.as_str().to_owned(),
    };
    // It was parsed as a URI before, so it parses again.
    *request.uri_mut() = target.parse().unwrap_or_else(|_| Uri::from_static("/"));
    *request.extensions_mut() = extensions;
    // For a server of warp's own.
    put(request.extensions_mut(), peer.map(PeerAddr));
    request
}

fn reply<B>(response: Response<B>) -> Reply
where
    B: Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError> + Send + 'static,
{
    let (parts, body) = response.into_parts();
    let mut reply = match body.is_end_stream() {
        // A 101 must have no body at all, not even an empty one.
        true => Response::new(Bytes::new()).into_response(),
        false => ::warp::reply::stream(BodyDataStream::new(body)).into_response(),
    };
    *reply.status_mut() = parts.status;
    *reply.headers_mut() = parts.headers;
    *reply.extensions_mut() = parts.extensions;
    reply
}

/// The body of a request that arrived through warp.
pub struct RequestBody {
    data: Pin<Box<dyn Stream<Item = Result<Bytes, ::warp::Error>> + Send + Sync>>,
}

impl RequestBody {
    fn new<S, D>(stream: S) -> Self
    where
        S: Stream<Item = Result<D, ::warp::Error>> + Send + Sync + 'static,
        D: Buf,
    {
        use futures::StreamExt as _;
        Self {
            data: Box::pin(
                stream.map(|part| part.map(|mut data| data.copy_to_bytes(data.remaining()))),
            ),
        }
    }
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestBody")
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = ::warp::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.data.as_mut().poll_next(cx).map(|part| part.map(|part| part.map(Frame::data)))
    }
}
