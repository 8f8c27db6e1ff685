//! The data folder around sled's own.
//!
//! ```text
//! data/
//!   lock       held while a process uses the folder
//!   status     layout, generation, how it was left
//!   suspect    there while the folder is opened, and after a sync that failed
//!   sled/      sled's files
//!   sled.new   a copy in the making
//!   sled.damaged-…  what a recovery has put aside
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use im_core::id::random_bytes;
use im_core::ports::{StoreError, StoreErrorKind, StoreResult};

use crate::device::Device;
use crate::error::file;
use crate::names;
use crate::status::{LAYOUT, Status};

/// A data folder that this process holds.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The lock goes with it.
    _lock: Lock,
}

impl Folder {
    /// Takes the folder; makes it if it is not there. Gives what its status file says, `None` for a new one.
    pub(crate) fn take(path: &Path) -> StoreResult<(Self, Option<Status>)> {
        make(path).map_err(|e| file("make the data folder", path, e))?;
        let status = Status::read(&path.join("status"))?;
        if status.is_none() {
            refuse_foreign(path)?;
        }
        let folder = Self { path: path.to_owned(), _lock: lock(path)? };
        // It may have changed before we had the lock.
        let status = Status::read(&path.join("status"))?;
        if let Some(Status { layout, .. }) = status
            && layout > LAYOUT
        {
            let message = format!(
                "the data folder {} was written by a newer version (layout {layout}; this version reads up to \
                 {LAYOUT}): run that version, or choose another folder",
                path.display()
            );
            return Err(StoreError::new(StoreErrorKind::Unavailable, message));
        }
        folder.tidy()?;
        names::one(&folder.db())?;
        Ok((folder, status))
    }

    /// Whether this file is still the one that is found in the folder.
    ///
    /// # Errors
    ///
    /// `Unavailable` if not: what is written to it would be missing at the next start.
    pub(crate) fn check(&self, log: &File) -> StoreResult<()> {
        names::same(&self.db(), log)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sled's own folder.
    pub(crate) fn sled(&self) -> PathBuf {
        self.path.join("sled")
    }

    /// Sled's own parameters. Sled writes them once and does not sync them.
    pub(crate) fn conf(&self) -> PathBuf {
        self.sled().join("conf")
    }

    /// Sled's log.
    pub(crate) fn db(&self) -> PathBuf {
        self.sled().join("db")
    }

    /// Whether sled has written anything here.
    pub(crate) fn has_data(&self) -> io::Result<bool> {
        match fs::metadata(self.db()) {
            Ok(db) => Ok(db.len() > 0),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Notes in which boot a sync may fail, or has failed: the system then takes for written what is not, until the
    /// machine stops. See [`Folder::is_suspect`].
    pub(crate) fn suspect(&self, boot: &str, device: &dyn Device) -> StoreResult<()> {
        let path = self.path.join("suspect");
        device.replace(&path, boot).map_err(|e| file("write", &path, e))
    }

    /// Whether that was noted in this boot, or nobody can tell in which.
    pub(crate) fn is_suspect(&self, boot: &str) -> StoreResult<bool> {
        let path = self.path.join("suspect");
        match fs::read_to_string(&path) {
            Ok(noted) => Ok(noted == boot || noted.is_empty()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(file("read", &path, e)),
        }
    }

    /// All that is there was synced.
    pub(crate) fn trust(&self) -> StoreResult<()> {
        let path = self.path.join("suspect");
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file("remove", &path, e)),
            // Should the name come back after a power cut, it names another boot.
            _ => Ok(()),
        }
    }

    /// Puts copies in the place of sled's files. After a failed sync the system may hold pages that it takes for
    /// written and that are not; a later sync would not write them. So all is read, as sled would read it, and written
    /// to new files.
    pub(crate) fn renew(&self, device: &dyn Device) -> StoreResult<()> {
        self.copy(device, Snapshots::Keep)?;
        discard(&self.swap("unsynced")?);
        Ok(())
    }

    /// Removes sled's files, in which there is nothing yet.
    pub(crate) fn begin_anew(&self) -> StoreResult<()> {
        match fs::remove_dir_all(self.sled()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file("empty", &self.sled(), e)),
            _ => Ok(()),
        }
    }

    fn new_copy(&self) -> PathBuf {
        self.path.join("sled.new")
    }

    /// Writes the status.
    pub(crate) fn write(&self, status: &Status, device: &dyn Device) -> StoreResult<()> {
        let path = self.path.join("status");
        device.replace(&path, &status.to_string()).map_err(|e| file("write", &path, e))
    }

    /// Finishes or undoes what a killed process left half done.
    fn tidy(&self) -> StoreResult<()> {
        let (sled, new) = (self.sled(), self.new_copy());
        let tidy = || {
            match (sled.exists(), new.exists()) {
                // The copy was whole when the old folder was put aside.
                (false, true) => fs::rename(&new, &sled)?,
                (true, true) => fs::remove_dir_all(&new)?,
                _ => {}
            }
            self.drop_unfinished_snapshots()
        };
        tidy().map_err(|e| file("tidy up", &self.path, e))
    }

    /// A process that is killed while sled writes its snapshot leaves a file that sled takes for the newest snapshot at
    /// the next start, and then calls corrupt. It is only a draft: the one before it is still there.
    pub(crate) fn drop_unfinished_snapshots(&self) -> io::Result<()> {
        for path in snapshots(&self.sled())? {
            if path.extension().is_some_and(|end| end == "generating") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Copies sled's folder. Gives the name of the copy.
    pub(crate) fn copy(&self, device: &dyn Device, snapshots: Snapshots) -> StoreResult<PathBuf> {
        // An exchange that was cut short left the only good data in the copy: it comes first.
        self.tidy()?;
        let to = self.new_copy();
        self.drop_copy();
        match device.copy(&self.sled(), &to, snapshots) {
            Ok(()) => Ok(to),
            Err(error) => {
                self.drop_copy();
                Err(file("copy the data of", &self.path, error))
            }
        }
    }

    /// Puts the copy in the place of sled's folder. Gives the name that the old one has now.
    pub(crate) fn swap(&self, why: &str) -> StoreResult<PathBuf> {
        let suffix = u32::from_be_bytes(random_bytes());
        let aside = self.path.join(format!("sled.{why}-{suffix:08x}"));
        let swap = || {
            fs::rename(self.sled(), &aside)?;
            // Killed here, `tidy` goes on.
            fs::rename(self.new_copy(), self.sled()).inspect_err(|_| {
                // What cannot be exchanged is put back; if that fails too, `tidy` takes the copy.
                let _ = fs::rename(&aside, self.sled());
            })?;
            sync_folder(&self.path)
        };
        swap().map_err(|e| file("exchange the data of", &self.path, e))?;
        Ok(aside)
    }

    pub(crate) fn drop_copy(&self) {
        // It is tidied up at the next start if this fails.
        let _ = fs::remove_dir_all(self.new_copy());
    }
}

/// Removes a folder that was put aside, if it can.
fn discard(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "an old copy could not be removed");
    }
}

/// A folder of its own for a copy of a store: it must be empty, or not there.
pub(crate) fn make_empty(path: &Path) -> StoreResult<()> {
    let make = || {
        make(path)?;
        fs::read_dir(path)?.next().transpose()
    };
    match make() {
        Ok(None) => Ok(()),
        Ok(Some(_)) => {
            let message = format!("the folder {} is not empty: choose another", path.display());
            Err(StoreError::new(StoreErrorKind::Unavailable, message))
        }
        Err(e) => Err(file("make the folder", path, e)),
    }
}

/// What a copy takes along of the files that sled makes anew from its log or from its defaults: snapshots and `conf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Snapshots {
    Keep,
    Drop,
}

/// Makes a folder and those above it that are not there, so that their names last.
fn make(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    // The names of those that were there are no matter of ours, but for the last: it may have been made by a process
    // that was killed before it came to sync its name.
    let made = path.ancestors().skip(1).take_while(|above| !above.exists()).count();
    fs::create_dir_all(&path)?;
    for above in path.ancestors().skip(1).take(made + 1) {
        match sync_folder(above) {
            // It cannot be opened for reading. A name that was there before us has long been kept.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                tracing::debug!(folder = %above.display(), "may not be read, and was not synced");
            }
            synced => synced?,
        }
    }
    Ok(())
}

/// A folder without a status file is new, or none of ours.
fn refuse_foreign(path: &Path) -> StoreResult<()> {
    let entries = fs::read_dir(path).map_err(|e| file("read the data folder", path, e))?;
    for entry in entries {
        let name = entry.map_err(|e| file("read the data folder", path, e))?.file_name();
        if name != "lock" && name != "status.new" {
            let message = format!(
                "the folder {} holds other files ({}) and no store: choose an empty folder",
                path.display(),
                name.to_string_lossy()
            );
            return Err(StoreError::new(StoreErrorKind::Unavailable, message));
        }
    }
    Ok(())
}

/// A file that is locked as long as this is there.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    /// To close it would not do: a process that is being started at this moment has it open too, until it runs its own program.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

fn lock(path: &Path) -> StoreResult<Lock> {
    let name = path.join("lock");
    let lock = File::create(&name).map_err(|e| file("open", &name, e))?;
    match lock.try_lock() {
        Ok(()) => Ok(Lock(lock)),
        Err(TryLockError::WouldBlock) => {
            let message = format!(
                "the data folder {} is in use by another process, or opened twice: stop the other one, or choose \
                 another folder",
                path.display()
            );
            Err(StoreError::new(StoreErrorKind::Unavailable, message))
        }
        Err(TryLockError::Error(e)) => Err(file("lock", &name, e)),
    }
}

/// The files of sled's folder whose names begin like those of snapshots.
fn snapshots(sled: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(sled) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if is_snapshot(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Whether sled makes this file anew if it is not there.
fn is_derived(path: &Path) -> bool {
    is_snapshot(path) || path.file_name().is_some_and(|name| name == "conf")
}

fn is_snapshot(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap."))
}

/// Copies a folder file by file and syncs the copy. Without sled's snapshots and its `conf`, if they are not to be trusted.
pub(crate) fn copy(from: &Path, to: &Path, snapshots: Snapshots) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        if path.is_dir() {
            copy(&path, &target, snapshots)?;
        } else if snapshots == Snapshots::Keep || !is_derived(&path) {
            fs::copy(&path, &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    sync_folder(to)
}

/// Writes a small file under another name first.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut to = File::create(&new)?;
    to.write_all(text.as_bytes())?;
    to.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder last.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}
