//! From one transport to another in mid-stream: a client is cut off at every step of a conversation, goes on over another
//! transport, and the history checker is asked what became of its promises.
//!
//! Ann talks over the first transport up to the step at which her connection is cut, without a good-bye: in the middle of
//! a frame or a request, before an answer is read, with a poll held, with half of a stream read, or left open for the
//! server to find out. Bob goes on writing. Ann comes back over the second transport with what a client remembers (her
//! session, her cursors, the messages without an answer; in some cases her stream position alone) and both talk on. In the end each
//! has read all there is, and everything is read back from the store.
//!
//! Both are clients by hand over plain sockets, against the real servers. Each connection and each request goes to the
//! next engine, as behind a proxy that knows no sessions. Nothing waits for a fixed time.
//!
//! A case is (class, step, before, after): see [`Class`], [`Step`] and [`Transport`]. [`crossing_suite!`] makes a test of
//! each and says which are left out, and why. The checker catches what is lost, repeated, out of order, partial or older;
//! beside it, a retry must be told from a first send, signals must arrive where nothing stands in their way, an older
//! connection must end with 4101, and everybody must hold the same values in the end.
//!
//! ```ignore
//! async fn serve(engine: Engine) -> SocketAddr { /* all four transports under /im */ }
//!
//! static ONE: LazyLock<Setup> = LazyLock::new(|| Setup::open(1, serve));
//!
//! im_testkit::crossing_suite! { one_engine: crate::ONE, }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `case` | classes, steps, transports |
//! | `suite` | the list of cases |
//! | `setup` | the servers, shared by all cases of a program |
//! | `scenario` | what happens in a case |
//! | `user`, `action` | a client, over all its connections; what it does |
//! | `sentinels` | when two servers have heard from each other |
//! | `line`, `ws` | one connection, or POSTs and a downlink; a WebSocket by hand |
//!
//! [`crossing_suite!`]: crate::crossing_suite!
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests: they fail by panicking"
)]

mod action;
mod case;
mod line;
mod scenario;
mod sentinels;
mod setup;
mod suite;
mod user;
mod ws;

pub use case::{Case, Class, Step, Transport};
pub use scenario::play;
pub use setup::Setup;
