//! The request for a stream: its session and its stream position.

use http::header::HeaderName;
use http::{HeaderMap, Uri};
use im_core::engine::Access;
use im_core::state::StreamPosition;
use im_core::wire::Secret;
use im_core::{Code, Error, Result};

/// Sent by browsers that resume a stream (the HTML standard, section 9.2.4).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A requested stream.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) access: Access,
    pub(crate) position: Option<StreamPosition>,
}

impl Opening {
    /// Parses a request: the session from header or ticket, the position from `Last-Event-ID` or
    /// else `at`. Empty values count as none.
    ///
    /// # Errors
    ///
    /// [`Code::OutOfOrder`] if no session is named, [`Code::BadField`] for an invalid session or
    /// stream position.
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap) -> Result<Self> {
        let last = last_event_id(headers)?;
        let again = last.is_some();
        let position = match last {
            Some(position) => Some(position),
            None => im_http::query(uri, "at")?.map(|text| parse(&text)).transpose()?,
        };
        let access = match (im_http::session(headers)?, im_http::query(uri, "ticket")?) {
            (Some(token), _) => Access::Token(token),
            (None, Some(ticket)) => Access::Ticket { ticket: Secret::new(ticket), again },
            (None, None) => {
                let words = "send Im-Session or a ticket to name the session";
                return Err(Error::new(Code::OutOfOrder, "open_stream", words));
            }
        };
        Ok(Self { access, position })
    }
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<StreamPosition>> {
    let bad = || Error::new(Code::BadField, "open_stream", "Last-Event-ID must be plain ASCII");
    let Some(value) = im_http::only(headers, &LAST_EVENT_ID)? else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| bad())?;
    parse(text).map(Some)
}

fn parse(text: &str) -> Result<StreamPosition> {
    text.parse().map_err(|e| Error::new(Code::BadField, "open_stream", format!("{e}")))
}
