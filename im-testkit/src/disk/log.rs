//! The log of the shim.

use std::path::PathBuf;

/// One call, ordered by the time of its effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The number of the call among those that can be made to fail, from 1; 0 for other records.
    pub call: u64,
    /// The effect of the call.
    pub act: Act,
}

/// The effect of a call. A handle is the number of an open; duplicated descriptors share it. Paths
/// are relative to the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named after what they are")]
pub enum Act {
    /// A file was opened, and possibly created or truncated.
    Open { handle: u64, path: PathBuf, made: bool, emptied: bool },
    /// Bytes were written.
    Write { handle: u64, offset: u64, data: Vec<u8> },
    /// The size was set.
    Size { handle: u64, len: u64 },
    /// A file was extended to at least this length.
    Grow { handle: u64, len: u64 },
    /// Zeros were written into a file, within its size.
    Zero { handle: u64, offset: u64, len: u64 },
    /// A sync returned. It covers the records before `begun`: the calls that had returned when it
    /// began.
    Sync { handle: u64, begun: usize, failed: bool },
    /// A file got another name; `exchanged` if both names continue to exist.
    Rename { from: PathBuf, to: PathBuf, exchanged: bool },
    /// A file got a second name.
    Link { from: PathBuf, to: PathBuf },
    /// A name was removed, of a file or of a folder.
    Remove { path: PathBuf },
    /// A folder was created.
    Mkdir { path: PathBuf },
    /// A file was mapped so that writes to memory reach it: its content is unknown.
    Map { handle: u64 },
    /// The process wrote a mark.
    Mark(String),
    /// A call of this kind was made to fail, or to write half of its data (`error` is 0).
    Fault { kind: String, error: i32 },
    /// A call that changed nothing.
    Call(String),
}

impl Act {
    /// Returns the kind of the call, as in [`Fault::kind`](super::Fault::kind).
    pub fn kind(&self) -> &str {
        match self {
            Self::Open { .. } => "open",
            Self::Write { .. } => "write",
            Self::Size { .. } => "ftruncate",
            Self::Grow { .. } | Self::Zero { .. } => "fallocate",
            Self::Sync { .. } => "fsync",
            Self::Rename { .. } => "rename",
            Self::Link { .. } => "link",
            Self::Remove { .. } => "unlink",
            Self::Mkdir { .. } => "mkdir",
            Self::Map { .. } => "mmap",
            Self::Mark(_) => "mark",
            Self::Fault { kind, .. } | Self::Call(kind) => kind,
        }
    }
}

/// Parses a log. A last record that was cut by a kill is dropped.
///
/// # Errors
///
/// A description, if the bytes are no log of the shim.
pub fn parse(mut bytes: &[u8]) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let head = String::from_utf8_lossy(&bytes[..end]);
        let wrong = || format!("record {} of the shim's log is none: {head:?}", records.len());
        let (kind, numbers) = head_of(&head).ok_or_else(wrong)?;
        let data = &bytes[end + 1..];
        let Some((data, rest)) = data.split_at_checked(numbers.len) else { break };
        let Some(rest) = rest.strip_prefix(b"\n") else { break };
        let act = act(kind, &numbers, data).ok_or_else(wrong)?;
        records.push(Record { call: numbers.call, act });
        bytes = rest;
    }
    Ok(records)
}

struct Numbers {
    handle: u64,
    a: i64,
    b: i64,
    call: u64,
    len: usize,
}

fn head_of(head: &str) -> Option<(&str, Numbers)> {
    let mut words = head.split(' ');
    let kind = words.next()?;
    let (handle, a) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (b, call) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let len = words.next()?.parse().ok()?;
    Some((kind, Numbers { handle, a, b, call, len }))
}

fn act(kind: &str, numbers: &Numbers, data: &[u8]) -> Option<Act> {
    let Numbers { handle, a, b, .. } = *numbers;
    let text = || String::from_utf8_lossy(data).into_owned();
    let path = || PathBuf::from(text());
    let two = || text().split_once('\0').map(|(from, to)| (PathBuf::from(from), PathBuf::from(to)));
    let (size, second) = (|| u64::try_from(a).ok(), || u64::try_from(b).ok());
    Some(match kind {
        "open" => Act::Open { handle, path: path(), made: a != 0, emptied: b != 0 },
        "write" => Act::Write { handle, offset: size()?, data: data.to_vec() },
        "size" => Act::Size { handle, len: size()? },
        "grow" => Act::Grow { handle, len: size()? },
        "zero" => Act::Zero { handle, offset: size()?, len: second()? },
        "sync" => Act::Sync { handle, begun: usize::try_from(a).ok()?, failed: b != 0 },
        // RENAME_EXCHANGE is 2.
        "rename" => two().map(|(from, to)| Act::Rename { from, to, exchanged: a & 2 != 0 })?,
        "link" => two().map(|(from, to)| Act::Link { from, to })?,
        "unlink" | "rmdir" => Act::Remove { path: path() },
        "mkdir" => Act::Mkdir { path: path() },
        "map" => Act::Map { handle },
        "mark" => Act::Mark(text()),
        "fault" => Act::Fault { kind: text(), error: i32::try_from(a).ok()? },
        "call" => Act::Call(text()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_parses_up_to_its_cut() {
        let log = b"open 1 1 0 1 3\nx/a\nwrite 1 5 0 2 4\na\nb\n\nrename 0 0 0 3 3\na\0b\nmark 0 0 0 0 9\nto";
        let records = parse(log).unwrap();
        let acts: Vec<_> = records.iter().map(|record| record.act.clone()).collect();
        let opened = Act::Open { handle: 1, path: "x/a".into(), made: true, emptied: false };
        let wrote = Act::Write { handle: 1, offset: 5, data: b"a\nb\n".to_vec() };
        let moved = Act::Rename { from: "a".into(), to: "b".into(), exchanged: false };
        assert_eq!(acts, [opened, wrote, moved]);
        assert_eq!(records[1].call, 2);
        for bad in ["else 1 2 3 4 0\n\n", "write 1 2\n", "write 1 -4 0 0 0\n\n"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
