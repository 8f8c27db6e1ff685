//! What the folder says about itself before sled is opened.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use im_core::ports::{StoreError, StoreErrorKind, StoreResult};

use crate::error::file;

/// The layout that this version writes. See `keys` for what it is.
pub(crate) const LAYOUT: u32 = 2;

/// The status file: lines of `name value`, readable by people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// The version of the layout.
    pub(crate) layout: u32,
    /// The store's generation.
    pub(crate) generation: u64,
    /// Whether it was closed properly.
    pub(crate) left: Left,
    /// Which boot of the machine it was last opened in; empty if unknown.
    pub(crate) boot: String,
    /// The last commit when it was opened or closed. There must be at least these.
    pub(crate) batch: u64,
}

/// How a folder was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Closed.
    Closed,
    /// In use, or killed.
    Open,
    /// Not left at all: it is a copy. Whoever opens it begins a new generation, since the store that it was copied from
    /// has gone on.
    Backup,
}

const TITLE: &str = "im-store-sled";

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = match self.left {
            Left::Closed => "closed",
            Left::Open => "open",
            Left::Backup => "backup",
        };
        writeln!(f, "{TITLE} {}", self.layout)?;
        writeln!(f, "generation {:016x}", self.generation)?;
        writeln!(f, "left {left}")?;
        writeln!(f, "boot {}", self.boot)?;
        writeln!(f, "batch {}", self.batch)
    }
}

impl Status {
    /// Whether sled must have written something. A folder that was never opened to its end is left as closed, without
    /// commits.
    pub(crate) fn had_data(&self) -> bool {
        self.left != Left::Closed || self.batch > 0
    }

    /// Reads the file; `None` if there is none.
    pub(crate) fn read(path: &Path) -> StoreResult<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(file("read", path, e)),
        };
        match Self::parse(&text) {
            Some(status) => Ok(Some(status)),
            None => Err(StoreError::new(
                StoreErrorKind::Corrupt,
                format!(
                    "{} is damaged: restore the folder from a backup, or choose another",
                    path.display()
                ),
            )),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::trim)
        };
        let layout = value(TITLE)?.parse().ok()?;
        if !(1..=LAYOUT).contains(&layout) {
            // These may say other things; only the number is read.
            let (generation, batch, boot) = (0, 0, String::new());
            return Some(Self { layout, generation, left: Left::Open, boot, batch });
        }
        Some(Self {
            layout,
            generation: u64::from_str_radix(value("generation")?, 16).ok()?,
            left: match value("left")? {
                "closed" => Left::Closed,
                "open" => Left::Open,
                "backup" => Left::Backup,
                _ => return None,
            },
            boot: value("boot").unwrap_or_default().to_owned(),
            batch: value("batch")?.parse().ok()?,
        })
    }
}

/// Which boot of the machine this is, if the system tells.
pub(crate) fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_its_text() {
        let boot = "0f3c".to_owned();
        let status = Status { layout: LAYOUT, generation: 7, left: Left::Open, boot, batch: 99 };
        assert_eq!(Status::parse(&status.to_string()), Some(status.clone()));
        let backup = Status { left: Left::Backup, ..status.clone() };
        assert_eq!(Status::parse(&backup.to_string()), Some(backup));
        let closed = Status { left: Left::Closed, boot: String::new(), ..status };
        assert_eq!(Status::parse(&closed.to_string()), Some(closed));
        for bad in ["", "im-store-sled", "im-store-sled 1\nleft open\nbatch 1\n", "else 1"] {
            assert_eq!(Status::parse(bad), None, "{bad:?}");
        }
        assert_eq!(
            Status::parse("im-store-sled 9\nanything\n").map(|status| status.layout),
            Some(9)
        );
    }
}
