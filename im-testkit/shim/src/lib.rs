//! Stands between a process and its disk: loaded by `LD_PRELOAD`, it takes the place of the calls of the C library that
//! change files, for the files below one folder.
//!
//! It does two things, each if its variable is set:
//!
//! - **Record.** `IM_DISK_LOG` names a file to which each such call is appended when it returns, with its data: one order
//!   over all threads. `im_testkit::disk` makes from it what a power cut could have left.
//! - **Fail.** `IM_DISK_FAULT=KIND,N,ERROR,HOW` lets the Nth call of a kind fail.
//!
//! | variable | what it says |
//! |---|---|
//! | `IM_DISK_ROOT` | the folder, absolute and without links; without it nothing is done |
//! | `IM_DISK_LOG` | the log |
//! | `IM_DISK_MARKS` | a path; what is written to it goes to the log as a mark, and nowhere else. `heal` ends faults; `cold` empties the system's memory of files |
//! | `IM_DISK_SYNC` | `real`; `skip`: recorded and not done, which is quicker; `lie`, `lie-fsync`, `lie-fdatasync`: those say that they synced and did nothing, and the log knows |
//! | `IM_DISK_FAULT` | `KIND`: `any`, or a name as in the log. `ERROR`: `enospc`, `eio`, `short` (half is written). `HOW`: `once`, `on` |
//! | `IM_DISK_BOOT` | a file that is read in place of the system's boot id: the machine has stopped and come back |
//!
//! A read counts as a call only where it reaches the disk: what the process has read or written before is in the system's
//! memory, until it says `cold`.
//!
//! # What it does not see
//!
//! System calls made without the C library (`rustix`, unless it is built with `--cfg rustix_use_libc`; `syscall`, io_uring), all of
//! a process that is linked statically, streams (`fopen`), and what is written through a shared
//! mapping: that is noted in the log as `map`, without the data. `sync` and `syncfs` are not counted as syncs.
//!
//! # The log
//!
//! Each record is a line `KIND HANDLE A B CALL LEN`, then LEN bytes and a line's end. HANDLE numbers the openings; CALL
//! numbers the calls that can be made to fail, from 1. `im_testkit::disk::log` says what A, B and the bytes are.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]
#![allow(unsafe_code, reason = "functions of the C library are replaced: there is no safe way")]
#![allow(unreachable_pub, reason = "it is the loader that reaches them")]

mod calls;
mod config;
mod paths;
mod raw;
mod table;
