//! The protocol: frames, their two encodings of one shape, and the limits checked before decoding.
//!
//! Inbound: [`decode`] scans the bytes against [`Limits`], parses them into [`Value`]s, and splits
//! a batch; [`Command::from_value`] (or, in a client, [`ServerFrame::from_value`]) converts each to
//! its type. Outbound: a frame becomes a [`Value`] and [`encode`] writes it. `wire/SPEC.md` in the
//! repository describes the same for other languages, and the tests of both read the vectors beside
//! it.
//!
//! | module | what it holds |
//! |---|---|
//! | `value` | the values that both encodings carry |
//! | `scan` | size, depth and count, checked on raw bytes |
//! | `codec` | JSON and MessagePack, batches |
//! | `fields` | typed access to fields, with errors that name the field |
//! | `command` | commands of clients |
//! | `hello` | the first frame |
//! | `event` | the entries of a room's log |
//! | `reply` | acks of commands |
//! | `page`, `listed` | pages of lists in acks; cut by their encoded size |
//! | `push` | frames that the server pushes |

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
