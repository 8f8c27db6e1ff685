//! What is open, what was recorded, what is to fail.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use libc::c_int;

use crate::config::{Config, Error, Sync};
use crate::raw;

/// What stands behind a file descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// Something below the folder, by the number of its opening.
    Below(u64),
    /// The file for marks.
    Marks,
}

/// Everything that the calls share.
pub(crate) struct Table {
    open: HashMap<c_int, Open>,
    openings: u64,
    log: Option<c_int>,
    /// How many records there are.
    pub(crate) records: u64,
    calls: u64,
    /// Calls of the kind that is to fail.
    met: u64,
    healed: bool,
    /// The pages that the system has in memory, by file: whoever reads them does not reach the disk.
    cached: HashMap<(u64, u64), HashSet<u64>>,
}

/// The bytes of a page.
const PAGE: u64 = 4096;

/// What a call is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    Short,
    Fail(c_int),
}

/// One call, on its way to its record.
pub(crate) struct Call {
    pub(crate) kind: &'static str,
    pub(crate) number: u64,
    pub(crate) verdict: Verdict,
}

struct Shim {
    config: Config,
    table: Mutex<Table>,
}

static SHIM: LazyLock<Option<Shim>> = LazyLock::new(|| {
    let config = Config::from_env()?;
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT;
    let log = config.log.as_deref().and_then(|path| raw::open(path, flags));
    let table = Table {
        open: HashMap::new(),
        openings: 0,
        log,
        records: 0,
        calls: 0,
        met: 0,
        healed: false,
        cached: HashMap::new(),
    };
    Some(Shim { config, table: Mutex::new(table) })
});

/// What the environment says; `None` if nothing is to be done.
pub(crate) fn config() -> Option<&'static Config> {
    SHIM.as_ref().map(|shim| &shim.config)
}

/// The table, for as long as a call takes: so that the log has the calls in the order in which they took effect.
///
/// Nothing that is done while it is held may call what this crate replaces, or it would wait for itself.
pub(crate) fn table() -> Option<MutexGuard<'static, Table>> {
    Some(SHIM.as_ref()?.table.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The path below the folder, `None` for one elsewhere.
pub(crate) fn below(path: &Path) -> Option<PathBuf> {
    path.strip_prefix(&config()?.root).ok().map(Path::to_owned)
}

impl Table {
    pub(crate) fn find(&self, fd: c_int) -> Option<Open> {
        self.open.get(&fd).copied()
    }

    /// A descriptor was opened on something below the folder. Gives its number.
    pub(crate) fn opened(&mut self, fd: c_int) -> u64 {
        self.openings += 1;
        self.open.insert(fd, Open::Below(self.openings));
        self.openings
    }

    /// A descriptor was opened on something that is known already, or on nothing of ours.
    pub(crate) fn set(&mut self, fd: c_int, to: Option<Open>) {
        match to {
            Some(open) => self.open.insert(fd, open),
            None => self.open.remove(&fd),
        };
    }

    /// Counts a call and decides on it.
    pub(crate) fn call(&mut self, kind: &'static str) -> Call {
        self.calls += 1;
        let verdict = self.verdict(kind);
        Call { kind, number: self.calls, verdict }
    }

    fn verdict(&mut self, kind: &'static str) -> Verdict {
        let Some(fault) = config().and_then(|config| config.fault.as_ref()) else {
            return Verdict::Go;
        };
        if self.healed || (fault.kind != "any" && fault.kind != kind) {
            return Verdict::Go;
        }
        self.met += 1;
        let meant = self.met == fault.number || (fault.on && self.met > fault.number);
        let writes = kind == "write";
        // A device without room still reads, and still takes things away.
        let allocates = !matches!(kind, "read" | "unlink" | "rmdir");
        match fault.error {
            _ if !meant => Verdict::Go,
            Error::NoSpace if allocates => Verdict::Fail(libc::ENOSPC),
            Error::Io => Verdict::Fail(libc::EIO),
            Error::Short if writes => Verdict::Short,
            Error::NoSpace | Error::Short => Verdict::Go,
        }
    }

    /// Appends a record.
    pub(crate) fn record(
        &mut self,
        kind: &str,
        handle: u64,
        a: i64,
        b: i64,
        call: u64,
        data: &[u8],
    ) {
        self.records += 1;
        let Some(log) = self.log else { return };
        let head = format!("{kind} {handle} {a} {b} {call} {}\n", data.len());
        let mut bytes = Vec::with_capacity(head.len() + data.len() + 1);
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(data);
        bytes.push(b'\n');
        raw::append(log, &bytes);
    }

    /// Records that a call was counted, and no more.
    pub(crate) fn note(&mut self, call: &Call) {
        self.record("call", 0, 0, 0, call.number, call.kind.as_bytes());
    }

    /// Records that a call was made to fail. Gives what it returns.
    pub(crate) fn refuse(&mut self, call: &Call, error: c_int) -> c_int {
        self.record("fault", 0, i64::from(error), 0, call.number, call.kind.as_bytes());
        raw::fail(error)
    }

    /// Whether a read of these bytes stays in memory.
    pub(crate) fn is_cached(&self, file: (u64, u64), at: u64, len: u64) -> bool {
        self.cached.get(&file).is_some_and(|pages| range(at, len).all(|page| pages.contains(&page)))
    }

    /// These bytes were read or written.
    pub(crate) fn cache(&mut self, file: (u64, u64), at: u64, len: u64) {
        self.cached.entry(file).or_default().extend(range(at, len));
    }

    /// Takes a mark.
    pub(crate) fn mark(&mut self, text: &[u8]) {
        self.healed |= text.starts_with(b"heal");
        if text.starts_with(b"cold") {
            self.cached.clear();
        }
        self.record("mark", 0, 0, 0, 0, text);
    }
}

fn range(at: u64, len: u64) -> std::ops::Range<u64> {
    at / PAGE..at.saturating_add(len).div_ceil(PAGE)
}

/// Whether this kind of sync only says that it did.
pub(crate) fn lies(kind: &str) -> bool {
    let lie = config().map(|config| config.sync);
    matches!(lie, Some(Sync::Lie(of)) if of.is_none_or(|of| of == kind))
}
