//! Message ids that begin with the time: UUIDv7 (RFC 9562, section 5.7).

use std::time::{SystemTime, UNIX_EPOCH};

use super::{MAX_SAFE_INTEGER, MessageId, push_hex, random_bytes};
use crate::time::Timestamp;

impl MessageId {
    /// Creates an id that begins with the system's time: a UUIDv7 (RFC 9562 section 5.7).
    ///
    /// It has the usual text form and 74 random bits. Clients should choose such ids: stores insert
    /// ascending keys faster than random ones, and services with a
    /// [horizon](crate::engine::EngineConfig::dedup_horizon) accept no others.
    pub fn now_v7() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX) & (MAX_SAFE_INTEGER >> 5);
        Self::v7(ms, random_bytes())
    }

    /// `ms` is below 2^48.
    fn v7(ms: u64, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        bytes[6] = 0x70 | (bytes[6] & 0x0F);
        bytes[8] = 0x80 | (bytes[8] & 0x3F);
        let mut text = String::with_capacity(36);
        for (at, part) in [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]]
            .into_iter()
            .enumerate()
        {
            if at > 0 {
                text.push('-');
            }
            push_hex(&mut text, part);
        }
        Self(text.into())
    }

    /// The time in the id, if it is a UUIDv7 in its usual text form.
    pub fn v7_time(&self) -> Option<Timestamp> {
        let text = self.as_str().as_bytes();
        let dashed = text.len() == 36 && [8, 13, 18, 23].iter().all(|at| text[*at] == b'-');
        if !dashed
            || text[14] != b'7'
            || !matches!(text[19].to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b')
        {
            return None;
        }
        let mut ms = 0_u64;
        for digit in text[..8].iter().chain(&text[9..13]) {
            ms = (ms << 4) | u64::from(char::from(*digit).to_digit(16)?);
        }
        Some(Timestamp::from_millis(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UUID of version 7 yields its time; other ids yield none.
    #[test]
    fn uuid_v7_yields_its_time() {
        // The example of RFC 9562, appendix A.6.
        let id = |text: &str| MessageId::new(text).unwrap();
        let at = id("017F22E2-79B0-7CC3-98C4-DC0C0C07398F").v7_time();
        assert_eq!(at, Some(Timestamp::from_millis(0x017F_22E2_79B0)));
        assert_eq!(id("919108f7-52d1-4320-9bac-f847db4148a8").v7_time(), None);
        assert_eq!(MessageId::random().v7_time(), None);
    }

    #[test]
    fn ids_made_later_are_greater() {
        let random = [0xFF; 10];
        let id = MessageId::v7(0x017F_22E2_79B0, random);
        assert_eq!(id.as_str(), "017f22e2-79b0-7fff-bfff-ffffffffffff");
        assert_eq!(id.v7_time(), Some(Timestamp::from_millis(0x017F_22E2_79B0)));
        assert!(MessageId::v7(0x017F_22E2_79B1, [0; 10]) > id);
        let (one, other) = (MessageId::now_v7(), MessageId::now_v7());
        assert_ne!(one, other);
        assert!(one.v7_time().is_some());
    }
}
