//! Parsing refusals over HTTP, and the limits for parsing a server's messages.

use std::time::Duration;

use im_core::Code;
use im_core::wire::{Encoding, Limits, WireError, decode};
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode, header};

use crate::link::LinkError;

/// The error of an HTTP response that is not the expected one.
///
/// A response with a code in its body comes from our server, and the code counts. One without comes
/// from a proxy; then only the statuses 401 and 429 are mapped to a code. 408 and the statuses of
/// gateways may pass; every other status means that this transport does not work here.
pub(crate) fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> LinkError {
    let mut error = describe(body).unwrap_or_else(|| foreign(status));
    // There is no server at the address of this transport; there may be one at another's.
    error.unfit |= error.code == Some(Code::NotFound.number());
    error.retry_after = error.retry_after.or_else(|| retry_after(headers));
    error
}

/// The error of a response with status 200 that is not a message: most often an error page of a
/// proxy.
pub(crate) fn nonsense(error: &WireError) -> LinkError {
    LinkError::unfit(format!("the response is not a valid message: {error}"))
}

/// Whether a code is in our range, also for codes of later versions.
pub(crate) fn is_ours(code: u16) -> bool {
    (4000..4700).contains(&code)
}

/// Parses the body of a refusal by our server: `{"code":4204,"msg":"…","retry_ms":…}`.
fn describe(body: &[u8]) -> Option<LinkError> {
    let frame = decode(body, Encoding::Json, &Limits::default()).ok()?.pop()?;
    let code = u16::try_from(frame.get("code")?.as_int()?).ok().filter(|code| is_ours(*code))?;
    let meaning = || Code::from_number(code).map_or("refused", Code::meaning);
    let words = frame.get("msg").and_then(|words| words.as_text());
    let mut error = LinkError::coded(code, words.unwrap_or_else(meaning));
    let wait = frame.get("retry_ms").and_then(|wait| u64::try_from(wait.as_int()?).ok());
    error.retry_after = wait.map(Duration::from_millis);
    Some(error)
}

/// The error of a response that does not come from our server.
fn foreign(status: StatusCode) -> LinkError {
    let words = format!("the server, or a proxy before it, answered {status}");
    match status.as_u16() {
        401 => LinkError::coded(Code::Unauthenticated.number(), words),
        429 => LinkError::coded(Code::RateLimited.number(), words),
        502..=504 => LinkError { gateway: true, ..LinkError::cut(words) },
        // Above 505, gateways have statuses of their own for a server that is down.
        408 | 500 | 506.. => LinkError::cut(words),
        _ => LinkError::unfit(words),
    }
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3); the date form is ignored.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Limits for messages of a server: generous, only to keep a faulty server from filling the memory.
pub(crate) fn generous() -> Limits {
    let mut limits = Limits::default();
    limits.max_message_bytes = 16 << 20;
    limits.max_depth = 64;
    limits.max_values = 1 << 20;
    limits.max_batch = 1 << 16;
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &[u8]) -> LinkError {
        refused(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body)
    }

    #[test]
    fn refusal_bodies_are_parsed() {
        let error = of(429, br#"{"code":4200,"msg":"slow down","retry_ms":250}"#);
        assert_eq!((error.code, error.retry_after), (Some(4200), Some(Duration::from_millis(250))));
        assert_eq!((error.message.as_str(), error.unfit), ("slow down", false));
        let error = of(400, br#"{"code":4500}"#);
        assert_eq!((error.code, error.message), (Some(4500), Code::Malformed.meaning().into()));
        assert_eq!(of(503, br#"{"code":4001,"msg":"going"}"#).code, Some(4001));
    }

    #[test]
    fn foreign_statuses_mean_another_transport() {
        for status in [200, 302, 400, 403, 404, 405, 407, 410, 413, 426, 451, 501, 505] {
            for body in [&b"<html>"[..], br#"{"code":17,"msg":"blocked"}"#, b""] {
                let error = of(status, body);
                assert!(error.unfit && error.code.is_none() && !error.gateway, "{status}");
            }
        }
        assert_eq!([401, 429].map(|status| of(status, b"").code), [Some(4300), Some(4200)]);
        for status in [408, 500, 502, 503, 504, 520, 529] {
            let error = of(status, b"");
            assert!(!error.unfit && error.code.is_none(), "{status}");
            assert_eq!(error.gateway, matches!(status, 502..=504), "{status}");
        }
        assert!(of(404, br#"{"code":4520,"msg":"nothing here"}"#).unfit);
    }
}
