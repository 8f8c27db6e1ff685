//! A push that many subscribers share: encoded at most once for each encoding.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::id::UserId;
use crate::state::RoomRecord;
use crate::wire::{Content, Encoding, Event, MemberChange, Push, StateUpdate, encode};

/// A push and its encoded forms, shared by all outboxes.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) push: Push,
    json: OnceLock<Bytes>,
    msgpack: OnceLock<Bytes>,
    /// Maximum bytes of a copy on the wire, in whichever encoding is longer.
    pub(crate) size: usize,
    /// Bytes of contents, packed.
    packed: usize,
    /// The changes that end a membership here. Empty for nearly every event.
    ends: Box<[MemberChange]>,
}

impl Outgoing {
    pub(crate) fn new(push: Push) -> Arc<Self> {
        let (packed, json) = contents(&push);
        let size = FRAME_OVERHEAD + names(&push) + packed.max(json);
        let ends = match &push {
            Push::Event(event) => {
                event.member_changes().into_iter().filter(MemberChange::ends_membership).collect()
            }
            _ => Box::default(),
        };
        Arc::new(Self { push, json: OnceLock::new(), msgpack: OnceLock::new(), size, packed, ends })
    }

    pub(crate) fn event(event: Arc<Event>) -> Arc<Self> {
        Self::new(Push::Event(event))
    }

    /// Bytes of all forms together, including encodings not requested yet: the push itself and its
    /// two encodings. So the size of a cached push does not change when another encoding is
    /// requested.
    pub(crate) fn held(&self) -> usize {
        let packed_frame = self.packed + FRAME_OVERHEAD + names(&self.push);
        HELD_OVERHEAD + self.packed + packed_frame + self.size
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

    /// Returns the change that ends `user`'s membership here, if there is one.
    pub(crate) fn end_for(&self, user: &UserId) -> Option<&MemberChange> {
        self.ends.iter().find(|change| change.user() == user)
    }

    /// Returns whether the membership of an erased user ends here: the event no longer says whose.
    pub(crate) fn ends_nameless(&self) -> bool {
        self.ends.iter().any(|change| change.user().is_erased())
    }

    /// Returns whether any membership ends here.
    pub(crate) fn ends_any(&self) -> bool {
        !self.ends.is_empty()
    }
}

/// Bytes of a push on the wire beside contents and names: numbers and names of fields.
const FRAME_OVERHEAD: usize = 160;
/// Bytes of a push in memory beside its contents and encodings: itself, its event, and reference
/// counts.
const HELD_OVERHEAD: usize = 640;

/// Bytes of the names in a push.
fn names(push: &Push) -> usize {
    match push {
        Push::Event(event) => {
            let id = event.id.as_ref().map_or(0, |id| id.as_str().len());
            event.room.as_str().len() + event.from.as_str().len() + event.kind.as_str().len() + id
        }
        Push::Signal(signal) => signal.from.as_str().len() + signal.kind.as_str().len(),
        Push::State(update) => state_names(update) + update.room.as_str().len(),
        Push::Snapshot(snapshot) => snapshot.entries.iter().map(|entry| state_names(entry)).sum(),
        Push::Room(_) | Push::Position(_) | Push::Disconnect(_) => 0,
    }
}

fn state_names(update: &StateUpdate) -> usize {
    update.key.as_str().len() + update.from.as_str().len()
}

/// Bytes of the contents in a push, packed and in JSON.
fn contents(push: &Push) -> (usize, usize) {
    let of = |content: &Content| (content.packed().len(), content.json_len());
    match push {
        Push::Event(event) => of(&event.content),
        Push::Signal(signal) => of(&signal.content),
        Push::State(update) => update.value.as_ref().map_or((0, 0), of),
        Push::Snapshot(snapshot) => {
            snapshot.entries.iter().fold((0, 0), |(packed, json), entry| {
                let (more_packed, more_json) = entry.value.as_ref().map_or((0, 0), of);
                (packed + 96 + more_packed, json + 96 + more_json)
            })
        }
        Push::Room(_) | Push::Position(_) | Push::Disconnect(_) => (0, 0),
    }
}

/// Returns whether a user may still read after `change` left them without a membership, or banned.
pub(crate) fn reads_on(room_open_to_strangers: bool, change: &MemberChange) -> bool {
    room_open_to_strangers && !matches!(change, MemberChange::Banned(_))
}

/// Returns whether non-members may read the room.
pub(crate) fn open_to_strangers(room: &RoomRecord) -> bool {
    room.kind == crate::wire::RoomKind::Channel && room.open
}
