//! What the environment says.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What is to be done.
pub(crate) struct Config {
    pub(crate) root: PathBuf,
    pub(crate) log: Option<PathBuf>,
    pub(crate) marks: Option<PathBuf>,
    pub(crate) boot: Option<PathBuf>,
    pub(crate) sync: Sync,
    pub(crate) fault: Option<Fault>,
}

/// What becomes of a sync.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    Real,
    Skip,
    /// Of the kinds named, or of all.
    Lie(Option<&'static str>),
}

/// Which calls fail, and how.
pub(crate) struct Fault {
    /// `any`, or one kind.
    pub(crate) kind: String,
    /// The first call of the kind that fails, from 1.
    pub(crate) number: u64,
    pub(crate) error: Error,
    /// Whether the calls after it fail too.
    pub(crate) on: bool,
}

/// How a call fails.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Error {
    NoSpace,
    Io,
    /// Half of it is written, which is no error.
    Short,
}

impl Config {
    /// `None` if nothing is to be done.
    pub(crate) fn from_env() -> Option<Self> {
        let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Some(Self {
            root: path("IM_DISK_ROOT")?,
            log: path("IM_DISK_LOG"),
            marks: path("IM_DISK_MARKS"),
            boot: path("IM_DISK_BOOT"),
            sync: sync(std::env::var_os("IM_DISK_SYNC")),
            fault: std::env::var("IM_DISK_FAULT").ok().and_then(|text| fault(&text)),
        })
    }
}

fn sync(text: Option<OsString>) -> Sync {
    match text.as_ref().map(|text| text.as_bytes()) {
        Some(b"skip") => Sync::Skip,
        Some(b"lie") => Sync::Lie(None),
        Some(b"lie-fsync") => Sync::Lie(Some("fsync")),
        Some(b"lie-fdatasync") => Sync::Lie(Some("fdatasync")),
        _ => Sync::Real,
    }
}

fn fault(text: &str) -> Option<Fault> {
    let mut words = text.split(',');
    let kind = words.next()?.to_owned();
    let number = words.next()?.parse().ok()?;
    let error = match words.next()? {
        "enospc" => Error::NoSpace,
        "eio" => Error::Io,
        "short" => Error::Short,
        _ => return None,
    };
    Some(Fault { kind, number, error, on: words.next() == Some("on") })
}
