//! Common to all HTTP endpoints: origins, preflights, methods, refusals, `no-store`.

use std::future::Future;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW,
    CACHE_CONTROL, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use http::{Method, Request, Response, StatusCode};
use im_core::Code;

use crate::body::Body;
use crate::grammar::check_grammar;
use crate::origin::Origins;
use crate::refusal::Refusal;

/// Headers that pages may send (the Fetch standard, section 3.2.3).
const HEADERS: &str = "authorization, content-type, im-session, if-none-match, last-event-id";
/// Headers of a response that pages may read.
const EXPOSED: &str = "etag, retry-after";
/// How long a browser may cache a preflight, in seconds: two hours, the maximum of Chromium.
const MAX_AGE: &str = "7200";

/// Answers a request to an endpoint of one method.
///
/// Checks the grammar and the origin (by the [`Edge`](crate::Edge) that routed the request, or else
/// by `origins`), answers preflights, refuses other methods, and otherwise calls `handle`. The
/// response states which origin may read it (`Vary`, `Access-Control-*`) and is `no-store` unless
/// `handle` sets `Cache-Control`.
pub async fn answer<B, F, A>(
    origins: &Origins,
    method: Method,
    request: Request<B>,
    handle: F,
) -> Response<Body>
where
    F: FnOnce(Request<B>) -> A,
    A: Future<Output = Result<Response<Body>, Refusal>>,
{
    let origin = request.headers().get(ORIGIN).cloned();
    let admitted = check_grammar(&request).and_then(|()| Ok(origins.check(&request)?));
    let answered = match admitted {
        Err(refusal) => return close(refused(refusal), None),
        Ok(()) if request.method() == Method::OPTIONS => Ok(preflight(&method)),
        Ok(()) if *request.method() == method => handle(request).await,
        Ok(()) => {
            Err(Refusal::new(Code::Malformed, format!("this endpoint accepts {method} only"))
                .status(StatusCode::METHOD_NOT_ALLOWED)
                .header(ALLOW, allowed(&method)))
        }
    };
    close(answered.unwrap_or_else(refused), origin)
}

fn refused(refusal: Refusal) -> Response<Body> {
    refusal.into_response().map(Body::new)
}

fn allowed(method: &Method) -> HeaderValue {
    match *method {
        Method::POST => HeaderValue::from_static("POST, OPTIONS"),
        _ => HeaderValue::from_static("GET, OPTIONS"),
    }
}

fn preflight(method: &Method) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, allowed(method));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    response
}

fn close(mut response: Response<Body>, origin: Option<HeaderValue>) -> Response<Body> {
    let headers = response.headers_mut();
    share(headers, origin);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Allows the page to read the response. With credentials the origin is named, never `*`.
fn share(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}
