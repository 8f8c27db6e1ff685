//! Opens whichever store an address names, so that a server's `--store` takes any of them.
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
//! Each kind of store but memory is a feature of this crate: `sqlite`, which is on by default, `sled`, `postgres`, `mysql`, or
//! `all`. The address of a store that was left out is refused with the name of its feature. An embedder who knows the store
//! takes its crate instead.
//!
//! | module | what it holds |
//! |---|---|
//! | `name` | the one parser of what people write |
//! | `address` | opening, copying and showing a store |

mod address;
mod name;

pub use address::{StoreAddress, Tuning};
pub use name::{BadAddress, DEFAULT_FOLDER, StoreName};
