//! What a request for a stream says: whose it is, and where its reader stands.

use http::header::HeaderName;
use http::{HeaderMap, Uri};
use im_core::engine::Access;
use im_core::state::StreamPosition;
use im_core::wire::Secret;
use im_core::{Code, Error, Result};

/// Sent by browsers that take a stream up again (the HTML standard, section 9.2.4).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A stream that is asked for.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) access: Access,
    pub(crate) position: Option<StreamPosition>,
}

impl Opening {
    /// Reads a request: the session by header or ticket, the position by `Last-Event-ID` or else `at`. What is empty is
    /// none.
    ///
    /// # Errors
    ///
    /// [`Code::OutOfOrder`] if no session is named, [`Code::BadField`] for what is no session or no stream position.
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
                let words = "name the session by Im-Session or a ticket";
                return Err(Error::new(Code::OutOfOrder, "open_stream", words));
            }
        };
        Ok(Self { access, position })
    }
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<StreamPosition>> {
    let bad = || Error::new(Code::BadField, "open_stream", "send one Last-Event-ID");
    let Some(value) = im_http::only(headers, &LAST_EVENT_ID)? else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| bad())?;
    parse(text).map(Some)
}

fn parse(text: &str) -> Result<StreamPosition> {
    text.parse().map_err(|e| Error::new(Code::BadField, "open_stream", format!("{e}")))
}
