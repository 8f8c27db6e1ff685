//! The trace of one client: its commands and the frames that it received, one in each line.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use im_core::wire::{ErrorReply, Push, RoomStatus, ServerFrame, Value};
use im_core::{RoomId, Seq};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::transport::Transport;

/// The newest lines that are stored for each client. Consecutive events of one room make one line.
const LINES: usize = 20_000;
/// Maximum bytes of a line: a `resume` may name hundreds of rooms.
const LINE: usize = 4_096;

/// The trace of one client.
#[derive(Debug)]
pub(super) struct Trace {
    begun: Instant,
    lines: Mutex<VecDeque<Line>>,
}

#[derive(Debug)]
struct Line {
    at: Duration,
    what: What,
}

#[derive(Debug)]
enum What {
    Events { room: RoomId, from: Seq, to: Seq },
    Said(String),
}

impl Default for Trace {
    fn default() -> Self {
        Self { begun: Instant::now(), lines: Mutex::default() }
    }
}

impl Trace {
    /// Records a connect, with the number of kills of the server so far.
    pub(super) fn connects(&self, transport: Transport, kills: u64) {
        self.say(format!("connects over {transport}, kills so far: {kills}"));
    }

    /// Records a command other than a send.
    pub(super) fn asks(&self, command: &Value) {
        self.say(format!("asks {command:?}"));
    }

    /// Records a request for pushes, from a position if there is one, on a new socket if it is
    /// `new`.
    pub(super) fn listens(&self, head: &[u8], new: bool) {
        let head = String::from_utf8_lossy(head);
        let position = |line: &&str| line.to_ascii_lowercase().starts_with("last-event-id");
        let request = head.lines().next().unwrap_or_default();
        let position = head.lines().find(position).unwrap_or_default();
        let socket = if new { "new socket" } else { "same socket" };
        self.say(format!("listens, {socket}: {request} {position}"));
    }

    /// Records a frame. Acks of sends and values of keyed state are left out.
    pub(super) fn frame(&self, frame: &ServerFrame) {
        match frame {
            ServerFrame::Push(Push::Event(event)) => self.event(&event.room, event.seq),
            ServerFrame::Push(Push::Room(status)) => self.say(format!("pushed {}", short(status))),
            ServerFrame::Push(Push::Position(at)) => self.say(format!("position {at}")),
            ServerFrame::Push(Push::Disconnect(disconnect)) => self.say(format!("{disconnect:?}")),
            ServerFrame::Ok { id, body } if body.get("rooms").is_some() => {
                let statuses = RoomStatus::list_from_value(body.clone());
                let said = statuses.map_or_else(
                    |error| error.to_string(),
                    |(statuses, rev, _)| {
                        let statuses: Vec<_> = statuses.iter().map(short).collect();
                        format!("rev {rev}: {}", statuses.join(", "))
                    },
                );
                self.say(format!("ok {}: {said}", id.0));
            }
            ServerFrame::Ok { body, .. } if body.get("duplicate").is_some() => {}
            ServerFrame::Ok { id, body } => self.say(format!("ok {}: {body:?}", id.0)),
            ServerFrame::Err(ErrorReply { id, code, message, .. }) => {
                self.say(format!("err {:?}: {code} {message}", id.map(|id| id.0)));
            }
            ServerFrame::Push(_) | ServerFrame::Unknown => {}
        }
    }

    /// Writes the lines to `folder`, under the client's name.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(super) fn write(&self, folder: &Path, client: &str) -> Result<()> {
        let mut text = String::new();
        for Line { at, what } in self.lines.lock().iter() {
            let at = at.as_secs_f64();
            // Writing to a string does not fail.
            let _ = match what {
                What::Events { room, from, to } => {
                    writeln!(text, "{at:9.3} {room} {from} to {to}")
                }
                What::Said(said) => writeln!(text, "{at:9.3} {said}"),
            };
        }
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(folder.join(format!("{client}.log")), text))
            .with_context(|| format!("write the trace of {client} to {}", folder.display()))
    }

    fn event(&self, room: &RoomId, seq: Seq) {
        if let Some(Line { what: What::Events { room: before, to, .. }, .. }) =
            self.lines.lock().back_mut()
            && before == room
            && to.next() == seq
        {
            *to = seq;
            return;
        }
        self.add(What::Events { room: room.clone(), from: seq, to: seq });
    }

    fn say(&self, mut said: String) {
        let end = said.floor_char_boundary(LINE);
        said.truncate(end);
        self.add(What::Said(said));
    }

    fn add(&self, what: What) {
        let at = self.begun.elapsed();
        let mut lines = self.lines.lock();
        if lines.len() >= LINES {
            lines.pop_front();
        }
        lines.push_back(Line { at, what });
    }
}

fn short(status: &RoomStatus) -> String {
    let RoomStatus { room, status, cursor, head, code } = status;
    let at = cursor.map_or("nowhere".to_owned(), |cursor| cursor.seq.to_string());
    let code = code.map_or(String::new(), |code| format!(" ({code})"));
    format!("{room} {status:?} at {at} of {head}{code}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_events_make_one_line() {
        let trace = Trace::default();
        let (tea, tao) = (RoomId::new("tea").unwrap(), RoomId::new("tao").unwrap());
        let event = |room: &RoomId, n: u64| trace.event(room, Seq::new(n).unwrap());
        (3..=5).for_each(|n| event(&tea, n));
        event(&tao, 6);
        event(&tea, 6);
        event(&tea, 8);
        let folder = tempfile::tempdir().unwrap();
        trace.write(folder.path(), "bob").unwrap();
        let text = fs::read_to_string(folder.path().join("bob.log")).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_at(10).1).collect();
        assert_eq!(lines, ["tea 3 to 5", "tao 6 to 6", "tea 6 to 6", "tea 8 to 8"]);
    }

    #[test]
    fn oldest_lines_are_dropped() {
        let trace = Trace::default();
        (0..=LINES).for_each(|n| trace.say(format!("line {n}")));
        let lines = trace.lines.lock();
        assert_eq!(lines.len(), LINES);
        assert!(matches!(&lines[0].what, What::Said(said) if said == "line 1"));
    }
}
