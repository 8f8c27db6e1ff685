//! How long messages are kept: the embedder says.

use std::time::Duration;

use crate::state::{Keep, RoomRecord};
use crate::time::Timestamp;

/// Says what each room keeps of its log. The engine asks for each room in turn, again and again, and trims by the answer.
///
/// ```
/// use im_core::ports::RetentionPolicy;
/// use im_core::state::{Keep, RoomRecord};
/// use im_core::Timestamp;
///
/// /// Lobbies keep the last thousand events, everything else all.
/// struct Lobbies;
///
/// impl RetentionPolicy for Lobbies {
///     fn keep(&self, room: &RoomRecord, _now: Timestamp) -> Keep {
///         let count = room.id.as_str().starts_with("lobby-").then_some(1_000);
///         Keep { count, ..Keep::ALL }
///     }
/// }
/// ```
pub trait RetentionPolicy: Send + Sync {
    /// What this room keeps. Called often: it answers at once, from what it knows. What is removed does not come back
    /// when the answer changes.
    fn keep(&self, room: &RoomRecord, now: Timestamp) -> Keep;

    /// Whether any room is ever to lose anything. If not, the rooms are not gone through.
    fn is_needed(&self) -> bool {
        true
    }
}

/// The same for every room. Keeps everything by default.
///
/// ```
/// use std::time::Duration;
/// use im_core::ports::Retention;
/// let month = Retention { age: Some(Duration::from_secs(30 * 24 * 3600)), ..Retention::default() };
/// assert_eq!(month.count, None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Events older than this go.
    pub age: Option<Duration>,
    /// Each room keeps so many of its last events.
    pub count: Option<u64>,
    /// Each room keeps so many bytes of content.
    pub bytes: Option<u64>,
}

impl RetentionPolicy for Retention {
    fn keep(&self, _room: &RoomRecord, now: Timestamp) -> Keep {
        let before = |age: Duration| {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            Timestamp::from_millis(now.as_millis().saturating_sub(age))
        };
        Keep { after: self.age.map(before), count: self.count, bytes: self.bytes }
    }

    fn is_needed(&self) -> bool {
        *self != Self::default()
    }
}
