//! An embeddable instant-messaging engine: durable, ordered, deduplicated, resumable.
//!
//! Transports and stores are adapters in crates of their own; this crate knows no socket, no HTTP
//! and no database. The table lists the modules in reading order, which is also the order of
//! imports:
//!
//! | module | what it holds |
//! |---|---|
//! | [`id`], [`time`], [`code`], [`error`] | ids, times, numbered codes, the error |
//! | [`wire`] | frames and their two encodings: no clock, no I/O |
//! | [`state`] | the pure rules: order, dedup, latest-wins, resume |
//! | `ports` | the traits that adapters implement |
//! | `backend` | what a database implements: tables, logs, a change feed |
//! | `kv` | a backend over any database with ordered keys |
//! | `store` | every semantic of rooms, sessions and state, over a backend |
//! | `engine` | sessions, rooms, routing, fan-out |
//! | `keyed` | a whole store over any database with ordered keys and transactions |
//! | `memory` | the reference store and an in-process bus |
//! | `transfer` | export and import of rooms as text |
//!
//! All but the first three rows need the feature `engine`, which is on by default. A client needs
//! only those three.

pub mod code;
pub mod error;
pub mod id;
pub mod state;
pub mod time;
pub mod wire;

#[cfg(feature = "engine")]
pub mod backend;
#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
pub mod keyed;
#[cfg(feature = "engine")]
pub mod kv;
#[cfg(feature = "engine")]
pub mod memory;
#[cfg(feature = "engine")]
pub mod ports;
#[cfg(feature = "engine")]
pub mod store;
#[cfg(feature = "engine")]
pub mod transfer;

pub use code::{Advice, Code};
pub use error::{Error, Result};
pub use id::{
    CommandId, Cursor, DeviceId, Epoch, EventKind, MessageId, NodeId, RoomId, Seq, SessionId,
    StateKey, UserId,
};
pub use time::{Stamp, Timestamp};
