//! A generated chat log: any length, any number of rooms, determined by the seed.

use std::time::Duration;

use anyhow::{Result, ensure};
use im_core::RoomId;

use super::log::{Line, Log, mix};

/// Number of speakers for each room.
const PEOPLE_PER_ROOM: u64 = 10;

/// Number of rooms in which one of them speaks.
const HOMES: u64 = 8;

/// One line in so many is the channel's own.
const SYSTEM: u64 = 50;

/// Maximum words of a text.
const WORDS: u64 = 24;

const VOCABULARY: [&str; 12] = [
    "tea",
    "kettle",
    "ready",
    "who",
    "später",
    "до",
    "завтра",
    "お茶",
    "ok",
    "::",
    "🫖",
    "anybody",
];

impl Log {
    /// Generates `lines` lines in `rooms` rooms.
    ///
    /// Some rooms are busier than others: half of the lines are in a quarter of the rooms. Each
    /// speaker has lines in a few of them. Texts are empty up to some hundred bytes long, and not
    /// all ASCII.
    ///
    /// # Errors
    ///
    /// If there are fewer lines than rooms.
    pub(super) fn synthetic(lines: u64, rooms: u64, seed: u64) -> Result<Self> {
        ensure!(
            (1..=lines).contains(&rooms),
            "{lines} lines cannot fill {rooms} rooms: name from 1 to {lines} by --rooms"
        );
        let mut log = Self::default();
        for nth in 0..rooms {
            log.rooms.push(RoomId::new(format!("synthetic-{nth}"))?);
        }
        let seed = mix(seed);
        log.lines.extend((0..lines).map(|nth| line(nth, rooms, seed)));
        Ok(log)
    }
}

fn line(nth: u64, rooms: u64, seed: u64) -> Line {
    let mut draws = seed ^ mix(nth);
    let mut draw = |below: u64| {
        draws = mix(draws);
        draws % below
    };
    let person = draw(PEOPLE_PER_ROOM * rooms);
    // Each room has a line, of any speaker.
    let room = if nth < rooms { nth } else { home(person, draw(HOMES), rooms, seed) };
    let kind = if draw(SYSTEM) == 0 { "system" } else { "text" };
    let words: Vec<_> =
        (0..draw(WORDS + 1)).map(|_| VOCABULARY[draw(VOCABULARY.len() as u64) as usize]).collect();
    Line {
        number: nth + 1,
        room: room as usize,
        due: Duration::from_secs(nth),
        at: format!("second {nth}").into(),
        nick: format!("person-{person}").into(),
        kind: kind.into(),
        text: words.join(" ").into(),
    }
}

/// Returns one of the rooms of a speaker. The square makes those with low numbers busier.
fn home(person: u64, nth: u64, rooms: u64, seed: u64) -> u64 {
    let part = mix(seed ^ (person * HOMES + nth)) >> 32;
    let square = (part * part) >> 32;
    (square * rooms) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(log: &Log) -> Vec<(usize, String)> {
        log.lines.iter().map(|line| (line.room, format!("{:?}", line.content()))).collect()
    }

    #[test]
    fn synthetic_log_is_the_seeds() {
        let log = Log::synthetic(500, 20, 7).unwrap();
        assert_eq!(render(&log), render(&Log::synthetic(500, 20, 7).unwrap()));
        assert_ne!(render(&log), render(&Log::synthetic(500, 20, 8).unwrap()));
        assert!(Log::synthetic(10, 11, 1).is_err() && Log::synthetic(10, 0, 1).is_err());
    }

    #[test]
    fn synthetic_log_fills_rooms_unevenly() {
        let log = Log::synthetic(20_000, 40, 1).unwrap();
        let mut counts = vec![0_u64; 40];
        log.lines.iter().for_each(|line| counts[line.room] += 1);
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        let quarter: u64 = counts[..10].iter().sum();
        assert!((8_000..12_000).contains(&quarter), "{counts:?}");
        let holds = |test: fn(&Line) -> bool| log.lines.iter().any(test);
        assert!(holds(|line| line.text.is_empty()) && holds(|line| !line.text.is_ascii()));
        assert!(holds(|line| line.client(7) == 7) && holds(|line| line.client(7) < 7));
    }

    #[test]
    fn person_speaks_in_few_rooms() {
        use std::collections::{BTreeSet, HashMap};
        let log = Log::synthetic(20_000, 100, 3).unwrap();
        let mut rooms: HashMap<&str, BTreeSet<usize>> = HashMap::new();
        // After the first lines, one for each room.
        for line in &log.lines[100..] {
            rooms.entry(&line.nick).or_default().insert(line.room);
        }
        assert!(rooms.values().all(|rooms| rooms.len() <= HOMES as usize));
    }
}
