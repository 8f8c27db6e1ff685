//! Opening: recovery, migration, generation.

use std::collections::HashSet;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use im_core::id::{new_generation, random_bytes};
use im_core::ports::{StoreError, StoreErrorKind, StoreResult};
use im_core::state::RoomRecord;
use im_core::{RoomId, Seq};

use crate::device::Device;
use crate::error::{damaged, file, reading, sled_kind};
use crate::folder::{Folder, Snapshots};
use crate::shared::Handle;
use crate::status::{LAYOUT, Left, Status, boot_id};
use crate::txn::Meta;
use crate::{keys, parts, readable, record};

/// A store that is open.
pub(crate) struct Opened {
    pub(crate) handle: Handle,
    pub(crate) meta: Meta,
}

/// Opens what is in the folder, or makes it.
pub(crate) fn open(
    folder: &Folder,
    status: Option<Status>,
    device: &dyn Device,
    cache_bytes: u64,
) -> StoreResult<Opened> {
    let boot = boot_id();
    let status = match status {
        Some(status) => status,
        None => begin(folder, device)?,
    };
    let steps = steps(status.layout, LAYOUT, MIGRATIONS)?;
    // Before sled makes new files where the old ones were.
    if status.had_data() && !has_data(folder)? {
        return Err(vanished(folder, status.batch));
    }
    let boot = boot.unwrap_or_default();
    prepare(folder, &status, &boot, device)?;
    let (db, recovered) = match open_sled(folder, device, cache_bytes)? {
        Ok(db) => (db, false),
        Err(error) => (recover(folder, device, cache_bytes, &status, &error)?, true),
    };
    // Written by every first opening, and made to last before the status says so.
    let blank = db.get(keys::STATE_GENERATION).map_err(reading)?.is_none();
    if status.had_data() && blank {
        return Err(vanished(folder, status.batch));
    }
    migrate(&db, device, &steps)?;
    let meta = read_meta(&db)?;
    if status.batch > 0 && meta.batch == 0 {
        return Err(vanished(folder, status.batch));
    }
    let why_new = why_new_generation(&status, &boot, meta.batch, recovered);
    let mut generation = status.generation;
    if let Some(why) = why_new {
        generation = u64::from_be_bytes(random_bytes());
        tracing::warn!(folder = %folder.path().display(), why, "the store begins a new generation: clients start their rooms anew");
    }
    let handle = handle(folder, db, generation)?;
    // What a killed process had flushed and not synced is made to last before anybody sees it, and before the status
    // says how much of it there is.
    device.sync(&handle.file).map_err(|e| file("sync", folder.path(), e))?;
    let (layout, left, batch) = (LAYOUT, Left::Open, meta.batch);
    folder.write(&Status { layout, generation, left, boot, batch }, device)?;
    folder.trust()?;
    Ok(Opened { handle, meta })
}

/// Makes sure that sled reads what is on the disk.
///
/// An opening that failed, or was killed, may have left a failed sync behind. From here on this one may, too; sled makes
/// some on its own and does not always tell.
fn prepare(folder: &Folder, status: &Status, boot: &str, device: &dyn Device) -> StoreResult<()> {
    if !status.had_data() {
        // The first opening, or one that did not get to its end: nobody was told of anything in it.
        folder.begin_anew()?;
    } else if folder.is_suspect(boot)? {
        tracing::warn!(folder = %folder.path().display(), "a sync may have failed: the data is written anew");
        folder.renew(device)?;
    }
    folder.suspect(boot, device)
}

/// Opens it again after a failure. What is found is what counts: it is synced before it is shown. It must hold the
/// commits up to `batch`, which were acknowledged.
pub(crate) fn reopen(
    folder: &Folder,
    generation: u64,
    batch: u64,
    device: &dyn Device,
    cache_bytes: u64,
) -> StoreResult<Opened> {
    if !has_data(folder)? {
        return Err(vanished(folder, batch));
    }
    let db = open_sled(folder, device, cache_bytes)?.map_err(|error| not_open(folder, error))?;
    let meta = read_meta(&db)?;
    if meta.batch < batch {
        return Err(vanished(folder, batch));
    }
    let handle = handle(folder, db, generation)?;
    device.sync(&handle.file).map_err(|e| file("sync", folder.path(), e))?;
    Ok(Opened { handle, meta })
}

/// Writes the first status, before there is anything else.
fn begin(folder: &Folder, device: &dyn Device) -> StoreResult<Status> {
    let generation = u64::from_be_bytes(random_bytes());
    let boot = String::new();
    let status = Status { layout: LAYOUT, generation, left: Left::Closed, boot, batch: 0 };
    folder.write(&status, device)?;
    Ok(status)
}

fn handle(folder: &Folder, db: sled::Db, generation: u64) -> StoreResult<Handle> {
    let path = folder.db();
    let open = || {
        let opened = File::options().read(true).write(true).open(&path)?;
        // Without it sled takes the folder for damaged.
        File::options().write(true).open(folder.conf())?.sync_all()?;
        crate::folder::sync_folder(&folder.sled())?;
        crate::folder::sync_folder(folder.path())?;
        Ok(opened)
    };
    let file = open().map_err(|e| file("open", &path, e))?;
    Ok(Handle { db, file, generation })
}

fn has_data(folder: &Folder) -> StoreResult<bool> {
    folder.has_data().map_err(|e| file("look into", &folder.db(), e))
}

/// There were `batch` commits or more, and they are not there. To begin anew is for a person to decide.
fn vanished(folder: &Folder, batch: u64) -> StoreError {
    let message = format!(
        "the data folder {path} has lost its data: there was a store with {batch} commits or more, and {sled} does not \
         hold them. Restore the folder from a backup, or move it away to start with an empty store",
        path = folder.path().display(),
        sled = folder.sled().display(),
    );
    StoreError::new(StoreErrorKind::Corrupt, message)
}

/// Why commits may have been lost, if so.
fn why_new_generation(
    status: &Status,
    boot: &str,
    batch: u64,
    recovered: bool,
) -> Option<&'static str> {
    let same_boot = !boot.is_empty() && boot == status.boot;
    if recovered {
        Some("it was recovered from damage")
    } else if status.left == Left::Backup {
        Some("it is a backup, and the store that it was copied from has gone on")
    } else if batch < status.batch {
        Some("commits are missing that were there when it was last opened or closed")
    } else if status.left == Left::Open && !same_boot {
        Some("it was not closed before the machine stopped, and is not proved against power loss")
    } else {
        None
    }
}

/// Opens sled's folder. The inner error is for damage that a recovery may heal.
fn open_sled(
    folder: &Folder,
    device: &dyn Device,
    cache_bytes: u64,
) -> StoreResult<Result<sled::Db, sled::Error>> {
    folder.drop_unfinished_snapshots().map_err(|e| file("tidy up", folder.path(), e))?;
    readable::check(&folder.sled()).map_err(|e| file("read", &folder.sled(), e))?;
    match open_caught(&folder.sled(), device, cache_bytes) {
        Ok(db) => Ok(Ok(db)),
        Err(error @ (sled::Error::Corruption { .. } | sled::Error::ReportableBug(_))) => {
            Ok(Err(error))
        }
        Err(error) => Err(not_open(folder, error)),
    }
}

/// How long sled's own lock is waited for, and how often it is tried.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_TRY: Duration = Duration::from_millis(10);

/// sled checks itself with assertions: one that fails means damage, not the end of the process.
///
/// The folder is ours alone by now, by a lock of our own. But sled's threads give its lock back a moment after a database
/// was dropped: that is waited for.
fn open_caught(path: &Path, device: &dyn Device, cache_bytes: u64) -> sled::Result<sled::Db> {
    let bug = |_| Err(sled::Error::ReportableBug("sled panicked on its data".into()));
    let until = Instant::now() + LOCK_WAIT;
    loop {
        let opened = catch_unwind(AssertUnwindSafe(|| device.open(path, cache_bytes)));
        match opened.unwrap_or_else(bug) {
            Err(error) if is_locked(&error) && Instant::now() < until => {
                std::thread::sleep(LOCK_TRY);
            }
            opened => return opened,
        }
    }
}

/// sled tells it in words alone.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

fn not_open(folder: &Folder, error: sled::Error) -> StoreError {
    let message = format!("the data folder {} cannot be opened: {error}", folder.path().display());
    StoreError::new(sled_kind(&error), message).because(error)
}

/// Opens a copy without its snapshots and its `conf`, which sled then makes anew, and takes it if all is there.
fn recover(
    folder: &Folder,
    device: &dyn Device,
    cache_bytes: u64,
    status: &Status,
    error: &sled::Error,
) -> StoreResult<sled::Db> {
    tracing::warn!(folder = %folder.path().display(), %error, "the data is damaged; trying to recover it on a copy");
    let copy = folder.copy(device, Snapshots::Drop)?;
    let rooms = open_caught(&copy, device, cache_bytes).map_err(reading).and_then(|db| {
        verify(&db, status.batch).and_then(|rooms| db.flush().map(|_| rooms).map_err(reading))
    });
    let rooms = match rooms {
        Ok(rooms) => rooms,
        Err(why) => {
            folder.drop_copy();
            return Err(beyond_recovery(folder, error, why));
        }
    };
    // The next start must know of the recovery even if this one gets no further.
    let generation = u64::from_be_bytes(random_bytes());
    let noted = Status { generation, ..status.clone() };
    if let Err(error) = folder.write(&noted, device) {
        folder.drop_copy();
        return Err(error);
    }
    let aside = folder.swap("damaged")?;
    let damaged_copy = aside.display();
    tracing::warn!(rooms, %damaged_copy, "recovered: every room is whole; the damaged data was put aside and can be removed");
    open_caught(&folder.sled(), device, cache_bytes).map_err(|error| not_open(folder, error))
}

fn beyond_recovery(folder: &Folder, error: &sled::Error, why: StoreError) -> StoreError {
    let message = format!(
        "the data folder {} is damaged ({error}) and could not be recovered ({why}). Nothing in it was changed. \
         Restore it from a backup, or move it away to start with an empty store",
        folder.path().display()
    );
    StoreError::new(StoreErrorKind::Corrupt, message).because(why)
}

/// Whether every room's log is there from its first event to its head, each event readable and counted, and all of the commits
/// that are known to have been made. Says how many rooms there are.
pub(crate) fn verify(db: &sled::Db, batch: u64) -> StoreResult<usize> {
    if read_meta(db)?.batch < batch {
        return Err(damaged("log: its last commits are missing; it"));
    }
    let mut rooms = 0;
    for row in db.scan_prefix(keys::ROOMS) {
        let (key, value) = row.map_err(reading)?;
        let id = std::str::from_utf8(&key[1..]).ok().and_then(|id| RoomId::new(id).ok());
        let id = id.ok_or_else(|| damaged("room"))?;
        let old = value.len() == record::ROOM_LEN_1;
        let room = match old {
            true => record::read_room(&id, 0, &record::room_from_1(&value, 0))?,
            false => record::read_room(&id, 0, &value)?,
        };
        let (mut next, mut bytes) = (room.first, 0);
        while next <= room.head {
            bytes += verify_event(db, &room, next)?;
            next = next.next();
        }
        if bytes != room.bytes && !old {
            return Err(damaged("room: the bytes of its log do not add up; it"));
        }
        if db.get(keys::event(room.epoch.incarnation, next)).map_err(reading)?.is_some() {
            return Err(damaged("room: its head lies before its last event; it"));
        }
        rooms += 1;
    }
    Ok(rooms)
}

/// Gives the bytes of its content.
fn verify_event(db: &sled::Db, room: &RoomRecord, seq: Seq) -> StoreResult<u64> {
    let key = keys::event(room.epoch.incarnation, seq);
    let first =
        db.get(&key).map_err(reading)?.ok_or_else(|| damaged("log: an event is missing; it"))?;
    let bytes = parts::join(&first, |part| db.get(parts::key(&key, part)).map_err(reading))?;
    let event = record::read_event(&room.id, room.epoch, seq, &bytes)?;
    let bytes = event.content.packed().len() as u64;
    let Some(id) = &event.id else { return Ok(bytes) };
    let key = keys::sent(room.epoch.incarnation, &event.from, id);
    let sent = db
        .get(key)
        .map_err(reading)?
        .map(|bytes| record::read_idempotency_record(&bytes))
        .transpose()?;
    match sent {
        Some(sent) if sent.seq == seq => Ok(bytes),
        _ => Err(damaged("record of a send")),
    }
}

pub(crate) fn read_meta(db: &sled::Db) -> StoreResult<Meta> {
    let number = |key: &[u8]| match db.get(key).map_err(reading)? {
        Some(bytes) => record::read_number(&bytes).map(Some),
        None => Ok(None),
    };
    let mut state_writers = HashSet::new();
    for row in db.scan_prefix(keys::STATE_WRITERS) {
        let (key, _) = row.map_err(reading)?;
        let node = key[1..].try_into().map_err(|_| damaged("writer of state"))?;
        state_writers.insert(u32::from_be_bytes(node));
    }
    let state_generation = match number(keys::STATE_GENERATION)? {
        Some(generation) => generation,
        None => {
            let generation = new_generation();
            db.insert(keys::STATE_GENERATION, record::number(generation)).map_err(reading)?;
            db.flush().map_err(reading)?;
            generation
        }
    };
    let batch = number(keys::BATCH)?.unwrap_or(0);
    let incarnation = number(keys::INCARNATION)?.unwrap_or(0);
    Ok(Meta { batch, incarnation, state_generation, state_writers })
}

/// A way from one layout to the next. It may be killed at any point and is then run again.
pub(crate) struct Migration {
    pub(crate) from: u32,
    pub(crate) run: fn(&sled::Db, &dyn Device) -> StoreResult<()>,
}

/// Layout 1 is the first.
const MIGRATIONS: &[Migration] = &[Migration { from: 1, run: crate::migrate::from_1 }];

/// The steps from one layout to another, in order.
pub(crate) fn steps(from: u32, to: u32, table: &[Migration]) -> StoreResult<Vec<&Migration>> {
    let step = |layout| table.iter().find(|step| step.from == layout);
    (from..to).map(step).collect::<Option<_>>().ok_or_else(|| {
        let message = format!(
            "the data has layout {from}, which this version cannot bring to {to}: use an older version, or choose \
             another folder"
        );
        StoreError::new(StoreErrorKind::Unavailable, message)
    })
}

/// Takes the steps. The status file names the new layout afterwards.
pub(crate) fn migrate(db: &sled::Db, device: &dyn Device, steps: &[&Migration]) -> StoreResult<()> {
    for step in steps {
        tracing::info!(from = step.from, "bringing the data to the next layout");
        (step.run)(db, device)?;
        device.flush(db).map_err(reading)?;
    }
    Ok(())
}
