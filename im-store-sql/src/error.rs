//! From a database's failures to those of the store.

use std::time::Duration;

use im_core::ports::{StoreError, StoreErrorKind};

use crate::dialect::Dialect;

/// What went wrong while something was read or written.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The database said so, or could not be reached.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// What stands in a table makes no sense.
    #[error("the stored {0} is damaged")]
    Damaged(&'static str),
    /// It took too long. What the connection is about nobody knows: it is thrown away.
    #[error("no answer came within {0:?}")]
    Late(Duration),
    /// What was asked for does not go, in words that say why and what to do.
    #[error("{0}")]
    Unfit(String),
}

/// A result of a statement or of several.
pub type Outcome<T> = Result<T, Fault>;

/// What sort of failure it is. It decides whether it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The transaction lost against another one and was rolled back: the same again may succeed at once.
    Contended,
    /// A key is taken: it was written before, or another transaction has written it meanwhile.
    Taken,
    /// Another transaction holds a lock, and was waited for in vain. Nothing was written.
    Locked,
    /// No room on the device. The statement or transaction was rolled back.
    Full,
    /// The server is not there, or the connection broke.
    Away,
    /// The database itself is damaged.
    Corrupt,
    /// The store was closed.
    Closed,
    /// Anything else.
    Failed,
}

impl Fault {
    pub(crate) fn class<D: Dialect>(&self) -> Class {
        match self {
            Self::Damaged(_) => Class::Corrupt,
            Self::Late(_) => Class::Away,
            Self::Unfit(_) => Class::Failed,
            Self::Database(error) => class::<D>(error),
        }
    }

    /// The error of a call that wrote nothing.
    pub(crate) fn into_error<D: Dialect>(self) -> StoreError {
        let (class, why) = (self.class::<D>(), self.to_string());
        let words = if matches!(self, Self::Unfit(_)) { why } else { words(class, &why) };
        StoreError::new(kind(class), words).because(self)
    }
}

/// What a caller is told of a failure after which nothing was written.
pub(crate) fn kind(class: Class) -> StoreErrorKind {
    match class {
        Class::Full => StoreErrorKind::Full,
        Class::Corrupt => StoreErrorKind::Corrupt,
        Class::Closed => StoreErrorKind::Closed,
        Class::Contended | Class::Taken | Class::Locked | Class::Away | Class::Failed => {
            StoreErrorKind::Unavailable
        }
    }
}

pub(crate) fn words(class: Class, why: &str) -> String {
    match class {
        Class::Full => format!("the database has no room left: {why}"),
        Class::Locked => format!(
            "another transaction holds a lock and does not end: one of your own (around `append_in`, say), another program's, or a \
             console's. It has to be committed or rolled back: {why}"
        ),
        Class::Contended | Class::Taken | Class::Away | Class::Failed => {
            format!("the database is away or failing: {why}")
        }
        Class::Closed => "the store is closed".to_owned(),
        Class::Corrupt => why.to_owned(),
    }
}

pub(crate) fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Closed, "the store is closed")
}

fn class<D: Dialect>(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Database(error) => D::class(error.as_ref()),
        sqlx::Error::PoolClosed => Class::Closed,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => Class::Away,
        // A server that goes away in the middle of an answer.
        sqlx::Error::Protocol(_) => Class::Away,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Class::Corrupt,
        _ => Class::Failed,
    }
}
