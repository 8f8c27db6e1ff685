//! Crossings: a client is cut at every step and resumes over another transport.
//!
//! The history checker judges each case.
//!
//! Ann uses the first transport up to the step at which her connection is cut without a close
//! message: in the middle of a frame or a request, before a reply is read, with a poll held, with
//! half of a stream read, or left open on the server's side. Bob continues to write. Ann resumes
//! over the second transport with the state that a client keeps (session, cursors, messages without
//! an ack; in some cases only her stream position), and both write. At the end each has read
//! everything, and the store is read back.
//!
//! Both clients are written by hand over plain sockets, against the real servers. Each connection
//! and each request goes to the next engine, as behind a proxy without session affinity. No case
//! waits for a fixed time.
//!
//! A case is (class, step, before, after): see [`Class`], [`Step`] and [`Transport`].
//! [`crossing_suite!`] makes a test of each and states which are left out, and why. The checker
//! finds events that are lost, duplicated or out of order, partial resumes and older state. The
//! cases also check that a retry is marked as a duplicate, that signals arrive where nothing loses
//! them, that an older connection ends with 4101, and that all clients finally have the same
//! values.
//!
//! ```ignore
//! async fn serve(engine: Engine) -> SocketAddr { /* all four transports under /im */ }
//!
//! static ONE: LazyLock<Setup> = LazyLock::new(|| Setup::open(1, serve));
//!
//! im_testkit::crossing_suite! { one_engine: crate::ONE, }
//! ```
//!
//! | module | contents |
//! |---|---|
//! | `case` | classes, steps, transports |
//! | `suite` | the list of cases |
//! | `setup` | the servers, shared by all cases of a program |
//! | `scenario` | the steps of a case |
//! | `user`, `action` | a client with all its connections; its writes |
//! | `sentinels` | waits until two servers have each other's hints |
//! | `line`, `ws` | one connection, or POSTs and a stream half; a WebSocket by hand |
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
