//! What one subscriber receives, checked as it comes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use im_core::wire::{Event, Push, RoomStatus, Signal, Status, Target};
use im_core::{Cursor, Epoch, MessageId, RoomId, Seq, Stamp, StateKey, UserId};
use parking_lot::Mutex;

use super::checker::Record;
use super::room_log::{Fingerprint, Key, RoomLogCopy, SignalKey, Witness};
use super::verdict::Rule;

/// One subscriber: a client with its connections, one after the other. It reports raw frames, in the order of their arrival.
///
/// A subscriber that is dropped is judged by what it saw. One that is given to [`Subscriber::finish`] must have seen everything.
#[derive(Debug)]
pub struct Subscriber {
    name: String,
    record: Arc<Record>,
    connection: u64,
    deliveries: u64,
    rooms: HashMap<RoomId, RoomProgress>,
    subscribe_sent: BTreeMap<RoomId, Option<Cursor>>,
}

/// A subscriber's progress in a room.
#[derive(Debug)]
struct RoomProgress {
    book: Arc<Mutex<RoomLogCopy>>,
    /// Up to here everything was delivered, or lies before the subscriber's start, or was stated to be gone.
    complete_to: Option<Cursor>,
    /// The furthest cursor that the client confirmed to the server.
    confirmed: Option<Cursor>,
    /// What this connection said of the room; `None` before its first status.
    live: Option<Live>,
    denied: bool,
    /// The event that removed the subscriber's user.
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
    /// The furthest event that was delivered.
    last: Seq,
    /// The head that the status named: so far, everything was there when it was given.
    promised: Seq,
    /// What lies before `last` and was not handed over, as ranges from and to.
    missing: Vec<(Seq, Seq)>,
    /// It was taken up again, and goes on from where it was so far.
    may_move: bool,
}

impl Subscriber {
    pub(super) fn new(name: String, record: Arc<Record>) -> Self {
        Self {
            name,
            record,
            connection: 0,
            deliveries: 0,
            rooms: HashMap::new(),
            subscribe_sent: BTreeMap::new(),
        }
    }

    /// A new connection begins; the one before it, if any, has ended.
    pub fn connected(&mut self) {
        self.disconnected();
        self.connection += 1;
    }

    /// The connection has ended. What was on its way is nobody's fault; what was skipped before it is.
    pub fn disconnected(&mut self) {
        self.subscribe_sent.clear();
        for (room, progress) in &mut self.rooms {
            progress.settle(&self.name, room, &self.record);
            progress.denied = false;
        }
    }

    /// A poll or an event stream was cut and is taken up again within the connection, without new statuses. It starts at the
    /// client's stream position, or at the session's checkpoint where that is further. So each room may go back once, to
    /// anything that this connection brought, or go on once behind what was [confirmed](Subscriber::confirmed).
    pub fn resumed(&mut self) {
        let live_rooms = self.rooms.values_mut().filter_map(|progress| progress.live.as_mut());
        live_rooms.for_each(|live| live.may_move = true);
    }

    /// The client sends a checkpoint with this cursor: it needs nothing again of what lies before it.
    pub fn confirmed(&mut self, room: &RoomId, cursor: Cursor) {
        advance(&mut progress(&mut self.rooms, &self.record, room).confirmed, cursor);
    }

    /// The client asks for this room, from this cursor or from its head: `subscribe`, or one entry of `resume`. Optional:
    /// without it, the answer is compared with what the subscriber has seen only.
    pub fn subscribe_sent(&mut self, room: &RoomId, since: Option<Cursor>) {
        self.subscribe_sent.insert(room.clone(), since);
    }

    /// The client does not follow the room any more, or begins anew from wherever it likes.
    pub fn unsubscribed(&mut self, room: &RoomId) {
        self.subscribe_sent.remove(room);
        if let Some(mut progress) = self.rooms.remove(room) {
            progress.settle(&self.name, room, &self.record);
        }
    }

    /// A room's status came: in the reply to `subscribe` or `resume`, or pushed. `head` is what it named as the room's last
    /// event.
    pub fn status(&mut self, room: &RoomId, status: Status, cursor: Option<Cursor>, head: Seq) {
        let requested = self.subscribe_sent.remove(room);
        let progress = progress(&mut self.rooms, &self.record, room);
        progress.settle(&self.name, room, &self.record);
        progress.denied = status == Status::Denied;
        let (Some(cursor), false) = (cursor, progress.denied) else { return };
        if let Some((rule, why)) =
            judge(status, cursor, head, requested.flatten(), progress.complete_to)
        {
            let who = &self.name;
            self.record
                .tally
                .add(rule, || format!("{who} in {room}: {status:?} from {}: {why}", cursor.seq));
        }
        if status == Status::Gap {
            progress.book.lock().gap(cursor);
        }
        let behind = progress.complete_to.filter(|complete_to| {
            complete_to.epoch == cursor.epoch && complete_to.seq > cursor.seq
        });
        if status == Status::Reset || behind.is_none() {
            progress.complete_to = Some(cursor);
        }
        if status == Status::Reset {
            progress.confirmed = None;
        }
        let Cursor { epoch, seq } = cursor;
        progress.live = Some(Live {
            epoch,
            start: seq,
            last: seq,
            promised: head,
            missing: Vec::new(),
            may_move: false,
        });
    }

    /// An event was delivered. `id` is the sender's id for it, where it has one.
    pub fn delivered(
        &mut self,
        room: &RoomId,
        at: Cursor,
        sender: &UserId,
        id: Option<&MessageId>,
        content: Fingerprint,
    ) {
        self.deliveries += 1;
        let progress = progress(&mut self.rooms, &self.record, room);
        if let Some((rule, why)) = progress.take(at) {
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
        progress.book.lock().witness(
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
        let progress = progress(&mut self.rooms, &self.record, room);
        match progress.state.get_mut(key) {
            Some(held) if stamp < *held => {
                let (who, held) = (&self.name, *held);
                let detail = || format!("{who} in {room}: {key} at {stamp} after {held}");
                self.record.tally.add(Rule::OlderState, detail);
            }
            Some(held) => *held = stamp,
            None => {
                progress.state.insert(key.clone(), stamp);
            }
        }
    }

    /// A signal came. One that was announced ([`super::Checker::signal_sent`]) may come once, on whatever connection.
    pub fn signal(&mut self, signal: &Signal) {
        let Target::Room(room) = &signal.to else { return };
        let progress = progress(&mut self.rooms, &self.record, room);
        let key = (signal.from.clone(), Fingerprint::of(&signal.kind, &signal.content));
        if progress.book.lock().signals.contains(&key) && !progress.signals.insert(key) {
            let (who, from) = (&self.name, &signal.from);
            let detail = || format!("{who} in {room}: one signal of {from} came twice");
            self.record.tally.add(Rule::Duplicated, detail);
        }
    }

    /// A room's state is of this generation: in the reply to `subscribe` or `resume`, or at the head of a snapshot. Values of
    /// another one that the subscriber holds are void, since updates may have been lost.
    pub fn generation(&mut self, room: &RoomId, generation: u64) {
        let changes = |held: Option<u64>| held.is_some_and(|held| held != generation);
        let progress = progress(&mut self.rooms, &self.record, room);
        if changes(progress.generation.replace(generation)) {
            progress.state.clear();
        }
        let mut log = progress.book.lock();
        if changes(log.generation.replace(generation)) {
            log.applied.clear();
        }
    }

    /// The subscriber's user was removed by the event at `seq`: nothing beyond it may come, before or after this call.
    pub fn removed(&mut self, room: &RoomId, seq: Seq) {
        let progress = progress(&mut self.rooms, &self.record, room);
        progress.removed = Some(seq);
        if let Some(last) = progress.live.as_ref().map(|live| live.last).filter(|last| *last > seq)
        {
            let who = &self.name;
            let detail = || format!("{who} in {room}: was handed {last}, and removed at {seq}");
            self.record.tally.add_many(Rule::AfterRemoval, last.since(seq), detail);
        }
    }

    /// The subscriber's user may read the room again.
    pub fn restored(&mut self, room: &RoomId) {
        progress(&mut self.rooms, &self.record, room).removed = None;
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
            Push::Position(_) | Push::Disconnect(_) => {}
        }
    }

    /// [`Subscriber::delivered`] for an event as it stands in a push.
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

    /// [`Subscriber::status`] for a status as it stands in a reply or a push.
    pub fn room_status(&mut self, status: &RoomStatus) {
        self.status(&status.room, status.status, status.cursor, status.head);
    }

    /// The place up to which the subscriber has everything; what a client would resume from.
    pub fn cursor(&self, room: &RoomId) -> Option<Cursor> {
        let progress = self.rooms.get(room)?;
        match &progress.live {
            Some(live) => {
                let seq = live.ready(progress.confirmed, progress.complete_to);
                Some(Cursor { epoch: live.epoch, seq })
            }
            None => progress.complete_to,
        }
    }

    /// Whether this connection has said how the room answers, and it may be read.
    pub fn is_subscribed(&self, room: &RoomId) -> bool {
        self.rooms.get(room).is_some_and(|progress| progress.live.is_some())
    }

    /// Whether the subscriber has everything that anybody has seen, in every room that it follows.
    pub fn is_whole(&self) -> bool {
        self.subscribe_sent.is_empty()
            && self.rooms.iter().filter(|(_, progress)| progress.live.is_some()).all(
                |(room, progress)| {
                    let (has, head) = (self.cursor(room), progress.book.lock().head());
                    head.is_none_or(|head| {
                        has.is_some_and(|has| has.epoch == head.epoch && has.seq >= head.seq)
                    })
                },
            )
    }

    /// Whether the subscriber has the newest value of each state key that anybody was told of, in every room that it follows.
    pub fn has_newest_state(&self) -> bool {
        self.rooms
            .values()
            .filter(|progress| progress.live.is_some())
            .all(|progress| progress.stale().is_empty())
    }

    /// The subscriber has had every chance to read on, and goes on: what it has not seen by now of what others were told is late.
    pub fn had_every_chance(&mut self) {
        for (room, progress) in &self.rooms {
            if let Some(live) = &progress.live {
                progress.check_end(&self.name, room, live, &self.record);
                progress.check_state(&self.name, room, &self.record);
            }
        }
    }

    /// The subscriber was connected to the end and had every chance to read on: what it has not seen by now is lost.
    pub fn finish(mut self) {
        for room in std::mem::take(&mut self.subscribe_sent).into_keys() {
            let who = &self.name;
            self.record.tally.add(Rule::PartialResume, || {
                format!("{who} asked for {room} and was not answered")
            });
        }
        for (room, progress) in &mut self.rooms {
            if let Some(live) = progress.settle(&self.name, room, &self.record) {
                progress.check_end(&self.name, room, &live, &self.record);
                progress.check_state(&self.name, room, &self.record);
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.disconnected();
        self.record.deliveries.fetch_add(self.deliveries, Ordering::Relaxed);
    }
}

fn progress<'a>(
    rooms: &'a mut HashMap<RoomId, RoomProgress>,
    record: &Record,
    room: &RoomId,
) -> &'a mut RoomProgress {
    if !rooms.contains_key(room) {
        rooms.insert(room.clone(), RoomProgress::new(record.room(room)));
    }
    // It was just put there, if it was not there before.
    rooms.entry(room.clone()).or_insert_with(|| RoomProgress::new(record.room(room)))
}

/// Sets a cursor, unless it is further already in the same epoch.
fn advance(held: &mut Option<Cursor>, to: Cursor) {
    if held.is_none_or(|held| held.epoch != to.epoch || held.seq < to.seq) {
        *held = Some(to);
    }
}

/// Whether a status is what it may be, for a subscriber that has everything up to `complete_to`.
fn judge(
    status: Status,
    cursor: Cursor,
    head: Seq,
    requested: Option<Cursor>,
    complete_to: Option<Cursor>,
) -> Option<(Rule, &'static str)> {
    let from = requested.or(complete_to);
    match (status, from) {
        (_, None) | (Status::Denied, _) => None,
        (Status::Ok, Some(from)) if from.epoch != cursor.epoch => {
            Some((Rule::StaleEpoch, "the epoch is another"))
        }
        (Status::Ok, _) if requested.is_some_and(|requested| requested.seq != cursor.seq) => {
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
    /// The furthest event that was delivered.
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
    /// confirmed of what the subscriber had.
    fn ready(&self, confirmed: Option<Cursor>, complete_to: Option<Cursor>) -> Seq {
        if !self.may_move || !self.missing.is_empty() {
            return self.dense();
        }
        self.last.max(self.reached(confirmed).min(self.reached(complete_to)))
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
            return Some((Rule::Duplicated, "lies before the cursor where this connection began"));
        }
        let Some(gap) = self.missing.iter().position(|(from, to)| (*from..=*to).contains(&seq))
        else {
            return Some((Rule::Duplicated, "came twice"));
        };
        let (from, to) = self.missing.remove(gap);
        let rest =
            [(from, seq.prev()), (seq.next(), to)].into_iter().filter(|(from, to)| from <= to);
        self.missing.splice(gap..gap, rest);
        Some((Rule::OutOfOrder, "came after a later one"))
    }
}

impl RoomProgress {
    fn new(log: Arc<Mutex<RoomLogCopy>>) -> Self {
        Self {
            book: log,
            complete_to: None,
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
        let ready = live.ready(self.confirmed, self.complete_to).next();
        let moves = live.may_move && live.missing.is_empty() && at.seq != live.last.next();
        if moves && at.seq <= ready {
            advance(&mut self.complete_to, live.end());
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
        advance(&mut self.complete_to, live.end());
        Some(live)
    }

    /// The subscriber was there to the end: is anything of the room missing?
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
        // What the status had named is a resume cut short, even if the subscriber had it from an earlier connection.
        let ready = live.last.max(live.ready(self.confirmed, self.complete_to));
        let promised = live.promised.min(end).since(ready);
        record.tally.add_many(Rule::PartialResume, promised, detail);
        let before =
            self.complete_to.map_or(live.last, |complete_to| complete_to.seq.max(live.promised));
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
        let log = self.book.lock();
        let stale = log
            .applied
            .iter()
            .filter(|(key, stamp)| self.state.get(*key).is_none_or(|held| held < *stamp));
        stale.map(|(key, _)| key.clone()).collect()
    }
}
