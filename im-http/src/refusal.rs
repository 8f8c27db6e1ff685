//! HTTP statuses of codes, and the small JSON body of a refusal.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use im_core::wire::{Disconnect, Encoding, Map, Value, encode};
use im_core::{Advice, Code, Error};

/// Returns the HTTP status of a code (RFC 9110 section 15, RFC 6585), as in `wire/SPEC.md`. The
/// code in the body is more precise.
pub fn status_of(code: Code) -> StatusCode {
    match code {
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::UnknownSession | Code::NotFound => StatusCode::NOT_FOUND,
        Code::WrongEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::BadOrigin | Code::Forbidden | Code::Banned => StatusCode::FORBIDDEN,
        other => by_advice(other.advice()),
    }
}

fn by_advice(advice: Advice) -> StatusCode {
    match advice {
        Advice::Done | Advice::BackOff => StatusCode::SERVICE_UNAVAILABLE,
        Advice::Refresh => StatusCode::UNAUTHORIZED,
        Advice::Retry | Advice::Resync => StatusCode::CONFLICT,
        Advice::Fix => StatusCode::BAD_REQUEST,
        Advice::Stop => StatusCode::GONE,
    }
}

/// A refusal for an HTTP client: a status, headers, and a body `{"code":4204,"msg":"…"}`.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    code: Code,
    message: Box<str>,
    retry_after: Option<Duration>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// Creates a refusal with the status of the code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            status: status_of(code),
            code,
            message: message.into().into(),
            retry_after: None,
            headers: Vec::new(),
        }
    }

    /// Returns the message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Sets another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets the time to wait before a retry.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Builds the response. It is `no-store`.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut body = Map::default();
        body.insert("code", Value::Int(self.code.number().into()));
        body.insert("msg", Value::Text((*self.message).into()));
        if let Some(delay) = self.retry_after {
            let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            body.insert("retry_ms", Value::Int(millis));
        }
        let mut response = Response::new(Full::new(encode(&Value::Map(body), Encoding::Json)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 15.5.2: a 401 names a challenge.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(delay) = self.retry_after {
            // Whole seconds (RFC 9110 section 10.2.3), rounded up so that no retry is early.
            let seconds = delay.as_millis().div_ceil(1000);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
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
            Some(delay) => refusal.retry_after(delay),
            None => refusal,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

/// The disconnect of a connection, as the response to a request that it leaves unanswered.
impl From<&Disconnect> for Refusal {
    fn from(disconnect: &Disconnect) -> Self {
        let refusal = Self::new(
            Code::from_number(disconnect.code).unwrap_or(Code::Unknown),
            disconnect.message.as_str(),
        );
        match disconnect.retry_after {
            Some(delay) => refusal.retry_after(delay),
            None => refusal,
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn every_code_has_error_status() {
        for code in Code::ALL {
            let status = status_of(*code);
            assert!(status.is_client_error() || status.is_server_error(), "{code}: {status}");
        }
    }

    #[test]
    fn code_range_matches_status() {
        for code in Code::ALL.iter().filter(|code| code.advice() == Advice::Refresh) {
            assert_eq!(status_of(*code), StatusCode::UNAUTHORIZED);
        }
        for code in Code::ALL.iter().filter(|code| code.advice() == Advice::Fix) {
            assert!(status_of(*code).is_client_error());
        }
        for (code, status) in [
            (Code::Draining, 503),
            (Code::Superseded, 409),
            (Code::RateLimited, 429),
            (Code::TooManyConnections, 503),
            (Code::UnknownSession, 404),
            (Code::StaleCheckpoint, 409),
            (Code::OutOfOrder, 400),
            (Code::TooLarge, 413),
            (Code::WrongEncoding, 415),
            (Code::BadOrigin, 403),
            (Code::Forbidden, 403),
            (Code::Banned, 403),
            (Code::Kicked, 410),
            (Code::LoggedOut, 410),
        ] {
            assert_eq!(status_of(code).as_u16(), status, "{code}");
        }
    }

    #[tokio::test]
    async fn refusal_body_is_json_with_delay() {
        let error = Error::new(Code::Overloaded, "accept", "a \"busy\"\nserver")
            .retry_after(Duration::from_millis(2500));
        let response = Refusal::from(&error).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], br#"{"code":4201,"msg":"a \"busy\"\nserver","retry_ms":2500}"#);
    }

    #[test]
    fn missing_credentials_answer_names_challenge() {
        let response = Refusal::from(&Error::of(Code::Unauthenticated, "accept")).into_response();
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
    }
}
