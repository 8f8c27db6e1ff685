//! Records larger than a few KiB, in parts.
//!
//! sled writes what exceeds 128 KiB to a file of its own, which it never syncs. It is not the value that counts but the
//! leaf it stands in, with up to 17 entries, more while leaves merge. So no entry may have more than some 5 KiB, and a
//! larger record is cut. Its first part tells how many follow, each under the record's key and two bytes more, and in
//! which commit they were written, so that a reader knows parts of two writes from each other.

use im_core::ports::{StoreError, StoreErrorKind, StoreResult};
use sled::IVec;

use crate::error::damaged;

/// Bytes of a record in one part.
const PART: usize = 4096;

/// The largest record: 4 MiB.
pub(crate) const MAX_RECORD: usize = PART * 1024;

/// In one piece.
const WHOLE: u8 = 1;
/// The first of several.
const FIRST: u8 = 2;

/// Cuts a record: the first part, and the others.
pub(crate) fn cut(record: &[u8], batch: u64) -> StoreResult<(Vec<u8>, Vec<&[u8]>)> {
    let (head, tail) = record.split_at(record.len().min(PART));
    if tail.is_empty() {
        return Ok((first(WHOLE, 0, 0, head), Vec::new()));
    }
    if record.len() > MAX_RECORD {
        return Err(too_large(record.len()));
    }
    let parts: Vec<&[u8]> = tail.chunks(PART).collect();
    // At most 1,023.
    let count = u16::try_from(parts.len()).unwrap_or(u16::MAX);
    Ok((first(FIRST, count, batch, head), parts))
}

fn first(tag: u8, count: u16, batch: u64, head: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(11 + head.len());
    bytes.push(tag);
    if tag == FIRST {
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&batch.to_be_bytes());
    }
    bytes.extend_from_slice(head);
    bytes
}

/// What a first part holds: its piece of the record, and how many parts follow.
pub(crate) fn open(first: &[u8]) -> StoreResult<(&[u8], u16)> {
    match first.split_first() {
        Some((&WHOLE, head)) => Ok((head, 0)),
        Some((&FIRST, rest)) if rest.len() >= 10 => {
            Ok((&rest[10..], u16::from_be_bytes([rest[0], rest[1]])))
        }
        _ => Err(damaged("part of a record")),
    }
}

/// The key of a further part; they count from 0.
pub(crate) fn key(record: &[u8], part: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(record.len() + 2);
    key.extend_from_slice(record);
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// Puts the record together, given its first part and a way to get the others.
pub(crate) fn join(
    first: &IVec,
    mut get: impl FnMut(u16) -> StoreResult<Option<IVec>>,
) -> StoreResult<Vec<u8>> {
    let (head, count) = open(first)?;
    let mut record = head.to_vec();
    for part in 0..count {
        let part = get(part)?.ok_or_else(|| damaged("part of a record"))?;
        record.extend_from_slice(&part);
    }
    Ok(record)
}

fn too_large(len: usize) -> StoreError {
    let message = format!("a record of {len} bytes; this store takes at most {MAX_RECORD}");
    StoreError::new(StoreErrorKind::Refused(im_core::state::Refusal::Full), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn split_record_joins_unchanged(len in 0usize..30_000, batch in any::<u64>()) {
            let record: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let (first, parts) = cut(&record, batch).unwrap();
            prop_assert!(first.len() <= PART + 11 && parts.iter().all(|part| part.len() <= PART));
            let joined = join(&first.into(), |part| Ok(parts.get(usize::from(part)).map(|p| IVec::from(*p))));
            prop_assert_eq!(joined.unwrap(), record);
        }
    }

    /// A record over the maximum is refused, and a missing part of one is detected.
    #[test]
    fn oversized_or_incomplete_record_is_refused() {
        assert!(cut(&vec![0; MAX_RECORD + 1], 1).is_err());
        let record = vec![7; 3 * PART];
        let (first, _) = cut(&record, 1).unwrap();
        assert!(
            join(&first.into(), |part| Ok((part == 0).then(|| IVec::from(&[7; PART][..]))))
                .is_err()
        );
    }
}
