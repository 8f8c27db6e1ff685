//! A backend for the im engine in a database behind a socket, which several processes share.
//!
//! The database has no interactive transactions: a request is a read, or a batch of checks and changes as data. Its
//! server is in `database`.
//!
//! | module | what it holds |
//! |---|---|
//! | `frames` | requests and replies as bytes |
//! | `client` | the adapter: requests of one process |

mod client;
pub mod frames;

use std::net::SocketAddr;

use im_core::kv::KeyValueBackend;
pub use im_core::kv::OpenAs;

pub use crate::client::Remote;

/// A backend on the database at this address. Connections are made when they are needed.
pub fn backend(address: SocketAddr) -> KeyValueBackend<Remote> {
    KeyValueBackend::new(Remote::new(address), OpenAs::SameGeneration)
}
