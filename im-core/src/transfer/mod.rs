//! Rooms as text: export from one store, import into another of any kind.
//!
//! # The format, version 1
//!
//! JSON Lines: UTF-8, each line a JSON object, ended by a line feed. `t` is the type of the line.
//! Values are as on the wire (see `wire/SPEC.md`): bytes are `{"$bytes": base64}`, a key that
//! begins with `$` has one more before it, integers lie within ±(2^53 − 1). Times are milliseconds
//! since the Unix epoch. Unknown fields are ignored.
//!
//! A room is a run of lines, and a file may hold any number of rooms:
//!
//! ```json
//! {"t":"room","v":1,"id":"r","kind":"group","open":true,"created":1700000000000,"first":1,"head":2}
//! {"t":"member","user":"ann","role":"owner"}
//! {"t":"banned","user":"eve"}
//! {"t":"event","seq":1,"from":"ann","at":1700000000000,"kind":"im.members","content":{"changes":[{"user":"ann","act":"join","role":"owner"}]}}
//! {"t":"event","seq":2,"from":"ann","at":1700000000500,"kind":"message","mid":"0f6b7e0c-4bd1-7a8e-9d3f-000000000001","hash":"9f86…","content":{"text":"hello"}}
//! {"t":"state","key":"topic","stamp":"1700000000600-0-7","from":"ann","value":{"text":"weather"}}
//! {"t":"end","events":2}
//! ```
//!
//! | line | fields |
//! |---|---|
//! | `room` | begins a room. `v` is the version of the format: a greater one is refused. `kind` is `direct`, `group`, `channel` or `own`. `first` and `head` are the first and last seq of the `event` lines; `first` is `head` + 1 if there are none |
//! | `member`, `banned` | a membership; `role` is `reader`, `member`, `moderator` or `owner`. One line for each, so that no line grows with the room |
//! | `event` | in the order of their seqs, without a gap. `mid` is the id that the sender chose, and `hash` 64 digits of the hash of what was submitted, by which the store recognises a retry; both or neither |
//! | `state` | the newest value of a key; without `value` it is a tombstone |
//! | `end` | ends the room; `events` is the number of events. A room without this line is incomplete and is not imported |
//!
//! Sessions, and idempotency records of trimmed events, are not exported. An imported room has a
//! new epoch: subscribers that resume with cursors of the old one receive the status `reset`.
//!
//! # Use
//!
//! Neither side does I/O: [`Export::next`] returns lines, [`Import::line`] reads them.
//!
//! ```
//! use std::sync::Arc;
//! use im_core::{memory::MemoryStore, ports::Store, transfer::{Export, Import}};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let from: Arc<dyn Store> = Arc::new(MemoryStore::new());
//! let to: Arc<dyn Store> = Arc::new(MemoryStore::new());
//! let (mut export, mut import) = (Export::all(from), Import::new(to));
//! while let Some(lines) = export.next().await? {
//!     for line in lines.lines() {
//!         import.line(line).await?;
//!     }
//! }
//! assert_eq!(import.finish()?.rooms, 0); // there were none
//! # Ok::<(), im_core::Error>(()) }).unwrap();
//! ```

mod export;
mod import;
mod line;
#[cfg(test)]
mod tests;

pub use export::Export;
pub use import::{Import, Imported};

/// The version of the format that is written, and the highest that is read.
pub const VERSION: u32 = 1;
