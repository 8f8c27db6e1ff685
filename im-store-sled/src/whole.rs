//! A commit is written whole or not at all, also where sled stops in the middle of one.
//!
//! sled puts the entries of a batch into its log one by one, and marks them as one when all are there. If it fails before
//! that, because a page cannot be read or a buffer not be written, it takes the mark back and leaves the entries: they are
//! there when it is opened again. So what stood under the keys is read first, which is also when pages are read in, and
//! after a failure it tells what has become of the commit, and takes back half of one.

use sled::IVec;

use crate::keys::Key;

/// What a commit changes under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    key: Key,
    before: Option<IVec>,
    now: Option<IVec>,
}

/// What is found of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    All,
    Nothing,
    Part,
}

/// Reads what stands under the keys of a commit, before it is applied.
pub(crate) fn look(db: &sled::Db, writes: Vec<(Key, Option<IVec>)>) -> sled::Result<Vec<Change>> {
    let look = |(key, now): (Key, Option<IVec>)| {
        let before = db.get(&key)?;
        Ok(Change { key, before, now })
    };
    writes
        .into_iter()
        .map(look)
        .filter(|change| !matches!(change, Ok(c) if c.before == c.now))
        .collect()
}

/// The keys that a commit changes.
pub(crate) fn keys(changes: &[Change]) -> Vec<Key> {
    changes.iter().map(|change| change.key.clone()).collect()
}

/// What has become of a commit.
pub(crate) fn found(db: &sled::Db, changes: &[Change]) -> sled::Result<Found> {
    let mut written = 0;
    for change in changes {
        written += usize::from(db.get(&change.key)? == change.now);
    }
    Ok(match written {
        0 => Found::Nothing,
        all if all == changes.len() => Found::All,
        _ => Found::Part,
    })
}

/// What takes a commit back.
pub(crate) fn undo(changes: &[Change]) -> sled::Batch {
    let mut batch = sled::Batch::default();
    for change in changes {
        match &change.before {
            Some(before) => batch.insert(change.key.as_slice(), before.clone()),
            None => batch.remove(change.key.as_slice()),
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partial commit is distinguished from a whole and a missing one, and is rolled back.
    #[test]
    fn partial_commit_is_recognised_and_undone() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        db.insert(b"changed", b"old").unwrap();
        db.insert(b"removed", b"old").unwrap();
        db.insert(b"same", b"same").unwrap();
        let write = |key: &[u8], now: Option<&[u8]>| (key.to_vec(), now.map(IVec::from));
        let writes = vec![
            write(b"changed", Some(b"new")),
            write(b"removed", None),
            write(b"same", Some(b"same")),
            write(b"made", Some(b"new")),
        ];
        let changes = look(&db, writes).unwrap();
        assert_eq!(found(&db, &changes).unwrap(), Found::Nothing);
        db.insert(b"made", b"new").unwrap();
        assert_eq!(found(&db, &changes).unwrap(), Found::Part);
        db.remove(b"removed").unwrap();
        db.insert(b"changed", b"new").unwrap();
        assert_eq!(found(&db, &changes).unwrap(), Found::All);
        db.apply_batch(undo(&changes)).unwrap();
        assert_eq!(found(&db, &changes).unwrap(), Found::Nothing);
        assert_eq!(db.get(b"removed").unwrap().unwrap(), b"old");
        assert_eq!(db.get(b"made").unwrap(), None);
    }
}
