//! Commands from the moment they are asked until they are answered, across connections.
//!
//! Sends to one target keep their order, also where one of them is refused for the time being. Then no more is written to
//! that target until those under way have their answers and the pause is over; what has no ack is then written again,
//! in its order and without waiting in between. Servers refuse, until the first of them comes again, what was under way
//! behind it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use im_core::wire::{Command, CommandBody, Encoding, ServerLimits, Target, encode, join_encoded};
use im_core::{Code, CommandId, Cursor, RoomId};

use crate::error::Error;

use super::pace::Pace;

/// Who wants to know the answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Origin {
    /// The application.
    User,
    /// The client: the greeting.
    Hello,
    /// The client: following rooms again after a connection ended.
    Resume,
    /// The client: filling a gap in one room.
    GapRepair(RoomId),
    /// The client: telling the server what has arrived.
    Checkpoint(Vec<(RoomId, Cursor)>),
    /// The client: is the server still there?
    Ping,
    /// The client: showing other credentials before those in use expire.
    Refresh,
}

/// A command that has no answer yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) body: CommandBody,
    pub(crate) origin: Origin,
    /// How often it was tried again because the server said so.
    pub(crate) tries: u32,
    /// If it was written on this connection.
    written: Option<Written>,
}

/// That a command was written.
#[derive(Debug, Clone, Copy)]
struct Written {
    /// Its place among all that were written.
    order: u64,
    bytes: usize,
    /// When; `None` if it was written out of turn, and its answer says nothing about the pace.
    at: Option<Instant>,
}

impl Pending {
    /// The place of the command among all that were written; the last one if it was not written.
    pub(crate) fn order(&self) -> u64 {
        self.written.map_or(u64::MAX, |written| written.order)
    }

    /// Whether a cut leaves the outcome unknown.
    fn is_lost(&self, all: bool, undoes: impl Fn(&Self) -> bool) -> bool {
        self.written.is_some() && (all || !is_idempotent(&self.body) || undoes(self))
    }
}

/// Why nothing is written to a target now.
#[derive(Debug)]
struct PausedTarget {
    /// The first send that was refused.
    by: u64,
    until: Instant,
    /// It was refused since sends came too fast.
    paced: bool,
}

/// All commands without an answer, in the order in which they were asked: their numbers say it.
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

/// What values a message may hold is not announced by servers; this is what they allow by default, with some to spare.
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

    /// Adds a command that is written at once, out of turn. Gives its number and the encoded frame.
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

    /// The command was answered by the server.
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

    /// The command was answered by the client itself.
    pub(crate) fn settle(&mut self, id: CommandId) -> Option<Pending> {
        self.unwritten.remove(&id.0);
        let pending = self.pending.remove(&id.0)?;
        self.pace.unwrote(pending.written.map_or(0, |written| written.bytes));
        Some(pending)
    }

    /// How long what is under way may take to arrive.
    pub(crate) fn drain_time(&self) -> Duration {
        self.pace.drain_time()
    }

    /// Puts a send back that was refused for now. It keeps its number, and so its place, and nothing is written to its
    /// target before `at`; if an earlier one was refused as well, that one's pause counts. If that was `paced`, refused for the
    /// rate, the longest pause counts: the pauses of those behind it cover all of them.
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

    /// Whether no earlier send to the target of this one is without an answer.
    pub(crate) fn is_next(&self, id: CommandId, pending: &Pending) -> bool {
        let to = target(&pending.body);
        self.pending.range(..id.0).all(|(_, earlier)| target(&earlier.body) != to)
    }

    /// The connection is gone. What can be repeated safely waits for the next one; the rest of the application's
    /// commands is given back, and the client's own are forgotten: the next connection has its own.
    ///
    /// With `all`, the server closed because of something that was written: repeating it would only do it again. What would
    /// undo a later command (`undoes`) is given back too.
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

    /// Whether [`Flight::cut`] would give nothing back: no outcome would be unknown.
    pub(crate) fn is_safe_to_cut(&self, undoes: impl Fn(&Pending) -> bool) -> bool {
        let mut asked = self.pending.values().filter(|pending| pending.origin == Origin::User);
        !asked.any(|pending| pending.is_lost(false, &undoes))
    }

    /// All commands of the application, given back because the client ends.
    pub(crate) fn end(&mut self) -> Vec<(CommandId, Pending)> {
        self.unwritten.clear();
        self.paused.clear();
        let all = std::mem::take(&mut self.pending).into_iter();
        all.filter(|(_, pending)| pending.origin == Origin::User)
            .map(|(id, p)| (CommandId(id), p))
            .collect()
    }

    /// Whether an answer is awaited from the server.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.pending.len() > self.unwritten.len()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.pending.len() + self.unwritten.len() + self.paused.len()
    }

    /// Whether the command has no answer yet.
    pub(crate) fn contains(&self, id: CommandId) -> bool {
        self.pending.contains_key(&id.0)
    }

    /// The place, among all that were written, of the first unanswered command that changes what is subscribed.
    pub(crate) fn oldest_subscribing(&self) -> Option<u64> {
        let subscribing = self.pending.values().filter(|pending| subscribes(&pending.body));
        subscribing.filter_map(|pending| Some(pending.written?.order)).min()
    }

    /// When something may be written to a target that is held and of which no answer is awaited.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let drained = self.paused.iter().filter(|(target, _)| !self.is_under_way(target));
        drained.map(|(_, held)| held.until).min()
    }

    fn is_under_way(&self, to: &Target) -> bool {
        self.pending
            .values()
            .any(|pending| pending.written.is_some() && target(&pending.body) == Some(to))
    }

    /// The next message to write, within what the server allows; `None` if there is nothing to write now. Commands that
    /// can never be written land in `refused`.
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

    /// Targets whose pause is over, and of which no answer is awaited, wait for nothing but room.
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
        // The body moves into the command for the time of the encoding, so that its content need not be copied.
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

/// Whether the command changes what is subscribed, or what the server keeps of it.
pub(crate) fn subscribes(body: &CommandBody) -> bool {
    use CommandBody as C;
    matches!(
        body,
        C::Subscribe { .. } | C::Unsubscribe { .. } | C::Resume { .. } | C::Checkpoint { .. }
    )
}

/// Where the order of sends matters.
fn target(body: &CommandBody) -> Option<&Target> {
    if let CommandBody::Send { to, .. } = body { Some(to) } else { None }
}

fn too_large(len: usize, max: usize) -> Error {
    let message = format!("the command has {len} bytes; the server takes {max} in one message");
    Error::invalid(message).with_code(Code::TooLarge)
}

fn as_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// About how many values the frame has, keys included.
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

/// Whether a command may be carried out twice without harm, if it is not known whether it was carried out once.
fn is_idempotent(body: &CommandBody) -> bool {
    match body {
        // The message id makes it safe.
        CommandBody::Send { .. } => true,
        // The application decides: a refusal of the second says nothing about the first, and the room may be gone by then.
        CommandBody::Create { .. } => false,
        // At most once.
        CommandBody::Signal { .. } => false,
        // Without a stamp of its own it would be newer the second time than what others have set since.
        CommandBody::PutState { stamp, .. } | CommandBody::RemoveState { stamp, .. } => {
            stamp.is_some()
        }
        _ => true,
    }
}
