//! The file: making it, and mending it after a sync that failed.
//!
//! After such a sync the system may show what was written and will never bring it to the disk: nothing that
//! is read can be trusted, not by another process either. So the file gets a name that says so, until it was
//! written again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use redb::{Database, Error};

use crate::rows::ROWS;

/// How much is written again at a time.
const CHUNK: usize = 1024 * 1024;

/// Opens the database, or makes one.
pub(crate) fn open(path: &Path) -> Result<Database, Error> {
    let (doubtful, new) = (beside(path, "doubtful"), beside(path, "new"));
    if doubtful.exists() {
        rewrite(&doubtful)?;
        fs::rename(&doubtful, path)?;
    } else if !path.exists() {
        // Under another name: what is half made cannot be opened.
        if new.exists() {
            fs::remove_file(&new)?;
        }
        let made = Database::create(&new)?;
        let txn = made.begin_write()?;
        txn.open_table(ROWS)?;
        txn.commit()?;
        made.close()?;
        fs::rename(&new, path)?;
    }
    // Also for a name that an earlier process gave, and had no time to have kept.
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(Database::open(path)?)
}

/// A sync has failed, or may have.
pub(crate) fn doubt(path: &Path) -> io::Result<()> {
    if path.exists() { fs::rename(path, beside(path, "doubtful")) } else { Ok(()) }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Writes what the file shows over itself, so that there is something to sync.
fn rewrite(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let (mut chunk, mut at) = (vec![0; CHUNK], 0);
    loop {
        file.seek(SeekFrom::Start(at))?;
        let len = file.read(&mut chunk)?;
        if len == 0 {
            return file.sync_all();
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&chunk[..len])?;
        at += len as u64;
    }
}
