//! The rules, pure: no clock, no I/O, no runtime. Stores, engine and clients apply the same ones.
//!
//! | module | the rule |
//! |---|---|
//! | `room` | a room's record and memberships |
//! | `append` | the effect of an append: permission, duplicate, next seq |
//! | `order` | dense order: for a node that applies events and a subscriber that receives them |
//! | `resume` | the status of a subscriber's cursor |
//! | `latest` | latest-wins state |
//! | `stream_position` | the opaque position of a stream |
//! | `dedup` | when two sends are one |
//! | `session` | sessions and checkpoints, which outlive connections |
//! | `keep` | the part of a log that a room retains |
//! | `erase` | erasure of a user |
//! | `import` | import of a room from another store |

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
