//! What the store's commits tell the change feed.
//!
//! | first column | others |
//! |---|---|
//! | `room` | the room's number, its id, the first and the last seq that are new (0: none), what changed, and the place in the feed of the commit before |

use crate::backend::{Datum, Row};

use super::column::Columnar;
use super::tables::RoomRow;

/// Bits that say what changed of a room.
pub(super) mod what {
    /// There are new entries.
    pub(in crate::store) const ITEMS: i64 = 1;
    /// Memberships changed.
    pub(in crate::store) const MEMBERS: i64 = 1 << 2;
    /// Entries were replaced.
    pub(in crate::store) const REPLACED: i64 = 1 << 4;
    /// The oldest entries were removed.
    pub(in crate::store) const TRIMMED: i64 = 1 << 5;
    /// The room was deleted.
    pub(in crate::store) const DELETED: i64 = 1 << 6;
}

/// New entries of a room, the last `count` before its head.
pub(super) fn appended(room: &RoomRow, count: usize, members: bool) -> Row {
    let last = room.head_seq.get().cast_signed();
    let first = last + 1 - i64::try_from(count).unwrap_or(last);
    let what = what::ITEMS | if members { what::MEMBERS } else { 0 };
    touched(room, first, last, what)
}

/// Changes of a room without new entries.
pub(super) fn changed(room: &RoomRow, what: i64) -> Row {
    touched(room, 0, 0, what)
}

fn touched(room: &RoomRow, first: i64, last: i64, what: i64) -> Row {
    vec![
        Datum::from("room"),
        room.room.to_datum(),
        room.id.to_datum(),
        Datum::Int(first),
        Datum::Int(last),
        Datum::Int(what),
        room.changed.0.clone(),
    ]
}
