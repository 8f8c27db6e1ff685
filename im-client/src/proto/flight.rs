//! Commands until they are answered, across connections.
//!
//! Sends to one target keep their order, also when one of them is refused retryably. Then nothing
//! more is written to that target until those in flight are answered and the pause is over. Sends
//! without an ack are then written again, in order and without waiting in between. Until the first
//! of them is retried, servers refuse the sends behind it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use im_core::wire::{Command, CommandBody, Encoding, ServerLimits, Target, encode, join_encoded};
use im_core::{Code, CommandId, Cursor, RoomId};

use crate::error::Error;

use super::pace::Pace;

/// Where the answer of a command goes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Origin {
    /// The application.
    User,
    /// The client: the greeting.
    Hello,
    /// The client: resuming subscriptions after a reconnection.
    Resume,
    /// The client: repairing a gap in one room.
    GapRepair(RoomId),
    /// The client: confirming cursors to the server.
    Checkpoint(Vec<(RoomId, Cursor)>),
    /// The client: a heartbeat.
    Ping,
    /// The client: sending new credentials before the old ones expire.
    Refresh,
}

/// A command that has no answer yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) body: CommandBody,
    pub(crate) origin: Origin,
    /// How often the command was retried after a retryable refusal.
    pub(crate) tries: u32,
    /// Set if the command was written on this connection.
    written: Option<Written>,
}

/// When a command was written.
#[derive(Debug, Clone, Copy)]
struct Written {
    /// Its number in the order of all writes.
    order: u64,
    bytes: usize,
    /// The time; `None` if the command was written out of turn, so that its answer says nothing
    /// about the pace.
    at: Option<Instant>,
}

impl Pending {
    /// Returns the command's number in the order of all writes; `u64::MAX` if it was not written.
    pub(crate) fn order(&self) -> u64 {
        self.written.map_or(u64::MAX, |written| written.order)
    }

    /// Whether a cut leaves the outcome unknown.
    fn is_lost(&self, all: bool, undoes: impl Fn(&Self) -> bool) -> bool {
        self.written.is_some() && (all || !is_idempotent(&self.body) || undoes(self))
    }
}

/// Why nothing is written to a target at present.
#[derive(Debug)]
struct PausedTarget {
    /// The first send that was refused.
    by: u64,
    until: Instant,
    /// The refusal was for the rate.
    paced: bool,
}

/// All commands without an answer, in the order of their numbers, which is the order of the calls.
#[derive(Debug)]
pub(crate) struct Flight {
    next: u64,
    /// How many commands were written.
    writes: u64,
    pending: BTreeMap<u64, Pending>,
    unwritten: BTreeSet<u64>,
    paused: HashMap<Target, PausedTarget>,
    pace: Pace,
}

/// Most values in one message. Servers do not announce their limit; this is below their default.
const MAX_VALUES: usize = 8000;

impl Flight {
    pub(crate) fn new() -> Self {
        let (pending, unwritten, held) = Default::default();
        Self { next: 1, writes: 0, pending, unwritten, paused: held, pace: Pace::new() }
    }

    /// Adds a command. It is written with the next [`Flight::batch`].
    pub(crate) fn push(&mut self, body: CommandBody, origin: Origin) -> CommandId {
        let id = self.next;
        self.next += 1;
        self.pending.insert(id, Pending { body, origin, tries: 0, written: None });
        self.unwritten.insert(id);
        CommandId(id)
    }

    /// Adds a command that is written at once, out of turn. Returns its number and the encoded
    /// frame.
    pub(crate) fn write(
        &mut self,
        body: CommandBody,
        origin: Origin,
        encoding: Encoding,
    ) -> (CommandId, Bytes) {
        let id = self.push(body, origin);
        self.unwritten.remove(&id.0);
        let frame = self.mark_written(id.0, encoding, None).unwrap_or_default();
        (id, frame)
    }

    /// Removes a command that the server answered.
    pub(crate) fn answered(&mut self, now: Instant, id: CommandId) -> Option<Pending> {
        self.unwritten.remove(&id.0);
        let pending = self.pending.remove(&id.0)?;
        match pending.written {
            Some(Written { bytes, at: Some(at), .. }) => self.pace.answered(now, bytes, at),
            Some(Written { bytes, at: None, .. }) => self.pace.unwrote(bytes),
            None => {}
        }
        Some(pending)
    }

    /// Removes a command that the client itself answers.
    pub(crate) fn settle(&mut self, id: CommandId) -> Option<Pending> {
        self.unwritten.remove(&id.0);
        let pending = self.pending.remove(&id.0)?;
        self.pace.unwrote(pending.written.map_or(0, |written| written.bytes));
        Some(pending)
    }

    /// Returns how long the bytes in flight may take to arrive.
    pub(crate) fn drain_time(&self) -> Duration {
        self.pace.drain_time()
    }

    /// Puts back a send that was refused retryably. It keeps its number, and so its order, and
    /// nothing is written to its target before `at`. If an earlier send is refused as well, its
    /// pause counts. For refusals for the rate (`paced`) the longest pause counts: the pauses of
    /// later refusals cover all of them.
    pub(crate) fn retry(&mut self, id: CommandId, pending: Pending, at: Instant, paced: bool) {
        let Some(target) = target(&pending.body) else { return };
        match self.paused.get_mut(target) {
            Some(held) if held.by < id.0 && held.paced => held.until = held.until.max(at),
            Some(held) if held.by < id.0 => {}
            _ => drop(
                self.paused.insert(target.clone(), PausedTarget { by: id.0, until: at, paced }),
            ),
        }
        self.pending.insert(id.0, Pending { written: None, ..pending });
        self.unwritten.insert(id.0);
    }

    /// Whether all earlier sends to this send's target are answered.
    pub(crate) fn is_next(&self, id: CommandId, pending: &Pending) -> bool {
        let to = target(&pending.body);
        self.pending.range(..id.0).all(|(_, earlier)| target(&earlier.body) != to)
    }

    /// Handles the end of the connection. Idempotent commands wait for the next one; the other
    /// calls of the application are returned, and the client's own commands are dropped: the next
    /// connection has its own.
    ///
    /// With `all`, the server closed because of something that was written: a retry would close the
    /// next connection too. Commands that would undo a later one (`undoes`) are returned too.
    pub(crate) fn cut(
        &mut self,
        all: bool,
        undoes: impl Fn(&Pending) -> bool,
    ) -> Vec<(CommandId, Pending)> {
        self.pending.retain(|_, pending| pending.origin == Origin::User);
        let lost = |pending: &Pending| pending.is_lost(all, &undoes);
        let ids: Vec<u64> =
            self.pending.iter().filter(|(_, p)| lost(p)).map(|(id, _)| *id).collect();
        let refund =
            ids.iter().filter_map(|id| Some((CommandId(*id), self.pending.remove(id)?))).collect();
        self.pending.values_mut().for_each(|pending| pending.written = None);
        self.pace = Pace::new();
        self.unwritten = self.pending.keys().copied().collect();
        self.paused.clear();
        refund
    }

    /// Whether [`Flight::cut`] would return nothing: no outcome would be unknown.
    pub(crate) fn is_safe_to_cut(&self, undoes: impl Fn(&Pending) -> bool) -> bool {
        let mut asked = self.pending.values().filter(|pending| pending.origin == Origin::User);
        !asked.any(|pending| pending.is_lost(false, &undoes))
    }

    /// Returns all commands of the application, because the client ends.
    pub(crate) fn end(&mut self) -> Vec<(CommandId, Pending)> {
        self.unwritten.clear();
        self.paused.clear();
        let all = std::mem::take(&mut self.pending).into_iter();
        all.filter(|(_, pending)| pending.origin == Origin::User)
            .map(|(id, p)| (CommandId(id), p))
            .collect()
    }

    /// Whether a command waits for the server's answer.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.pending.len() > self.unwritten.len()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.pending.len() + self.unwritten.len() + self.paused.len()
    }

    /// Whether the command is unanswered.
    pub(crate) fn contains(&self, id: CommandId) -> bool {
        self.pending.contains_key(&id.0)
    }

    /// Returns the write number of the first unanswered command that changes subscriptions.
    pub(crate) fn oldest_subscribing(&self) -> Option<u64> {
        let subscribing = self.pending.values().filter(|pending| subscribes(&pending.body));
        subscribing.filter_map(|pending| Some(pending.written?.order)).min()
    }

    /// Returns when a held target with no unanswered writes may be written to.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let drained = self.paused.iter().filter(|(target, _)| !self.is_under_way(target));
        drained.map(|(_, held)| held.until).min()
    }

    fn is_under_way(&self, to: &Target) -> bool {
        self.pending
            .values()
            .any(|pending| pending.written.is_some() && target(&pending.body) == Some(to))
    }

    /// Returns the next message to write, within the server's limits; `None` if there is nothing to
    /// write now. Commands that can never be written are added to `refused`.
    pub(crate) fn batch(
        &mut self,
        now: Instant,
        limits: &ServerLimits,
        encoding: Encoding,
        refused: &mut Vec<(CommandId, Error)>,
    ) -> Option<Bytes> {
        self.release(now);
        let window = as_usize(limits.in_flight).max(1);
        let most = as_usize(limits.batch)
            .max(1)
            .min(window.saturating_sub(self.pending.len() - self.unwritten.len()));
        let max_bytes = as_usize(limits.message_bytes);
        let ready: Vec<u64> =
            self.unwritten.iter().filter(|id| self.is_ready(**id)).take(most).copied().collect();
        let (mut frames, mut bytes, mut values) = (Vec::new(), 2, 0);
        for id in ready {
            let weight = self.pending.get(&id).map_or(0, |pending| weight(&pending.body));
            if !frames.is_empty() && values + weight > MAX_VALUES {
                break;
            }
            let (room, alone) = (self.pace.room(), self.pace.is_idle());
            let Some(frame) = self.mark_written(id, encoding, Some(now)) else { continue };
            if frame.len() > max_bytes {
                self.settle(CommandId(id));
                refused.push((CommandId(id), too_large(frame.len(), max_bytes)));
                continue;
            }
            let too_much = bytes + frame.len() + 5 > max_bytes && !frames.is_empty();
            if too_much || frame.len() > room && !alone {
                self.unmark(id);
                break;
            }
            self.unwritten.remove(&id);
            bytes += frame.len() + 1;
            values += weight;
            frames.push(frame);
        }
        (!frames.is_empty()).then(|| join_encoded(&frames, encoding))
    }

    /// Releases targets whose pause is over and that have no unanswered writes.
    fn release(&mut self, now: Instant) {
        let mut held = std::mem::take(&mut self.paused);
        held.retain(|target, held| held.until > now || self.is_under_way(target));
        self.paused = held;
    }

    fn is_ready(&self, id: u64) -> bool {
        let to = self.pending.get(&id).and_then(|pending| target(&pending.body));
        to.is_none_or(|target| !self.paused.contains_key(target))
    }

    fn mark_written(&mut self, id: u64, encoding: Encoding, at: Option<Instant>) -> Option<Bytes> {
        let pending = self.pending.get_mut(&id)?;
        // Moves the body into the command for the encoding, to avoid a copy of its content.
        let body = std::mem::replace(&mut pending.body, CommandBody::Ping);
        let command = Command { id: CommandId(id), body };
        let frame = encode(&command.to_value(), encoding);
        pending.body = command.body;
        self.writes += 1;
        let bytes = frame.len();
        pending.written = Some(Written { order: self.writes, bytes, at });
        self.pace.wrote(bytes);
        Some(frame)
    }

    fn unmark(&mut self, id: u64) {
        let written = self.pending.get_mut(&id).and_then(|pending| pending.written.take());
        self.pace.unwrote(written.map_or(0, |written| written.bytes));
    }
}

/// Whether the command changes subscriptions, or the server's checkpoint.
pub(crate) fn subscribes(body: &CommandBody) -> bool {
    use CommandBody as C;
    matches!(
        body,
        C::Subscribe { .. } | C::Unsubscribe { .. } | C::Resume { .. } | C::Checkpoint { .. }
    )
}

/// The target of a send; the order of sends to it matters.
fn target(body: &CommandBody) -> Option<&Target> {
    if let CommandBody::Send { to, .. } = body { Some(to) } else { None }
}

fn too_large(len: usize, max: usize) -> Error {
    let message = format!("the command has {len} bytes; the server's limit for a message is {max}");
    Error::invalid(message).with_code(Code::TooLarge)
}

fn as_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// The approximate number of values in the frame, keys included.
fn weight(body: &CommandBody) -> usize {
    let content = match body {
        CommandBody::Send { content, .. } | CommandBody::Signal { content, .. } => content.count(),
        CommandBody::PutState { value, .. } => value.count(),
        CommandBody::Create { members, .. } => members.len(),
        CommandBody::Resume { cursors, .. } | CommandBody::Checkpoint { cursors } => {
            cursors.len() * 4
        }
        _ => 0,
    };
    content * 2 + 20
}

/// Whether a command can be carried out twice without harm.
fn is_idempotent(body: &CommandBody) -> bool {
    match body {
        // The idempotency key makes a retry safe.
        CommandBody::Send { .. } => true,
        // The application decides: a refusal of the retry says nothing about the first try, and the
        // room may be deleted by then.
        CommandBody::Create { .. } => false,
        // Ephemeral messages are delivered at most once.
        CommandBody::Signal { .. } => false,
        // Without its own stamp, a retry would be newer than values that others have put since.
        CommandBody::PutState { stamp, .. } | CommandBody::RemoveState { stamp, .. } => {
            stamp.is_some()
        }
        _ => true,
    }
}
