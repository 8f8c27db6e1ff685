//! The part of a log that a room retains.

use crate::id::Seq;
use crate::time::Timestamp;

use super::room::RoomRecord;

/// The part of a log that a room retains. The oldest event is trimmed while any of these rules
/// demands it.
///
/// ```
/// use im_core::state::Keep;
/// assert!(Keep::ALL.is_all());
/// let last = Keep { count: Some(1_000), ..Keep::ALL };
/// assert!(!last.is_all());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// Events accepted before this are trimmed, up to the first that was not: order comes from seq
    /// alone, so older events behind a younger one stay with it.
    pub after: Option<Timestamp>,
    /// Maximum number of events retained. 0 retains none.
    pub count: Option<u64>,
    /// Maximum bytes of packed content retained. 0 retains only events of no bytes, of which there
    /// are none.
    pub bytes: Option<u64>,
}

/// The result of a trim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trimmed {
    /// The first retained event; head + 1 if there is none.
    pub first: Seq,
    /// The number of events that this call removed.
    pub removed: u64,
    /// The call stopped at its limit: call again, there may be more to remove.
    pub more: bool,
}

impl Keep {
    /// Retains everything.
    pub const ALL: Self = Self { after: None, count: None, bytes: None };

    /// Returns whether nothing is ever trimmed.
    pub const fn is_all(&self) -> bool {
        self.after.is_none() && self.count.is_none() && self.bytes.is_none()
    }

    /// Returns whether the oldest event of `room`, accepted at `at`, is to be trimmed.
    pub fn drops(&self, room: &RoomRecord, at: Timestamp) -> bool {
        room.kept() > 0 && (self.drops_some(room) || self.after.is_some_and(|after| at < after))
    }

    /// Returns whether number or bytes alone demand a trim: no read of the log is needed.
    pub fn drops_some(&self, room: &RoomRecord) -> bool {
        self.count.is_some_and(|count| room.kept() > count)
            || self.bytes.is_some_and(|bytes| room.bytes > bytes)
    }
}

impl RoomRecord {
    /// The number of retained events.
    pub fn kept(&self) -> u64 {
        (self.head.get() + 1).saturating_sub(self.first.get())
    }

    /// Trims the oldest events off the room's record according to `keep`, at most `limit` (at
    /// least 1) of them.
    ///
    /// `oldest` yields time and bytes of packed content of the events from `first` on, and is read
    /// no further than needed. Every store calls this inside its commit, removes the events before
    /// the new `first`, and writes the record, all at once.
    ///
    /// # Errors
    ///
    /// Those of `oldest`; the record is then invalid and must be discarded.
    pub fn trim<E>(
        &mut self,
        keep: &Keep,
        limit: usize,
        oldest: impl IntoIterator<Item = Result<(Timestamp, u64), E>>,
    ) -> Result<Trimmed, E> {
        let before = self.first;
        let mut more = false;
        if keep.after.is_some() || keep.drops_some(self) {
            for event in oldest {
                let (at, bytes) = event?;
                if !keep.drops(self, at) {
                    break;
                }
                if self.first.since(before) >= limit.max(1) as u64 {
                    more = true;
                    break;
                }
                // `first` saturates at the last possible seq: a log that is completely full keeps
                // that event.
                self.first = self.first.next();
                self.bytes = self.bytes.saturating_sub(bytes);
            }
        }
        Ok(Trimmed { first: self.first, removed: self.first.since(before), more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, RoomId};
    use crate::wire::RoomKind;
    use proptest::prelude::*;

    fn room(first: u64, sizes: &[u64]) -> RoomRecord {
        RoomRecord {
            id: RoomId::new("r").unwrap(),
            kind: RoomKind::Group,
            open: false,
            epoch: Epoch { generation: 1, incarnation: 1 },
            head: Seq::new(first + sizes.len() as u64 - 1).unwrap(),
            first: Seq::new(first).unwrap(),
            created: Timestamp::from_millis(0),
            members: 0,
            bytes: sizes.iter().sum(),
            erased: 0,
        }
    }

    fn trim(room: &mut RoomRecord, keep: &Keep, limit: usize, log: &[(u64, u64)]) -> Trimmed {
        let done = log.len() - room.kept() as usize;
        let oldest =
            log[done..].iter().map(|(at, bytes)| Ok((Timestamp::from_millis(*at), *bytes)));
        let Ok(trimmed) = room.trim::<std::convert::Infallible>(keep, limit, oldest);
        trimmed
    }

    proptest! {
        #[test]
        fn trim_removes_exactly_expired_events(
            log in proptest::collection::vec((0u64..20, 1u64..9), 0..30),
            after in proptest::option::of(0u64..22),
            count in proptest::option::of(0u64..32),
            bytes in proptest::option::of(0u64..200),
            limit in 1usize..7,
        ) {
            let keep = Keep { after: after.map(Timestamp::from_millis), count, bytes };
            let sizes: Vec<u64> = log.iter().map(|(_, bytes)| *bytes).collect();
            let mut room = room(5, &sizes);
            let mut removed = 0;
            loop {
                let trimmed = trim(&mut room, &keep, limit, &log);
                prop_assert!(trimmed.removed <= limit as u64);
                prop_assert_eq!(trimmed.first, room.first);
                removed += trimmed.removed;
                if !trimmed.more {
                    break;
                }
            }
            let stays = |from: usize| {
                let rest = &log[from..];
                let size: u64 = rest.iter().map(|(_, bytes)| bytes).sum();
                rest.first().is_none_or(|(at, _)| after.is_none_or(|after| *at >= after))
                    && count.is_none_or(|count| rest.len() as u64 <= count)
                    && bytes.is_none_or(|bytes| size <= bytes)
            };
            let expected = (0..=log.len()).find(|from| stays(*from)).unwrap();
            prop_assert_eq!(removed as usize, expected);
            prop_assert_eq!(room.kept() as usize, log.len() - expected);
            prop_assert_eq!(room.bytes, sizes[expected..].iter().sum::<u64>());
        }
    }

    /// An event behind a younger one is retained.
    #[test]
    fn younger_event_protects_later_events() {
        let log = [(1, 1), (9, 1), (2, 1)];
        let keep = Keep { after: Some(Timestamp::from_millis(5)), ..Keep::ALL };
        let mut room = room(1, &[1, 1, 1]);
        let trimmed = trim(&mut room, &keep, 10, &log);
        assert_eq!((trimmed.first.get(), trimmed.removed, trimmed.more), (2, 1, false));
    }

    #[test]
    fn emptied_log_continues_at_head() {
        let mut room = room(1, &[3, 3]);
        let keep = Keep { count: Some(0), ..Keep::ALL };
        let trimmed = trim(&mut room, &keep, 10, &[(1, 3), (1, 3)]);
        assert_eq!((trimmed.first.get(), room.kept(), room.bytes, trimmed.more), (3, 0, 0, false));
    }
}
