//! What is known of the store from outside.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use im_core::ports::{LogPage, LogRange, Store};
use im_core::state::SendRecord;
use im_core::wire::{Event, PageFrom};
use im_core::{Epoch, MessageId, RoomId, Seq, UserId};

use super::Violation;
use super::worker::{self, Message};

/// Everything that was tried, told and seen.
#[derive(Default)]
pub(super) struct Model {
    pub(super) acknowledged: u64,
    pub(super) retried: u64,
    pub(super) retried_and_there: u64,
    /// Sent, and not answered yet.
    open: HashMap<MessageId, Message>,
    /// Of these, what a worker was asked to send again.
    again: HashSet<MessageId>,
    /// Where each message was acknowledged.
    told: HashMap<MessageId, (Message, u64)>,
    /// What was acknowledged since the last check.
    news: Vec<MessageId>,
    rooms: BTreeMap<RoomId, Room>,
    /// Where each message was seen.
    seen: HashMap<MessageId, (RoomId, u64)>,
    violations: Vec<Violation>,
}

#[derive(Debug, Clone, Copy)]
struct Room {
    epoch: Epoch,
    /// Everything up to here was seen.
    head: Seq,
}

impl Model {
    /// Takes a line of a worker's.
    pub(super) fn hear(&mut self, line: &str) {
        let Some(line) = line.strip_suffix(worker::END) else { return };
        let Some((word, rest)) = line.split_once(' ') else { return };
        match (word, Message::parse(rest)) {
            ("try", Some((message, None))) => {
                self.rooms_named(&message.room);
                self.open.insert(message.id.clone(), message);
            }
            ("ack", Some((message, Some(seq)))) => self.hear_ack(message, seq),
            _ => self.wrong(format!("the worker said: {line}")),
        }
    }

    /// Rooms are looked for as soon as something was sent to them.
    fn rooms_named(&mut self, room: &RoomId) {
        let epoch = Epoch { generation: 0, incarnation: 0 };
        self.rooms.entry(room.clone()).or_insert(Room { epoch, head: Seq::ZERO });
    }

    fn hear_ack(&mut self, message: Message, seq: u64) {
        self.open.remove(&message.id);
        if self.again.remove(&message.id) {
            self.retried += 1;
            self.retried_and_there += u64::from(self.seen.contains_key(&message.id));
        }
        if let Some((_, earlier)) = self.told.get(&message.id) {
            if *earlier != seq {
                let violation = format!("{message}: told {earlier} and then {seq}");
                self.violations.push(Violation::Repeated(violation));
            }
            return;
        }
        self.acknowledged += 1;
        self.news.push(message.id.clone());
        self.told.insert(message.id.clone(), (message, seq));
    }

    /// What the next worker is to send again.
    pub(super) fn unanswered(&mut self) -> String {
        let mut text = String::new();
        for message in self.open.values() {
            self.again.insert(message.id.clone());
            // Writing to a string does not fail.
            let _ = writeln!(text, "{message}");
        }
        text
    }

    /// How many events there are.
    pub(super) fn events(&self) -> u64 {
        self.rooms.values().map(|room| room.head.get()).sum()
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.violations.push(Violation::Wrong(what));
    }

    pub(super) fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    /// Reads what is new, or all, and compares.
    pub(super) async fn check(&mut self, store: &dyn Store, whole: bool) {
        if whole {
            self.seen.clear();
            self.news = self.told.keys().cloned().collect();
        }
        let rooms: Vec<_> = self.rooms.iter().map(|(id, room)| (id.clone(), *room)).collect();
        for (id, known) in rooms {
            let from = if whole { Seq::ZERO } else { known.head };
            self.check_room(store, &id, known, from).await;
        }
        for id in std::mem::take(&mut self.news) {
            self.check_told(store, &id, whole).await;
        }
    }

    async fn check_room(&mut self, store: &dyn Store, id: &RoomId, known: Room, from: Seq) {
        let mut at = from;
        loop {
            let range = LogRange { from: PageFrom::After(at), limit: 1000, max_bytes: 4 << 20 };
            let page = match store.read(id, range).await {
                Ok(Some(page)) => page,
                Ok(None) if known.head == Seq::ZERO => return,
                Ok(None) => return self.violations.push(Violation::Gap(format!("{id} is gone"))),
                Err(error) => return self.wrong(format!("{id} cannot be read: {error}")),
            };
            if !self.check_page(id, known, &page, &mut at) {
                return;
            }
            if at == page.head.seq {
                let room = Room { epoch: page.head.epoch, head: at };
                self.rooms.insert(id.clone(), room);
                return;
            }
        }
    }

    /// Whether reading on makes sense.
    fn check_page(&mut self, id: &RoomId, known: Room, page: &LogPage, at: &mut Seq) -> bool {
        let head = page.head;
        if known.head > Seq::ZERO && head.epoch != known.epoch {
            let violation = format!("{id}: was {}, is {}", known.epoch, head.epoch);
            self.violations.push(Violation::Epoch(violation));
        }
        if head.seq < known.head || page.first != Seq::FIRST {
            let violation = format!("{id}: {} to {}, was at {}", page.first, head.seq, known.head);
            self.violations.push(Violation::Gap(violation));
        }
        for event in &page.events {
            if event.seq != at.next() {
                let violation = format!("{id}: {} after {at}", event.seq);
                self.violations.push(Violation::Gap(violation));
                return false;
            }
            *at = event.seq;
            self.see(event);
        }
        if page.events.is_empty() && *at < head.seq {
            self.violations
                .push(Violation::Gap(format!("{id}: nothing after {at} of {}", head.seq)));
            return false;
        }
        *at <= head.seq
    }

    fn see(&mut self, event: &Event) {
        let (room, seq) = (event.room.clone(), event.seq.get());
        let Some(id) = event.id.clone() else {
            return self.wrong(format!("{room} {seq}: an event without an id"));
        };
        let message = Message { room: room.clone(), sender: event.from.clone(), id: id.clone() };
        if event.content.value() != message.value() {
            self.wrong(format!("{message} {seq}: other content"));
        }
        if let Some((_, first)) = self.seen.insert(id, (room, seq)) {
            self.violations
                .push(Violation::Repeated(format!("{message}: at {first} and at {seq}")));
        }
    }

    async fn check_told(&mut self, store: &dyn Store, id: &MessageId, whole: bool) {
        let Some((Message { room, sender, id }, seq)) = self.told.get(id).cloned() else { return };
        match self.seen.get(&id) {
            Some(at) if *at == (room.clone(), seq) => {}
            other => {
                let violation = format!("{room} {sender} {id}: told {seq}, seen {other:?}");
                return self.violations.push(Violation::Lost(violation));
            }
        }
        // All the records of all the messages would take longer than all else.
        if !whole && !self.has_record(store, &room, &sender, &id, seq).await {
            let violation = format!("{room} {sender} {id}: the record of the send");
            self.violations.push(Violation::Lost(violation));
        }
    }

    async fn has_record(
        &self,
        store: &dyn Store,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
        seq: u64,
    ) -> bool {
        let record = store.sent(room, sender, id).await;
        matches!(record, Ok(Some(SendRecord { seq: at, .. })) if at.get() == seq)
    }
}
