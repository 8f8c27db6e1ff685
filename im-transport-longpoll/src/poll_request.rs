//! The request of a poll: its session, its stream position, and its hold time.

use std::time::Duration;

use http::header::IF_NONE_MATCH;
use http::{HeaderMap, Uri};
use im_core::state::StreamPosition;
use im_core::wire::{Encoding, ResumeToken};
use im_core::{Code, Error, Result};

/// A poll.
#[derive(Debug)]
pub(crate) struct PollRequest {
    pub(crate) token: ResumeToken,
    /// The stream position of the subscriber, as text and parsed.
    pub(crate) at: Option<(String, StreamPosition)>,
    /// Entity tags in `If-None-Match`: the client has the responses with these.
    pub(crate) known: Vec<String>,
    pub(crate) hold: Duration,
    pub(crate) encoding: Encoding,
}

impl PollRequest {
    /// Parses a request.
    ///
    /// # Errors
    ///
    /// [`Code::OutOfOrder`] if no session is named, [`Code::BadField`] for an invalid session,
    /// stream position or time.
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap, max_hold: Duration) -> Result<Self> {
        let token = im_http::session(headers)?.ok_or_else(|| {
            Error::new(Code::OutOfOrder, "poll", "send Im-Session to name the session")
        })?;
        let known = known(headers);
        let at = match im_http::query(uri, "at")? {
            Some(text) => Some(text.parse().map(|position| (text, position)).map_err(|e| bad(&e))?),
            None => known.iter().find_map(|tag| Some((tag.clone(), tag.parse().ok()?))),
        };
        let hold = match im_http::query(uri, "hold")? {
            Some(text) => Duration::from_secs(
                text.parse().map_err(|_| bad(&"hold must be a whole number of seconds"))?,
            ),
            None => max_hold,
        };
        let encoding = im_http::accepted(headers);
        Ok(Self { token, at, known, hold: hold.min(max_hold), encoding })
    }
}

fn bad(words: &impl ToString) -> Error {
    Error::new(Code::BadField, "poll", words.to_string())
}

/// Returns the entity tags in `If-None-Match` (RFC 9110 section 13.1.2); weak ones compare as
/// strong ones. An invalid or foreign tag matches nothing, and neither does `*`.
fn known(headers: &HeaderMap) -> Vec<String> {
    im_http::list(headers, &IF_NONE_MATCH)
        .filter_map(|tag| {
            let tag = tag.strip_prefix("W/").unwrap_or(&tag);
            Some(tag.strip_prefix('"')?.strip_suffix('"')?.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, HeaderName, HeaderValue};

    use super::*;

    const MAX: Duration = Duration::from_secs(25);

    fn read(query: &str, more: &[(HeaderName, &str)]) -> Result<PollRequest> {
        let uri: Uri = format!("/im/poll{query}").parse().unwrap();
        let session = (im_http::IM_SESSION, "s1 x9");
        let headers: HeaderMap = more
            .iter()
            .chain([&session])
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect();
        PollRequest::of(&uri, &headers, MAX)
    }

    #[test]
    fn poll_query_sets_position_and_hold() {
        let first = read("", &[]).unwrap();
        assert!(first.at.is_none() && first.known.is_empty());
        assert_eq!((first.hold, first.encoding), (MAX, Encoding::Json));
        let next = read(
            "?at=AwAAAAAA&hold=5",
            &[(ACCEPT, "application/msgpack"), (IF_NONE_MATCH, "\"AwAAAAAB\"")],
        );
        let next = next.unwrap();
        assert_eq!(next.at.unwrap().0, "AwAAAAAA");
        assert_eq!(next.known, ["AwAAAAAB"]);
        assert_eq!((next.hold, next.encoding), (Duration::from_secs(5), Encoding::MsgPack));
        assert_eq!(read("?hold=0", &[]).unwrap().hold, Duration::ZERO);
        assert_eq!(read("?hold=86400", &[]).unwrap().hold, MAX);
    }

    /// An entity tag in `If-None-Match` is parsed as the stream position.
    #[test]
    fn etag_replaces_position() {
        for tag in [
            "\"AwAAAAAA\"",
            "W/\"AwAAAAAA\"",
            "\"AwAAAAAA-gzip\", \"a, b\", W/\"AwAAAAAA\", \"AwAAAAAB\"",
        ] {
            let asking = read("?at=", &[(IF_NONE_MATCH, tag)]).unwrap();
            assert_eq!(asking.at.unwrap().0, "AwAAAAAA");
        }
    }

    #[test]
    fn unknown_tags_match_nothing() {
        for tag in ["\"AwAAAAAA-gzip\"", "AwAAAAAA", "*", "\"", "\"\"", "", "W/", "\"\u{fc}\""] {
            let asking = read("?hold=0", &[(IF_NONE_MATCH, tag)]).unwrap();
            assert!(asking.at.is_none(), "{tag}");
            assert!(asking.known.iter().all(|known| known.as_str() != "AwAAAAAA"), "{tag}");
        }
    }

    #[test]
    fn empty_fields_are_none() {
        let asking = read("?at=&hold=", &[(IF_NONE_MATCH, "")]).unwrap();
        assert!(asking.at.is_none());
        assert_eq!(asking.hold, MAX);
    }

    #[test]
    fn ambiguous_poll_is_refused() {
        for query in [
            "?at=!!",
            "?hold=soon",
            "?hold=-1",
            "?hold=1.5",
            "?at=AwAAAAAA&at=AwAAAAAA",
            "?at=%0d%0a",
        ] {
            assert_eq!(read(query, &[]).unwrap_err().code(), Code::BadField, "{query}");
        }
        let nobody = PollRequest::of(&"/".parse().unwrap(), &HeaderMap::new(), MAX);
        assert_eq!(nobody.unwrap_err().code(), Code::OutOfOrder);
    }
}
