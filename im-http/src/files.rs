//! The number of files, sockets included, that this process may have open.

/// File handles kept free of sockets, for the store and other files of the process: 128.
///
/// A store keeps some dozens open at most, and must be able to write while sockets are refused.
pub const RESERVED_FILES: u64 = 128;

/// Raises the limit of open files from soft to hard, and returns the resulting limit.
///
/// A server calls it at its start, before it opens files. On failure the limit is unchanged, a
/// warning is logged, and [`Listener`](crate::Listener) stays within the limit.
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

/// Returns the current limit of open files.
pub(crate) fn file_limit() -> u64 {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit};
        getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
    }
    #[cfg(not(unix))]
    u64::MAX
}
