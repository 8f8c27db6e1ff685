//! Credentials of a request, and the address of its peer.

use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, COOKIE, HeaderMap};
use http::{Extensions, Request};
use im_core::ports::{Credentials, Identity};
use im_core::wire::Secret;
use im_core::{Code, Error, Result};

/// Longest accepted token, in bytes: the same as in a `hello` frame.
const MAX_TOKEN: usize = 4096;

/// The address that a request came from, as an extension of the request.
///
/// Our own listener and the warp adapter set it. In another router, a middleware of the embedder
/// sets it if limits per address are wanted. Behind a trusted proxy the same middleware can read it
/// from `Forwarded`. With axum:
///
/// ```text
/// async fn peer(ConnectInfo(at): ConnectInfo<SocketAddr>, mut request: Request, next: Next) -> Response {
///     request.extensions_mut().insert(im_http::PeerAddr(at));
///     next.run(request).await
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// Returns the address that the request came from, if it has a [`PeerAddr`] extension.
pub fn peer_address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<PeerAddr>().map(|peer| peer.0.ip())
}

/// Collects the credentials of a request.
///
/// They are the bearer token of `Authorization` (RFC 6750 section 2.1), the cookies, and an
/// [`Identity`] that a middleware of the embedder stored in the request's extensions.
///
/// Both headers are shared with other software: `Authorization` of another scheme (a proxy may use
/// it) and cookies that are not plain ASCII (a page of the same site may set them) are ignored.
///
/// # Errors
///
/// [`Code::TooLarge`] for a token of more than 4096 bytes, [`Code::BadCredentials`] for a token
/// that is not plain ASCII and for more than one `Authorization`.
pub fn credentials<B>(request: &Request<B>) -> Result<Credentials> {
    Ok(Credentials {
        token: bearer(request.headers())?,
        cookie: cookie(request.headers()),
        established: request.extensions().get::<Identity>().cloned(),
        ..Credentials::default()
    })
}

fn bearer(headers: &HeaderMap) -> Result<Option<Secret>> {
    let refuse = |code, words: &str| Err(Error::new(code, "read credentials", words));
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let Some(first) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return refuse(Code::BadCredentials, "send one Authorization header");
    }
    let value = first.as_bytes();
    let Some((scheme, token)) = value.split_at_checked(7) else { return Ok(None) };
    let token = token.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"bearer ") || token.is_empty() {
        return Ok(None);
    }
    if token.len() > MAX_TOKEN {
        return refuse(Code::TooLarge, "a token has at most 4096 bytes");
    }
    match std::str::from_utf8(token) {
        Ok(token) if token.is_ascii() => Ok(Some(Secret::new(token))),
        _ => refuse(Code::BadCredentials, "the token must be plain ASCII"),
    }
}

/// Joins all cookies: HTTP/2 may split them into several headers (RFC 9113 section 8.2.3).
fn cookie(headers: &HeaderMap) -> Option<Secret> {
    let lines =
        headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'));
    let cookies: Vec<&str> = lines
        .filter_map(|cookie| std::str::from_utf8(cookie.trim_ascii()).ok())
        .filter(|cookie| !cookie.is_empty() && cookie.is_ascii())
        .collect();
    (!cookies.is_empty()).then(|| Secret::new(cookies.join("; ")))
}

#[cfg(test)]
mod tests {
    use im_core::UserId;

    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let request = headers
            .iter()
            .fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap()
    }

    fn token(headers: &[(&str, &str)]) -> Option<String> {
        credentials(&request(headers)).unwrap().token.map(|token| token.expose().to_owned())
    }

    #[test]
    fn bearer_scheme_ignores_case() {
        assert_eq!(token(&[("authorization", "Bearer abc")]).as_deref(), Some("abc"));
        assert_eq!(token(&[("authorization", "bearer  abc ")]).as_deref(), Some("abc"));
        assert_eq!(token(&[("authorization", "Basic YTpi")]), None);
        assert_eq!(token(&[("authorization", "Bearer")]), None);
        assert_eq!(token(&[]), None);
    }

    #[test]
    fn ambiguous_credentials_are_refused() {
        let long = format!("Bearer {}", "x".repeat(MAX_TOKEN + 1));
        let code = |headers: &[(&str, &str)]| credentials(&request(headers)).unwrap_err().code();
        assert_eq!(code(&[("authorization", &long)]), Code::TooLarge);
        assert_eq!(
            code(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]),
            Code::BadCredentials
        );
        assert_eq!(code(&[("authorization", "Bearer \u{fc}")]), Code::BadCredentials);
    }

    #[test]
    fn foreign_text_is_passed_over() {
        assert_eq!(token(&[("authorization", "Digest username=\"\u{fc}\"")]), None);
        let cookies = |lines: &[(&str, &str)]| {
            let read = credentials(&request(lines)).unwrap().cookie;
            read.map(|cookies| cookies.expose().to_owned())
        };
        let mixed = [("cookie", "city=K\u{f6}ln; who=ann"), ("cookie", "; x=\u{1f375} ;y=1;")];
        assert_eq!(cookies(&mixed).as_deref(), Some("who=ann; y=1"));
        assert_eq!(cookies(&[("cookie", "city=K\u{f6}ln")]), None);
        assert_eq!(cookies(&[("cookie", "")]), None);
    }

    /// Cookie headers are joined, and an established identity is used.
    #[test]
    fn cookies_join_and_identity_is_used() {
        let mut request = request(&[("cookie", "a=1"), ("cookie", "b=2; c=3")]);
        let anna = Identity::of(UserId::new("anna").unwrap());
        request.extensions_mut().insert(anna.clone());
        let credentials = credentials(&request).unwrap();
        assert_eq!(credentials.cookie.unwrap().expose(), "a=1; b=2; c=3");
        assert_eq!(credentials.established, Some(anna));
    }

    /// The peer address is absent unless an extension of the request holds it.
    #[test]
    fn peer_address_needs_extension() {
        let mut request = request(&[]);
        assert_eq!(peer_address(request.extensions()), None);
        request.extensions_mut().insert(PeerAddr("192.0.2.1:4000".parse().unwrap()));
        assert_eq!(peer_address(request.extensions()), Some("192.0.2.1".parse().unwrap()));
    }
}
