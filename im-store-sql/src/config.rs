//! The knobs.

use std::path::PathBuf;
use std::time::Duration;

use im_core::state::StateLimits;

#[cfg(any(feature = "postgres", feature = "mysql"))]
use crate::error::{Fault, Outcome};

/// How a store is opened.
///
/// ```
/// use im_store_sql::SqlConfig;
/// let config = SqlConfig::new("postgres://chat@localhost/chat").connections(16);
/// assert_eq!(config.max_batch, 512);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct SqlConfig {
    pub(crate) address: DatabaseAddress,
    /// Connections for reads. 8 by default; reads beyond that wait for their turn. Pages of logs, members and rooms are read
    /// over three quarters of them at most, and on SQLite as many at one time as half of the cores: from two connections on,
    /// look-ups never wait for pages. Pages wait for one another, those of clients and those that the engine reads for
    /// subscribers who are behind.
    pub connections: u32,
    /// Commits at the same time, each on a connection of its own. 4 by default, and always 1 on SQLite, which takes one
    /// writer. Rooms are spread over them.
    pub committers: u32,
    /// Appends and other writes in one commit. 512 by default: enough that the sync is a small part of the cost, few
    /// enough that a commit takes some milliseconds.
    pub max_batch: usize,
    /// Bytes of content in one commit, but never fewer than one call's. 1 MiB by default.
    pub max_batch_bytes: usize,
    /// Bytes of writes that wait for a commit, some 500 of overhead for each counted in. 16 MiB by default. When it is
    /// reached, callers wait for their place.
    pub queue_bytes: usize,
    /// How long a call waits for a database that is away, before it fails with `Unavailable`. 5 s by default: long enough
    /// for a server that restarts. Once one call has waited in vain, the others fail at once until the database is back.
    pub patience: Duration,
    /// How long a statement waits for a row that another transaction has locked, or SQLite for its file, before it is given
    /// up. 5 s by default, as [`SqlConfig::patience`] is; MySQL counts whole seconds, and at least one. Meanwhile what its
    /// committer has queued for other rooms waits too. The lock of a transaction of yours that never ends so costs its
    /// rooms' callers an `Unavailable`, and nobody more than that time.
    pub lock_wait: Duration,
    /// How long one transaction may take from its beginning to its commit, a read to its last row, and closing, before its
    /// connection is thrown away: 30 s by default, since a purge, an erasure or a part of an import may take longer than an
    /// append. It is what a peer that has vanished without a word costs a caller. A commit that takes longer is answered
    /// `Unknown`, what comes before it `Unavailable`.
    pub time_limit: Duration,
    /// Bytes of SQLite's page cache, for each connection. 16 MiB by default. Other databases have caches of their own.
    pub cache_bytes: u64,
    /// How much state a room may hold. An update beyond it is discarded, so these should be no smaller than the
    /// engine's.
    pub state_limits: StateLimits,
}

impl SqlConfig {
    /// The defaults, for the database at this address: `postgres://USER:PASSWORD@HOST:PORT/NAME`, `mysql://…` or
    /// `sqlite:PATH`. The database of a server must exist, and the user must be allowed to make tables in it.
    ///
    /// The path after `sqlite:` is part of an address, in which `%` and `?` mean something (`%3F` is a question mark, and
    /// after one come parameters such as `vfs`): [`SqlConfig::sqlite`] takes a path as it is.
    pub fn new(url: impl Into<String>) -> Self {
        Self::at(DatabaseAddress::Url(url.into()))
    }

    /// The defaults, for the SQLite database in this file. It is made if it is not there, and its folder too. Its name may be
    /// anything that is UTF-8, which the driver needs, but `:memory:`: each connection would see a database of its own.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self::at(DatabaseAddress::File(path.into()))
    }

    fn at(place: DatabaseAddress) -> Self {
        Self {
            address: place,
            connections: 8,
            committers: 4,
            max_batch: 512,
            max_batch_bytes: 1 << 20,
            queue_bytes: 16 << 20,
            patience: Duration::from_secs(5),
            lock_wait: Duration::from_secs(5),
            time_limit: Duration::from_secs(30),
            cache_bytes: 16 << 20,
            state_limits: StateLimits::default(),
        }
    }

    /// Sets [`SqlConfig::connections`]; at least 1.
    #[must_use]
    pub fn connections(mut self, count: u32) -> Self {
        self.connections = count.max(1);
        self
    }

    /// Sets [`SqlConfig::committers`]; at least 1.
    #[must_use]
    pub fn committers(mut self, count: u32) -> Self {
        self.committers = count.max(1);
        self
    }

    /// Sets [`SqlConfig::max_batch`]; at least 1.
    #[must_use]
    pub fn max_batch(mut self, count: usize) -> Self {
        self.max_batch = count.max(1);
        self
    }

    /// Sets [`SqlConfig::max_batch_bytes`].
    #[must_use]
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// Sets [`SqlConfig::queue_bytes`].
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Sets [`SqlConfig::patience`].
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets [`SqlConfig::lock_wait`].
    #[must_use]
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    /// Sets [`SqlConfig::time_limit`].
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Sets [`SqlConfig::cache_bytes`].
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets [`SqlConfig::state_limits`].
    #[must_use]
    pub fn state_limits(mut self, limits: StateLimits) -> Self {
        self.state_limits = limits;
        self
    }
}

/// Where the database is.
#[derive(Clone)]
pub(crate) enum DatabaseAddress {
    Url(String),
    File(PathBuf),
}

impl SqlConfig {
    /// The address of a server.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(crate) fn server(&self) -> Outcome<&str> {
        match &self.address {
            DatabaseAddress::Url(url) => Ok(url),
            DatabaseAddress::File(path) => {
                let path = path.display();
                Err(Fault::Unfit(format!("{path} is a file, and not the address of a server")))
            }
        }
    }
}

impl std::fmt::Debug for SqlConfig {
    /// Without the address, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlConfig")
            .field("connections", &self.connections)
            .field("committers", &self.committers)
            .field("max_batch", &self.max_batch)
            .field("patience", &self.patience)
            .field("lock_wait", &self.lock_wait)
            .field("time_limit", &self.time_limit)
            .finish_non_exhaustive()
    }
}
