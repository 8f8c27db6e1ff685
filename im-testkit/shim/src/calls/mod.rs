//! The functions that stand in place of the C library's.
//!
//! Each is called as the C library's is, by C's rules, and is as safe as that: what a caller hands over is only handed
//! on, or read within the bounds that the call itself states.

mod names;
mod open;
mod read;
mod sync;
mod write;
