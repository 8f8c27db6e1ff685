//! Opens whichever store an address names, so that a server's `--store` takes any of them.
//!
//! ```
//! use im_stores::StoreAddress;
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let address: StoreAddress = "memory".parse()?; // or sled:PATH, sqlite:PATH, postgres://…, mysql://…
//! let store = address.open().await?;
//! assert_eq!(store.name(), "memory");
//! # Ok(()) }
//! ```
//!
//! Each kind of store is a feature of this crate, on by default. An embedder who knows the store takes its crate instead.

mod address;

pub use address::{BadAddress, StoreAddress, Tuning};
