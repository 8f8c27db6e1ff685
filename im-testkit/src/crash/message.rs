//! The messages that workers send, and the lines that they report.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::sync::OnceLock;

use im_core::ports::StoreErrorKind;
use im_core::state::{Act, Append, Authority, IdempotencyKey, NewEvent, RoomSeed, content_hash};
use im_core::wire::{Content, Limits, Map, Role, RoomKind, Value};
use im_core::{Epoch, EventKind, MessageId, RoomId, Timestamp, UserId};

/// The end mark of every line: a line without it was cut by the kill.
const END: char = ';';

/// The last character of a large message's id.
pub(super) const LARGE: char = 'L';

/// A message, derived from its room, sender and id alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) room: RoomId,
    pub(crate) sender: UserId,
    pub(crate) id: MessageId,
}

impl Message {
    /// Parses the text form of a message.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        Self::take(&mut words).filter(|_| words.next().is_none())
    }

    fn take<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let room = RoomId::new(words.next()?).ok()?;
        let sender = UserId::new(words.next()?).ok()?;
        let id = MessageId::new(words.next()?).ok()?;
        Some(Self { room, sender, id })
    }

    /// Returns the content. One in thirty is long, so that stores have to split records; messages
    /// marked as large are longer.
    pub(crate) fn value(&self) -> Value {
        let id = self.id.as_str();
        let weight: u32 = id.bytes().map(u32::from).sum();
        let filler = match () {
            () if id.ends_with(LARGE) => 1200,
            () if weight.is_multiple_of(30) => 400,
            () => 2,
        };
        Map::from_iter([("text", id.repeat(filler))]).into()
    }

    pub(crate) fn append(&self) -> Append {
        let (kind, value) = (EventKind::message(), self.value());
        let hash = content_hash(&kind, &value);
        let content = Content::new(&value, &Limits::default())
            .unwrap_or_else(|e| panic!("a message of the worker is too large: {e}"));
        let key = Some(IdempotencyKey { id: self.id.clone(), hash });
        let event = NewEvent { from: self.sender.clone(), kind, content, idempotency_key: key };
        let members = vec![(self.sender.clone(), Role::Owner)];
        let seed = Some(RoomSeed { kind: RoomKind::Group, open: true, members });
        let at = Timestamp::from_millis(1);
        let act = Act::Post { event, seed };
        Append { room: self.room.clone(), authority: Authority::Service, act, at, max_members: 10 }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.room, self.sender, self.id)
    }
}

/// A line of a worker's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// The store is open; writing begins.
    Ready,
    /// The message is sent now.
    Try(Message),
    /// The message was acked at this seq and epoch.
    Ack(Message, u64, Epoch),
    /// The send failed with an error of this kind.
    Failed(Message, String),
    /// Another operation failed: its name, and the kind of the error.
    Away(String, String),
    /// No call is made to fail after this line.
    Heal,
    /// Data read or written before is no longer in the system's cache.
    Cold,
    /// The store works again; how it recovered.
    Again(String),
    /// The store was closed without an error.
    Closed,
}

impl Line {
    /// Parses a line; `None` for one that was cut or is unknown.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end_matches('\n').strip_suffix(END)?;
        let mut words = line.split(' ');
        let read = match words.next()? {
            "ready" => Self::Ready,
            "heal" => Self::Heal,
            "cold" => Self::Cold,
            "closed" => Self::Closed,
            "try" => Self::Try(Message::take(&mut words)?),
            "ack" => {
                let message = Message::take(&mut words)?;
                Self::Ack(message, words.next()?.parse().ok()?, words.next()?.parse().ok()?)
            }
            "failed" => Self::Failed(Message::take(&mut words)?, words.next()?.to_owned()),
            "away" => Self::Away(words.next()?.to_owned(), words.next()?.to_owned()),
            "again" => Self::Again(words.next()?.to_owned()),
            _ => return None,
        };
        words.next().is_none().then_some(read)
    }

    /// Writes the line in one piece: to the marks while calls are recorded, otherwise to standard
    /// output.
    pub(crate) fn say(&self) {
        static MARKS: OnceLock<Option<File>> = OnceLock::new();
        let marks = MARKS.get_or_init(|| {
            let path = std::env::var_os("IM_DISK_MARKS")?;
            File::create(&path).ok().or_else(|| panic!("opening the marks failed"))
        });
        let line = format!("{self}\n");
        let said = match marks {
            Some(marks) => (&mut &*marks).write_all(line.as_bytes()),
            None => {
                let mut out = std::io::stdout().lock();
                out.write_all(line.as_bytes()).and_then(|()| out.flush())
            }
        };
        if said.is_err() {
            // Without a reader there is no reason to continue.
            std::process::exit(3);
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => write!(f, "ready"),
            Self::Try(message) => write!(f, "try {message}"),
            Self::Ack(message, seq, epoch) => write!(f, "ack {message} {seq} {epoch}"),
            Self::Failed(message, kind) => write!(f, "failed {message} {kind}"),
            Self::Away(what, kind) => write!(f, "away {what} {kind}"),
            Self::Heal => write!(f, "heal"),
            Self::Cold => write!(f, "cold"),
            Self::Again(how) => write!(f, "again {how}"),
            Self::Closed => write!(f, "closed"),
        }?;
        write!(f, "{END}")
    }
}

/// Returns the kind of an error in one word.
pub(crate) fn word(kind: StoreErrorKind) -> String {
    match kind {
        StoreErrorKind::Refused(_) => "Refused".to_owned(),
        kind => format!("{kind:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line that the worker writes is parsed, unless it was cut.
    #[test]
    fn lines_parse_unless_cut() {
        let message = Message::parse("room0 sender1 0123456789abcdef-1-2").unwrap();
        let epoch = Epoch { generation: u64::MAX, incarnation: 3 };
        for line in [
            Line::Ready,
            Line::Try(message.clone()),
            Line::Ack(message.clone(), 7, epoch),
            Line::Failed(message, "Full".into()),
            Line::Away("open".into(), "Unavailable".into()),
            Line::Heal,
            Line::Cold,
            Line::Again("in-place".into()),
            Line::Closed,
        ] {
            let text = line.to_string();
            assert_eq!(Line::parse(&text), Some(line));
            assert_eq!(Line::parse(&text[..text.len() - 1]), None);
        }
    }
}
