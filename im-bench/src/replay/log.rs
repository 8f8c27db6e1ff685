//! The chat log: one JSON object a line, gzipped or not, and the mapping of its lines to clients.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flate2::read::MultiGzDecoder;
use im_core::wire::{Map, Value};
use im_core::{MessageId, RoomId};
use serde::Deserialize;

/// A line of the file.
#[derive(Debug, Deserialize)]
struct Raw {
    room: String,
    at: String,
    sender: String,
    kind: String,
    text: String,
}

/// One line of the log: a message to send.
#[derive(Debug)]
pub(super) struct Line {
    /// Its line number in the file, from 1.
    pub(super) number: u64,
    /// Index of its room in the log.
    pub(super) room: usize,
    /// Its time since the beginning of the log; breaks longer than an hour are cut.
    pub(super) due: Duration,
    pub(super) at: Box<str>,
    pub(super) nick: Box<str>,
    pub(super) kind: Box<str>,
    pub(super) text: Box<str>,
}

/// A whole log.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The rooms in the order of their first lines.
    pub(super) rooms: Vec<RoomId>,
    /// The lines in the order of the file.
    pub(super) lines: Vec<Line>,
}

/// The default log. `sample/ATTRIBUTION.md` states its source.
const SAMPLE: &[u8] = include_bytes!("../../sample/chat-sample.jsonl");

/// Seconds. Longer breaks of the log are cut to this.
const LONGEST_BREAK: u64 = 3600;

impl Log {
    /// Reads a log from a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or a line is invalid; the error names the line.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Self::read(file).with_context(|| format!("read {}", path.display()))
    }

    /// Returns the built-in sample.
    ///
    /// # Errors
    ///
    /// None in practice: a test reads it.
    pub(super) fn sample() -> Result<Self> {
        Self::read(SAMPLE).context("read the sample")
    }

    /// Truncates the log to the first `lines` lines and their rooms.
    pub(super) fn keep_first(&mut self, lines: u64) {
        self.lines.truncate(usize::try_from(lines).unwrap_or(usize::MAX));
        let last = self.lines.iter().map(|line| line.room).max();
        // Rooms are in the order of their first lines, so the remaining ones come first.
        self.rooms.truncate(last.map_or(0, |last| last + 1));
    }

    fn read(file: impl Read) -> Result<Self> {
        let mut file = BufReader::new(file);
        let gzipped = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        let text: Box<dyn Read + '_> =
            if gzipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut log = Self::default();
        let mut clock = Clock::default();
        for (at, line) in BufReader::new(text).lines().enumerate() {
            let number = at as u64 + 1;
            log.push(number, &line?, &mut clock).with_context(|| format!("line {number}"))?;
        }
        ensure!(!log.lines.is_empty(), "the log has no lines");
        Ok(log)
    }

    fn push(&mut self, number: u64, line: &str, clock: &mut Clock) -> Result<()> {
        let raw: Raw = serde_json::from_str(line)?;
        let id = RoomId::new(&raw.room)?;
        // Lines of one room mostly follow one another, so the search ends early.
        let room = self.rooms.iter().rposition(|known| *known == id).unwrap_or_else(|| {
            self.rooms.push(id);
            self.rooms.len() - 1
        });
        let due = clock.at(
            room,
            seconds(&raw.at).with_context(|| format!("{:?} is not a valid time", raw.at))?,
        );
        let Raw { at, sender, kind, text, .. } = raw;
        let (at, nick, kind, text) = (at.into(), sender.into(), kind.into(), text.into());
        self.lines.push(Line { number, room, due, at, nick, kind, text });
        Ok(())
    }
}

impl Line {
    /// Returns the client that sends the line: one of `clients` users by the hash of the nickname
    /// or, for the channel's own lines, the service, whose number is `clients`.
    pub(super) fn client(&self, clients: usize) -> usize {
        if self.kind.as_ref() == "system" {
            return clients;
        }
        // FNV-1a: equal on every machine and in every release of Rust.
        let hash = self.nick.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        (mix(hash) % clients as u64) as usize
    }

    /// Returns the content of the message.
    pub(super) fn content(&self) -> Value {
        let fields =
            [("text", &self.text), ("nick", &self.nick), ("kind", &self.kind), ("at", &self.at)];
        Map::from_iter(fields.map(|(name, text)| (name, text.as_ref()))).into()
    }

    /// Returns the message id, which follows from seed and line: a second run over the same store
    /// sends duplicates only.
    ///
    /// # Errors
    ///
    /// None in practice: the text is always a valid id.
    pub(super) fn message_id(&self, seed: u64) -> Result<MessageId> {
        let id = format!("{:016x}{:016x}", mix(seed ^ mix(self.number)), mix(!seed ^ self.number));
        Ok(MessageId::new(id)?)
    }
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014): spreads a number over all 64 bits.
pub(crate) fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// Places the rooms of a log, which may be years apart, one after the other.
#[derive(Debug, Default)]
struct Clock {
    now: u64,
    last: Option<(usize, u64)>,
}

impl Clock {
    fn at(&mut self, room: usize, seconds: u64) -> Duration {
        let passed = match self.last {
            Some((before, then)) if before == room => seconds.saturating_sub(then),
            _ => 0,
        };
        self.now += if passed > LONGEST_BREAK { 0 } else { passed };
        self.last = Some((room, seconds));
        Duration::from_secs(self.now)
    }
}

/// Seconds since 1970 of a time like `2004-11-15T12:18:00Z` (RFC 3339, UTC only).
fn seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let part = |text: &str, nth: usize, by: char| text.split(by).nth(nth)?.parse::<u64>().ok();
    let (year, month, day) = (part(date, 0, '-')?, part(date, 1, '-')?, part(date, 2, '-')?);
    let (hour, minute, second) = (part(time, 0, ':')?, part(time, 1, ':')?, part(time, 2, ':')?);
    // Days by the civil calendar, the year beginning in March (Hinnant, "chrono-compatible
    // low-level date algorithms").
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Log> {
        Log::read(lines.join("\n").as_bytes())
    }

    const TEXT: &str = r#"{"room": "a", "at": "2004-11-15T12:18:00Z", "sender": "|x|", "kind": "text", "text": ""}"#;
    const LATER: &str = r#"{"room": "a", "at": "2004-11-15T12:20:00Z", "sender": "y", "kind": "text", "text": "é"}"#;
    const OTHER: &str = r#"{"room": "b", "at": "2018-01-01T00:00:00Z", "sender": "", "kind": "system", "text": "z"}"#;

    #[test]
    fn seconds_match_the_calendar() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T01:02:03Z"), Some(951_786_123));
        assert_eq!(seconds("2018-12-31T23:59:59Z"), Some(1_546_300_799));
        assert_eq!(seconds("2018-12-31 23:59:59"), None);
    }

    #[test]
    fn lines_keep_rooms_and_intervals() {
        let log = read(&[TEXT, LATER, OTHER]).unwrap();
        assert_eq!(log.rooms.len(), 2);
        assert_eq!(
            log.lines.iter().map(|line| (line.room, line.due.as_secs())).collect::<Vec<_>>(),
            [(0, 0), (0, 120), (1, 120)]
        );
        assert_eq!(log.lines[0].content().get("text").and_then(Value::as_text), Some(""));
        assert_eq!(log.lines[2].client(7), 7, "the service sends the channel's lines");
        assert!(log.lines[0].client(7) < 7);
    }

    #[test]
    fn first_lines_keep_their_rooms_alone() {
        let mut log = read(&[TEXT, LATER, OTHER]).unwrap();
        log.keep_first(9);
        assert_eq!((log.lines.len(), log.rooms.len()), (3, 2));
        log.keep_first(2);
        assert_eq!((log.lines.len(), log.rooms.len()), (2, 1));
    }

    #[test]
    fn bad_line_is_named_in_error() {
        let error = format!("{:#}", read(&[TEXT, "{"]).unwrap_err());
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn ids_depend_on_line_and_seed() {
        let log = read(&[TEXT, LATER]).unwrap();
        let id = |line: usize, seed| log.lines[line].message_id(seed).unwrap();
        assert_eq!(id(0, 1), id(0, 1));
        assert_ne!(id(0, 1), id(1, 1));
        assert_ne!(id(0, 1), id(0, 2));
    }

    /// The sample log has empty, long and non-ASCII texts and system and action lines.
    #[test]
    fn sample_contains_real_input_variety() {
        let log = Log::sample().unwrap();
        assert_eq!((log.lines.len(), log.rooms.len()), (400, 3));
        let holds = |test: fn(&Line) -> bool| log.lines.iter().any(test);
        assert!(holds(|line| line.text.is_empty()) && holds(|line| !line.text.is_ascii()));
        assert!(
            holds(|line| line.kind.as_ref() == "system")
                && holds(|line| line.kind.as_ref() == "action")
        );
    }

    #[test]
    fn a_gzipped_log_reads_the_same() {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(SAMPLE).unwrap();
        let (packed, plain) =
            (Log::read(gzip.finish().unwrap().as_slice()).unwrap(), Log::sample().unwrap());
        assert!(packed.lines.iter().zip(&plain.lines).all(|(a, b)| a.content() == b.content()));
        assert_eq!(packed.lines.len(), plain.lines.len());
    }
}
