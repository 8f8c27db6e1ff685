//! A client for HTTP transports that split a session into a request half and a stream half.
//!
//! It is written by hand over plain sockets, so that it shares no code with the servers under test.
//! As a [`RawLink`] it presents both halves as one connection:
//!
//! - Each message is a POST. POSTs follow one another, so that their order is kept. The session in
//!   the reply to `hello`, and the credentials, are sent with every later request.
//! - The stream half opens with a new session. With a resumed session it opens after the first
//!   reply that names rooms, or when the case waits for a push.
//! - A request that is refused as a whole is reported as a refusal of each of its commands and then
//!   as the end. So is a refused stream half.
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
