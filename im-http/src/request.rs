//! Parts of a request outside its body: the session, the query, the types.

use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use http::{HeaderValue, Uri};
use im_core::wire::{Encoding, ResumeToken, Secret};
use im_core::{Code, Error, Result, SessionId};

use crate::lists::preferences;

/// The header that names the session of a request: `Im-Session: <session> <secret>`.
pub const IM_SESSION: HeaderName = HeaderName::from_static("im-session");

/// Longest accepted secret, in bytes: the same as in a `hello` frame.
const MAX_SECRET: usize = 4096;

/// Returns the session that a request names; `None` if it names none.
///
/// # Errors
///
/// [`Code::BadField`] if there are several, or if the value is not a session and its secret
/// separated by one space.
pub fn session(headers: &HeaderMap) -> Result<Option<ResumeToken>> {
    let bad = || {
        Error::new(
            Code::BadField,
            "read session",
            "send Im-Session as the session and its secret, separated by one space",
        )
    };
    let Some(value) = only(headers, &IM_SESSION)? else { return Ok(None) };
    let (session, secret) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(bad)?;
    if secret.is_empty() || secret.len() > MAX_SECRET {
        return Err(bad());
    }
    let session = SessionId::new(session).map_err(|_| bad())?;
    Ok(Some(ResumeToken { session, secret: Secret::new(secret) }))
}

/// Returns the value of a header that may occur once. An empty value counts as none.
///
/// # Errors
///
/// [`Code::BadField`] if it occurs more than once.
pub fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        let words = format!("send one header {name}");
        return Err(Error::new(Code::BadField, "read headers", words));
    }
    Ok(first.filter(|value| !value.as_bytes().trim_ascii().is_empty()))
}

/// Returns the field `name` of the query, decoded (the URL standard, section 5.1). An empty field
/// counts as none.
///
/// # Errors
///
/// [`Code::BadField`] if it occurs more than once.
pub fn query(uri: &Uri, name: &str) -> Result<Option<String>> {
    let fields = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut values = fields.filter(|(field, _)| field == name).map(|(_, value)| value);
    let first = values.next();
    if values.next().is_some() {
        let words = format!("send the query field {name} once");
        return Err(Error::new(Code::BadField, "read query", words));
    }
    Ok(first.filter(|value| !value.is_empty()).map(Into::into))
}

/// Returns the media type of messages in an encoding.
pub const fn media_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::MsgPack => "application/msgpack",
    }
}

/// Returns the encoding of a request's body.
///
/// # Errors
///
/// [`Code::WrongEncoding`] if the type is not supported or missing.
pub fn content_type(headers: &HeaderMap) -> Result<Encoding> {
    let essence = only(headers, &CONTENT_TYPE).ok().flatten().and_then(|value| essence(value));
    let known =
        |name: &str| Encoding::ALL.into_iter().find(|e| media_type(*e).eq_ignore_ascii_case(name));
    essence.and_then(known).ok_or_else(|| {
        Error::new(
            Code::WrongEncoding,
            "read content type",
            "send application/json or application/msgpack",
        )
    })
}

fn essence(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()?.split(';').next().map(str::trim)
}

/// Returns the encoding to answer in: MessagePack if `Accept` names it and does not prefer JSON
/// (RFC 9110 section 12.5.1), else JSON.
pub fn accepted(headers: &HeaderMap) -> Encoding {
    let (mut json, mut packed) = (0.0, 0.0);
    for (name, weight) in preferences(headers, &ACCEPT) {
        match name.as_str() {
            "application/msgpack" => packed = weight,
            "application/json" => json = weight,
            _ => {}
        }
    }
    if packed > 0.0 && packed >= json { Encoding::MsgPack } else { Encoding::Json }
}

/// Returns whether a response may be compressed with gzip.
///
/// `Accept-Encoding` has to allow gzip and must not prefer `identity` (RFC 9110 section 12.5.3).
/// Without that header the result is false.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut identity, mut others) = (None, 0.0, 0.0);
    for (name, weight) in preferences(headers, &ACCEPT_ENCODING) {
        match name.as_str() {
            "gzip" | "x-gzip" => gzip = Some(weight),
            "identity" => identity = weight,
            "*" => others = weight,
            _ => {}
        }
    }
    let gzip = gzip.unwrap_or(others);
    gzip > 0.0 && gzip >= identity
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn session_header_is_id_and_secret() {
        let read = |values: &[&str]| session(&headers(&IM_SESSION, values));
        assert!(read(&[]).unwrap().is_none());
        let token = read(&["s1 a secret"]).unwrap().unwrap();
        assert_eq!((token.session.as_str(), token.secret.expose()), ("s1", "a secret"));
        let long = format!("s1 {}", "x".repeat(MAX_SECRET + 1));
        assert!(read(&[""]).unwrap().is_none(), "an empty header names nothing");
        for bad in [&["s1"][..], &["s1 "], &[" x"], &["s/1 x"], &["s1 \u{fc}"], &[&long]] {
            assert_eq!(read(bad).unwrap_err().code(), Code::BadField, "{bad:?}");
        }
        assert_eq!(read(&["s1 x", "s1 x"]).unwrap_err().code(), Code::BadField);
    }

    #[test]
    fn query_fields_decode_and_are_unique() {
        let uri: Uri = "/im/sse?ticket=a%20b+c&at=&at2=%0d%0a".parse().unwrap();
        assert_eq!(query(&uri, "ticket").unwrap().as_deref(), Some("a b c"));
        assert_eq!(query(&uri, "at").unwrap(), None, "empty means none");
        assert_eq!(query(&uri, "hold").unwrap(), None);
        let twice: Uri = "/im/poll?at=a&at=b".parse().unwrap();
        assert_eq!(query(&twice, "at").unwrap_err().code(), Code::BadField);
        assert_eq!(query(&"/".parse().unwrap(), "at").unwrap(), None);
    }

    #[test]
    fn the_content_type_says_the_encoding() {
        let read = |value: &str| content_type(&headers(&CONTENT_TYPE, &[value])).ok();
        assert_eq!(read("application/json"), Some(Encoding::Json));
        assert_eq!(read("Application/JSON; charset=utf-8"), Some(Encoding::Json));
        assert_eq!(read("application/msgpack"), Some(Encoding::MsgPack));
        for other in ["text/plain", "", "application/jsonp", "multipart/form-data; boundary=x"] {
            assert_eq!(read(other), None, "{other}");
        }
        assert!(content_type(&HeaderMap::new()).is_err());
    }

    #[test]
    fn json_is_the_default_encoding() {
        let read = |values: &[&str]| accepted(&headers(&ACCEPT, values));
        for json in [&[][..], &["*/*"], &["application/json"], &["application/msgpack;q=0"]] {
            assert_eq!(read(json), Encoding::Json, "{json:?}");
        }
        assert_eq!(read(&["application/json, application/msgpack; q=0.5"]), Encoding::Json);
        assert_eq!(read(&["application/msgpack"]), Encoding::MsgPack);
        assert_eq!(read(&["application/json;q=0.1", "application/MsgPack"]), Encoding::MsgPack);
    }

    #[test]
    fn gzip_needs_accept_encoding() {
        let read = |values: &[&str]| accepts_gzip(&headers(&ACCEPT_ENCODING, values));
        for good in [
            &["gzip"][..],
            &["gzip, deflate, br, zstd"],
            &["deflate", "GZip;q=0.5"],
            &["x-gzip"],
            &["*"],
            &["br;q=1.0, *;q=0.1"],
            &["identity;q=0.5, gzip;q=0.5"],
            &["gzip ; q=1.000"],
        ] {
            assert!(read(good), "{good:?}");
        }
        for bad in [
            &[][..],
            &[""],
            &["br"],
            &["identity"],
            &["gzip;q=0"],
            &["gzip;q=0.000, *"],
            &["*;q=0"],
            &["identity, gzip;q=0.9"],
            &["gzip;q=nan"],
            &["gzip;q=inf"],
            &["gzip;q=-1"],
            &["gzip;Q=0"],
            &["gzipped"],
        ] {
            assert!(!read(bad), "{bad:?}");
        }
    }
}
