//! Tables as they are declared: once, for every backend.

use std::ops::Range;

use super::error::{BackendError, BackendResult};

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Type {
    /// [`Datum::Int`](super::Datum::Int).
    Int,
    /// [`Datum::Text`](super::Datum::Text) of at most so many bytes. In a key or an index: at most 512.
    Text(u16),
    /// [`Datum::Bytes`](super::Datum::Bytes).
    Bytes,
    /// [`Datum::Bytes`](super::Datum::Bytes) that hold a MessagePack value of the wire's kind. A SQL backend stores it as
    /// JSON text; what is read is the value that was written, not always the same bytes.
    Json,
    /// An integer that the backend fills: how often commits have bumped the record. Makes the record one that can guard.
    Revision,
    /// An integer that the backend fills: the place in the change feed of the commit that last bumped the record, or
    /// `Null` if that commit left no change record. See [`FeedPlace`](super::FeedPlace).
    Changed,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name: letters, digits and `_`, at most 30, unique in the table.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// Whether it may hold `Null`.
    pub nullable: bool,
    /// Whether it holds what people wrote: what a removal has to wipe from the medium, and what
    /// [`LogRead::headers`](super::LogRead) leaves out.
    pub content: bool,
    /// A line of documentation.
    pub doc: &'static str,
}

/// An index of a table: its records in the order of other columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its name, unique in the table.
    pub name: &'static str,
    /// Its columns, by position. None is nullable. Records that agree in all of them are in the order of their keys.
    pub columns: Vec<usize>,
    /// Whether no two records agree in all of them. A commit that would make two do so is a conflict.
    pub unique: bool,
}

/// A table: records under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name: letters, digits and `_`, at most 30. Names that begin with `im_` belong to im-core.
    pub name: &'static str,
    /// Raised whenever columns or indexes are added; a table that lost or changed one is refused.
    pub version: u32,
    /// A line of documentation.
    pub doc: &'static str,
    /// The columns. Those of the key come first, and are neither nullable nor of type `Bytes` or `Json`.
    pub columns: Vec<Column>,
    /// How many columns the key has; at least 1.
    pub key: usize,
    /// The indexes.
    pub indexes: Vec<Index>,
    /// Whether a record that was removed may come again under its key. Then its revision goes on from where it was, so
    /// that a guard planned on the earlier record does not hold.
    pub revives: bool,
}

/// The table of logs: one log for each value of the first column, its entries by the second one, the seq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTable {
    /// The table; its key is (log, seq), both integers, and it has no indexes.
    pub table: Table,
    /// The columns that make a send unique within a log, by position: sender, and message id, which may be `Null`.
    pub unique: [usize; 2],
    /// The columns that outlive the entry where its log is trimmed, by position; beside those of `unique` and the seq.
    pub outlives: Vec<usize>,
    /// The column that says how many bytes an entry counts, by position.
    pub size: usize,
}

/// A table of a [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u16);

/// Everything that is declared: the logs, and the tables beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The logs.
    pub log: LogTable,
    /// The tables; a [`TableId`] is a position in this list.
    pub tables: Vec<Table>,
}

impl Column {
    /// A column that is always there.
    pub const fn new(name: &'static str, ty: Type, doc: &'static str) -> Self {
        Self { name, ty, nullable: false, content: false, doc }
    }

    /// A column that may hold `Null`.
    pub const fn nullable(name: &'static str, ty: Type, doc: &'static str) -> Self {
        Self { name, ty, nullable: true, content: false, doc }
    }

    /// The same column, which holds what people wrote.
    #[must_use]
    pub const fn content(mut self) -> Self {
        self.content = true;
        self
    }
}

impl Table {
    /// The position of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The column of its revisions, if its records can guard.
    pub fn revision(&self) -> Option<usize> {
        self.columns.iter().position(|column| column.ty == Type::Revision)
    }

    /// The column of the place in the change feed.
    pub fn changed(&self) -> Option<usize> {
        self.columns.iter().position(|column| column.ty == Type::Changed)
    }

    /// The columns of the key, then those of an index: what a range walks through.
    pub fn order(&self, index: Option<usize>) -> Vec<usize> {
        let key = 0..self.key;
        match index.and_then(|index| self.indexes.get(index)) {
            Some(index) => {
                let rest = key.filter(|column| !index.columns.contains(column));
                index.columns.iter().copied().chain(rest).collect()
            }
            None => key.collect(),
        }
    }

    fn check(&self) -> Result<(), String> {
        check_name(self.name)?;
        if self.key == 0 || self.key > self.columns.len() {
            return Err(format!("its key has {} columns", self.key));
        }
        for (at, column) in self.columns.iter().enumerate() {
            check_name(column.name)?;
            if self.columns[..at].iter().any(|other| other.name == column.name) {
                return Err(format!("it has two columns `{}`", column.name));
            }
            if at < self.key && !column.is_ordered() {
                return Err(format!("`{}` cannot be part of the key", column.name));
            }
        }
        for kind in [Type::Revision, Type::Changed] {
            if self.columns.iter().filter(|column| column.ty == kind).count() > 1 {
                return Err(format!("it has two columns of type {kind:?}"));
            }
        }
        for (at, index) in self.indexes.iter().enumerate() {
            check_name(index.name)?;
            if self.indexes[..at].iter().any(|other| other.name == index.name) {
                return Err(format!("it has two indexes `{}`", index.name));
            }
            let ordered =
                |column: &usize| self.columns.get(*column).is_some_and(Column::is_ordered);
            if index.columns.is_empty() || !index.columns.iter().all(ordered) {
                return Err(format!(
                    "its index `{}` has no column, or one without an order",
                    index.name
                ));
            }
        }
        Ok(())
    }
}

impl LogTable {
    fn check(&self) -> Result<(), &'static str> {
        let column = |at: usize| self.table.columns.get(at);
        if self.unique.iter().any(|at| !column(*at).is_some_and(|c| matches!(c.ty, Type::Text(_))))
        {
            return Err("sender and message id are two columns of texts");
        }
        if self.outlives.iter().any(|at| column(*at).is_none()) {
            return Err("a column that outlives its entry was not declared");
        }
        if column(self.size).is_none_or(|column| column.ty != Type::Int) {
            return Err("the size of an entry is a column of integers");
        }
        Ok(())
    }
}

impl Column {
    /// Whether it may stand in a key or an index.
    fn is_ordered(&self) -> bool {
        !self.nullable && matches!(self.ty, Type::Int | Type::Text(..=512))
    }
}

impl Schema {
    /// A table.
    ///
    /// # Errors
    ///
    /// [`Misuse`](super::BackendErrorKind::Misuse): it was not declared.
    pub fn table(&self, id: TableId) -> BackendResult<&Table> {
        let table = self.tables.get(usize::from(id.0));
        table.ok_or_else(|| BackendError::misuse(format!("table {} was not declared", id.0)))
    }

    /// Checks what is declared: names, keys, indexes, columns, and that no table is declared twice.
    ///
    /// # Errors
    ///
    /// [`Misuse`](super::BackendErrorKind::Misuse), with the table and what is wrong with it.
    pub fn check(&self) -> BackendResult<()> {
        let refused = |name: &str, why: String| {
            BackendError::misuse(format!("the table `{name}` cannot be declared: {why}"))
        };
        let log = &self.log;
        let ints = log.table.columns.iter().take(2).all(|column| column.ty == Type::Int);
        if log.table.key != 2 || !ints || !log.table.indexes.is_empty() {
            return Err(refused(log.table.name, "the key of logs is two integers".into()));
        }
        log.check().map_err(|why| refused(log.table.name, why.into()))?;
        for (at, table) in std::iter::once(&log.table).chain(&self.tables).enumerate() {
            table.check().map_err(|why| refused(table.name, why))?;
            let others = std::iter::once(&log.table).chain(&self.tables).take(at);
            if others.into_iter().any(|other| other.name == table.name) {
                return Err(refused(table.name, "it is declared twice".into()));
            }
        }
        Ok(())
    }
}

/// How a table was declared when a database saw it last. A backend keeps one for each table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The version.
    pub version: u32,
    /// A line for each column: what must not change.
    pub columns: Vec<String>,
    /// A line for each index.
    pub indexes: Vec<String>,
}

/// What a declaration adds to an earlier one of the same table, by position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Columns.
    pub columns: Range<usize>,
    /// Indexes.
    pub indexes: Range<usize>,
}

impl Declared {
    /// The declaration of a table.
    pub fn of(table: &Table) -> Self {
        let column = |(at, column): (usize, &Column)| {
            let key = if at < table.key { " key" } else { "" };
            let null = if column.nullable { " null" } else { "" };
            format!("{} {:?}{key}{null}", column.name, column.ty)
        };
        let index = |index: &Index| {
            let columns: Vec<_> = index.columns.iter().map(|at| table.columns[*at].name).collect();
            let unique = if index.unique { " unique" } else { "" };
            format!("{} ({}){unique}", index.name, columns.join(", "))
        };
        Self {
            version: table.version,
            columns: table.columns.iter().enumerate().map(column).collect(),
            indexes: table.indexes.iter().map(index).collect(),
        }
    }

    /// What `table` adds to this earlier declaration.
    ///
    /// # Errors
    ///
    /// [`Misuse`](super::BackendErrorKind::Misuse): this one has a later version, or the table lost or changed a column or an
    /// index, or added some without another version.
    pub fn upgrade(&self, table: &Table) -> BackendResult<Added> {
        let now = Self::of(table);
        let refused = |why: &str| {
            BackendError::misuse(format!("the table `{}` cannot be opened: {why}", table.name))
        };
        if self.version > now.version {
            let why = "a later version of it is in the database; use the program that wrote it";
            return Err(refused(why));
        }
        if !now.columns.starts_with(&self.columns) || !now.indexes.starts_with(&self.indexes) {
            let why = "a column or an index was removed or changed; new ones are added at the end";
            return Err(refused(why));
        }
        if self.version == now.version && *self != now {
            let why = "columns or indexes were added under the same version; raise the version";
            return Err(refused(why));
        }
        Ok(Added {
            columns: self.columns.len()..now.columns.len(),
            indexes: self.indexes.len()..now.indexes.len(),
        })
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if starts && name.len() <= 30 && name.chars().all(legal) {
        Ok(())
    } else {
        Err(format!("`{name}` is no name: a to z, 0 to 9 and _, a letter first, at most 30"))
    }
}
