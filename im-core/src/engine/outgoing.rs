//! A push that many readers share: encoded at most once for each encoding.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::id::UserId;
use crate::state::RoomRecord;
use crate::wire::{Encoding, Event, MemberChange, Push, encode};

/// A push and its encoded forms. All readers hold the same one.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) push: Push,
    json: OnceLock<Bytes>,
    msgpack: OnceLock<Bytes>,
    /// About how many bytes a copy on the wire has.
    pub(crate) size: usize,
    /// Whose membership ends here, with what becomes of them. Empty for nearly every event.
    ends: Box<[MemberChange]>,
}

impl Outgoing {
    pub(crate) fn new(push: Push) -> Arc<Self> {
        let size = size(&push);
        let ends = match &push {
            Push::Event(event) => {
                event.member_changes().into_iter().filter(MemberChange::ends_membership).collect()
            }
            _ => Box::default(),
        };
        Arc::new(Self { push, json: OnceLock::new(), msgpack: OnceLock::new(), size, ends })
    }

    pub(crate) fn event(event: Arc<Event>) -> Arc<Self> {
        Self::new(Push::Event(event))
    }

    /// Bytes that all forms of it hold together: the push itself and its two encodings.
    pub(crate) fn held(&self) -> usize {
        3 * self.size
    }

    /// The event, if it is one.
    pub(crate) fn as_event(&self) -> Option<&Arc<Event>> {
        if let Push::Event(event) = &self.push { Some(event) } else { None }
    }

    /// The encoded frame.
    pub(crate) fn encoded(&self, encoding: Encoding) -> Bytes {
        let cell = match encoding {
            Encoding::Json => &self.json,
            Encoding::MsgPack => &self.msgpack,
        };
        cell.get_or_init(|| encode(&self.push.to_value(), encoding)).clone()
    }

    /// What ends `user`'s membership here, if it does.
    pub(crate) fn end_for(&self, user: &UserId) -> Option<&MemberChange> {
        self.ends.iter().find(|change| change.user() == user)
    }

    /// Whether the membership of somebody who was erased ends here: it is not known whose.
    pub(crate) fn ends_nameless(&self) -> bool {
        self.ends.iter().any(|change| change.user().is_erased())
    }

    /// Whether anybody's membership ends here.
    pub(crate) fn ends_any(&self) -> bool {
        !self.ends.is_empty()
    }
}

/// What every copy of an event costs beside its content: ids, numbers and names of fields.
const FRAME_OVERHEAD: usize = 160;

fn size(push: &Push) -> usize {
    FRAME_OVERHEAD
        + match push {
            Push::Event(event) => event.content.packed().len(),
            Push::Signal(signal) => signal.content.packed().len(),
            Push::State(update) => update.value.as_ref().map_or(0, |value| value.packed().len()),
            Push::Snapshot(snapshot) => snapshot
                .entries
                .iter()
                .map(|e| 64 + e.value.as_ref().map_or(0, |v| v.packed().len()))
                .sum(),
            Push::Room(_) | Push::Mark(_) | Push::Bye(_) => 0,
        }
}

/// Whether somebody with no standing, or a ban, may go on reading after `change`.
pub(crate) fn reads_on(room_open_to_strangers: bool, change: &MemberChange) -> bool {
    room_open_to_strangers && !matches!(change, MemberChange::Banned(_))
}

/// Whether strangers may read the room.
pub(crate) fn open_to_strangers(room: &RoomRecord) -> bool {
    room.kind == crate::wire::RoomKind::Channel && room.open
}
