//! Telling the shim what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A library built from `im-testkit/shim`, and what it is to do in a process.
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

/// What becomes of the syncs of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Syncs {
    /// They are made.
    Real,
    /// They are recorded and not made, which is quicker. What was not synced is lost in the image, not on the real disk.
    #[default]
    Recorded,
    /// They say that they were made, and were not: a store that leaves them out.
    Lies,
    /// So does `fsync` alone.
    FsyncLies,
    /// So does `fdatasync` alone.
    FdatasyncLies,
}

/// A call that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Of which kind: a name as in [`Act::kind`](super::log::Act::kind) or `any`. Syncs are `fsync`, `fdatasync` and
    /// `sync_file_range`; reads are `read`.
    pub kind: String,
    /// Which of that kind, from 1.
    pub number: u64,
    /// How.
    pub error: FaultError,
    /// Whether those after it fail too, until the process writes `heal` to its marks.
    pub on: bool,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultError {
    /// No space is left on the device. Calls that need none go on.
    NoSpace,
    /// An input or output error.
    Io,
    /// Half of what was to be written is written, which is no error: the caller goes on with the rest.
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
    /// The shim, for the files below `root`, which must be there. It does nothing but watch.
    ///
    /// # Errors
    ///
    /// If `library` or `root` is not there.
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

    /// Records to this file, and takes what is written to `marks` as marks.
    #[must_use]
    pub fn record(mut self, log: &Path, marks: &Path) -> Self {
        self.log = Some(log.to_owned());
        self.marks = Some(marks.to_owned());
        self
    }

    /// Lets the process read this file in place of the system's boot id.
    #[must_use]
    pub fn boot(mut self, file: &Path) -> Self {
        self.boot = Some(file.to_owned());
        self
    }

    /// What becomes of syncs.
    #[must_use]
    pub fn syncs(mut self, syncs: Syncs) -> Self {
        self.syncs = syncs;
        self
    }

    /// Lets a call fail.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Loads it into a process that is to be started.
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
