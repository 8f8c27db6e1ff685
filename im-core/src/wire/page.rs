//! Pages of lists: a room's log, members, rooms, sessions.

use crate::id::{DeviceId, Epoch, RoomId, Seq, SessionId, UserId};
use crate::time::Timestamp;

use super::codec::WireError;
use super::event::{Event, Role, RoomKind};
use super::fields::Fields;
use super::value::{Map, Value};

/// A page of a room's log.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPage {
    /// The room's epoch.
    pub epoch: Epoch,
    /// The room's last event.
    pub head: Seq,
    /// The first retained event.
    pub first: Seq,
    /// Oldest first after a cursor, newest first before one. Without a gap.
    pub events: Vec<Event>,
    /// Whether the log has more events in that direction.
    pub more: bool,
}

/// A member of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberEntry {
    /// The user.
    pub user: UserId,
    /// The role.
    pub role: Role,
}

/// A page of members in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberPage {
    /// The members.
    pub members: Vec<MemberEntry>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// A page of the caller's rooms in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomsPage {
    /// Id, kind and role.
    pub rooms: Vec<(RoomId, RoomKind, Role)>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// One of the caller's sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEntry {
    /// Its id.
    pub session: SessionId,
    /// Its device.
    pub device: DeviceId,
    /// When it was opened.
    pub since: Timestamp,
    /// Whether it is connected to the node that sends the ack.
    pub connected: bool,
}

pub(super) fn room_entry((room, kind, role): &(RoomId, RoomKind, Role)) -> Value {
    let mut map = Map::with_capacity(3);
    map.push("room", room);
    map.push("kind", *kind);
    map.push("role", *role);
    map.into()
}

impl HistoryPage {
    pub(super) fn put_fields(&self, map: &mut Map) {
        map.push("epoch", self.epoch);
        map.push("head", self.head);
        map.push("first", self.first);
        map.push("events", self.events.iter().map(Event::to_value).collect::<Vec<_>>());
        map.push("more", self.more);
    }

    /// Parses the ack of `history`.
    ///
    /// # Errors
    ///
    /// A field is missing or wrong.
    pub fn from_value(value: Value) -> Result<Self, WireError> {
        let mut f = Fields::of(value)?;
        Ok(Self {
            epoch: f.need("epoch")?,
            head: f.need("head")?,
            first: f.need("first")?,
            events: f.list("events", Event::from_fields)?,
            more: f.need("more")?,
        })
    }
}

impl MemberEntry {
    pub(super) fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(2);
        map.push("user", &self.user);
        map.push("role", self.role);
        map.into()
    }
}

impl MemberPage {
    /// Parses the ack of `members`.
    ///
    /// # Errors
    ///
    /// A field is missing or wrong.
    pub fn from_value(value: Value) -> Result<Self, WireError> {
        let mut f = Fields::of(value)?;
        let entry =
            |mut f: Fields| Ok(MemberEntry { user: f.need("user")?, role: f.need("role")? });
        Ok(Self { members: f.list("members", entry)?, more: f.need("more")? })
    }
}

impl RoomsPage {
    /// Parses the ack of `rooms`.
    ///
    /// # Errors
    ///
    /// A field is missing or wrong.
    pub fn from_value(value: Value) -> Result<Self, WireError> {
        let mut f = Fields::of(value)?;
        let entry = |mut f: Fields| Ok((f.need("room")?, f.need("kind")?, f.need("role")?));
        Ok(Self { rooms: f.list("list", entry)?, more: f.need("more")? })
    }
}

impl SessionEntry {
    pub(super) fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(4);
        map.push("session", &self.session);
        map.push("device", &self.device);
        map.push("since", self.since);
        map.push("connected", self.connected);
        map.into()
    }

    /// Parses the ack of `sessions`.
    ///
    /// # Errors
    ///
    /// A field is missing or wrong.
    pub fn list_from_value(value: Value) -> Result<Vec<Self>, WireError> {
        Fields::of(value)?.list("sessions", |mut f| {
            Ok(Self {
                session: f.need("session")?,
                device: f.need("device")?,
                since: f.need("since")?,
                connected: f.need("connected")?,
            })
        })
    }
}
