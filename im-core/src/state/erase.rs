//! Erasure of a user: their events keep their positions, without content and name.

use crate::id::{EventKind, UserId};
use crate::wire::{Content, Event, Limits, Map, StateUpdate, Value};

use super::room::RoomRecord;

/// The result of one step of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Erased {
    /// Events changed by this call.
    pub events: u64,
    /// There may be more: call again.
    pub more: bool,
}

impl Event {
    /// The event after the erasure of `user`; `None` if the erasure does not change it.
    ///
    /// An event that the user sent becomes one of kind `im.erased` with an empty map as its
    /// content, no message id, and [`UserId::erased`] as its sender; epoch, seq and time stay. A
    /// membership change keeps its kind, since it may name others whose joins and leaves must not
    /// be lost: only the user's id in it is replaced.
    pub fn without(&self, user: &UserId) -> Option<Self> {
        let sent = self.from == *user;
        let (kind, id, content) = if self.kind == EventKind::members() {
            let content = members_without(&self.content, user);
            if content.is_none() && !sent {
                return None;
            }
            let content = content.unwrap_or_else(|| self.content.clone());
            (self.kind.clone(), self.id.clone(), content)
        } else if sent {
            (EventKind::erased(), None, nothing())
        } else {
            return None;
        };
        let from = if sent { UserId::erased() } else { self.from.clone() };
        Some(Self { from, kind, id, content, ..self.clone() })
    }
}

impl StateUpdate {
    /// The update after the erasure of `user`: a tombstone from [`UserId::erased`] with the same
    /// stamp. `None` if the erasure does not change it.
    pub fn without(&self, user: &UserId) -> Option<Self> {
        (self.from == *user).then(|| Self { from: UserId::erased(), value: None, ..self.clone() })
    }
}

impl RoomRecord {
    /// Accounts for the replacement of an event of the room by the result of [`Event::without`].
    pub fn replace(&mut self, old: &Event, new: &Event) {
        let size = |event: &Event| event.content.packed().len() as u64;
        self.bytes = self.bytes.saturating_sub(size(old)).saturating_add(size(new));
        self.erased = self.erased.saturating_add(1);
    }
}

fn members_without(content: &Content, user: &UserId) -> Option<Content> {
    let Value::Map(mut map) = content.value() else { return None };
    let Some(Value::Array(changes)) = map.remove("changes") else { return None };
    let mut named = false;
    let blank = |change: Value| match change {
        Value::Map(mut change)
            if change.get("user").and_then(Value::as_text) == Some(user.as_str()) =>
        {
            named = true;
            change.insert("user", UserId::erased().as_str());
            Value::Map(change)
        }
        other => other,
    };
    let changes: Vec<Value> = changes.into_iter().map(blank).collect();
    map.insert("changes", changes);
    named.then(|| pack(&map.into()))
}

fn nothing() -> Content {
    pack(&Map::default().into())
}

/// Packs without limits: the value was within the limits that held when it was accepted.
fn pack(value: &Value) -> Content {
    let limits = Limits {
        max_content_bytes: usize::MAX,
        max_values: usize::MAX,
        max_depth: usize::MAX,
        ..Limits::default()
    };
    Content::new(value, &limits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, MessageId, RoomId, Seq};
    use crate::time::Timestamp;
    use crate::wire::{MemberChange, Role};

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn event(from: &str, kind: EventKind, content: &Value) -> Event {
        Event {
            room: RoomId::new("r").unwrap(),
            epoch: Epoch { generation: 1, incarnation: 1 },
            seq: Seq::FIRST,
            from: user(from),
            at: Timestamp::from_millis(7),
            kind,
            id: Some(MessageId::random()),
            content: pack(content),
        }
    }

    /// An erased event has no content and no sender, and keeps its seq and time.
    #[test]
    fn erased_event_keeps_its_seq() {
        let said = event("ann", EventKind::message(), &Value::from("a secret"));
        let left = said.without(&user("ann")).unwrap();
        assert_eq!(
            (&left.from, &left.kind, &left.id),
            (&UserId::erased(), &EventKind::erased(), &None)
        );
        assert_eq!(left.content.value(), Map::default().into());
        assert_eq!(
            (&left.room, left.epoch, left.seq, left.at),
            (&said.room, said.epoch, said.seq, said.at)
        );
        assert_eq!(said.without(&user("bob")), None);
        assert_eq!(left.without(&user("ann")), None, "once is enough");
    }

    /// Erasing a user from a member change removes that name and nothing else.
    #[test]
    fn erasure_removes_one_member_name() {
        let changes = [
            MemberChange::Joined(user("ann"), Role::Owner),
            MemberChange::Removed(user("bob")),
            MemberChange::Banned(user("eve")),
        ];
        let told = event("ann", EventKind::members(), &MemberChange::list_to_value(&changes));
        let left = told.without(&user("ann")).unwrap();
        assert_eq!((&left.from, &left.kind), (&UserId::erased(), &EventKind::members()));
        let mut expected = changes.to_vec();
        expected[0] = MemberChange::Joined(UserId::erased(), Role::Owner);
        assert_eq!(left.member_changes(), expected);
        let left = told.without(&user("eve")).unwrap();
        assert_eq!(left.from, user("ann"));
        assert_eq!(left.member_changes()[2], MemberChange::Banned(UserId::erased()));
        assert_eq!(told.without(&user("mia")), None);
    }

    /// Erasing a user's state value leaves a tombstone with the same version.
    #[test]
    fn erased_state_is_tombstone_with_stamp() {
        let update = StateUpdate {
            room: RoomId::new("r").unwrap(),
            key: crate::id::StateKey::new("k").unwrap(),
            stamp: "5-0-1".parse().unwrap(),
            from: user("ann"),
            value: Some(pack(&Value::from("x"))),
        };
        let left = update.without(&user("ann")).unwrap();
        assert_eq!((left.stamp, &left.from, &left.value), (update.stamp, &UserId::erased(), &None));
        assert_eq!(update.without(&user("bob")), None);
    }
}
