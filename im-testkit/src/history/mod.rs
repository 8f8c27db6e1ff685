//! The history checker: records sends, acks and deliveries, and reports the promises that were
//! broken.
//!
//! # The model
//!
//! In the manner of Jepsen: clients of a real system record what they do, and the record is
//! compared with a model afterwards, independently of the system's own view. The model is one log
//! for each (room, epoch): events 1, 2, 3 …, each written once and never changed. Every witness of
//! an event (an ack, a delivery to any subscriber, the reopened store) must name the same one. The
//! first witness of an offset writes the entry into the checker's own copy of the log, and later
//! ones are compared with it. So deliveries are checked as they arrive, and memory holds one small
//! entry for each event, however many subscribers there are.
//!
//! A send is in one of three states: *sent* (stored at most once, or not at all), *acked* (stored
//! at the position in the ack), *refused* (not stored by that attempt). An unacked send that is
//! visible is legal: its outcome was unknown.
//!
//! A subscriber has a cursor for each room. Deliveries and statuses move it forward. Only a resume
//! may move it back: events sent on a cut connection may be redelivered and are never skipped. The
//! checker sees raw frames, before a client drops redeliveries.
//!
//! # The rules
//!
//! | rule | what breaks it |
//! |---|---|
//! | [`Rule::Lost`] | an acked send that the store does not hold, or that a subscriber with every chance to receive it never received |
//! | [`Rule::Duplicated`] | one message id under two seqs of an epoch; on one connection the same seq twice, or one at or before the cursor where it began; a signal that was sent once, twice to one subscriber |
//! | [`Rule::OutOfOrder`] | on one connection a seq after a later one; a sender's messages in another order than that of their first sends |
//! | [`Rule::SilentGap`] | an event delivered while one before it is missing and no status says so; a gap in the store |
//! | [`Rule::PartialResume`] | a status that promises more than is delivered, begins elsewhere than requested without saying so, or says `gap` or `reset` without cause; a requested room without an answer |
//! | [`Rule::StaleEpoch`] | an event, or an `ok`, of another epoch than that of the subscription |
//! | [`Rule::AfterRemoval`] | an event beyond the removal of its subscriber, or after `denied` |
//! | [`Rule::OlderState`] | a state key's older value after a newer one; at the end, one older than was acked |
//! | [`Rule::ConflictAccepted`] | an ack for a content that differs from the stored one under that id |
//! | [`Rule::Forked`] | two different events under one (room, epoch, seq) |
//! | [`Rule::Altered`] | an event with other content than was sent |
//! | [`Rule::Invented`] | an event with a message id that was never sent |
//!
//! Contents are compared as 64-bit fingerprints of what was *sent*: run without hooks that replace
//! contents, or pass the replaced content to [`Checker::sent`].
//!
//! # Use
//!
//! ```
//! use im_core::{Cursor, EventKind, MessageId, RoomId, Seq, UserId};
//! use im_core::wire::{Content, Limits, Status};
//! use im_testkit::history::{Checker, Fingerprint, Rule};
//!
//! let (alice, room, mid) = (UserId::new("alice")?, RoomId::new("tea")?, MessageId::random());
//! let content = Fingerprint::of(&EventKind::message(), &Content::text("hello", &Limits::default())?);
//! let epoch = "1.1".parse()?;
//!
//! let checker = Checker::new();
//! let mut subscriber = checker.subscriber("bob");
//! subscriber.connected();
//! subscriber.status(&room, Status::Ok, Some(Cursor { epoch, seq: Seq::ZERO }), Seq::ZERO);
//!
//! checker.sent(&alice, &room, &mid, content);
//! checker.acked(&alice, &room, &mid, content, Cursor { epoch, seq: Seq::FIRST });
//! // Nothing is delivered to bob, who was connected until the end.
//! subscriber.finish();
//! assert_eq!(checker.finish().count(Rule::Lost), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | contents |
//! |---|---|
//! | `checker` | the recorder for senders and the reopened store |
//! | `subscriber` | the deliveries of one subscriber, checked as they arrive |
//! | `room_log` | the checker's copy of one room's log |
//! | `verdict` | the rules, their violations and the report |

mod checker;
mod room_log;
mod subscriber;
#[cfg(test)]
mod tests;
mod verdict;

pub use checker::{Checker, read_back};
pub use room_log::Fingerprint;
pub use subscriber::Subscriber;
pub use verdict::{Rule, Verdict, Violation};
