//! SQLite's file: its one name, who has it, and whether it is still there.
//!
//! SQLite keeps its log beside the name by which the file was opened (`NAME-wal`). Two names of one file are so two logs
//! over it, and what was acknowledged through one is lost through the other. Its own locks do not help: they are on the
//! file, and WAL mode keeps them apart by files beside the name. So a file with two names is refused, a name that leads
//! to the file by a symbolic link is followed first, and the file itself says by which name it was opened last.
//!
//! Nothing here opens the database: closing any descriptor of a file drops all locks that the process has on it
//! (fcntl(2)), SQLite's among them.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use im_core::ports::{StoreError, StoreErrorKind, StoreResult};
use parking_lot::Mutex;

use crate::error::{Fault, Outcome};

/// A database file that this store alone has, as long as this is there.
#[derive(Debug)]
pub struct Lock {
    /// The file that is locked. Another one takes its place if somebody has removed it.
    held: Mutex<File>,
    /// Its name.
    name: PathBuf,
    /// The database, without symbolic links.
    database: PathBuf,
    /// Which file that was when it was opened.
    opened: OnceLock<Identity>,
}

impl Drop for Lock {
    /// To close it would not do: a process that is being started at this moment has it open too, until it runs its own program.
    fn drop(&mut self) {
        let _ = self.held.get_mut().unlock();
    }
}

impl Lock {
    /// Locks a file beside the database, whose path is [`resolve`]d.
    ///
    /// # Errors
    ///
    /// `Unavailable` if another store has it, or if the database has several names.
    pub(crate) fn take(database: &Path) -> StoreResult<Self> {
        let fail = |what: &str, error: io::Error| {
            let message = format!("cannot {what} {}: {error}", database.display());
            StoreError::new(StoreErrorKind::Unavailable, message).because(error)
        };
        make_folder(database).map_err(|e| fail("make the folder of", e))?;
        one_name(database).map_err(refused)?;
        let name = beside(database, ".lock");
        let held = File::create(&name).map_err(|e| fail("open the lock of", e))?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!(
                    "the database {} is in use by another process, or opened twice: stop the other one, or choose another \
                     file",
                    database.display()
                );
                return Err(StoreError::new(StoreErrorKind::Unavailable, message));
            }
            Err(TryLockError::Error(error)) => return Err(fail("lock", error)),
        }
        let (held, database) = (Mutex::new(held), database.to_owned());
        Ok(Self { held, name, database, opened: OnceLock::new() })
    }

    /// The database's path.
    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    /// Notes which file was opened. From now on [`Lock::check`] asks for it.
    pub(crate) fn opened(&self) {
        if let Some(identity) = Identity::of(&self.database) {
            let _ = self.opened.set(identity);
        }
    }

    /// Whether the name still leads to the file that was opened, and the lock is still the one of that name. Some
    /// microseconds.
    ///
    /// # Errors
    ///
    /// `Unfit` if not: what is written to a file that nobody finds any more is lost.
    pub(crate) fn check(&self) -> Outcome<()> {
        let Some(opened) = self.opened.get() else { return Ok(()) };
        if Identity::of(&self.database).as_ref() != Some(opened) {
            return Err(Fault::Unfit(format!(
                "{} is not the file any more that this store has open: it was moved, removed or replaced. Put it back \
                 under that name, or stop the server and start it with the name that the file has now (take the files that \
                 end in -wal along)",
                self.database.display()
            )));
        }
        self.keep()
    }

    /// Locks the file of the lock's name again if somebody has removed it.
    fn keep(&self) -> Outcome<()> {
        let mut held = self.held.lock();
        if Identity::of(&self.name) == Identity::of_open(&held) {
            return Ok(());
        }
        let taken = File::create(&self.name).and_then(|new| match new.try_lock() {
            Ok(()) => Ok(new),
            Err(error) => Err(error.into()),
        });
        let Ok(new) = taken else {
            return Err(Fault::Unfit(format!(
                "the lock {} was removed, and another process may have opened the database since: stop one of them",
                self.name.display()
            )));
        };
        *held = new;
        Ok(())
    }

    /// Whether the database may be opened by this name, after it was opened last by the name `last`.
    ///
    /// # Errors
    ///
    /// `Unfit` if it is open by that one, or has left a log there.
    pub(crate) fn may_follow(&self, last: &Path) -> Outcome<()> {
        let (now, before) = (self.database.display(), last.display());
        if self.is_at(last) {
            return Ok(());
        }
        let (found, here) = (Identity::of(last), Identity::of(&self.database));
        if found.is_some() && found == here {
            return Err(Fault::Unfit(format!(
                "{now} is the same file as {before}, by which it was opened last: SQLite would keep a second log over it, and \
                 what was acknowledged through one of them would be lost. Open it as {before}, or mount the whole folder in \
                 place of the file"
            )));
        }
        if fs::symlink_metadata(last).is_ok() {
            // A copy of it, or what came in its place.
            return Ok(());
        }
        if is_locked(&beside(last, ".lock")) {
            return Err(Fault::Unfit(format!(
                "{now} was {before} before it was moved, and a process that opened it then still has it: stop that one first"
            )));
        }
        let log = beside(last, "-wal");
        if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Err(Fault::Unfit(format!(
                "{now} was {before} before it was moved, and its log stayed behind: {} may hold what was acknowledged last. \
                 Move it to {now}-wal, or move the file back. If it is of no use any more, remove it",
                log.display()
            )));
        }
        Ok(())
    }

    /// Whether this is the same name in the same folder, whatever path leads to that.
    fn is_at(&self, other: &Path) -> bool {
        let folder = |path: &Path| path.parent().and_then(Identity::of);
        let same_folder = || {
            let here = folder(&self.database);
            here.is_some() && here == folder(other)
        };
        self.database == other || (self.database.file_name() == other.file_name() && same_folder())
    }
}

/// Which file it is, by whatever name. None where the system does not say.
#[derive(Debug, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().and_then(|found| Self::from(&found))
    }

    fn of_open(file: &File) -> Option<Self> {
        file.metadata().ok().and_then(|found| Self::from(&found))
    }

    #[cfg(unix)]
    fn from(found: &fs::Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        Some(Self(found.dev(), found.ino()))
    }

    #[cfg(not(unix))]
    fn from(_: &fs::Metadata) -> Option<Self> {
        None
    }
}

/// The path of a file beside the database: SQLite's log, say.
pub(crate) fn beside(database: &Path, end: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// The path that a path leads to, without symbolic links, whether or not there is something yet.
///
/// # Errors
///
/// If it cannot be looked at.
pub(crate) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    if cfg!(not(unix)) {
        // The path would get a form that SQLite does not know.
        return Ok(path);
    }
    // A link may lead to a file that is still to be made.
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().map_or(target.clone(), |folder| folder.join(&target));
    }
    let (mut there, mut missing) = (path.as_path(), Vec::new());
    loop {
        match (fs::canonicalize(there), there.parent(), there.file_name()) {
            (Ok(found), ..) => {
                return Ok(missing.iter().rev().fold(found, |path, name| path.join(name)));
            }
            (Err(error), Some(above), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
                missing.push(name);
                there = above;
            }
            (Err(error), ..) => return Err(error),
        }
    }
}

/// As many as Linux follows.
const MOST_LINKS: usize = 40;

#[cfg(unix)]
fn one_name(database: &Path) -> Outcome<()> {
    use std::os::unix::fs::MetadataExt;
    let Ok(found) = fs::metadata(database) else { return Ok(()) };
    if !found.is_file() || found.nlink() < 2 {
        return Ok(());
    }
    let (path, count) = (database.display(), found.nlink());
    Err(Fault::Unfit(format!(
        "{path} has {count} names (hard links). SQLite keeps its log beside the name by which a file is opened, so what \
         was acknowledged through one name would be lost through another. Leave it one: `find FOLDER -samefile {path}` shows \
         them. A copy to work on is made by `SqliteStore::backup`"
    )))
}

#[cfg(not(unix))]
fn one_name(_: &Path) -> Outcome<()> {
    Ok(())
}

fn refused(fault: Fault) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, fault.to_string()).because(fault)
}

/// Whether somebody holds this lock.
fn is_locked(name: &Path) -> bool {
    let Ok(file) = File::open(name) else { return false };
    let held = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    if !held {
        let _ = file.unlock();
    }
    held
}

/// Makes the folder of a file, and those above it that are not there, so that their names last: SQLite syncs the names in
/// the database's own folder and no others.
fn make_folder(file: &Path) -> io::Result<()> {
    let Some(folder) = file.parent() else { return Ok(()) };
    // The names of those that were there are no matter of ours, but for the last: it may have been made by a process
    // that was killed before it came to sync its name.
    let made = folder.ancestors().skip(1).take_while(|above| !above.exists()).count();
    fs::create_dir_all(folder)?;
    for above in folder.ancestors().skip(1).take(made + 1) {
        match File::open(above).and_then(|above| above.sync_all()) {
            // It cannot be opened for reading. A name that was there before us has long been kept.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}
