//! Opens the store that an address names, so that a server's `--store` accepts all kinds.
//!
//! ```
//! use im_stores::StoreAddress;
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let address: StoreAddress = "memory".parse()?; // or sqlite, sqlite:PATH, sled:PATH, postgres://…, mysql://…
//! let store = address.open().await?;
//! assert_eq!(store.name(), "memory");
//! # Ok(()) }
//! ```
//!
//! Each kind of store except memory is a feature of this crate: `sqlite`, which is on by default,
//! `sled`, `postgres`, `mysql`, or `all`. The error for the address of an excluded store names its
//! feature. An embedder that needs a single kind uses the crate of that store instead.
//!
//! | module | what it holds |
//! |---|---|
//! | `name` | the parser of store names |
//! | `address` | opening, copying and displaying a store |

mod address;
mod name;

pub use address::{StoreAddress, Tuning};
pub use name::{BadAddress, DEFAULT_FOLDER, StoreName};
