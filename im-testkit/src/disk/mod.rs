//! The disk below a store, at the level of system calls: power cuts and failing calls.
//!
//! A worker process (see [`crash`](crate::crash)) runs with the shim of `im-testkit/shim` loaded,
//! which records its calls on the files below one folder. [`power`] builds from the record what may
//! be found after a cut, opens it with the store, and compares. [`faults`] makes one call after the
//! other fail. Linux only.
//!
//! # What a cut leaves
//!
//! [`Disk`] applies a log, and [`Disk::cut`] returns an image by these rules.
//!
//! | | |
//! |---|---|
//! | durable | of a file: data and size written before a call of `fsync` or `fdatasync` on that file that returned 0. Of a folder: names added and removed before an `fsync` of that folder (for a rename, of either of the two). POSIX promises that much and no more |
//! | present or not | all else: each write whole, in part, or not at all; a size without its data, which then reads as zeros; a name without its file's data; a file without its name; a later write without an earlier one |
//! | torn writes | at sectors of 512 bytes, or at pages of 4 KiB. A sector is the old one or the new one |
//! | `sync_file_range` | is no barrier: it covers neither the disk's cache nor the metadata (sync_file_range(2), *Warning*) |
//! | names | arrive either in their order up to some point, as with the journals of ext4 and XFS, and then no earlier than the last sync of any file; or independently, which POSIX allows |
//! | failed sync | the system takes the pages for written: a later sync does not write them, and they may be present or not |
//! | file mapped for writing | has random content: its writes were not seen. SQLite's `-shm` is such a file, and must not matter |
//!
//! All choices follow from a seed, in one of the ways of [`Arrived`].
//!
//! # What it can show, and what not
//!
//! It finds a sync that is missing, too early, on the wrong file or not on its folder, and code
//! that relies on the order in which unsynced writes arrive. It does not cover disks that lie about
//! their cache, sectors that go bad or tear within, or faults of the file system. It tries a sample
//! of all cuts.
//!
//! It does not cover writes that the shim does not see, and reports those before it begins: a first
//! worker writes a little and closes its store, and the folder is compared with the record.
//!
//! | the worker | remedy |
//! |---|---|
//! | calls the system without the C library, by `rustix` | build it with `RUSTFLAGS="--cfg rustix_use_libc"`, in a target folder of its own, or with rustix's feature `use-libc` |
//! | is linked statically (musl) | build it for a target whose C library is shared: `x86_64-unknown-linux-gnu`, say |
//! | is started by a program that drops `LD_PRELOAD` | start it directly |
//! | uses io_uring | disable it |
//! | writes through a memory map, or by streams (`fopen`) | none: it cannot be followed |

mod arrived;
pub mod faults;
mod file;
pub mod log;
pub mod power;
mod seen;
mod shim;
#[cfg(test)]
mod tests;
mod tree;
mod worker;

pub use arrived::Arrived;
pub use shim::{Fault, FaultError, Shim, Syncs};
pub use tree::{Disk, Image};
