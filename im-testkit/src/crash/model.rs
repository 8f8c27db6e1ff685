//! The model: what is known of the store from outside.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use im_core::ports::{LogPage, LogRange, Store};
use im_core::state::IdempotencyRecord;
use im_core::wire::{Event, PageFrom};
use im_core::{Epoch, MessageId, RoomId, Seq, UserId};

use super::Violation;
use super::message::{Line, Message};

/// All sends, their answers, and the events that were seen.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) acknowledged: u64,
    pub(crate) retried: u64,
    pub(crate) retried_and_there: u64,
    /// Number of answers that reported nothing was written.
    pub(crate) refusals: u64,
    /// Number of answers with an unknown outcome.
    pub(crate) unknowns: u64,
    /// Sent and not answered yet.
    open: HashMap<MessageId, Message>,
    /// Of these, the ones that a worker has to retry.
    again: HashSet<MessageId>,
    /// Of these, the ones answered with an unknown outcome.
    doubted: HashSet<MessageId>,
    /// Sent, and answered with an error that reports nothing was written.
    refused: HashMap<MessageId, (Message, String)>,
    /// The seq in the ack of each message.
    acknowledged_at: HashMap<MessageId, (Message, u64)>,
    /// Messages acked since the last check.
    news: Vec<MessageId>,
    /// The generation of the last ack.
    pub(crate) generation: Option<u64>,
    /// Whether the store was closed after the last ack.
    pub(crate) closed: bool,
    rooms: BTreeMap<RoomId, Room>,
    /// The room and seq at which each message was seen.
    seen: HashMap<MessageId, (RoomId, u64)>,
    violations: Vec<Violation>,
}

#[derive(Debug, Clone, Copy)]
struct Room {
    epoch: Epoch,
    /// All events up to here were seen.
    head: Seq,
}

impl Model {
    /// Applies a line of a worker.
    pub(crate) fn on_line(&mut self, line: &str) {
        match Line::parse(line) {
            Some(Line::Try(message)) => {
                self.closed = false;
                self.rooms_named(&message.room);
                self.refused.remove(&message.id);
                if !self.acknowledged_at.contains_key(&message.id) {
                    self.open.insert(message.id.clone(), message);
                }
            }
            Some(Line::Ack(message, seq, epoch)) => {
                self.generation = Some(epoch.generation);
                self.on_ack(message, seq);
            }
            Some(Line::Failed(message, kind)) => self.on_failed(message, kind),
            Some(Line::Ready) => self.closed = false,
            Some(Line::Closed) => self.closed = true,
            _ => {}
        }
    }

    /// An unknown outcome leaves the message open. A report that nothing was written concerns this
    /// attempt only, not an earlier one that was left open.
    fn on_failed(&mut self, message: Message, kind: String) {
        match kind.as_str() {
            "Full" | "Unavailable" => {
                self.refusals += 1;
                let earlier =
                    [&self.doubted, &self.again].iter().any(|ids| ids.contains(&message.id));
                if !earlier && !self.acknowledged_at.contains_key(&message.id) {
                    self.open.remove(&message.id);
                    self.refused.insert(message.id.clone(), (message, kind));
                }
            }
            "Unknown" => {
                self.unknowns += 1;
                self.doubted.insert(message.id);
            }
            _ => self.wrong(format!("{message}: a sender got the error {kind}")),
        }
    }

    /// Rooms are checked as soon as a message was sent to them.
    fn rooms_named(&mut self, room: &RoomId) {
        let epoch = Epoch { generation: 0, incarnation: 0 };
        self.rooms.entry(room.clone()).or_insert(Room { epoch, head: Seq::ZERO });
    }

    fn on_ack(&mut self, message: Message, seq: u64) {
        self.open.remove(&message.id);
        self.refused.remove(&message.id);
        self.doubted.remove(&message.id);
        if self.again.remove(&message.id) {
            self.retried += 1;
            self.retried_and_there += u64::from(self.seen.contains_key(&message.id));
        }
        if let Some((_, earlier)) = self.acknowledged_at.get(&message.id) {
            if *earlier != seq {
                let violation = format!("{message}: acked at {earlier} and then at {seq}");
                self.violations.push(Violation::Duplicated(violation));
            }
            return;
        }
        self.acknowledged += 1;
        self.news.push(message.id.clone());
        self.acknowledged_at.insert(message.id.clone(), (message, seq));
    }

    /// Returns the number of sends without an answer.
    pub(crate) fn pending(&self) -> u64 {
        self.open.len() as u64
    }

    /// Returns the messages that the next worker has to retry.
    pub(crate) fn unanswered(&mut self) -> String {
        let mut text = String::new();
        for message in self.open.values() {
            self.again.insert(message.id.clone());
            // Writing to a string does not fail.
            let _ = writeln!(text, "{message}");
        }
        text
    }

    /// Returns some messages without an answer and some acked ones, to be sent again.
    pub(crate) fn to_retry(&self, count: usize) -> Vec<Message> {
        // Sorted by id, so that the choice is deterministic.
        let open: BTreeMap<_, _> = self.open.iter().collect();
        let told: BTreeMap<_, _> = self.acknowledged_at.iter().collect();
        let open = open.into_values().take(count).cloned();
        open.chain(told.into_values().rev().take(count).map(|(message, _)| message.clone()))
            .collect()
    }

    /// Returns the number of events.
    pub(crate) fn events(&self) -> u64 {
        self.rooms.values().map(|room| room.head.get()).sum()
    }

    /// Returns the generation of the rooms that were seen.
    pub(crate) fn found_generation(&self) -> Option<u64> {
        let seen = self.rooms.values().filter(|room| room.head > Seq::ZERO);
        seen.map(|room| room.epoch.generation).next()
    }

    pub(crate) fn wrong(&mut self, what: String) {
        self.violations.push(Violation::Wrong(what));
    }

    pub(crate) fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    /// Reads the new events, or all, and compares them with the model.
    pub(crate) async fn check(&mut self, store: &dyn Store, whole: bool) {
        if whole {
            self.seen.clear();
            self.news = self.acknowledged_at.keys().cloned().collect();
        }
        let rooms: Vec<_> = self.rooms.iter().map(|(id, room)| (id.clone(), *room)).collect();
        for (id, known) in rooms {
            let from = if whole { Seq::ZERO } else { known.head };
            self.check_room(store, &id, known, from).await;
        }
        for id in std::mem::take(&mut self.news) {
            self.check_acknowledged(store, &id, whole).await;
        }
    }

    async fn check_room(&mut self, store: &dyn Store, id: &RoomId, known: Room, from: Seq) {
        let mut at = from;
        loop {
            let range = LogRange { from: PageFrom::After(at), limit: 1000, max_bytes: 4 << 20 };
            let page = match store.read(id, range).await {
                Ok(Some(page)) => page,
                Ok(None) if known.head == Seq::ZERO => return,
                Ok(None) => {
                    return self.violations.push(Violation::Gap(format!("{id} is missing")));
                }
                Err(error) => return self.wrong(format!("reading {id} failed: {error}")),
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

    /// Returns whether the next page can be checked.
    fn check_page(&mut self, id: &RoomId, known: Room, page: &LogPage, at: &mut Seq) -> bool {
        let head = page.head;
        if known.head > Seq::ZERO && head.epoch != known.epoch {
            let violation = format!("{id}: was {}, is {}", known.epoch, head.epoch);
            self.violations.push(Violation::Epoch(violation));
        }
        if head.seq < known.head || page.first != Seq::FIRST {
            let violation =
                format!("{id}: events {} to {}, head was {}", page.first, head.seq, known.head);
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
                .push(Violation::Gap(format!("{id}: no event after {at}, head is {}", head.seq)));
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
        if let Some((_, kind)) = self.refused.get(&id) {
            self.wrong(format!("{message} {seq}: is stored, although the sender got {kind}"));
        } else if !self.open.contains_key(&id) && !self.acknowledged_at.contains_key(&id) {
            self.wrong(format!("{message} {seq}: was never sent"));
        }
        if let Some((_, first)) = self.seen.insert(id, (room, seq)) {
            self.violations
                .push(Violation::Duplicated(format!("{message}: at {first} and at {seq}")));
        }
    }

    async fn check_acknowledged(&mut self, store: &dyn Store, id: &MessageId, whole: bool) {
        let Some((Message { room, sender, id }, seq)) = self.acknowledged_at.get(id).cloned()
        else {
            return;
        };
        match self.seen.get(&id) {
            Some(at) if *at == (room.clone(), seq) => {}
            Some(at) => {
                let violation = format!("{room} {sender} {id}: told {seq}, seen {at:?}");
                return self.violations.push(Violation::Reordered(violation));
            }
            None => {
                let violation = format!("{room} {sender} {id}: acked at {seq}, not stored");
                return self.violations.push(Violation::Lost(violation));
            }
        }
        // Looking up the records of all messages would dominate the run time.
        let looked_for = !whole || self.acknowledged_at.len() < 2000;
        if looked_for && !self.has_record(store, &room, &sender, &id, seq).await {
            let violation = format!("{room} {sender} {id}: wrong record of the send");
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
        let record = store.idempotency_record(room, sender, id).await;
        matches!(record, Ok(Some(IdempotencyRecord { seq: at, .. })) if at.get() == seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "room0 sender1 0123456789abcdef-1-2";

    /// Builds a model from a worker's lines in short form.
    fn heard(words: &[&str]) -> Model {
        let mut model = Model::default();
        for word in words {
            match *word {
                "try" => model.on_line(&format!("try {MESSAGE};")),
                "ack" => model.on_line(&format!("ack {MESSAGE} 7 1.1;")),
                "killed" => drop(model.unanswered()),
                kind => model.on_line(&format!("failed {MESSAGE} {kind};")),
            }
        }
        model
    }

    /// A refused message must be absent unless an earlier attempt has an unknown outcome.
    #[test]
    fn refused_message_must_be_absent() {
        for (words, open, refused) in [
            (&["try"][..], 1, 0),
            (&["try", "Unavailable"], 0, 1),
            (&["try", "Unavailable", "try"], 1, 0),
            (&["try", "Unknown", "try", "Unavailable"], 1, 0),
            (&["try", "killed", "Unavailable"], 1, 0),
            (&["try", "Unknown", "try", "ack"], 0, 0),
            (&["try", "ack", "Unavailable"], 0, 0),
        ] {
            let mut model = heard(words);
            assert_eq!((model.open.len(), model.refused.len()), (open, refused), "{words:?}");
            assert_eq!(model.take_violations(), [], "{words:?}");
        }
        let model = heard(&["try", "Unavailable", "try", "Unknown"]);
        assert_eq!((model.refusals, model.unknowns, model.pending()), (1, 1, 1));
    }

    /// An error that no sender may get counts as a violation.
    #[test]
    fn unexpected_error_is_violation() {
        assert_eq!(heard(&["try", "Corrupt"]).take_violations().len(), 1);
    }
}
