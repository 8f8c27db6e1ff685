//! What is read.

use super::datum::{Datum, Row};
use super::feed::{ChangeRecord, FeedPosition};
use super::table::TableId;

/// One question. All those of a batch are answered from one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Read {
    /// The record with this key. Answer: [`Found::Record`].
    Get {
        /// Its table.
        table: TableId,
        /// Its key.
        key: Row,
    },
    /// The record that has these values in the columns of a unique index. Answer: [`Found::Record`].
    Find {
        /// Its table.
        table: TableId,
        /// The index, by position.
        index: usize,
        /// The values of its columns.
        values: Row,
    },
    /// Records in order. Answer: [`Found::Records`].
    Range(Range),
    /// Entries of a log. Answer: [`Found::Records`].
    Log(LogRead),
    /// The send that a sender made in a log under a message id, also where its entry was trimmed. Answer:
    /// [`Found::Record`], a row of [`Sends`]' form.
    Send {
        /// The log.
        log: i64,
        /// The sender.
        sender: Datum,
        /// The message id.
        id: Datum,
    },
    /// Sends of a log in the order of sender and message id. Answer: [`Found::Records`].
    Sends(Sends),
    /// Change records beyond a position. Answer: [`Found::Changes`].
    Changes {
        /// Records at or below it are left out.
        after: FeedPosition,
        /// At most so many records; at least 1.
        limit: usize,
    },
}

/// In which direction a range is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Least first.
    Forwards,
    /// Greatest first.
    Backwards,
}

/// A part of a table, in the order of its key or of an index.
///
/// The columns of that order are the index's and then those of the key which the index does not have. `prefix` names the
/// first of them. `after` and `until` are compared with as many of the columns behind the prefix as they have themselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Range {
    /// The table.
    pub table: TableId,
    /// The index, by position; without one, the key.
    pub index: Option<usize>,
    /// What the first columns are.
    pub prefix: Row,
    /// Only records greater than this.
    pub after: Option<Row>,
    /// Only records less than this.
    pub before: Option<Row>,
    /// In which direction.
    pub way: Way,
    /// At most so many records.
    pub limit: usize,
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LogRead {
    /// The log.
    pub log: i64,
    /// The first seq that may be among them.
    pub from: i64,
    /// The last seq that may be among them.
    pub to: i64,
    /// From which end.
    pub way: Way,
    /// At most so many entries.
    pub limit: usize,
    /// At most so many bytes by the log's column of sizes, but one entry at least.
    pub max_bytes: usize,
    /// Columns of content are `Null`.
    pub headers: bool,
}

/// Sends of a log: rows of sender, message id, seq, and the columns that outlive an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sends {
    /// The log.
    pub log: i64,
    /// Of this sender only.
    pub sender: Option<Datum>,
    /// Only those greater than this sender and message id.
    pub after: Option<(Datum, Datum)>,
    /// At most so many.
    pub limit: usize,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The record, if it is there.
    Record(Option<Row>),
    /// The records, in the order asked for.
    Records(Vec<Row>),
    /// Change records: those of one writer in the order of their ticks.
    Changes(Vec<ChangeRecord>),
}

impl Range {
    /// All records with this prefix, in the order of the key.
    pub fn of(table: TableId, prefix: Row) -> Self {
        Self {
            table,
            index: None,
            prefix,
            after: None,
            before: None,
            way: Way::Forwards,
            limit: usize::MAX,
        }
    }

    /// The same range in the order of an index.
    #[must_use]
    pub fn by(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }

    /// Only records greater than this.
    #[must_use]
    pub fn after(mut self, after: Row) -> Self {
        self.after = Some(after);
        self
    }

    /// Only records less than this.
    #[must_use]
    pub fn before(mut self, before: Row) -> Self {
        self.before = Some(before);
        self
    }

    /// At most so many records.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// From the greatest record to the least.
    #[must_use]
    pub fn backwards(mut self) -> Self {
        self.way = Way::Backwards;
        self
    }
}
