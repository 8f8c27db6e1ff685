//! The rules, pure: no clock, no I/O, no runtime. Stores, engine and clients apply the same ones.
//!
//! | module | the rule |
//! |---|---|
//! | `room` | what is known of a room and of who is in it |
//! | `append` | what an append does to a room: who may, what is a duplicate, which seq comes next |
//! | `order` | dense order: for a node that applies events and a subscriber that receives them |
//! | `resume` | what a reader's cursor is answered |
//! | `latest` | latest-wins state |
//! | `stream_position` | the opaque position of a stream |
//! | `dedup` | when two sends say the same |
//! | `session` | what outlives a connection |
//! | `keep` | what a room keeps of its log |
//! | `erase` | what is left of a user who was erased |
//! | `import` | putting a room into a store that was taken out of another |

mod append;
mod dedup;
mod erase;
mod import;
mod keep;
mod latest;
mod order;
mod resume;
mod room;
mod session;
mod stream_position;

pub use append::{
    Act, Append, Authority, Commit, Intent, NewEvent, Plan, PlanError, Refusal, RoomSeed, View,
    plan,
};
pub use dedup::{ContentHash, IdempotencyKey, IdempotencyRecord, content_hash};
pub use erase::Erased;
pub use import::{ImportedCommit, ImportedEvent, ImportedPart, ImportedRoom};
pub use keep::{Keep, Trimmed};
pub use latest::{Merge, StateLimits, StateMap};
pub use order::{Arrival, Sequencer, arrival};
pub use resume::answer;
pub use room::{Membership, RoomRecord};
pub use session::{
    Base, Checkpoint, CheckpointChange, SecretHash, SessionHead, SessionRecord, SubscriptionRecord,
    Ticket, Unchanged,
};
pub use stream_position::{BadStreamPosition, RoomPosition, RoomTag, SessionTag, StreamPosition};
