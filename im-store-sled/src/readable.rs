//! Whether what sled reads when it is opened can be read at all.
//!
//! sled takes what it cannot read for the end of its log, and overwrites what lies behind it: one sector that gives an
//! error would cost everything that was written after it. So all of it is read first, and sled is not let near a folder in
//! which that fails. What was read is in the system's cache when sled comes to it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The size of the segments of sled's log, which is sled's default.
const SEGMENT: usize = 512 << 10;

/// A segment's header: a checksum, then the segment's place in the log, turned over. (sled 0.34, `SegmentHeader`.)
const HEADER: usize = 20;

/// Reads the snapshots, the head of every segment, and the segments that no snapshot covers.
pub(crate) fn check(sled: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(sled) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    // The earliest that a snapshot could have been made: what comes after is read from the log.
    let mut covered = None;
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_file() || entry.file_name() == "db" {
            continue;
        }
        fs::read(entry.path())?;
        let name = entry.file_name();
        let end = name.to_str().and_then(|name| name.strip_prefix("snap."));
        if let Some(end) = end.and_then(|end| i64::from_str_radix(end, 16).ok()) {
            covered = Some(covered.map_or(end, |covered: i64| covered.min(end)));
        }
    }
    match File::open(sled.join("db")) {
        Ok(log) => check_log(log, covered.unwrap_or(0)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

fn check_log(mut log: File, covered: i64) -> io::Result<()> {
    let len = log.metadata()?.len();
    let mut segment = vec![0; SEGMENT];
    let mut at = 0;
    while at < len {
        log.seek(SeekFrom::Start(at))?;
        let head = read(&mut log, &mut segment[..HEADER])?;
        if head < HEADER || place(&segment) >= covered.saturating_sub(SEGMENT as i64) {
            read(&mut log, &mut segment[HEADER..])?;
        }
        at += SEGMENT as u64;
    }
    Ok(())
}

fn place(head: &[u8]) -> i64 {
    let bytes = head.get(4..12).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    i64::from_le_bytes(bytes) ^ i64::MAX
}

/// Reads as much as there is.
fn read(from: &mut File, to: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < to.len() {
        match from.read(&mut to[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check reads all segments that no snapshot covers.
    #[test]
    fn uncovered_segments_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let sled = folder.path();
        check(&sled.join("not there")).unwrap();
        check(sled).unwrap();
        fs::write(sled.join("snap.0000000000000010"), "a snapshot").unwrap();
        fs::write(sled.join("db"), vec![0; SEGMENT + 7]).unwrap();
        check(sled).unwrap();
        // There is no link to follow.
        #[cfg(unix)]
        {
            fs::remove_file(sled.join("db")).unwrap();
            std::os::unix::fs::symlink("db", sled.join("db")).unwrap();
            assert!(check(sled).is_err());
        }
    }

    #[test]
    fn segment_offset_is_read_from_header() {
        let folder = tempfile::tempdir().unwrap();
        let db = sled::open(folder.path()).unwrap();
        // More than a segment.
        (0..200_u32).for_each(|n| drop(db.insert(n.to_be_bytes(), vec![7; 8000]).unwrap()));
        db.flush().unwrap();
        drop(db);
        let log = fs::read(folder.path().join("db")).unwrap();
        assert!(log.len() > SEGMENT + HEADER);
        assert_eq!(place(&log), 0);
        assert_eq!(place(&log[SEGMENT..]), SEGMENT as i64);
    }
}
