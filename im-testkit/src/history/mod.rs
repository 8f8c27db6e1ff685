//! The history checker: takes down what clients sent, what they were promised and what they saw, and says which
//! promises were broken.
//!
//! # The model
//!
//! In the manner of Jepsen: clients of a real system record what they do, and the record is compared with a model
//! afterwards, so that the system's own opinion of itself counts for nothing. The model is one log for each
//! (room, epoch): events 1, 2, 3 …, each written once and never changed. Whoever names an event (an acknowledgement, a
//! delivery to any subscriber, the reopened store) must name the same one; the first to name a place writes it into the
//! checker's own copy of the log and everybody later is compared with that. So deliveries are checked as they come,
//! and what is stored is one small entry for each event, however many subscribers there are.
//!
//! A send is in one of three states: *sent* (it may be in the log, once, or not), *acknowledged* (it is in the log,
//! where the acknowledgement says), *refused* (it is not in the log on account of that attempt). An unacknowledged send
//! that is visible is legal: its outcome was unknown.
//!
//! A subscriber holds a cursor for each room. It moves by deliveries and by statuses, and only forward but for a resume,
//! which may begin again at an earlier place: what was sent on a cut connection may repeat after it and never skips. The
//! checker sees raw frames, before a client drops repeats.
//!
//! # The rules
//!
//! | rule | what breaks it |
//! |---|---|
//! | [`Rule::Lost`] | an acknowledged send that the store does not hold, or that a subscriber never got which had every chance |
//! | [`Rule::Duplicated`] | one message id under two seqs of an epoch; on one connection the same seq twice, or one at or before the cursor where it began; a signal that was sent once, twice to one subscriber |
//! | [`Rule::OutOfOrder`] | on one connection a seq after a later one; a sender's messages in another order than they were first sent in |
//! | [`Rule::SilentGap`] | a subscriber receives an event while one before it is missing, and no status says so; a hole in the store |
//! | [`Rule::PartialResume`] | a status that promises more than what follows, begins elsewhere than was asked without saying so, or says `gap` or `reset` without cause; a room that was asked for and not answered |
//! | [`Rule::StaleEpoch`] | an event, or an `ok`, of another epoch than the one the subscriber follows |
//! | [`Rule::AfterRemoval`] | an event beyond the removal of its subscriber, or after the room was denied |
//! | [`Rule::OlderState`] | a state key's older value after a newer one; at the end, one older than was acknowledged |
//! | [`Rule::ConflictAccepted`] | an acknowledgement for a content that differs from the one kept under that id |
//! | [`Rule::Forked`] | two different events under one (room, epoch, seq) |
//! | [`Rule::Altered`] | an event whose content is not what its sender sent |
//! | [`Rule::Invented`] | an event with a message id that nobody sent |
//!
//! Contents are compared as 64-bit fingerprints of what was *sent*: run without hooks that replace contents, or give
//! [`Checker::sent`] what the hook makes of it.
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
//! | module | what it holds |
//! |---|---|
//! | `checker` | the recorder that senders and the reopened store report to |
//! | `subscriber` | what one subscriber receives, checked as it comes |
//! | `room_log` | the checker's copy of one room's log |
//! | `verdict` | the rules, what broke them, and the report |

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
