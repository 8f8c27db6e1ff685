//! Codes as HTTP statuses, and the small JSON body of a refusal.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use im_core::wire::{Encoding, Map, Value, encode};
use im_core::{Advice, Code, Error};

/// The HTTP status that goes with a code (RFC 9110 section 15, RFC 6585). The code in the body says more.
pub fn status_of(code: Code) -> StatusCode {
    match code {
        Code::RateLimited | Code::TooManyConnections => StatusCode::TOO_MANY_REQUESTS,
        Code::Draining | Code::Unknown | Code::Overloaded | Code::StoreUnavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::SlowReader | Code::IdleTimeout | Code::HandshakeTimeout => {
            StatusCode::REQUEST_TIMEOUT
        }
        Code::Unauthenticated | Code::BadCredentials | Code::Expired => StatusCode::UNAUTHORIZED,
        Code::UnknownSession | Code::NotFound => StatusCode::NOT_FOUND,
        Code::Trimmed => StatusCode::GONE,
        Code::Superseded | Code::Exists | Code::Conflict | Code::Stale | Code::OutOfOrder => {
            StatusCode::CONFLICT
        }
        Code::WrongEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::BadOrigin | Code::Forbidden | Code::Banned | Code::Refused => StatusCode::FORBIDDEN,
        other => by_advice(other.advice()),
    }
}

fn by_advice(advice: Advice) -> StatusCode {
    match advice {
        Advice::Done | Advice::Retry | Advice::BackOff => StatusCode::SERVICE_UNAVAILABLE,
        Advice::Refresh => StatusCode::UNAUTHORIZED,
        Advice::Resync => StatusCode::CONFLICT,
        Advice::Fix => StatusCode::BAD_REQUEST,
        Advice::Stop => StatusCode::FORBIDDEN,
    }
}

/// A refusal on its way to an HTTP client: a status, headers, and a body `{"code":4204,"msg":"…"}`.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    code: Code,
    message: Box<str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal with the status that goes with the code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { status: status_of(code), code, message: message.into().into(), headers: Vec::new() }
    }

    /// Chooses another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The answer to send. It is never cached.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut body = Map::default();
        body.insert("code", Value::Int(self.code.number().into()));
        body.insert("msg", Value::Text((*self.message).into()));
        let mut response = Response::new(Full::new(encode(&Value::Map(body), Encoding::Json)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 15.5.2: a 401 names a challenge.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        let refusal = Self::new(error.code(), error.message());
        match error.delay() {
            Some(delay) => refusal.header(RETRY_AFTER, HeaderValue::from(delay.as_secs().max(1))),
            None => refusal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn every_code_has_a_status_that_says_no() {
        for code in Code::ALL {
            let status = status_of(*code);
            assert!(status.is_client_error() || status.is_server_error(), "{code}: {status}");
        }
    }

    #[test]
    fn the_range_of_a_code_and_its_status_agree() {
        for code in Code::ALL.iter().filter(|code| code.advice() == Advice::Refresh) {
            assert_eq!(status_of(*code), StatusCode::UNAUTHORIZED);
        }
        for code in Code::ALL.iter().filter(|code| code.advice() == Advice::Fix) {
            assert!(status_of(*code).is_client_error());
        }
        assert_eq!(status_of(Code::TooManyConnections), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(status_of(Code::Draining), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn the_body_is_json_and_tells_code_and_delay() {
        let error = Error::new(Code::Overloaded, "accept", "a \"busy\"\nserver")
            .retry_after(Duration::from_millis(2500));
        let response = Refusal::from(&error).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], br#"{"code":4201,"msg":"a \"busy\"\nserver"}"#);
    }

    #[test]
    fn a_refusal_for_want_of_credentials_names_a_challenge() {
        let response = Refusal::from(&Error::of(Code::Unauthenticated, "accept")).into_response();
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
    }
}
