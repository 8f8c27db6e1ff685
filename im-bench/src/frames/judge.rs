//! The rules of what comes down, as one peer sees it: frame by frame, with no patience.
//!
//! On one stream (an event stream, a WebSocket, one poll) each room begins by a status, or, where the stream was opened with a
//! stream position, where that says; from there each event is the next one. What begins after the peer's cursor has skipped,
//! and what begins before its stream position has not honoured that. In a run nothing is trimmed, no room ends, and nobody
//! loses a right, so a `gap`, a `reset` or a `denied` accounts for nothing.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Shared;

/// Frames kept of each peer, to be shown with what was wrong.
const LAST: usize = 80;

/// A room that the peer subscribes to.
#[derive(Debug)]
pub(super) struct Room {
    /// Its number among all rooms.
    pub(super) nth: usize,
    pub(super) name: String,
    pub(super) epoch: String,
    /// Everything up to here has come.
    pub(super) cursor: u64,
    pub(super) is_subscribed: bool,
    /// A status on a stream has answered the last request to begin anew.
    pub(super) is_settled: bool,
}

/// How far the stream is in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Here {
    /// A status has to come first.
    Unsaid,
    /// The stream position said so; the first event, or a status, comes after that. Where the room was asked for anew since,
    /// what comes may for a while be from before the server's downlink has looked.
    Resumed(u64),
    /// The last event, or where the status began.
    At(u64),
}

/// A stream position, and how far the peer was when it came.
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

/// One peer's view.
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
    /// A peer that has everything of these rooms (number, name, epoch) up to their first event.
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

    /// A stream begins, from a position or from the checkpoint.
    pub(super) fn opened(&mut self, from: Option<&Position>) {
        self.stream += 1;
        for (at, here) in self.here.iter_mut().enumerate() {
            let place = from.and_then(|from| from.here[at]);
            *here = place.map_or(Here::Unsaid, Here::Resumed);
        }
        let from = from.map_or("the checkpoint".into(), |from| short(&from.text));
        self.note(format!("opened from {from}"));
    }

    /// A stream position came, after all that came before it.
    pub(super) fn position(&mut self, text: String) -> Position {
        let here = self.here.iter().map(|here| match here {
            Here::Resumed(seq) | Here::At(seq) => Some(*seq),
            Here::Unsaid => None,
        });
        let position = Position { here: here.collect(), text };
        self.note(format!("position {}", short(&position.text)));
        position
    }

    /// The peer is about to ask for the room anew, by `subscribe` or `resume`.
    pub(super) fn asks(&mut self, at: usize) {
        let room = &mut self.rooms[at];
        (room.is_settled, room.is_subscribed) = (false, true);
    }

    /// The answer to that, on another way than the stream: a status that must be `ok`, at the cursor that was named if one
    /// was.
    pub(super) fn answered(&mut self, status: &Value, since: Option<u64>) {
        let Some((at, seq)) = self.status_of(status) else { return };
        self.note(format!("answer {}#{seq}", self.rooms[at].name));
        let room = &mut self.rooms[at];
        match since {
            Some(since) if since != seq => {
                self.wrong(&format!("was asked from {since} and answered from {seq}"), at);
            }
            Some(_) => {}
            // Events of the former subscription may have come while this was on its way.
            None => room.cursor = room.cursor.max(seq),
        }
    }

    /// The peer does not follow the room any more.
    pub(super) fn left(&mut self, at: usize) {
        self.rooms[at].is_subscribed = false;
        self.note(format!("unsubscribed {}", self.rooms[at].name));
    }

    /// What the peer does.
    pub(super) fn note(&mut self, what: String) {
        self.keep(What::Note(what));
    }

    /// A push of an event or a room's status. Others are none of the judge's.
    pub(super) fn push(&mut self, frame: &Value) {
        match frame["t"].as_str() {
            Some("event") => self.event(frame),
            Some("room") => self.status(frame),
            _ => {}
        }
    }

    /// A status on the stream, where it counts.
    pub(super) fn status(&mut self, frame: &Value) {
        let Some((at, seq)) = self.status_of(frame) else { return };
        self.keep(What::Status(at, seq));
        let room = &mut self.rooms[at];
        let (cursor, was_settled) = (room.cursor, std::mem::replace(&mut room.is_settled, true));
        if seq > cursor {
            self.wrong(&format!("HOLE: `ok` from {seq}, and {cursor} was the last that came"), at);
        }
        // After a stream position a room may be told anew, from its checkpoint.
        if let Here::At(last) = self.here[at]
            && seq < last
            && was_settled
        {
            self.wrong(&format!("`ok` from {seq}, and {last} has come on this stream"), at);
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
            Here::At(last) if seq > last => Some(format!("HOLE: {last}, then {seq}")),
            Here::At(last) => Some(format!("{last}, then {seq} on one stream")),
            Here::Resumed(from) if seq <= from => {
                Some(format!("{seq}, not after the stream position, {from}"))
            }
            Here::Resumed(_) if seq > cursor + 1 => {
                Some(format!("HOLE: {cursor} was the last that came, then {seq}"))
            }
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

    /// The room and the cursor of a status that is as it must be in such a run.
    fn status_of(&mut self, frame: &Value) -> Option<(usize, u64)> {
        let at = self.room_of(frame)?;
        let seq = frame["cursor"].as_u64();
        match (frame["status"].as_str(), seq) {
            (Some("ok"), Some(seq)) if frame["epoch"] == *self.rooms[at].epoch => Some((at, seq)),
            _ => {
                self.wrong(&format!("there is no cause for {frame}"), at);
                None
            }
        }
    }

    fn room_of(&mut self, frame: &Value) -> Option<usize> {
        let at = frame["room"].as_str().and_then(|room| self.by_name.get(room)).copied();
        if at.is_none() {
            let text = format!("{}: nobody asked for {frame}", self.who);
            self.shared.found(text);
        }
        at
    }

    /// Whether all rooms that are followed have come to their heads, and all that was asked for was said.
    pub(super) fn is_in_sync(&self) -> bool {
        self.missing().next().is_none()
    }

    /// Those that have not, in words.
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

/// The end of a stream position, which differs most.
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

    /// How many findings there are after a stream from the checkpoint with these frames.
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
        assert_eq!(found(&[status("a", 1), event("a", 2), event("a", 2)]), 1, "repeated");
        assert_eq!(found(&[event("a", 2)]), 1, "no status");
        assert_eq!(found(&[status("a", 2)]), 1, "begins too far");
        assert_eq!(found(&[status("a", 1), event("a", 2), status("a", 1)]), 1, "goes back");
        assert_eq!(found(&[event("c", 2)]), 1, "not asked for");
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
        assert_eq!(shared.findings(), 1, "before the position");
        judge.opened(Some(&older));
        judge.push(&event("a", 8));
        assert_eq!(shared.findings(), 2, "6 was the last");
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
        // What was on its way still comes.
        judge.push(&event("a", 3));
        assert!(!judge.is_in_sync());
        let unaware = judge.position("unaware".into());
        judge.opened(Some(&unaware));
        [event("a", 4), status("a", 1), event("a", 2)].iter().for_each(|frame| judge.push(frame));
        assert_eq!(shared.findings(), 0);
        assert!(judge.is_in_sync());
        judge.push(&status("a", 1));
        assert_eq!(shared.findings(), 1, "nobody asked again");
    }

    #[test]
    fn answer_must_match_requested_cursor() {
        let (shared, mut judge) = judge();
        judge.answered(&status("a", 2), Some(1));
        assert_eq!(shared.findings(), 1);
        judge.answered(&status("a", 5), None);
        judge.opened(None);
        judge.push(&status("a", 5));
        assert_eq!(shared.findings(), 1, "from the head, nothing was skipped");
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
