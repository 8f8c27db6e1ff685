//! What a reader's cursor is answered: whole, or refused in a way that says from where it is whole.

use crate::id::{Cursor, Seq};
use crate::wire::Status;

/// Answers `cursor` for a room whose present life is `epoch`, whose last event is `head` and whose first kept event is
/// `first`. Gives the status and the cursor after which every later event follows.
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
