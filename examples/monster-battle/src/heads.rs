//! Sizes that a page cannot measure: bytes of the heads of a request and its response, and the
//! connection that carried them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response};
use im_http::PeerAddr;
use tower_service::Service;

/// `<bytes of both heads> <the client's port>`, on every response.
pub const WIRE: HeaderName = HeaderName::from_static("x-wire");

/// Bytes of the headers that the HTTP server adds later: `date`, and the framing of the body.
const ADDED: usize = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\ntransfer-encoding: chunked\r\n\
                      connection: keep-alive\r\nkeep-alive: timeout=75\r\n"
    .len();

/// A service that sets [`WIRE`] on the responses of an inner service.
#[derive(Debug, Clone)]
pub struct Heads<S> {
    within: S,
}

impl<S> Heads<S> {
    /// Wraps this service.
    pub fn new(within: S) -> Self {
        Self { within }
    }
}

impl<S, A, B> Service<Request<A>> for Heads<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.within.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let asked = request_head(&request);
        let port = request.extensions().get::<PeerAddr>().map_or(0, |peer| peer.0.port());
        let answering = self.within.call(request);
        Box::pin(async move {
            let mut response = answering.await?;
            let bytes = asked + response_head(&response);
            if let Ok(value) = HeaderValue::from_str(&format!("{bytes} {port}")) {
                response.headers_mut().insert(WIRE, value);
            }
            Ok(response)
        })
    }
}

/// The size of the head as HTTP/1.1 writes it (RFC 9112 section 3).
fn request_head<B>(request: &Request<B>) -> usize {
    let target = request.uri().path_and_query().map_or(1, |target| target.as_str().len());
    request.method().as_str().len() + target + "  HTTP/1.1\r\n".len() + fields(request.headers())
}

fn response_head<B>(response: &Response<B>) -> usize {
    let reason = response.status().canonical_reason().unwrap_or_default();
    "HTTP/1.1 200 \r\n".len() + reason.len() + fields(response.headers()) + ADDED
}

fn fields(headers: &HeaderMap) -> usize {
    let of = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    headers.iter().map(of).sum::<usize>() + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size counted for a request or response head equals its bytes on the wire.
    #[test]
    fn head_size_equals_wire_bytes() {
        let request =
            Request::get("http://host/im/poll?hold=5").header("host", "host").body(()).unwrap();
        assert_eq!(
            request_head(&request),
            "GET /im/poll?hold=5 HTTP/1.1\r\nhost: host\r\n\r\n".len()
        );
        let response = Response::builder().status(204).header("etag", "\"a\"").body(()).unwrap();
        let written = "HTTP/1.1 204 No Content\r\netag: \"a\"\r\n\r\n".len();
        assert_eq!(response_head(&response), written + ADDED);
    }
}
