//! Detection of ambiguous requests, which two programs may parse differently.

use http::header::{CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{Request, StatusCode, Version};
use im_core::Code;

use crate::lists::{NotText, elements};
use crate::metrics;
use crate::refusal::Refusal;

/// Refuses an ambiguous request.
///
/// That is one with no or several `Host` headers (RFC 9112 section 3.2), or a transfer coding
/// besides `chunked` (section 6.1).
///
/// # Errors
///
/// [`Code::Malformed`], with the status 400, or 501 for an unsupported transfer coding. The
/// connection ends with the response.
pub fn check_grammar<B>(request: &Request<B>) -> Result<(), Refusal> {
    let fault = host(request).or_else(|| transfer_coding(request));
    match fault {
        Some((status, words)) => Err(ambiguous(status, words)),
        None => Ok(()),
    }
}

/// Builds the refusal of an ambiguous request. It closes the connection, because the start of the
/// next request may be ambiguous as well.
pub(crate) fn ambiguous(status: StatusCode, words: &str) -> Refusal {
    ::metrics::counter!(metrics::REQUESTS_REFUSED, "reason" => "grammar").increment(1);
    let close = HeaderValue::from_static("close");
    Refusal::new(Code::Malformed, words).status(status).header(CONNECTION, close)
}

fn host<B>(request: &Request<B>) -> Option<(StatusCode, &'static str)> {
    let bad = |words| Some((StatusCode::BAD_REQUEST, words));
    let mut given = request.headers().get_all(HOST).iter();
    match (given.next(), given.next()) {
        // HTTP/1.0 has no Host; HTTP/2 has it in the target.
        (None, _) if request.version() != Version::HTTP_11 => None,
        (None, _) => bad("send a Host header"),
        (Some(_), Some(_)) => bad("send one Host header"),
        (Some(host), None) if authority(host).is_none() => {
            bad("the Host header must be a host with an optional port")
        }
        (Some(_), None) => None,
    }
}

/// Parses the host and port in a `Host` header.
pub(crate) fn authority(host: &HeaderValue) -> Option<Authority> {
    let text = host.to_str().ok().filter(|text| !text.contains('@'))?;
    text.parse().ok()
}

fn transfer_coding<B>(request: &Request<B>) -> Option<(StatusCode, &'static str)> {
    if !request.headers().contains_key(TRANSFER_ENCODING) {
        return None;
    }
    let codings: Vec<_> = elements(request.headers(), &TRANSFER_ENCODING).collect();
    let is_chunked = |coding: &Result<String, NotText>| {
        coding.as_ref().is_ok_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    };
    match codings.iter().all(is_chunked) {
        false => {
            let words = "the only supported transfer coding is chunked";
            Some((StatusCode::NOT_IMPLEMENTED, words))
        }
        true if codings.len() == 1 => None,
        true => Some((StatusCode::BAD_REQUEST, "name the transfer coding chunked once")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: Version, headers: &[(&str, &str)]) -> u16 {
        let request = headers.iter().fold(Request::post("/im/send"), |request, (name, value)| {
            request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        let request = request.version(version).body(()).unwrap();
        match check_grammar(&request) {
            Ok(()) => 200,
            Err(refusal) => refusal.into_response().status().as_u16(),
        }
    }

    #[test]
    fn host_is_there_once() {
        for (hosts, expected) in [
            (&["localhost:8080"][..], 200),
            (&["[::1]:8080"], 200),
            (&[], 400),
            (&["a", "a"], 400),
            (&["a", "b"], 400),
            (&[""], 400),
            (&["a b"], 400),
            (&["a@b"], 400),
            (&["a/b"], 400),
            (&["\u{fc}"], 400),
        ] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            assert_eq!(status(Version::HTTP_11, &headers), expected, "{hosts:?}");
        }
        assert_eq!(status(Version::HTTP_10, &[]), 200);
        assert_eq!(status(Version::HTTP_10, &[("host", "a"), ("host", "a")]), 400);
        assert_eq!(status(Version::HTTP_2, &[]), 200);
    }

    #[test]
    fn chunked_is_the_only_transfer_coding() {
        for (codings, expected) in [
            (&["chunked"][..], 200),
            (&["Chunked"], 200),
            (&["gzip, chunked"], 501),
            (&["gzip", "chunked"], 501),
            (&["chunked, gzip"], 501),
            (&["identity"], 501),
            (&["chunked, chunked"], 400),
            (&["chunked", "chunked"], 400),
            (&[""], 400),
            (&["\u{fc}"], 501),
            (&["\u{fc}", "chunked"], 501),
            (&["\u{fc}, chunked"], 501),
            (&["chunked", "\u{fc}"], 501),
        ] {
            let mut headers = vec![("host", "a")];
            headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            assert_eq!(status(Version::HTTP_11, &headers), expected, "{codings:?}");
        }
    }
}
