//! What runs with nothing installed: the reference store, and a bus that joins engines in one process.
//!
//! | module | what it holds |
//! |---|---|
//! | `store` | [`MemoryStore`]: the lock, and the ports on top of it |
//! | `rooms` | logs, members and dedup |
//! | `upkeep` | trimming, deleting, erasing |
//! | `import` | rooms that are put in from elsewhere |
//! | `sessions` | session records and checkpoints |
//! | `bus` | [`MemoryBus`] |
//! | `database` | [`MemoryDatabase`]: ordered keys |

mod bus;
mod database;
mod import;
mod rooms;
mod sessions;
mod store;
mod upkeep;

pub use bus::MemoryBus;
pub use database::MemoryDatabase;
pub use store::MemoryStore;
