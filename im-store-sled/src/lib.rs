//! A store in a folder, on [sled]: nothing to install and nothing to run.
//!
//! ```
//! use im_core::ports::{Durability, Store};
//! use im_store_sled::{SledConfig, SledStore};
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("data");
//! let store = SledStore::open(SledConfig::new(path)).await?;
//! assert_eq!(store.durability(), Durability::ProcessCrash);
//! store.close().await?;
//! # Ok(()) }
//! ```
//!
//! # What it promises
//!
//! An append that was answered is there after a kill of the process, with its dedup record. It was handed to the disk
//! with `fdatasync` before it was answered. Simulated power cuts have taken none (see below); but sled itself does not
//! promise it, so the store claims [`Durability::ProcessCrash`](im_core::ports::Durability::ProcessCrash) and no more: if
//! the machine stops while the store is open, the next start begins a new generation, and clients start their rooms
//! anew instead of trusting what may have lost its end. Nobody is shown anything that is not kept yet.
//!
//! # How it writes
//!
//! One thread takes what has queued, decides each append against what is committed and what stands before it, and
//! writes all of it as one batch in one tree: events, rooms, members, dedup records. One flush, one sync, then
//! everybody gets an answer. While it syncs, the next batch gathers; so the cost of the sync is shared by as many as
//! there are. Reads run beside it on threads for blocking work, a bounded number at a time.
//!
//! If a write fails (a full disk, a broken one), nothing more is acknowledged. The database is closed and opened
//! again, and what is found in it tells whether the commit was written: callers get their receipt, or an error that
//! says that nothing was written (`Full`, `Unavailable`). Only if it cannot be opened, the answer is `Unknown`. A sync
//! that failed is never tried again on the same files: they are copied first. As long as the store is away, calls
//! fail, and every half second one of them tries to open it. sled may stop in the middle of a commit and leave a part of it;
//! what stood there before is read first, and that part is taken back.
//!
//! sled takes what it cannot read for the end of its log and overwrites what lies behind it. So all that it will read is
//! read before it is opened, and a folder in which that fails is left alone: the error names it. After an opening or a
//! close in which a sync may have failed, the next one in the same boot copies the files as well.
//!
//! If the folder was damaged so that sled refuses to open it, a copy is opened without sled's snapshot files, which it
//! then makes anew from its log. If every room is whole, the copy takes the folder's place, what was there stays beside
//! it as `sled.damaged-…`, and a new generation begins. Otherwise nothing is changed, and the error says what to do. So
//! it is with a folder whose status file tells of data that is not there: it is refused, never begun anew.
//!
//! On a virtual machine with two cores 256 tasks in 64 rooms had 34,536 messages of 100 bytes a second acknowledged; with one
//! append to a commit it was 4,029. `im-bench throughput` measures it. SQLite had 74,478 and 4,036 a minute later. With 5
//! million messages an append costs 1.13 and a page of 50 anywhere 1.07 times what it does with 50 thousand (`im-bench history`).
//!
//! # How that was tried
//!
//! By `cargo xtask prove kills`, `power` and `faults --store sled`, the last two on Linux; the module `disk` of `im-testkit`
//! says what they can show. Of what had been acknowledged, more than two thousand simulated power cuts lost, repeated and
//! reordered nothing; without our own `fdatasync` half of them lost something or left
//! nothing that could be opened. Each call to the disk in a short life of a store, 200 of
//! them, was made to fail in each way, 880 runs in all: senders were told, nothing was lost, and the store worked again in
//! the same process.
//!
//! # Its limits
//!
//! - sled says in its own README: *if reliability is your primary constraint, use SQLite. sled is beta.* Five
//!   thousand kills of a writing process lost and repeated none of 2,974,840 acknowledged sends, but sled 0.34 has not been worked
//!   on for years. Take it for what it is
//!   good at: a server that starts with nothing installed. Choose an SQL store for what must outlive a disk's or a
//!   machine's failure.
//! - A process that is killed in the moment between a part of a commit that sled has left and our taking it back leaves
//!   that part. A failed sync that could not be noted, because the disk takes nothing at all, is forgotten by a process
//!   that comes after this one in the same boot.
//! - After an I/O error there must be room for a second copy of the folder.
//! - One process at a time. It runs on one machine. A folder that is in use is refused under any path, and so is one whose
//!   log has a second name (a hard link). A store whose folder is moved or replaced writes nothing more. [`SledStore::backup`] copies it while it is in use; files copied
//!   in another way are good only if it was closed.
//! - sled rewrites pages as they change and needs some times
//!   the size of what is in it.
//! - A record may have up to 4 MiB. It is cut into pieces of 4 KiB, because sled puts a page of more than 128 KiB into a
//!   file of its own, which it never syncs.
//! - A start reads the log that was written since the last start, some hundred MB a second.
//! - After an error of the disk, sled may wait for ever for a buffer that nobody writes any more. A flush is given up after
//!   30 s: the files are copied, the copy is opened, and what sled held stays in memory until the process ends. If one
//!   of sled's own threads should panic, it may wait elsewhere; the process must then be restarted. Nothing that was
//!   acknowledged is lost.
//! - Memory: twice [`SledConfig::cache_bytes`], [`SledConfig::queue_bytes`], some 3 MB of rooms, and 1 MB of log buffers.
//!
//! # Map
//!
//! | module | what it holds |
//! |---|---|
//! | `config`, `store` | the public face |
//! | `queue`, `writer`, `txn`, `whole` | from a call to a commit |
//! | `upkeep`, `erase`, `import` | trimming, deleting and erasing; rooms that are put in |
//! | `sessions`, `state`, `rooms` | what else is written, and the cache of rooms |
//! | `shared`, `read` | what readers see |
//! | `keys`, `record`, `bytes`, `parts` | the layout |
//! | `folder`, `names`, `status`, `readable`, `open`, `migrate` | lock, layout version, recovery, generation |
//! | `backup` | a copy of a store that is in use |
//! | `device`, `wait`, `error` | the calls to the disk, and what comes of their failures |

mod backup;
mod bytes;
mod config;
mod device;
mod erase;
mod error;
mod folder;
mod import;
mod keys;
mod migrate;
mod names;
mod open;
mod parts;
mod queue;
mod read;
mod readable;
mod record;
mod rooms;
mod sessions;
mod shared;
mod state;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod txn;
mod upkeep;
mod wait;
mod whole;
mod writer;

pub use backup::Backup;
pub use config::SledConfig;
pub use store::SledStore;
