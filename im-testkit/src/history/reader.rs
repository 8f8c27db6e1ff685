//! What one reader is handed, checked as it comes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use im_core::wire::{Event, Push, RoomStatus, Signal, Status, Target};
use im_core::{Cursor, Epoch, MessageId, RoomId, Seq, Stamp, StateKey, UserId};
use parking_lot::Mutex;

use super::book::{Book, Fingerprint, Key, SignalKey, Witness};
use super::checker::Record;
use super::verdict::Rule;

/// One reader: a client with its connections, one after the other. It reports raw frames, in the order of their arrival.
///
/// A reader that is dropped is judged by what it saw. One that is given to [`Reader::finish`] must have seen everything.
#[derive(Debug)]
pub struct Reader {
    name: String,
    record: Arc<Record>,
    connection: u64,
    deliveries: u64,
    rooms: HashMap<RoomId, Place>,
    asked: BTreeMap<RoomId, Option<Cursor>>,
}

/// A reader's place in a room.
#[derive(Debug)]
struct Place {
    book: Arc<Mutex<Book>>,
    /// Up to here everything was handed over, or lies before the reader's start, or was stated to be gone.
    whole: Option<Cursor>,
    /// The furthest cursor that the client confirmed to the server.
    confirmed: Option<Cursor>,
    /// What this connection said of the room; `None` before its first status.
    live: Option<Live>,
    denied: bool,
    /// The event that removed the reader's user.
    removed: Option<Seq>,
    /// The newest stamp of each key, of one generation.
    state: BTreeMap<StateKey, Stamp>,
    generation: Option<u64>,
    /// Signals that were announced, and came.
    signals: HashSet<SignalKey>,
}

/// A room on one connection, since its last status.
#[derive(Debug)]
struct Live {
    epoch: Epoch,
    start: Seq,
    /// The furthest event that was handed over.
    last: Seq,
    /// The head that the status named: so far, everything was there when it was given.
    promised: Seq,
    /// What lies before `last` and was not handed over, as ranges from and to.
    missing: Vec<(Seq, Seq)>,
    /// It was taken up again, and goes on from where it was so far.
    may_move: bool,
}

impl Reader {
    pub(super) fn new(name: String, record: Arc<Record>) -> Self {
        Self {
            name,
            record,
            connection: 0,
            deliveries: 0,
            rooms: HashMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// A new connection begins; the one before it, if any, has ended.
    pub fn connected(&mut self) {
        self.disconnected();
        self.connection += 1;
    }

    /// The connection has ended. What was on its way is nobody's fault; what was skipped before it is.
    pub fn disconnected(&mut self) {
        self.asked.clear();
        for (room, place) in &mut self.rooms {
            place.settle(&self.name, room, &self.record);
            place.denied = false;
        }
    }

    /// A poll or an event stream was cut and is taken up again within the connection, without new statuses. It starts at the
    /// client's stream position, or at the session's checkpoint where that is further. So each room may go back once, to
    /// anything that this connection brought, or go on once behind what was [confirmed](Reader::confirmed).
    pub fn resumed(&mut self) {
        let lives = self.rooms.values_mut().filter_map(|place| place.live.as_mut());
        lives.for_each(|live| live.may_move = true);
    }

    /// The client sends a checkpoint with this cursor: it needs nothing again of what lies before it.
    pub fn confirmed(&mut self, room: &RoomId, cursor: Cursor) {
        advance(&mut place(&mut self.rooms, &self.record, room).confirmed, cursor);
    }

    /// The client asks for this room, from this cursor or from its head: `subscribe`, or one entry of `resume`. Optional:
    /// without it, the answer is compared with what the reader has seen only.
    pub fn asked(&mut self, room: &RoomId, since: Option<Cursor>) {
        self.asked.insert(room.clone(), since);
    }

    /// The client does not follow the room any more, or begins anew from wherever it likes.
    pub fn left(&mut self, room: &RoomId) {
        self.asked.remove(room);
        if let Some(mut place) = self.rooms.remove(room) {
            place.settle(&self.name, room, &self.record);
        }
    }

    /// A room's status came: in the reply to `subscribe` or `resume`, or pushed. `head` is what it named as the room's last
    /// event.
    pub fn status(&mut self, room: &RoomId, status: Status, cursor: Option<Cursor>, head: Seq) {
        let asked = self.asked.remove(room);
        let place = place(&mut self.rooms, &self.record, room);
        place.settle(&self.name, room, &self.record);
        place.denied = status == Status::Denied;
        let (Some(cursor), false) = (cursor, place.denied) else { return };
        if let Some((rule, why)) = judge(status, cursor, head, asked.flatten(), place.whole) {
            let who = &self.name;
            self.record
                .tally
                .add(rule, || format!("{who} in {room}: {status:?} from {}: {why}", cursor.seq));
        }
        if status == Status::Gap {
            place.book.lock().gap(cursor);
        }
        let behind =
            place.whole.filter(|whole| whole.epoch == cursor.epoch && whole.seq > cursor.seq);
        if status == Status::Reset || behind.is_none() {
            place.whole = Some(cursor);
        }
        if status == Status::Reset {
            place.confirmed = None;
        }
        let Cursor { epoch, seq } = cursor;
        place.live = Some(Live {
            epoch,
            start: seq,
            last: seq,
            promised: head,
            missing: Vec::new(),
            may_move: false,
        });
    }

    /// An event was handed over. `id` is the sender's id for it, where it has one.
    pub fn delivered(
        &mut self,
        room: &RoomId,
        at: Cursor,
        sender: &UserId,
        id: Option<&MessageId>,
        content: Fingerprint,
    ) {
        self.deliveries += 1;
        let place = place(&mut self.rooms, &self.record, room);
        if let Some((rule, why)) = place.take(at) {
            let (who, connection) = (&self.name, self.connection);
            let detail = || {
                format!("{who} in {room}, connection {connection}: {}/{} {why}", at.epoch, at.seq)
            };
            self.record.tally.add(rule, detail);
            if rule == Rule::StaleEpoch {
                return;
            }
        }
        let key = Key::of(sender, id);
        place.book.lock().witness(
            Witness::Delivery,
            at,
            key,
            id.is_some(),
            content,
            &self.record.tally,
        );
    }

    /// A state key's value came, alone or in a snapshot.
    pub fn state(&mut self, room: &RoomId, key: &StateKey, stamp: Stamp) {
        let place = place(&mut self.rooms, &self.record, room);
        match place.state.get_mut(key) {
            Some(held) if stamp < *held => {
                let (who, held) = (&self.name, *held);
                let detail = || format!("{who} in {room}: {key} at {stamp} after {held}");
                self.record.tally.add(Rule::OlderState, detail);
            }
            Some(held) => *held = stamp,
            None => {
                place.state.insert(key.clone(), stamp);
            }
        }
    }

    /// A signal came. One that was announced ([`super::Checker::signal_sent`]) may come once, on whatever connection.
    pub fn signal(&mut self, signal: &Signal) {
        let Target::Room(room) = &signal.to else { return };
        let place = place(&mut self.rooms, &self.record, room);
        let key = (signal.from.clone(), Fingerprint::of(&signal.kind, &signal.content));
        if place.book.lock().signals.contains(&key) && !place.signals.insert(key) {
            let (who, from) = (&self.name, &signal.from);
            let detail = || format!("{who} in {room}: one signal of {from} came twice");
            self.record.tally.add(Rule::Repeated, detail);
        }
    }

    /// A room's state is of this generation: in the reply to `subscribe` or `resume`, or at the head of a snapshot. Values of
    /// another one that the reader holds are void, since updates may have been lost.
    pub fn generation(&mut self, room: &RoomId, generation: u64) {
        let changes = |held: Option<u64>| held.is_some_and(|held| held != generation);
        let place = place(&mut self.rooms, &self.record, room);
        if changes(place.generation.replace(generation)) {
            place.state.clear();
        }
        let mut book = place.book.lock();
        if changes(book.generation.replace(generation)) {
            book.applied.clear();
        }
    }

    /// The reader's user was removed by the event at `seq`: nothing beyond it may come, before or after this call.
    pub fn removed(&mut self, room: &RoomId, seq: Seq) {
        let place = place(&mut self.rooms, &self.record, room);
        place.removed = Some(seq);
        if let Some(last) = place.live.as_ref().map(|live| live.last).filter(|last| *last > seq) {
            let who = &self.name;
            let detail = || format!("{who} in {room}: was handed {last}, and removed at {seq}");
            self.record.tally.add_many(Rule::AfterRemoval, last.since(seq), detail);
        }
    }

    /// The reader's user may read the room again.
    pub fn restored(&mut self, room: &RoomId) {
        place(&mut self.rooms, &self.record, room).removed = None;
    }

    /// A push came: an event, a status, a signal, a state value or a snapshot. Others are ignored.
    pub fn push(&mut self, push: &Push) {
        match push {
            Push::Event(event) => self.event(event),
            Push::Room(status) => self.room_status(status),
            Push::State(update) => self.state(&update.room, &update.key, update.stamp),
            Push::Snapshot(snapshot) => {
                self.generation(&snapshot.room, snapshot.generation);
                snapshot
                    .entries
                    .iter()
                    .for_each(|entry| self.state(&entry.room, &entry.key, entry.stamp));
            }
            Push::Signal(signal) => self.signal(signal),
            Push::Mark(_) | Push::Bye(_) => {}
        }
    }

    /// [`Reader::delivered`] for an event as it stands in a push.
    pub fn event(&mut self, event: &Event) {
        let content = Fingerprint::of(&event.kind, &event.content);
        let at = Cursor { epoch: event.epoch, seq: event.seq };
        self.delivered(&event.room, at, &event.from, event.id.as_ref(), content);
    }

    /// The reply to `subscribe` or `resume` came.
    pub fn rooms(&mut self, statuses: &[RoomStatus], generation: u64) {
        for status in statuses {
            self.room_status(status);
            self.generation(&status.room, generation);
        }
    }

    /// [`Reader::status`] for a status as it stands in a reply or a push.
    pub fn room_status(&mut self, status: &RoomStatus) {
        self.status(&status.room, status.status, status.cursor, status.head);
    }

    /// The place up to which the reader has everything; what a client would resume from.
    pub fn cursor(&self, room: &RoomId) -> Option<Cursor> {
        let place = self.rooms.get(room)?;
        match &place.live {
            Some(live) => {
                let seq = live.ready(place.confirmed, place.whole);
                Some(Cursor { epoch: live.epoch, seq })
            }
            None => place.whole,
        }
    }

    /// Whether this connection has said how the room answers, and it may be read.
    pub fn is_subscribed(&self, room: &RoomId) -> bool {
        self.rooms.get(room).is_some_and(|place| place.live.is_some())
    }

    /// Whether the reader has everything that anybody has seen, in every room that it follows.
    pub fn is_whole(&self) -> bool {
        self.asked.is_empty()
            && self.rooms.iter().filter(|(_, place)| place.live.is_some()).all(|(room, place)| {
                let (has, head) = (self.cursor(room), place.book.lock().head());
                head.is_none_or(|head| {
                    has.is_some_and(|has| has.epoch == head.epoch && has.seq >= head.seq)
                })
            })
    }

    /// Whether the reader has the newest value of each state key that anybody was told of, in every room that it follows.
    pub fn has_newest_state(&self) -> bool {
        self.rooms
            .values()
            .filter(|place| place.live.is_some())
            .all(|place| place.stale().is_empty())
    }

    /// The reader has had every chance to read on, and goes on: what it has not seen by now of what others were told is late.
    pub fn had_every_chance(&mut self) {
        for (room, place) in &self.rooms {
            if let Some(live) = &place.live {
                place.check_end(&self.name, room, live, &self.record);
                place.check_state(&self.name, room, &self.record);
            }
        }
    }

    /// The reader was connected to the end and had every chance to read on: what it has not seen by now is lost.
    pub fn finish(mut self) {
        for room in std::mem::take(&mut self.asked).into_keys() {
            let who = &self.name;
            self.record.tally.add(Rule::PartialResume, || {
                format!("{who} asked for {room} and was not answered")
            });
        }
        for (room, place) in &mut self.rooms {
            if let Some(live) = place.settle(&self.name, room, &self.record) {
                place.check_end(&self.name, room, &live, &self.record);
                place.check_state(&self.name, room, &self.record);
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.disconnected();
        self.record.deliveries.fetch_add(self.deliveries, Ordering::Relaxed);
    }
}

fn place<'a>(
    rooms: &'a mut HashMap<RoomId, Place>,
    record: &Record,
    room: &RoomId,
) -> &'a mut Place {
    if !rooms.contains_key(room) {
        rooms.insert(room.clone(), Place::new(record.room(room)));
    }
    // It was just put there, if it was not there before.
    rooms.entry(room.clone()).or_insert_with(|| Place::new(record.room(room)))
}

/// Sets a cursor, unless it is further already in the same epoch.
fn advance(held: &mut Option<Cursor>, to: Cursor) {
    if held.is_none_or(|held| held.epoch != to.epoch || held.seq < to.seq) {
        *held = Some(to);
    }
}

/// Whether a status is what it may be, for a reader that has everything up to `whole`.
fn judge(
    status: Status,
    cursor: Cursor,
    head: Seq,
    asked: Option<Cursor>,
    whole: Option<Cursor>,
) -> Option<(Rule, &'static str)> {
    let from = asked.or(whole);
    match (status, from) {
        (_, None) | (Status::Denied, _) => None,
        (Status::Ok, Some(from)) if from.epoch != cursor.epoch => {
            Some((Rule::StaleEpoch, "the epoch is another"))
        }
        (Status::Ok, _) if asked.is_some_and(|asked| asked.seq != cursor.seq) => {
            Some((Rule::PartialResume, "another place was asked for"))
        }
        (Status::Ok, Some(from)) if cursor.seq > from.seq => {
            Some((Rule::PartialResume, "events are skipped"))
        }
        (Status::Gap, Some(from)) if from.epoch != cursor.epoch => {
            Some((Rule::StaleEpoch, "the epoch is another"))
        }
        (Status::Gap, Some(from)) if cursor.seq <= from.seq => {
            Some((Rule::PartialResume, "there is no gap"))
        }
        (Status::Reset, Some(from)) if from.epoch == cursor.epoch && from.seq <= head => {
            Some((Rule::PartialResume, "there is no cause for a reset"))
        }
        _ => None,
    }
}

impl Live {
    /// The furthest event that was handed over.
    fn end(&self) -> Cursor {
        Cursor { epoch: self.epoch, seq: self.last }
    }

    /// The last event before the first hole.
    fn dense(&self) -> Seq {
        self.missing.first().map_or(self.last, |(from, _)| from.prev())
    }

    /// How far this cursor lies in the epoch that is followed.
    fn reached(&self, cursor: Option<Cursor>) -> Seq {
        cursor.filter(|cursor| cursor.epoch == self.epoch).map_or(Seq::ZERO, |cursor| cursor.seq)
    }

    /// How far it is ready to go on from: its last event before the first hole, or, if it was taken up again, what was
    /// confirmed of what the reader had.
    fn ready(&self, confirmed: Option<Cursor>, whole: Option<Cursor>) -> Seq {
        if !self.may_move || !self.missing.is_empty() {
            return self.dense();
        }
        self.last.max(self.reached(confirmed).min(self.reached(whole)))
    }

    fn take(&mut self, seq: Seq) -> Option<(Rule, &'static str)> {
        if seq > self.last {
            if seq != self.last.next() {
                // No violation yet: whether it is a gap or a swap shows later.
                self.missing.push((self.last.next(), seq.prev()));
            }
            self.last = seq;
            return None;
        }
        if seq <= self.start {
            return Some((Rule::Repeated, "lies before the cursor where this connection began"));
        }
        let Some(hole) = self.missing.iter().position(|(from, to)| (*from..=*to).contains(&seq))
        else {
            return Some((Rule::Repeated, "came twice"));
        };
        let (from, to) = self.missing.remove(hole);
        let rest =
            [(from, seq.prev()), (seq.next(), to)].into_iter().filter(|(from, to)| from <= to);
        self.missing.splice(hole..hole, rest);
        Some((Rule::OutOfOrder, "came after a later one"))
    }
}

impl Place {
    fn new(book: Arc<Mutex<Book>>) -> Self {
        Self {
            book,
            whole: None,
            confirmed: None,
            live: None,
            denied: false,
            removed: None,
            state: BTreeMap::new(),
            generation: None,
            signals: HashSet::new(),
        }
    }

    fn take(&mut self, at: Cursor) -> Option<(Rule, &'static str)> {
        if self.denied {
            return Some((Rule::AfterRemoval, "came after the room was denied"));
        }
        let Some(live) = &mut self.live else {
            return Some((Rule::PartialResume, "came before any status of the room"));
        };
        if live.epoch != at.epoch {
            return Some((Rule::StaleEpoch, "is not of the epoch that is followed"));
        }
        // It goes back, or on behind what was confirmed of what it had.
        let ready = live.ready(self.confirmed, self.whole).next();
        let moves = live.may_move && live.missing.is_empty() && at.seq != live.last.next();
        if moves && at.seq <= ready {
            advance(&mut self.whole, live.end());
            (live.last, live.may_move) = (at.seq.prev(), false);
            live.start = live.start.min(live.last);
        }
        let order = live.take(at.seq);
        let removed = self.removed.filter(|removed| at.seq > *removed);
        removed.map(|_| (Rule::AfterRemoval, "lies beyond the removal")).or(order)
    }

    /// What this connection said of the room is over: what it left out is missing now.
    fn settle(&mut self, who: &str, room: &RoomId, record: &Record) -> Option<Live> {
        let live = self.live.take()?;
        for (from, to) in &live.missing {
            let promised = live.promised.min(*to).since(from.prev());
            let detail = || format!("{who} in {room}: {from} to {to} left out, later ones came");
            record.tally.add_many(Rule::PartialResume, promised, detail);
            record.tally.add_many(Rule::SilentGap, to.since(from.prev()) - promised, detail);
        }
        advance(&mut self.whole, live.end());
        Some(live)
    }

    /// The reader was there to the end: is anything of the room missing?
    fn check_end(&self, who: &str, room: &RoomId, live: &Live, record: &Record) {
        let Some(head) = self.book.lock().head() else { return };
        if live.epoch != head.epoch {
            let detail =
                || format!("{who} in {room}: still reads {}, not {}", live.epoch, head.epoch);
            record.tally.add(Rule::StaleEpoch, detail);
            return;
        }
        let end = self.removed.unwrap_or(Seq::MAX).min(head.seq);
        let detail = || format!("{who} in {room}: ends at {}, the room at {end}", live.last);
        // What the status had named is a resume cut short, even if the reader had it from an earlier connection.
        let ready = live.last.max(live.ready(self.confirmed, self.whole));
        let promised = live.promised.min(end).since(ready);
        record.tally.add_many(Rule::PartialResume, promised, detail);
        let before = self.whole.map_or(live.last, |whole| whole.seq.max(live.promised));
        let reached = before.max(live.last);
        record.tally.add_many(Rule::Lost, end.since(reached), detail);
    }

    fn check_state(&self, who: &str, room: &RoomId, record: &Record) {
        if self.removed.is_some() {
            return;
        }
        let stale = self.stale();
        record.tally.add_many(Rule::OlderState, stale.len() as u64, || {
            format!("{who} in {room}: {stale:?} older at the end than acknowledged")
        });
    }

    /// The keys of which somebody was told a newer value.
    fn stale(&self) -> BTreeSet<StateKey> {
        let book = self.book.lock();
        let stale = book
            .applied
            .iter()
            .filter(|(key, stamp)| self.state.get(*key).is_none_or(|held| held < *stamp));
        stale.map(|(key, _)| key.clone()).collect()
    }
}
