//! What is checked before the answer 101 (RFC 6455 section 4.2).

use http::header::{
    ALLOW, HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Request, Response, StatusCode};
use im_core::Code;
use im_core::wire::Encoding;
use im_http::Refusal;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

/// The answer 101 to a good request, and the encoding agreed on.
pub(crate) fn agree<B, T>(
    request: &Request<B>,
    body: impl FnOnce() -> T,
) -> Result<(Response<T>, Encoding), Refusal> {
    let mut response = create_response_with_body(request, body).map_err(|e| refuse(&e))?;
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        return Err(Refusal::new(Code::Malformed, "a Host header is needed"));
    }
    let encoding = match subprotocol(request.headers())? {
        Some(encoding) => {
            let name = HeaderValue::from_static(encoding.subprotocol());
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
            encoding
        }
        None => Encoding::Json,
    };
    Ok((response, encoding))
}

/// The first subprotocol offered that we speak; `None` if none was offered.
fn subprotocol(headers: &HeaderMap) -> Result<Option<Encoding>, Refusal> {
    let mut offered = false;
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        offered = true;
        let names = value.to_str().unwrap_or_default().split(',');
        if let Some(encoding) = names.map(str::trim).find_map(Encoding::from_subprotocol) {
            return Ok(Some(encoding));
        }
    }
    match offered {
        true => Err(Refusal::new(
            Code::WrongEncoding,
            "the subprotocols are im.v1.json and im.v1.msgpack",
        )
        .status(StatusCode::BAD_REQUEST)),
        false => Ok(None),
    }
}

fn refuse(error: &WsError) -> Refusal {
    let WsError::Protocol(error) = error else {
        return Refusal::new(Code::Malformed, "this is not a WebSocket handshake");
    };
    match error {
        ProtocolError::WrongHttpMethod => {
            Refusal::new(Code::Malformed, "a WebSocket handshake is a GET request")
                .status(StatusCode::METHOD_NOT_ALLOWED)
                .header(ALLOW, HeaderValue::from_static("GET"))
        }
        ProtocolError::MissingConnectionUpgradeHeader
        | ProtocolError::MissingUpgradeWebSocketHeader => upgrade_required(
            Code::Malformed,
            "this address speaks WebSocket; send Upgrade: websocket",
        ),
        ProtocolError::MissingSecWebSocketVersionHeader => {
            upgrade_required(Code::WrongVersion, "this server speaks version 13 of WebSocket")
        }
        other => Refusal::new(Code::Malformed, other.to_string()),
    }
}

/// RFC 9110 section 15.5.22 and RFC 6455 section 4.4: say what would be understood.
pub(crate) fn upgrade_required(code: Code, message: &str) -> Refusal {
    Refusal::new(code, message)
        .status(StatusCode::UPGRADE_REQUIRED)
        .header(UPGRADE, HeaderValue::from_static("websocket"))
        .header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example handshake of RFC 6455 section 1.3, with some headers left out or put in their place.
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
    fn the_key_is_answered_as_the_standard_says() {
        let (response, encoding) = agree(&request(&[]), || ()).unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        assert_eq!(encoding, Encoding::Json);
    }

    #[test]
    fn the_first_subprotocol_that_we_speak_is_chosen() {
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
    fn what_is_no_handshake_is_refused_with_a_hint() {
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
        assert_eq!(status(&old), StatusCode::BAD_REQUEST);
    }
}
