//! Reading what a server answers over HTTP in place of what was asked for, and the limits within which anything of it is
//! taken.

use std::time::Duration;

use im_core::wire::{Encoding, Limits, decode};
use tokio_tungstenite::tungstenite::http::{HeaderMap, header};

use crate::link::LinkError;

/// What our servers say in the body of a refusal: `{"code":4204,"msg":"…","retry_ms":…}`.
pub(crate) fn told(body: &[u8]) -> Option<LinkError> {
    let frame = decode(body, Encoding::Json, &Limits::default()).ok()?.pop()?;
    let code = u16::try_from(frame.get("code")?.as_int()?).ok()?;
    let mut error = LinkError::coded(code, frame.get("msg")?.as_text()?);
    let wait = frame.get("retry_ms").and_then(|wait| u64::try_from(wait.as_int()?).ok());
    error.retry_after = wait.map(Duration::from_millis);
    Some(error)
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3); the form with a date is not understood.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A client takes what its server sends; these are only there so that a broken server cannot fill its memory.
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

    #[test]
    fn refusals_are_told() {
        let error = told(br#"{"code":4200,"msg":"slow down","retry_ms":250}"#).unwrap();
        assert_eq!((error.code, error.retry_after), (Some(4200), Some(Duration::from_millis(250))));
        assert_eq!(told(b"<html>"), None);
    }
}
