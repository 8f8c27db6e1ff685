//! A client for transports over HTTP that carry a session in two halves: commands by POST, pushes by a downlink.
//!
//! It is written by hand over plain sockets, so that it shares nothing with the servers that it asks. As a [`RawLink`] it
//! plays one connection on both halves:
//!
//! - A message is a POST; they follow one another, so that their order is kept. The reply to `hello` is remembered, and
//!   what it gave is shown from then on, as are the credentials.
//! - The downlink opens with a new session, or, where a session goes on, after the first answer that names rooms, or when
//!   something is waited for that can only come down.
//! - A request that is refused as a whole is told as the refusal of each command in it, and then as the end. So is a
//!   downlink.
//!
//! [`RawLink`]: super::link::RawLink

mod client;
mod down;
mod link;

pub(crate) use client::request;
pub use client::{Answer, Client};
pub use down::Downlink;
pub(crate) use down::{Field, Fields};
pub use link::HttpLink;
