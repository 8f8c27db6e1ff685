//! The disk under a store, at the level of system calls: what a power cut leaves, and calls that fail.
//!
//! A worker process (see [`crash`](crate::crash)) runs with the shim of `im-testkit/shim` loaded, which records what it does
//! to the files below one folder. [`power`] builds from that what could be found after a cut, opens it with the store, and
//! compares. [`faults`] lets one call after the other fail. Linux only.
//!
//! # What a cut leaves
//!
//! [`Disk`] follows a log, and [`Disk::cut`] gives an image by these rules.
//!
//! | | |
//! |---|---|
//! | what is certain | of a file, all that was written to it before an `fsync` or `fdatasync` of that file was called which then returned 0: its data and size. Of a folder, the names given and taken in it before an `fsync` of that folder (of either of two, for a rename). POSIX promises that much and no more |
//! | what may be there or not | all else: each write whole, in part, or not at all; a size without its data, which then reads as zeros; a name without its file's data; a file without its name; a later write without an earlier one |
//! | how a write tears | at sectors of 512 bytes, or at pages of 4 KiB. A sector is the old one or the new one |
//! | `sync_file_range` | is no barrier: it leaves out the disk's cache and the metadata (sync_file_range(2), *Warning*) |
//! | names | arrive either in their order up to some point, as the journals of ext4 and XFS have them, and then no earlier than the last sync of anything; or each for itself, which POSIX allows |
//! | a sync that failed | the system takes the pages for written: a later sync does not write them, and they may be there or not |
//! | a file that was mapped for writing | holds noise: what was written to it was not seen. SQLite's `-shm` is such a file, and must not matter |
//!
//! Everything is chosen from a seed, in one of the ways of [`Arrived`].
//!
//! # What it can show, and what not
//!
//! It finds a sync that is missing, too early, on the wrong file or not on its folder, and whatever trusts the order in which
//! unsynced writes arrive. It shows nothing of disks that lie about their cache, of sectors that go bad or tear within, of
//! the file system's own faults. Of all cuts it tries a sample.
//!
//! It shows nothing of what the shim does not see, and says so before it begins: a first worker writes a little and closes its
//! store, and what is in the folder then is compared with what was recorded.
//!
//! | the worker | what to do |
//! |---|---|
//! | calls the system without the C library, by `rustix` | build it with `RUSTFLAGS="--cfg rustix_use_libc"`, in a target folder of its own, or with rustix's feature `use-libc` |
//! | is linked statically (musl) | build it for a target whose C library is shared: `x86_64-unknown-linux-gnu`, say |
//! | is started by a program that drops `LD_PRELOAD` | start it directly |
//! | uses io_uring | switch that off |
//! | writes through a memory map, or by streams (`fopen`) | nothing: it cannot be followed |

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
