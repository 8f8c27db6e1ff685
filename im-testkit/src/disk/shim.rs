//! Instructions to the shim.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A library built from `im-testkit/shim`, with its instructions for a process.
#[derive(Debug, Clone)]
pub struct Shim {
    library: PathBuf,
    root: PathBuf,
    log: Option<PathBuf>,
    marks: Option<PathBuf>,
    boot: Option<PathBuf>,
    syncs: Syncs,
    fault: Option<Fault>,
}

/// The handling of a process's syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Syncs {
    /// Syncs are made.
    Real,
    /// Syncs are recorded and not made, which is faster. Unsynced data is lost in the image, not on
    /// the real disk.
    #[default]
    Recorded,
    /// Syncs report success and do nothing, as in a store without them.
    Lies,
    /// As [`Syncs::Lies`], for `fsync` only.
    FsyncLies,
    /// As [`Syncs::Lies`], for `fdatasync` only.
    FdatasyncLies,
}

/// A call that is made to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of the call: a name as in [`Act::kind`](super::log::Act::kind), or `any`. Syncs are
    /// `fsync`, `fdatasync` and `sync_file_range`; reads are `read`.
    pub kind: String,
    /// The number of the call of that kind, from 1.
    pub number: u64,
    /// The error.
    pub error: FaultError,
    /// Whether later ones fail, too, until the process writes `heal` to its marks.
    pub on: bool,
}

/// The error of a failing call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultError {
    /// No space is left on the device. Calls that need none succeed.
    NoSpace,
    /// An input or output error.
    Io,
    /// Half of the data is written, which is no error: the caller continues with the rest.
    Short,
}

impl FaultError {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoSpace, Self::Io, Self::Short];
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "enospc",
            Self::Io => "eio",
            Self::Short => "short",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.on { "on" } else { "once" };
        write!(f, "{},{},{},{how}", self.kind, self.number, self.error)
    }
}

impl Shim {
    /// Creates the instructions for the files below `root`, which must exist. Without further calls
    /// the shim only watches.
    ///
    /// # Errors
    ///
    /// If `library` or `root` does not exist.
    pub fn new(library: &Path, root: &Path) -> io::Result<Self> {
        Ok(Self {
            library: library.canonicalize()?,
            root: root.canonicalize()?,
            log: None,
            marks: None,
            boot: None,
            syncs: Syncs::default(),
            fault: None,
        })
    }

    /// Records to this file; writes to `marks` become marks.
    #[must_use]
    pub fn record(mut self, log: &Path, marks: &Path) -> Self {
        self.log = Some(log.to_owned());
        self.marks = Some(marks.to_owned());
        self
    }

    /// Lets the process read this file instead of the system's boot id.
    #[must_use]
    pub fn boot(mut self, file: &Path) -> Self {
        self.boot = Some(file.to_owned());
        self
    }

    /// Sets the handling of syncs.
    #[must_use]
    pub fn syncs(mut self, syncs: Syncs) -> Self {
        self.syncs = syncs;
        self
    }

    /// Makes a call fail.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Loads the shim into a process that is to be started.
    pub fn load(&self, into: &mut Command) {
        let syncs = match self.syncs {
            Syncs::Real => "real",
            Syncs::Recorded => "skip",
            Syncs::Lies => "lie",
            Syncs::FsyncLies => "lie-fsync",
            Syncs::FdatasyncLies => "lie-fdatasync",
        };
        into.env("LD_PRELOAD", &self.library)
            .env("IM_DISK_ROOT", &self.root)
            .env("IM_DISK_SYNC", syncs);
        for (name, path) in [
            ("IM_DISK_LOG", &self.log),
            ("IM_DISK_MARKS", &self.marks),
            ("IM_DISK_BOOT", &self.boot),
        ] {
            if let Some(path) = path {
                into.env(name, path);
            }
        }
        if let Some(fault) = &self.fault {
            into.env("IM_DISK_FAULT", fault.to_string());
        }
    }
}
