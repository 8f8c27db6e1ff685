//! The events of each room that any peer received, and the acks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The rooms by number.
#[derive(Debug)]
pub(super) struct RoomLogs(Vec<Mutex<RoomLog>>);

/// One room's log.
#[derive(Debug, Default)]
struct RoomLog {
    /// A fingerprint of each event, by seq.
    events: Vec<Option<u64>>,
    /// The seq at which each message was received.
    seen: HashMap<String, u64>,
    /// The seq in the ack of each message.
    acked: HashMap<String, u64>,
    /// The greatest acked seq.
    head: u64,
}

impl RoomLogs {
    pub(super) fn new(rooms: usize) -> Self {
        Self((0..rooms).map(|_| Mutex::default()).collect())
    }

    /// Records a pushed event. Returns a description if another event was pushed under its seq, or
    /// its message under another seq.
    pub(super) fn saw(
        &self,
        room: usize,
        seq: u64,
        mid: Option<&str>,
        print: u64,
    ) -> Result<(), String> {
        let mut log = self.0[room].lock();
        let at = usize::try_from(seq).map_err(|_| format!("{seq} is not a valid seq"))?;
        if log.events.len() <= at {
            log.events.resize(at + 1, None);
        }
        match log.events[at] {
            Some(before) if before == print => return Ok(()),
            Some(_) => return Err(format!("another peer received another event at {seq}")),
            None => log.events[at] = Some(print),
        }
        let Some(mid) = mid else { return Ok(()) };
        match log.seen.entry(mid.to_owned()) {
            Entry::Occupied(before) if *before.get() != seq => {
                Err(format!("{mid} was received at {} and at {seq}", before.get()))
            }
            Entry::Occupied(_) => Ok(()),
            Entry::Vacant(place) => {
                place.insert(seq);
                Ok(())
            }
        }
    }

    /// Records the ack of a send. Returns a description if it was acked at another seq before.
    pub(super) fn acked(&self, room: usize, seq: u64, mid: &str) -> Result<(), String> {
        let mut log = self.0[room].lock();
        log.head = log.head.max(seq);
        match log.acked.insert(mid.to_owned(), seq).filter(|before| *before != seq) {
            Some(before) => Err(format!("{mid} was acked at {before} and at {seq}")),
            None => Ok(()),
        }
    }

    /// Returns the greatest acked seq of a room.
    pub(super) fn head(&self, room: usize) -> u64 {
        self.0[room].lock().head
    }

    /// Returns the acked messages of subscribed rooms that were not received at their seq, after
    /// all peers are in sync.
    pub(super) fn close(&self, subscribed: &[AtomicU64]) -> Vec<String> {
        let mut wrong = Vec::new();
        for (room, log) in self.0.iter().enumerate() {
            if subscribed[room].load(Ordering::Relaxed) == 0 {
                continue;
            }
            let log = log.lock();
            for (mid, seq) in &log.acked {
                let seen = log.seen.get(mid);
                if seen != Some(seq) {
                    wrong.push(format!(
                        "room {room}: {mid} was acked at {seq} and received at {seen:?}"
                    ));
                }
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_event_under_same_seq_fails() {
        let logs = RoomLogs::new(1);
        logs.saw(0, 1, Some("m1"), 7).unwrap();
        logs.saw(0, 1, Some("m1"), 7).unwrap();
        assert!(logs.saw(0, 1, Some("m2"), 8).is_err());
        assert!(logs.saw(0, 2, Some("m1"), 7).is_err());
    }

    #[test]
    fn acknowledged_send_seen_elsewhere_is_found() {
        let logs = RoomLogs::new(2);
        logs.acked(0, 3, "m1").unwrap();
        logs.acked(1, 9, "m2").unwrap();
        assert_eq!(logs.head(0), 3);
        assert!(logs.acked(0, 4, "m1").is_err());
        let logs = RoomLogs::new(2);
        logs.acked(0, 3, "m1").unwrap();
        logs.acked(1, 9, "m2").unwrap();
        let subscribed = [AtomicU64::new(1), AtomicU64::new(0)];
        assert_eq!(logs.close(&subscribed).len(), 1, "the second room has no subscriber");
        logs.saw(0, 3, Some("m1"), 7).unwrap();
        assert_eq!(logs.close(&subscribed), [""; 0]);
    }
}
