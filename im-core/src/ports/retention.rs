//! Retention of messages: the embedder's policy.

use std::time::Duration;

use crate::state::{Keep, RoomRecord};
use crate::time::Timestamp;

/// Decides how much of its log each room retains.
///
/// The engine calls it for each room in turn, repeatedly, and trims accordingly.
///
/// ```
/// use im_core::ports::RetentionPolicy;
/// use im_core::state::{Keep, RoomRecord};
/// use im_core::Timestamp;
///
/// /// Lobbies retain the last thousand events, other rooms all.
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
    /// Returns what this room retains.
    ///
    /// Called often: it must return at once, without I/O. Trimmed events are not restored when the
    /// result changes.
    fn keep(&self, room: &RoomRecord, now: Timestamp) -> Keep;

    /// Returns whether any room may ever lose events. If not, the engine does not scan the rooms.
    fn is_needed(&self) -> bool {
        true
    }
}

/// One rule for every room. Retains everything by default.
///
/// ```
/// use std::time::Duration;
/// use im_core::ports::Retention;
/// let month = Retention { age: Some(Duration::from_secs(30 * 24 * 3600)), ..Retention::default() };
/// assert_eq!(month.count, None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Maximum age: older events are trimmed.
    pub age: Option<Duration>,
    /// Maximum number of events per room: the last ones are retained.
    pub count: Option<u64>,
    /// Maximum bytes of content per room.
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
