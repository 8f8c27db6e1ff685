//! The rules for pushes, applied by one peer to each frame.
//!
//! On one stream (an event stream, a WebSocket, one poll) each room begins with a status or, if the
//! stream was opened with a stream position, at that position; from there each event is the next
//! one. A begin after the peer's cursor is a gap, and a begin before its stream position ignores
//! that position. In a run nothing is trimmed, no room is deleted and no access is revoked, so a
//! `gap`, a `reset` or a `denied` is always a finding.
//! loses a right, so a `gap`, a `reset` or a `denied` accounts for nothing.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Shared;

/// Number of frames of each peer that are shown with a finding.
const LAST: usize = 80;

/// A room to which the peer subscribes.
#[derive(Debug)]
pub(super) struct Room {
    /// Its number among all rooms.
    pub(super) nth: usize,
    pub(super) name: String,
    pub(super) epoch: String,
    /// All events up to here have been received.
    pub(super) cursor: u64,
    pub(super) is_subscribed: bool,
    /// Whether a status on a stream has answered the last request.
    pub(super) is_settled: bool,
}

/// The state of a room on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Here {
    /// A status must come first.
    Unsaid,
    /// The stream position defines the begin; the first event, or a status, comes after it. If the
    /// room was requested again since, earlier pushes may arrive until the server's stream half has
    /// read the checkpoint.
    Resumed(u64),
    /// The last event, or the begin of the status.
    At(u64),
}

/// A stream position, and the peer's state when it was received.
#[derive(Debug, Clone)]
pub(super) struct Position {
    pub(super) text: String,
    here: Vec<Option<u64>>,
}

#[derive(Debug)]
enum What {
    /// Events from one seq to another.
    Events(usize, u64, u64),
    Status(usize, u64),
    Note(String),
}

/// The view of one peer.
#[derive(Debug)]
pub(super) struct Judge {
    who: String,
    pub(super) rooms: Vec<Room>,
    by_name: HashMap<String, usize>,
    here: Vec<Here>,
    stream: u64,
    last: VecDeque<(Duration, u64, What)>,
    shared: Arc<Shared>,
    begun: Instant,
}

impl Judge {
    /// Creates a peer that has all events of these rooms (number, name, epoch) up to their first
    /// one.
    pub(super) fn new(
        who: String,
        rooms: impl IntoIterator<Item = (usize, String, String)>,
        shared: Arc<Shared>,
    ) -> Self {
        let room = |(nth, name, epoch)| Room {
            nth,
            name,
            epoch,
            cursor: 1,
            is_subscribed: true,
            is_settled: false,
        };
        let rooms: Vec<_> = rooms.into_iter().map(room).collect();
        let by_name = rooms.iter().enumerate().map(|(at, room)| (room.name.clone(), at)).collect();
        let here = vec![Here::Unsaid; rooms.len()];
        let (last, begun) = (VecDeque::with_capacity(LAST), Instant::now());
        Self { who, rooms, by_name, here, stream: 0, last, shared, begun }
    }

    /// Starts a stream, from a position or from the checkpoint.
    pub(super) fn opened(&mut self, from: Option<&Position>) {
        self.stream += 1;
        for (at, here) in self.here.iter_mut().enumerate() {
            let place = from.and_then(|from| from.here[at]);
            *here = place.map_or(Here::Unsaid, Here::Resumed);
        }
        let from = from.map_or("the checkpoint".into(), |from| short(&from.text));
        self.note(format!("opened from {from}"));
    }

    /// Records a stream position, which covers all frames before it.
    pub(super) fn position(&mut self, text: String) -> Position {
        let here = self.here.iter().map(|here| match here {
            Here::Resumed(seq) | Here::At(seq) => Some(*seq),
            Here::Unsaid => None,
        });
        let position = Position { here: here.collect(), text };
        self.note(format!("position {}", short(&position.text)));
        position
    }

    /// Records that the peer requests the room again, by `subscribe` or `resume`.
    pub(super) fn asks(&mut self, at: usize) {
        let room = &mut self.rooms[at];
        (room.is_settled, room.is_subscribed) = (false, true);
    }

    /// Checks the answer to that on another connection than the stream: it must be `ok`, from the
    /// requested cursor if there was one.
    pub(super) fn answered(&mut self, status: &Value, since: Option<u64>) {
        let Some((at, seq)) = self.status_of(status) else { return };
        self.note(format!("answer {}#{seq}", self.rooms[at].name));
        let room = &mut self.rooms[at];
        match since {
            Some(since) if since != seq => {
                self.wrong(&format!("was requested from {since} and answered from {seq}"), at);
            }
            Some(_) => {}
            // Events of the former subscription may have arrived meanwhile.
            None => room.cursor = room.cursor.max(seq),
        }
    }

    /// Records that the peer unsubscribes from the room.
    pub(super) fn left(&mut self, at: usize) {
        self.rooms[at].is_subscribed = false;
        self.note(format!("unsubscribed {}", self.rooms[at].name));
    }

    /// Notes an action of the peer.
    pub(super) fn note(&mut self, what: String) {
        self.keep(What::Note(what));
    }

    /// Checks a push of an event or a room's status. Others are ignored.
    pub(super) fn push(&mut self, frame: &Value) {
        match frame["t"].as_str() {
            Some("event") => self.event(frame),
            Some("room") => self.status(frame),
            _ => {}
        }
    }

    /// Checks a status on the stream.
    pub(super) fn status(&mut self, frame: &Value) {
        let Some((at, seq)) = self.status_of(frame) else { return };
        self.keep(What::Status(at, seq));
        let room = &mut self.rooms[at];
        let (cursor, was_settled) = (room.cursor, std::mem::replace(&mut room.is_settled, true));
        if seq > cursor {
            self.wrong(&format!("GAP: `ok` from {seq}, after {cursor}"), at);
        }
        // After a stream position a room may get a status again, from its checkpoint.
        if let Here::At(last) = self.here[at]
            && seq < last
            && was_settled
        {
            self.wrong(&format!("`ok` from {seq}, after {last} on this stream"), at);
        }
        self.here[at] = Here::At(seq);
    }

    fn event(&mut self, frame: &Value) {
        let (Some(at), Some(seq)) = (self.room_of(frame), frame["seq"].as_u64()) else { return };
        self.keep(What::Events(at, seq, seq));
        self.shared.judged();
        if frame["epoch"] != *self.rooms[at].epoch {
            return self.wrong(&format!("an event of another epoch: {}", frame["epoch"]), at);
        }
        let cursor = self.rooms[at].cursor;
        let wrong = match self.here[at] {
            Here::At(last) if seq == last + 1 => None,
            Here::At(last) if seq > last => Some(format!("GAP: {last}, then {seq}")),
            Here::At(last) => Some(format!("{last}, then {seq} on one stream")),
            Here::Resumed(from) if seq <= from => {
                Some(format!("{seq}, not after the stream position, {from}"))
            }
            Here::Resumed(_) if seq > cursor + 1 => Some(format!("GAP: {cursor}, then {seq}")),
            Here::Resumed(_) => None,
            Here::Unsaid => Some(format!("{seq}, before any status of the room")),
        };
        if let Some(wrong) = wrong {
            self.wrong(&wrong, at);
        }
        self.here[at] = Here::At(seq);
        let room = &mut self.rooms[at];
        if seq > room.cursor {
            room.cursor = seq;
            self.shared.moved();
        }
        let mid = frame["mid"].as_str();
        if let Err(wrong) = self.shared.logs.saw(room.nth, seq, mid, print(frame)) {
            self.wrong(&wrong, at);
        }
    }

    /// Returns room and cursor of a status that is valid in such a run.
    fn status_of(&mut self, frame: &Value) -> Option<(usize, u64)> {
        let at = self.room_of(frame)?;
        let seq = frame["cursor"].as_u64();
        match (frame["status"].as_str(), seq) {
            (Some("ok"), Some(seq)) if frame["epoch"] == *self.rooms[at].epoch => Some((at, seq)),
            _ => {
                self.wrong(&format!("no cause for {frame}"), at);
                None
            }
        }
    }

    fn room_of(&mut self, frame: &Value) -> Option<usize> {
        let at = frame["room"].as_str().and_then(|room| self.by_name.get(room)).copied();
        if at.is_none() {
            let text = format!("{}: not requested: {frame}", self.who);
            self.shared.found(text);
        }
        at
    }

    /// Returns whether all subscribed rooms are at their heads and all requests have their
    /// statuses.
    pub(super) fn is_in_sync(&self) -> bool {
        self.missing().next().is_none()
    }

    /// Describes the rooms that are not.
    pub(super) fn missing(&self) -> impl Iterator<Item = String> {
        self.rooms.iter().filter(|room| room.is_subscribed).filter_map(|room| {
            let head = self.shared.logs.head(room.nth);
            let missing = room.cursor < head || !room.is_settled;
            let (who, has, said) = (&self.who, room.cursor, room.is_settled);
            missing
                .then(|| format!("{who} has {has} of {head} in {}, status said: {said}", room.name))
        })
    }

    fn keep(&mut self, what: What) {
        if let (What::Events(at, seq, _), Some((_, stream, What::Events(before, _, last)))) =
            (&what, self.last.back_mut())
            && (at, *seq, self.stream) == (before, *last + 1, *stream)
        {
            *last = *seq;
            return;
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back((self.begun.elapsed(), self.stream, what));
    }

    fn wrong(&mut self, what: &str, at: usize) {
        let mut text = format!("{} in {}: {what}; the last frames:", self.who, self.rooms[at].name);
        for (time, stream, frame) in &self.last {
            let _ = write!(text, "\n    {:9.3} stream {stream}: ", time.as_secs_f64());
            let _ = match frame {
                What::Events(at, from, to) => {
                    write!(text, "{}#{from}..={to}", self.rooms[*at].name)
                }
                What::Status(at, seq) => write!(text, "status {}#{seq}", self.rooms[*at].name),
                What::Note(note) => write!(text, "{note}"),
            };
        }
        self.shared.found(text);
    }
}

/// Returns the end of a stream position, which differs most.
fn short(position: &str) -> String {
    format!("…{}", &position[position.len().saturating_sub(16)..])
}

fn print(event: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    for field in ["from", "at", "kind", "mid", "content"] {
        event[field].to_string().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judge() -> (Arc<Shared>, Judge) {
        let shared = Arc::new(Shared::new(2, 100));
        let rooms = [(0, "a".to_owned(), "1.1".to_owned()), (1, "b".to_owned(), "1.1".to_owned())];
        let judge = Judge::new("peer".into(), rooms, shared.clone());
        (shared, judge)
    }

    fn event(room: &str, seq: u64) -> Value {
        json!({"t": "event", "room": room, "epoch": "1.1", "seq": seq, "mid": format!("m{seq}")})
    }

    fn status(room: &str, seq: u64) -> Value {
        json!({"t": "room", "room": room, "status": "ok", "epoch": "1.1", "cursor": seq, "head": 9})
    }

    /// Returns the number of findings after a stream from the checkpoint with these frames.
    fn found(frames: &[Value]) -> u64 {
        let (shared, mut judge) = judge();
        judge.opened(None);
        frames.iter().for_each(|frame| judge.push(frame));
        shared.findings()
    }

    #[test]
    fn dense_stream_passes() {
        assert_eq!(found(&[status("a", 1), event("a", 2), status("b", 1), event("a", 3)]), 0);
    }

    /// The judge reports skipped and redelivered events and events before any room status.
    #[test]
    fn skip_duplicate_missing_status_are_found() {
        assert_eq!(found(&[status("a", 1), event("a", 3)]), 1, "skipped");
        assert_eq!(found(&[status("a", 1), event("a", 2), event("a", 2)]), 1, "redelivered");
        assert_eq!(found(&[event("a", 2)]), 1, "no status");
        assert_eq!(found(&[status("a", 2)]), 1, "begins beyond the cursor");
        assert_eq!(found(&[status("a", 1), event("a", 2), status("a", 1)]), 1, "goes back");
        assert_eq!(found(&[event("c", 2)]), 1, "not requested");
        let other = json!({"t": "event", "room": "a", "epoch": "1.2", "seq": 2});
        assert_eq!(found(&[status("a", 1), other]), 1);
        for word in ["gap", "reset", "denied"] {
            let mut status = status("a", 1);
            status["status"] = word.into();
            assert_eq!(found(&[status]), 1, "{word}");
        }
    }

    /// Resuming at an older stream position may redeliver events but may not skip any.
    #[test]
    fn older_position_redelivers_without_skips() {
        let (shared, mut judge) = judge();
        judge.opened(None);
        [status("a", 1), status("b", 1), event("a", 2)].iter().for_each(|frame| judge.push(frame));
        let older = judge.position("older".into());
        (3..=5).for_each(|seq| judge.push(&event("a", seq)));
        judge.opened(Some(&older));
        (3..=6).for_each(|seq| judge.push(&event("a", seq)));
        assert_eq!(shared.findings(), 0);
        judge.opened(Some(&older));
        judge.push(&event("a", 2));
        assert_eq!(shared.findings(), 1, "an event before the position");
        judge.opened(Some(&older));
        judge.push(&event("a", 8));
        assert_eq!(shared.findings(), 2, "a second event after 6");
        judge.opened(Some(&older));
        judge.push(&event("b", 2));
        assert_eq!(shared.findings(), 2);
    }

    /// A room that is subscribed again gets one more status, which must be requested.
    #[test]
    fn resubscribed_room_gets_status_once() {
        let (shared, mut judge) = judge();
        judge.opened(None);
        [status("a", 1), status("b", 1), event("a", 2)].iter().for_each(|frame| judge.push(frame));
        judge.asks(0);
        judge.answered(&status("a", 1), Some(1));
        // Events in flight still arrive.
        judge.push(&event("a", 3));
        assert!(!judge.is_in_sync());
        let unaware = judge.position("unaware".into());
        judge.opened(Some(&unaware));
        [event("a", 4), status("a", 1), event("a", 2)].iter().for_each(|frame| judge.push(frame));
        assert_eq!(shared.findings(), 0);
        assert!(judge.is_in_sync());
        judge.push(&status("a", 1));
        assert_eq!(shared.findings(), 1, "a status without a request");
    }

    #[test]
    fn answer_must_match_requested_cursor() {
        let (shared, mut judge) = judge();
        judge.answered(&status("a", 2), Some(1));
        assert_eq!(shared.findings(), 1);
        judge.answered(&status("a", 5), None);
        judge.opened(None);
        judge.push(&status("a", 5));
        assert_eq!(shared.findings(), 1, "a subscription from the head skips nothing");
    }

    /// A peer is in sync once it has the head of each room.
    #[test]
    fn peer_is_in_sync_at_heads() {
        let (shared, mut judge) = judge();
        shared.logs.acked(1, 2, "m2").unwrap();
        judge.opened(None);
        judge.push(&status("a", 1));
        assert_eq!(
            judge.missing().collect::<Vec<_>>(),
            ["peer has 1 of 2 in b, status said: false"]
        );
        judge.opened(None);
        [status("a", 1), status("b", 1), event("b", 2)].iter().for_each(|frame| judge.push(frame));
        assert!(judge.is_in_sync());
    }
}
