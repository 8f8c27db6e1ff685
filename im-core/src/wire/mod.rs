//! The protocol: frames, their two encodings of one shape, and what is refused before it is decoded.
//!
//! The way in: [`decode`] scans the bytes against [`Limits`], parses them into [`Value`]s, and splits a batch;
//! [`Command::from_value`] (or, in a client, [`ServerFrame::from_value`]) gives each its type. The way out: a frame
//! becomes a [`Value`] and [`encode`] writes it. `wire/SPEC.md` in the repository describes the same for other
//! languages, and the vectors beside it are read by the tests of both.
//!
//! | module | what it holds |
//! |---|---|
//! | `value` | the values that both encodings carry |
//! | `scan` | size, depth and count, checked on raw bytes |
//! | `codec` | JSON and MessagePack, batches |
//! | `fields` | taking typed fields out of a map, with errors that name the field |
//! | `command` | what clients ask |
//! | `hello` | the first frame |
//! | `event` | what a room's log holds |
//! | `reply` | what commands are answered with |
//! | `page`, `listed` | pages of lists among them; cut by their encoded size |
//! | `push` | what the server sends unasked |

mod codec;
mod command;
mod event;
mod fields;
mod hello;
mod listed;
mod page;
mod push;
mod reply;
mod scan;
mod value;

pub use codec::{
    Encoding, Limits, WireError, decode, encode, encode_batch, join_encoded, list_encoded,
    list_end, list_head, list_part,
};
pub use command::{Command, CommandBody, MemberAct, PageFrom, Request, Target};
pub use event::{Content, ContentError, Event, MemberChange, Role, RoomKind};
pub use hello::{Hello, ResumeToken, Secret};
pub(crate) use listed::Room as ListRoom;
pub use page::{HistoryPage, MemberEntry, MemberPage, RoomsPage, SessionEntry};
pub use push::{Disconnect, Push, ServerFrame, Signal, Snapshot, StateUpdate};
pub use reply::{
    AppendAck, ErrorReply, Reply, RoomStatus, ServerLimits, Status, TicketGrant, Welcome,
};
pub use value::{Map, Value};

/// The version of the protocol that this crate speaks.
pub const VERSION: u64 = 1;
