//! The status of a subscriber's cursor: complete, or the position from which delivery is complete.

use crate::id::{Cursor, Seq};
use crate::wire::Status;

/// Returns the status of `cursor` in a room with `present` epoch and head and with `first` retained
/// event.
///
/// The second value is the cursor after which every later event follows.
pub fn answer(cursor: Cursor, present: Cursor, first: Seq) -> (Status, Cursor) {
    let Cursor { epoch, seq: head } = present;
    if cursor.epoch != epoch || cursor.seq > head {
        (Status::Reset, present)
    } else if cursor.seq.next() < first {
        (Status::Gap, Cursor { epoch, seq: first.prev() })
    } else {
        (Status::Ok, cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;

    #[test]
    fn cursor_is_answered_whole_or_reset() {
        let at = |generation, seq| Cursor {
            epoch: Epoch { generation, incarnation: 1 },
            seq: Seq::new(seq).unwrap(),
        };
        let (present, first) = (at(1, 20), Seq::new(11).unwrap());
        assert_eq!(answer(at(1, 20), present, first), (Status::Ok, at(1, 20)));
        assert_eq!(answer(at(1, 10), present, first), (Status::Ok, at(1, 10)));
        assert_eq!(answer(at(1, 9), present, first), (Status::Gap, at(1, 10)));
        assert_eq!(answer(at(1, 21), present, first), (Status::Reset, present));
        assert_eq!(answer(at(2, 15), present, first), (Status::Reset, present));
    }
}
