//! The deliveries of one subscriber, checked as they arrive.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use im_core::wire::{Event, Push, RoomStatus, Signal, Status, Target};
use im_core::{Cursor, Epoch, MessageId, RoomId, Seq, Stamp, StateKey, UserId};
use parking_lot::Mutex;

use super::checker::Record;
use super::room_log::{Fingerprint, Key, RoomLogCopy, SignalKey, Witness};
use super::verdict::Rule;

/// One subscriber: a client with its successive connections.
///
/// It reports raw frames in the order of their arrival. A dropped subscriber is judged by what it
/// received; one passed to [`Subscriber::finish`] must have received everything.
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
    /// Up to here every event was delivered, precedes the subscription, or was reported as trimmed.
    complete_to: Option<Cursor>,
    /// The greatest cursor that the client confirmed to the server.
    confirmed: Option<Cursor>,
    /// The state of the room on this connection; `None` before its first status.
    live: Option<Live>,
    denied: bool,
    /// The event that removed the subscriber's user.
    removed: Option<Seq>,
    /// The newest stamp of each key, of one generation.
    state: BTreeMap<StateKey, Stamp>,
    generation: Option<u64>,
    /// Recorded signals that were received.
    signals: HashSet<SignalKey>,
}

/// A room on one connection, since its last status.
#[derive(Debug)]
struct Live {
    epoch: Epoch,
    start: Seq,
    /// The last event that was delivered.
    last: Seq,
    /// The head in the status: every event up to it must follow.
    promised: Seq,
    /// Ranges before `last` that were not delivered, as from and to.
    missing: Vec<(Seq, Seq)>,
    /// The stream was resumed: the room may go back once.
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

    /// Starts a new connection; an earlier one has ended.
    pub fn connected(&mut self) {
        self.disconnected();
        self.connection += 1;
    }

    /// Ends the connection. Events in flight are no violation; events skipped before them are.
    pub fn disconnected(&mut self) {
        self.subscribe_sent.clear();
        for (room, progress) in &mut self.rooms {
            progress.settle(&self.name, room, &self.record);
            progress.denied = false;
        }
    }

    /// Records that a cut poll or event stream is resumed within the connection, without new
    /// statuses. It starts at the client's stream position, or at the session's checkpoint if that
    /// is later. So each room may go back once, to any event of this connection, or continue once
    /// after what was [confirmed](Subscriber::confirmed).
    pub fn resumed(&mut self) {
        let live_rooms = self.rooms.values_mut().filter_map(|progress| progress.live.as_mut());
        live_rooms.for_each(|live| live.may_move = true);
    }

    /// Records a checkpoint of the client with this cursor: no event up to it need be delivered
    /// again.
    pub fn confirmed(&mut self, room: &RoomId, cursor: Cursor) {
        advance(&mut progress(&mut self.rooms, &self.record, room).confirmed, cursor);
    }

    /// Records a request for this room, from this cursor or from its head: `subscribe`, or one
    /// entry of `resume`. Optional: without it, the answer is compared with the earlier deliveries
    /// only.
    pub fn subscribe_sent(&mut self, room: &RoomId, since: Option<Cursor>) {
        self.subscribe_sent.insert(room.clone(), since);
    }

    /// Records that the client unsubscribed, or starts again from any cursor.
    pub fn unsubscribed(&mut self, room: &RoomId) {
        self.subscribe_sent.remove(room);
        if let Some(mut progress) = self.rooms.remove(room) {
            progress.settle(&self.name, room, &self.record);
        }
    }

    /// Records a room's status, in the reply to `subscribe` or `resume` or pushed. `head` is the
    /// head in it.
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

    /// Records the delivery of an event. `id` is the sender's message id, if it has one.
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

    /// Records a state key's value, pushed alone or in a snapshot.
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

    /// Records a signal. One that was recorded as sent ([`super::Checker::signal_sent`]) may arrive
    /// once, over all connections.
    pub fn signal(&mut self, signal: &Signal) {
        let Target::Room(room) = &signal.to else { return };
        let progress = progress(&mut self.rooms, &self.record, room);
        let key = (signal.from.clone(), Fingerprint::of(&signal.kind, &signal.content));
        if progress.book.lock().signals.contains(&key) && !progress.signals.insert(key) {
            let (who, from) = (&self.name, &signal.from);
            let detail = || format!("{who} in {room}: a signal of {from} was delivered twice");
            self.record.tally.add(Rule::Duplicated, detail);
        }
    }

    /// Records the generation of a room's state, in the reply to `subscribe` or `resume` or at the
    /// start of a snapshot. Values of another generation are void, since updates may have been
    /// lost.
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

    /// Records that the event at `seq` removed the subscriber's user: no later event may be
    /// delivered, before or after this call.
    pub fn removed(&mut self, room: &RoomId, seq: Seq) {
        let progress = progress(&mut self.rooms, &self.record, room);
        progress.removed = Some(seq);
        if let Some(last) = progress.live.as_ref().map(|live| live.last).filter(|last| *last > seq)
        {
            let who = &self.name;
            let detail =
                || format!("{who} in {room}: {last} was delivered after the removal at {seq}");
            self.record.tally.add_many(Rule::AfterRemoval, last.since(seq), detail);
        }
    }

    /// Records that the subscriber's user may read the room again.
    pub fn restored(&mut self, room: &RoomId) {
        progress(&mut self.rooms, &self.record, room).removed = None;
    }

    /// Records a push: an event, a status, a signal, a state value or a snapshot. Others are
    /// ignored.
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

    /// [`Subscriber::delivered`] for an event of a push.
    pub fn event(&mut self, event: &Event) {
        let content = Fingerprint::of(&event.kind, &event.content);
        let at = Cursor { epoch: event.epoch, seq: event.seq };
        self.delivered(&event.room, at, &event.from, event.id.as_ref(), content);
    }

    /// Records the reply to `subscribe` or `resume`.
    pub fn rooms(&mut self, statuses: &[RoomStatus], generation: u64) {
        for status in statuses {
            self.room_status(status);
            self.generation(&status.room, generation);
        }
    }

    /// [`Subscriber::status`] for a status of a reply or a push.
    pub fn room_status(&mut self, status: &RoomStatus) {
        self.status(&status.room, status.status, status.cursor, status.head);
    }

    /// Returns the cursor up to which the subscriber has everything; a client would resume from it.
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

    /// Returns whether this connection has a status for the room other than `denied`.
    pub fn is_subscribed(&self, room: &RoomId) -> bool {
        self.rooms.get(room).is_some_and(|progress| progress.live.is_some())
    }

    /// Returns whether the subscriber has every event that any witness named, in every subscribed
    /// room.
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

    /// Returns whether the subscriber has the newest value of each state key that any witness
    /// named, in every subscribed room.
    pub fn has_newest_state(&self) -> bool {
        self.rooms
            .values()
            .filter(|progress| progress.live.is_some())
            .all(|progress| progress.stale().is_empty())
    }

    /// Records that the subscriber had every chance to read and continues: events missing now are
    /// late.
    pub fn had_every_chance(&mut self) {
        for (room, progress) in &self.rooms {
            if let Some(live) = &progress.live {
                progress.check_end(&self.name, room, live, &self.record);
                progress.check_state(&self.name, room, &self.record);
            }
        }
    }

    /// Ends a subscriber that was connected to the end and had every chance to read: events missing
    /// now are lost.
    pub fn finish(mut self) {
        for room in std::mem::take(&mut self.subscribe_sent).into_keys() {
            let who = &self.name;
            self.record
                .tally
                .add(Rule::PartialResume, || format!("{who} requested {room} and got no answer"));
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
    // The entry was inserted above if it was missing.
    rooms.entry(room.clone()).or_insert_with(|| RoomProgress::new(record.room(room)))
}

/// Moves a cursor forward, or to another epoch.
fn advance(held: &mut Option<Cursor>, to: Cursor) {
    if held.is_none_or(|held| held.epoch != to.epoch || held.seq < to.seq) {
        *held = Some(to);
    }
}

/// Judges a status for a subscriber that has everything up to `complete_to`.
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
            Some((Rule::StaleEpoch, "another epoch"))
        }
        (Status::Ok, _) if requested.is_some_and(|requested| requested.seq != cursor.seq) => {
            Some((Rule::PartialResume, "another cursor was requested"))
        }
        (Status::Ok, Some(from)) if cursor.seq > from.seq => {
            Some((Rule::PartialResume, "it skips events"))
        }
        (Status::Gap, Some(from)) if from.epoch != cursor.epoch => {
            Some((Rule::StaleEpoch, "another epoch"))
        }
        (Status::Gap, Some(from)) if cursor.seq <= from.seq => {
            Some((Rule::PartialResume, "no event was trimmed"))
        }
        (Status::Reset, Some(from)) if from.epoch == cursor.epoch && from.seq <= head => {
            Some((Rule::PartialResume, "no cause for a reset"))
        }
        _ => None,
    }
}

impl Live {
    /// Returns the last event that was delivered.
    fn end(&self) -> Cursor {
        Cursor { epoch: self.epoch, seq: self.last }
    }

    /// Returns the last event before the first gap.
    fn dense(&self) -> Seq {
        self.missing.first().map_or(self.last, |(from, _)| from.prev())
    }

    /// Returns the seq of this cursor if it is of the subscribed epoch.
    fn reached(&self, cursor: Option<Cursor>) -> Seq {
        cursor.filter(|cursor| cursor.epoch == self.epoch).map_or(Seq::ZERO, |cursor| cursor.seq)
    }

    /// Returns the seq after which it may continue: its last event before the first gap or, after a
    /// resume, what was confirmed of the received events.
    fn ready(&self, confirmed: Option<Cursor>, complete_to: Option<Cursor>) -> Seq {
        if !self.may_move || !self.missing.is_empty() {
            return self.dense();
        }
        self.last.max(self.reached(confirmed).min(self.reached(complete_to)))
    }

    fn take(&mut self, seq: Seq) -> Option<(Rule, &'static str)> {
        if seq > self.last {
            if seq != self.last.next() {
                // No violation yet: a later event shows whether this is a gap or a swap.
                self.missing.push((self.last.next(), seq.prev()));
            }
            self.last = seq;
            return None;
        }
        if seq <= self.start {
            return Some((Rule::Duplicated, "is not after the cursor where this connection began"));
        }
        let Some(gap) = self.missing.iter().position(|(from, to)| (*from..=*to).contains(&seq))
        else {
            return Some((Rule::Duplicated, "was delivered twice"));
        };
        let (from, to) = self.missing.remove(gap);
        let rest =
            [(from, seq.prev()), (seq.next(), to)].into_iter().filter(|(from, to)| from <= to);
        self.missing.splice(gap..gap, rest);
        Some((Rule::OutOfOrder, "was delivered after a later one"))
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
            return Some((Rule::AfterRemoval, "was delivered after `denied`"));
        }
        let Some(live) = &mut self.live else {
            return Some((Rule::PartialResume, "was delivered before any status of the room"));
        };
        if live.epoch != at.epoch {
            return Some((Rule::StaleEpoch, "is of another epoch than the subscription"));
        }
        // It goes back, or continues after what was confirmed of the received events.
        let ready = live.ready(self.confirmed, self.complete_to).next();
        let moves = live.may_move && live.missing.is_empty() && at.seq != live.last.next();
        if moves && at.seq <= ready {
            advance(&mut self.complete_to, live.end());
            (live.last, live.may_move) = (at.seq.prev(), false);
            live.start = live.start.min(live.last);
        }
        let order = live.take(at.seq);
        let removed = self.removed.filter(|removed| at.seq > *removed);
        removed.map(|_| (Rule::AfterRemoval, "is beyond the removal")).or(order)
    }

    /// Ends the room on this connection: skipped events are missing now.
    fn settle(&mut self, who: &str, room: &RoomId, record: &Record) -> Option<Live> {
        let live = self.live.take()?;
        for (from, to) in &live.missing {
            let promised = live.promised.min(*to).since(from.prev());
            let detail =
                || format!("{who} in {room}: {from} to {to} skipped, later ones delivered");
            record.tally.add_many(Rule::PartialResume, promised, detail);
            record.tally.add_many(Rule::SilentGap, to.since(from.prev()) - promised, detail);
        }
        advance(&mut self.complete_to, live.end());
        Some(live)
    }

    /// Checks at the end that no event of the room is missing.
    fn check_end(&self, who: &str, room: &RoomId, live: &Live, record: &Record) {
        let Some(head) = self.book.lock().head() else { return };
        if live.epoch != head.epoch {
            let detail =
                || format!("{who} in {room}: still in epoch {}, not {}", live.epoch, head.epoch);
            record.tally.add(Rule::StaleEpoch, detail);
            return;
        }
        let end = self.removed.unwrap_or(Seq::MAX).min(head.seq);
        let detail = || format!("{who} in {room}: ends at {}, the room at {end}", live.last);
        // Events up to the head in the status are a partial resume if missing, even if an earlier
        // connection delivered them.
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
            format!("{who} in {room}: {stale:?} older at the end than acked")
        });
    }

    /// Returns the keys of which a newer value was named.
    fn stale(&self) -> BTreeSet<StateKey> {
        let log = self.book.lock();
        let stale = log
            .applied
            .iter()
            .filter(|(key, stamp)| self.state.get(*key).is_none_or(|held| held < *stamp));
        stale.map(|(key, _)| key.clone()).collect()
    }
}
