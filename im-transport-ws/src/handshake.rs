//! Checks before the response 101 (RFC 6455 section 4.2).

use http::header::{
    ALLOW, CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Version};
use im_core::Code;
use im_core::wire::Encoding;
use im_http::{Refusal, elements, lists, only};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

/// Returns the response 101 to a valid request, and the negotiated encoding.
pub(crate) fn agree<B, T>(
    request: &Request<B>,
    body: impl FnOnce() -> T,
) -> Result<(Response<T>, Encoding), Refusal> {
    im_http::check_grammar(request)?;
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(Refusal::new(Code::Malformed, "a WebSocket handshake is a GET request")
            .status(StatusCode::METHOD_NOT_ALLOWED)
            .header(ALLOW, HeaderValue::from_static("GET")));
    }
    upgrade_is_wished(request.version(), headers)?;
    if once(headers, &SEC_WEBSOCKET_VERSION)?.is_none_or(|version| version != "13") {
        let words = "this server supports WebSocket version 13";
        return Err(upgrade_required(Code::WrongVersion, words));
    }
    let mut response = accept(once(headers, &SEC_WEBSOCKET_KEY)?, body)?;
    let encoding = match subprotocol(headers)? {
        Some(encoding) => {
            let name = HeaderValue::from_static(encoding.subprotocol());
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
            encoding
        }
        None => Encoding::Json,
    };
    Ok((response, encoding))
}

/// Refuses a request that does not ask for WebSocket, and names the missing headers: usually a
/// proxy in front has dropped them.
fn upgrade_is_wished(version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut missing = Vec::new();
    // HTTP/1.0 has no upgrade (RFC 9110 section 7.8).
    if version < Version::HTTP_11 {
        missing.push("HTTP/1.1");
    }
    if !lists(headers, &CONNECTION, "upgrade") {
        missing.push("Connection: Upgrade");
    }
    if !lists(headers, &UPGRADE, "websocket") {
        missing.push("Upgrade: websocket");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    let words = format!(
        "this is a WebSocket endpoint, and the request lacks {missing}; a proxy in front must forward it: \
         see docs/proxies.md"
    );
    Err(upgrade_required(Code::Malformed, &words))
}

/// Returns the value of a header that must not occur twice (RFC 6455 section 11.3).
fn once<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refusal> {
    only(headers, name).map_err(|e| Refusal::new(Code::Malformed, e.message()))
}

/// Builds the response to a key. tungstenite reads only the first line of a list header, so it
/// receives a request with one line of each.
fn accept<T>(key: Option<&HeaderValue>, body: impl FnOnce() -> T) -> Result<Response<T>, Refusal> {
    let mut request = Request::new(());
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    if let Some(key) = key {
        headers.insert(SEC_WEBSOCKET_KEY, key.clone());
    }
    create_response_with_body(&request, body)
        .map_err(|e| Refusal::new(Code::Malformed, e.to_string()))
}

/// Returns the first supported subprotocol offered; `None` if none was offered.
fn subprotocol(headers: &HeaderMap) -> Result<Option<Encoding>, Refusal> {
    // A name that is not text is unsupported, but it was offered.
    let mut offered = elements(headers, &SEC_WEBSOCKET_PROTOCOL).peekable();
    if offered.peek().is_none() {
        return Ok(None);
    }
    match offered.flatten().find_map(|name| Encoding::from_subprotocol(&name)) {
        Some(encoding) => Ok(Some(encoding)),
        None => {
            let words = "no offered subprotocol is supported: use im.v1.json or im.v1.msgpack";
            Err(Refusal::new(Code::WrongEncoding, words).status(StatusCode::BAD_REQUEST))
        }
    }
}

/// Builds a 426 that names the supported protocol (RFC 9110 section 15.5.22, RFC 6455 section 4.4).
pub(crate) fn upgrade_required(code: Code, message: &str) -> Refusal {
    Refusal::new(code, message)
        .status(StatusCode::UPGRADE_REQUIRED)
        .header(UPGRADE, HeaderValue::from_static("websocket"))
        .header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example handshake of RFC 6455 section 1.3, with some headers replaced or, if empty,
    /// removed.
    fn request(changes: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::get("/chat").body(()).unwrap();
        let usual = [
            ("host", "server.example.com"),
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ];
        for (name, value) in usual.iter().chain(changes) {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        for (name, _) in changes.iter().filter(|(_, value)| value.is_empty()) {
            request.headers_mut().remove(*name);
        }
        request
    }

    fn status(request: &Request<()>) -> StatusCode {
        match agree(request, || ()) {
            Ok((response, _)) => response.status(),
            Err(refusal) => refusal.into_response().status(),
        }
    }

    #[test]
    fn accept_key_matches_standard() {
        let (response, encoding) = agree(&request(&[]), || ()).unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        assert_eq!(encoding, Encoding::Json);
    }

    #[test]
    fn first_supported_subprotocol_is_chosen() {
        for (offered, chosen) in [
            ("im.v1.json", Encoding::Json),
            ("im.v1.msgpack", Encoding::MsgPack),
            ("soap, im.v1.msgpack,im.v1.json", Encoding::MsgPack),
        ] {
            let (response, encoding) =
                agree(&request(&[("sec-websocket-protocol", offered)]), || ()).unwrap();
            assert_eq!(encoding, chosen);
            assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], chosen.subprotocol());
        }
        assert_eq!(
            status(&request(&[("sec-websocket-protocol", "soap, wamp")])),
            StatusCode::BAD_REQUEST
        );
    }

    #[test]
    fn header_lines_form_one_list() {
        let mut split = request(&[
            ("connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("sec-websocket-protocol", "s\u{f6}ap, wamp"),
        ]);
        let more = [
            ("connection", "x, Upgrade"),
            ("upgrade", "foo/2, WebSocket"),
            ("sec-websocket-protocol", "im.v1.msgpack"),
        ];
        for (name, value) in more {
            split.headers_mut().append(name, value.parse().unwrap());
        }
        let (response, encoding) = agree(&split, || ()).unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(encoding, Encoding::MsgPack);
        let empty = request(&[]);
        let mut offered = empty.clone();
        offered.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(""));
        assert_eq!(status(&offered), StatusCode::SWITCHING_PROTOCOLS, "empty means none");
        for name in ["sec-websocket-key", "sec-websocket-version"] {
            let mut twice = empty.clone();
            let value = twice.headers()[name].clone();
            twice.headers_mut().append(name, value);
            assert_eq!(status(&twice), StatusCode::BAD_REQUEST, "{name}");
        }
    }

    #[test]
    fn invalid_handshake_is_refused_with_hint() {
        for (name, value, expected) in [
            ("upgrade", "", StatusCode::UPGRADE_REQUIRED),
            ("upgrade", "h2c", StatusCode::UPGRADE_REQUIRED),
            ("connection", "keep-alive", StatusCode::UPGRADE_REQUIRED),
            ("sec-websocket-version", "8", StatusCode::UPGRADE_REQUIRED),
            ("sec-websocket-version", "", StatusCode::UPGRADE_REQUIRED),
            ("sec-websocket-key", "", StatusCode::BAD_REQUEST),
            ("sec-websocket-key", "short", StatusCode::BAD_REQUEST),
            ("host", "", StatusCode::BAD_REQUEST),
        ] {
            assert_eq!(status(&request(&[(name, value)])), expected, "{name}: {value}");
        }
        let mut post = request(&[]);
        *post.method_mut() = http::Method::POST;
        assert_eq!(status(&post), StatusCode::METHOD_NOT_ALLOWED);
        let mut old = request(&[]);
        *old.version_mut() = http::Version::HTTP_10;
        assert_eq!(status(&old), StatusCode::UPGRADE_REQUIRED);
    }
}
