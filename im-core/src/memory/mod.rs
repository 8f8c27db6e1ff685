//! What runs with nothing installed: the reference store, and a bus that joins engines in one process.
//!
//! | module | what it holds |
//! |---|---|
//! | `store` | [`MemoryStore`]: the lock, and the ports on top of it |
//! | `rooms` | logs, members and dedup |
//! | `sessions` | session records and checkpoints |
//! | `bus` | [`MemoryBus`] |

mod bus;
mod rooms;
mod sessions;
mod store;

pub use bus::MemoryBus;
pub use store::MemoryStore;
