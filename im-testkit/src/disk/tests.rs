//! The rules of a cut, each on a log of its own.

use std::path::{Path, PathBuf};

use super::log::{Act, Record};
use super::{Arrived, Disk};

fn disk(acts: Vec<Act>) -> Disk {
    let empty = tempfile::tempdir().unwrap();
    let mut disk = Disk::load(empty.path()).unwrap();
    acts.into_iter().for_each(|act| disk.apply(&Record { call: 0, act }));
    assert_eq!(disk.not_followed(), &[] as &[String]);
    disk
}

fn make(handle: u64, path: &str) -> Act {
    Act::Open { handle, path: path.into(), made: true, emptied: false }
}

fn open(handle: u64, path: &str) -> Act {
    Act::Open { handle, path: path.into(), made: false, emptied: false }
}

fn write(handle: u64, offset: u64, data: &[u8]) -> Act {
    Act::Write { handle, offset, data: data.to_vec() }
}

fn sync(handle: u64, begun: usize) -> Act {
    Act::Sync { handle, begun, failed: false }
}

fn rename(from: &str, to: &str) -> Act {
    Act::Rename { from: from.into(), to: to.into(), exchanged: false }
}

/// The first four records: a file with a durable name, open as handle 1.
fn begun(more: impl IntoIterator<Item = Act>) -> Vec<Act> {
    let start = [make(1, "f"), open(9, ""), sync(9, 2), sync(1, 3)];
    start.into_iter().chain(more).collect()
}

fn file(disk: &Disk, arrived: Arrived, seed: u64) -> Option<Vec<u8>> {
    disk.cut(arrived, seed).file(Path::new("f")).map(<[u8]>::to_vec)
}

#[test]
fn synced_data_survives_any_cut() {
    let disk = disk(begun([write(1, 0, b"kept"), sync(1, 5), write(1, 4, b"more")]));
    for arrived in Arrived::ALL {
        for seed in 0..50 {
            let found = file(&disk, arrived, seed).unwrap();
            assert_eq!(&found[..4], b"kept", "{arrived:?} {seed}");
        }
    }
    assert_eq!(file(&disk, Arrived::All, 1).unwrap(), b"keptmore");
    assert_eq!(file(&disk, Arrived::Nothing, 1).unwrap(), b"kept");
    assert_eq!(file(&disk, Arrived::Names, 1).unwrap(), b"kept\0\0\0\0");
}

/// A sync covers the writes that had returned when it was called.
#[test]
fn sync_covers_returned_writes_only() {
    let disk = disk(begun([write(1, 0, b"a"), write(1, 1, b"b"), sync(1, 5)]));
    assert_eq!(file(&disk, Arrived::Nothing, 1).unwrap(), b"a");
}

/// A sync of a file does not make its name durable.
#[test]
fn file_sync_persists_no_name() {
    let made = vec![make(1, "f"), write(1, 0, b"x"), sync(1, 2)];
    let lost = (0..50).filter(|seed| file(&disk(made.clone()), Arrived::Some, *seed).is_none());
    assert!(lost.count() > 0);
    let named = disk(made.into_iter().chain([open(9, ""), sync(9, 4)]).collect());
    assert_eq!(file(&named, Arrived::Nothing, 1).unwrap(), b"x");
}

#[test]
fn later_write_may_survive_alone() {
    let disk = disk(begun([write(1, 0, b"a"), write(1, 1, b"b")]));
    let found: Vec<_> = (0..200).filter_map(|seed| file(&disk, Arrived::Some, seed)).collect();
    for expected in [&b"ab"[..], b"\0b", b"a", b""] {
        assert!(found.iter().any(|found| found == expected), "{expected:?}");
    }
}

#[test]
fn a_write_tears_at_sectors() {
    let disk = disk(begun([write(1, 100, &[7; 2000])]));
    let mut torn = 0;
    for seed in 0..200 {
        let found = file(&disk, Arrived::Torn, seed).unwrap();
        let sectors = found.get(512..1536).unwrap_or_default().chunks(512);
        let whole = |sector: &[u8]| sector.iter().all(|byte| *byte == sector[0]);
        assert!(sectors.clone().all(whole), "{seed}");
        let written = sectors.filter(|sector| sector[0] == 7).count();
        torn += usize::from(written == 1);
    }
    assert!(torn > 0);
}

/// Writes that a failed sync should have covered are not covered by a later one.
#[test]
fn failed_sync_loses_writes_for_good() {
    let failed = Act::Sync { handle: 1, begun: 5, failed: true };
    let disk = disk(begun([write(1, 0, b"a"), failed, write(1, 1, b"b"), sync(1, 7)]));
    assert_eq!(file(&disk, Arrived::Nothing, 1).unwrap(), b"\0b");
}

/// A rename is atomic, and durable once its folder was synced.
#[test]
fn rename_is_atomic_after_folder_sync() {
    let steps = [write(1, 0, b"old"), sync(1, 5), make(2, "new"), write(2, 0, b"new")];
    let disk_with = |more: Vec<Act>| disk(begun(steps.clone().into_iter().chain(more)));
    let moved = disk_with(vec![sync(2, 8), rename("new", "f")]);
    for seed in 0..50 {
        let found = file(&moved, Arrived::Some, seed).unwrap();
        assert!(found == b"old" || found == b"new", "{found:?}");
    }
    assert_eq!(file(&moved, Arrived::Nothing, 1).unwrap(), b"old");
    let kept = disk_with(vec![sync(2, 8), rename("new", "f"), sync(9, 10)]);
    assert_eq!(file(&kept, Arrived::Nothing, 1).unwrap(), b"new");
    // Without a sync of the file only its name is durable.
    let hollow = disk_with(vec![rename("new", "f")]);
    assert_eq!(file(&hollow, Arrived::Names, 1).unwrap(), b"\0\0\0");
}

#[test]
fn folders_move_with_contents() {
    let disk = disk(vec![
        Act::Mkdir { path: "a".into() },
        make(1, "a/f"),
        rename("a", "b"),
        Act::Mkdir { path: "a".into() },
        make(2, "a/g"),
        Act::Remove { path: "a/g".into() },
    ]);
    let image = disk.cut(Arrived::All, 1);
    let paths: Vec<_> = image.paths().map(Path::to_owned).collect();
    assert_eq!(paths, ["a", "b", "b/f"].map(PathBuf::from));
}

#[test]
fn seed_determines_the_image() {
    let disk = disk(begun([write(1, 0, &[1; 9000]), write(1, 4000, &[2; 9000])]));
    for arrived in Arrived::ALL {
        assert_eq!(disk.cut(arrived, 5), disk.cut(arrived, 5));
    }
    assert_ne!(disk.cut(Arrived::Torn, 5), disk.cut(Arrived::Torn, 6));
}

#[test]
fn unrecorded_writes_are_detected() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(begun([write(1, 0, b"seen")]));
    assert_eq!(
        disk.differs(folder.path()).unwrap(),
        Some("f".into()),
        "the missing file is reported"
    );
    std::fs::write(folder.path().join("f"), "seen").unwrap();
    assert_eq!(disk.differs(folder.path()).unwrap(), None);
    std::fs::write(folder.path().join("f"), "Seen").unwrap();
    assert_eq!(disk.differs(folder.path()).unwrap(), Some("f".into()));
    std::fs::write(folder.path().join("f"), "seen").unwrap();
    std::fs::create_dir(folder.path().join("g")).unwrap();
    assert_eq!(disk.differs(folder.path()).unwrap(), Some("g".into()));
}
