//! The cases of the suite, one module for each subject.
//!
//! Each case is one function of the shape in which it runs. Its doc comment states what it proves.

pub mod bad_input;
mod bystander;
pub mod commands;
pub mod conversation;
pub mod dedup;
pub mod handshake;
pub mod history;
pub mod hooks;
pub mod members;
pub mod nodes;
pub mod order;
pub mod resume;
pub mod sender_order;
pub mod sessions;
pub mod slow;
pub mod state;
pub mod store;
pub mod upkeep;

use im_core::engine::EngineConfig;

use super::link::TransportFactory;
use super::peer::{
    Peer, hello_again, hello_as, hello_on, hello_with_token, key, message, room, says, seq, soon,
    text, user,
};
use super::world::{Setup, Shape, World};
