//! How many files this process may have open, sockets among them.

/// Files that are kept free of sockets, for the store, its log and whatever else the process opens: 128. A store keeps
/// some dozens open at most, and must be able to write when everything else is refused.
pub const RESERVED_FILES: u64 = 128;

/// Raises the number of files that may be open from the soft limit to the hard one, and returns what holds then. For a
/// server to call at its start, before it opens anything.
///
/// A failure leaves the limit as it was: a warning says so, and [`Listener`](crate::Listener) keeps within it.
pub fn raise_file_limit() -> u64 {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current == maximum {
            return file_limit();
        }
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        if let Err(error) = raised {
            tracing::warn!(%error, ?current, ?maximum, "could not raise the limit of open files");
        }
    }
    file_limit()
}

/// How many files may be open now.
pub(crate) fn file_limit() -> u64 {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit};
        getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
    }
    #[cfg(not(unix))]
    u64::MAX
}
