//! Acks with a list that is cut where its encoded form would be too large.

use bytes::Bytes;

use crate::id::{CommandId, RoomId};

use super::codec::{Encoding, encode, list_encoded};
use super::event::{Event, Role, RoomKind};
use super::page::{HistoryPage, MemberEntry, MemberPage, RoomsPage, room_entry};
use super::reply::Reply;
use super::value::{Map, Value};

/// Maximum bytes of a frame beside its list, and of the separators between the entries.
const FRAME: usize = 512;

/// The capacity of a list, in bytes on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) encoding: Encoding,
    /// Bytes of the whole frame. The first entry is always included.
    pub(crate) max_bytes: usize,
}

/// Entries encoded one by one, so that no more than the page and one entry is in memory.
struct List {
    entries: Vec<Bytes>,
    /// Some entries were omitted.
    cut: bool,
}

impl Room {
    /// The encoded ack of `history`: `page` without its events supplies the fields beside `events`.
    /// If some events do not fit, `more` is true.
    pub(crate) fn history<'a>(
        &self,
        id: CommandId,
        page: HistoryPage,
        events: impl Iterator<Item = &'a Event>,
    ) -> Bytes {
        let list = self.fill(events.map(Event::to_value));
        let more = page.more || list.cut;
        let page = HistoryPage { events: Vec::new(), more, ..page };
        self.frame(&Reply::History(page), id, "events", &list)
    }

    /// The encoded ack of `members`.
    pub(crate) fn members(&self, id: CommandId, members: &[MemberEntry], more: bool) -> Bytes {
        let list = self.fill(members.iter().map(MemberEntry::to_value));
        let page = MemberPage { members: Vec::new(), more: more || list.cut };
        self.frame(&Reply::Members(page), id, "members", &list)
    }

    /// The encoded ack of `rooms`.
    pub(crate) fn rooms(
        &self,
        id: CommandId,
        rooms: &[(RoomId, RoomKind, Role)],
        more: bool,
    ) -> Bytes {
        let list = self.fill(rooms.iter().map(room_entry));
        let page = RoomsPage { rooms: Vec::new(), more: more || list.cut };
        self.frame(&Reply::RoomList(page), id, "list", &list)
    }

    fn fill(&self, values: impl Iterator<Item = Value>) -> List {
        let mut left = self.max_bytes.saturating_sub(FRAME);
        let mut entries: Vec<Bytes> = Vec::new();
        for value in values {
            let entry = encode(&value, self.encoding);
            let size = entry.len() + 1;
            if size > left && !entries.is_empty() {
                return List { entries, cut: true };
            }
            left = left.saturating_sub(size);
            entries.push(entry);
        }
        List { entries, cut: false }
    }

    /// The ack, whose list under `name` is empty, with these entries in it.
    fn frame(&self, reply: &Reply, id: CommandId, name: &'static str, list: &List) -> Bytes {
        let mut head = match reply.to_value(id) {
            Value::Map(map) => map,
            other => Map::from_iter([("t", other)]),
        };
        head.remove(name);
        let fields = head.len();
        let head = encode(&Value::Map(head), self.encoding);
        let key = encode(&Value::from(name), self.encoding);
        let list = list_encoded(&list.entries, self.encoding);
        let mut frame = Vec::with_capacity(head.len() + key.len() + list.len() + 2);
        match self.encoding {
            Encoding::Json => {
                frame.extend_from_slice(head.strip_suffix(b"}").unwrap_or(&head));
                frame.push(b',');
                frame.extend_from_slice(&key);
                frame.push(b':');
                frame.extend_from_slice(&list);
                frame.push(b'}');
            }
            Encoding::MsgPack => {
                debug_assert!(fields < 15, "a map of more has a longer header");
                frame.push(0x80 | (fields as u8 + 1));
                frame.extend_from_slice(head.get(1..).unwrap_or_default());
                frame.extend_from_slice(&key);
                frame.extend_from_slice(&list);
            }
        }
        frame.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, EventKind, Seq, UserId};
    use crate::time::Timestamp;
    use crate::wire::codec::parse;
    use crate::wire::{Content, Limits};

    fn event(seq: u64, text: &str) -> Event {
        Event {
            room: RoomId::new("tea").unwrap(),
            epoch: Epoch { generation: 1, incarnation: 1 },
            seq: Seq::new(seq).unwrap(),
            from: UserId::new("ann").unwrap(),
            at: Timestamp::from_millis(7),
            kind: EventKind::message(),
            id: None,
            content: Content::text(text, &Limits::default()).unwrap(),
        }
    }

    fn page(more: bool) -> HistoryPage {
        HistoryPage {
            epoch: Epoch { generation: 1, incarnation: 1 },
            head: Seq::new(9).unwrap(),
            first: Seq::FIRST,
            events: Vec::new(),
            more,
        }
    }

    fn read(frame: &Bytes, encoding: Encoding) -> Value {
        parse(frame, encoding, 10, 10_000).unwrap()
    }

    #[test]
    fn page_that_fits_equals_reply() {
        for encoding in Encoding::ALL {
            for count in [0, 1, 20] {
                let events: Vec<Event> = (1..=count).map(|n| event(n, "milk?")).collect();
                let room = Room { encoding, max_bytes: 1 << 20 };
                let frame = room.history(CommandId(3), page(false), events.iter());
                let whole = Reply::History(HistoryPage { events, ..page(false) });
                assert_eq!(read(&frame, encoding), whole.to_value(CommandId(3)));
            }
        }
    }

    #[test]
    fn page_is_cut_by_encoded_size() {
        let events: Vec<Event> = (1..=9).map(|n| event(n, &"\u{1}".repeat(1000))).collect();
        for (encoding, fits) in [(Encoding::Json, 1), (Encoding::MsgPack, 7)] {
            let room = Room { encoding, max_bytes: 9000 };
            let frame = room.history(CommandId(3), page(false), events.iter());
            assert!(frame.len() <= 9000, "{} bytes", frame.len());
            let read = HistoryPage::from_value(read(&frame, encoding)).unwrap();
            assert_eq!((read.events.len(), read.more), (fits, true), "{encoding:?}");
            assert_eq!(read.events, events[..fits]);
        }
    }

    #[test]
    fn page_holds_at_least_one_entry() {
        let room = Room { encoding: Encoding::Json, max_bytes: 1 };
        let events = [event(1, "milk?"), event(2, "yes")];
        let frame = room.history(CommandId(3), page(false), events.iter());
        let read = HistoryPage::from_value(read(&frame, Encoding::Json)).unwrap();
        assert_eq!((read.events.len(), read.more), (1, true));
    }
}
