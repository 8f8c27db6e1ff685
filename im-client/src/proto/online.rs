//! An open connection: frames in, commands out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use im_core::code::{Advice, advice};
use im_core::wire::{
    CommandBody, Disconnect, ErrorReply, Event, Push, Reply, RoomStatus, ServerFrame, Snapshot,
    StateUpdate, Value, Welcome, WireError, decode, join_encoded,
};
use im_core::{Code, CommandId, RoomId};

use crate::error::Error;
use crate::event::ClientEvent;
use crate::refusal::generous;

use super::calls::Outcome;
use super::flight::{Origin, Pending};
use super::rooms::Change;
use super::{Cause, Machine, Online, Output, Phase, reply};

impl Machine {
    /// Moves to another open connection ([`Output::Connect`] returns it). Returns `false`, and does
    /// nothing, while a non-idempotent command is in flight.
    pub(crate) fn on_move(&mut self, now: Instant) -> bool {
        let undoes = |pending: &Pending| self.rooms.undoes(&pending.body, pending.order());
        if !matches!(self.phase, Phase::Online(_)) || !self.flight.is_safe_to_cut(undoes) {
            return false;
        }
        let cause = Cause::new(Some(Code::Closed.number()), "a better transport works");
        self.cut(false, &cause);
        self.backoff.reset();
        self.notify_disconnected(cause, Some(Duration::ZERO));
        self.start(now);
        true
    }

    /// A message arrived. `tap` is called with each frame before anything is dropped.
    pub(crate) fn on_message(
        &mut self,
        now: Instant,
        message: &[u8],
        tap: &mut dyn FnMut(&ServerFrame),
    ) {
        self.on_heard(now);
        let frames = match decode(message, self.encoding, &generous()) {
            Ok(frames) => frames,
            Err(error) => return self.nonsense(now, &error),
        };
        for frame in frames {
            if !matches!(self.phase, Phase::Greeting { .. } | Phase::Online(_)) {
                return;
            }
            match ServerFrame::from_value(frame) {
                Ok(frame) => {
                    tap(&frame);
                    self.on_frame(now, frame);
                }
                Err(error) => return self.nonsense(now, &error),
            }
        }
        self.flush(now);
    }

    fn nonsense(&mut self, now: Instant, error: &WireError) {
        let cause = Cause::new(None, format!("invalid message from the server: {error}"));
        self.drop_connection(now, cause);
    }

    fn on_frame(&mut self, now: Instant, frame: ServerFrame) {
        match frame {
            ServerFrame::Ok { id, body } => self.on_ok(now, id, body),
            ServerFrame::Err(refusal) => self.on_refusal(now, refusal),
            ServerFrame::Push(push) => self.on_push(now, push),
            ServerFrame::Unknown => {}
        }
    }

    fn on_ok(&mut self, now: Instant, id: CommandId, fields: Value) {
        let Some(pending) = self.flight.answered(now, id) else { return };
        match reply::read(&pending.body, fields) {
            Ok(reply) => self.on_reply(now, id, pending, reply),
            Err(error) if pending.origin == Origin::User => {
                self.call_failed(id, &pending, Outcome::Unknown);
                self.outputs.push_back(Output::Reply(id, Err(error.into())));
            }
            Err(error) => self.nonsense(now, &error),
        }
    }

    fn on_reply(&mut self, now: Instant, id: CommandId, pending: Pending, reply: Reply) {
        let order = pending.order();
        match (pending.origin, reply) {
            (Origin::User, reply) => self.on_answer(now, (id, order), &pending.body, reply),
            (Origin::Refresh, Reply::Refreshed { expires }) => {
                if let CommandBody::Refresh { token } = &pending.body {
                    self.on_refreshed(now, token, expires);
                }
            }
            (Origin::Hello, Reply::Welcome(welcome)) => self.on_welcome(now, welcome),
            (Origin::Resume | Origin::GapRepair(_), Reply::Rooms { statuses, rev, generation }) => {
                self.on_statuses(now, (id, order), statuses, rev);
                self.on_generation(generation);
            }
            (Origin::Checkpoint(cursors), Reply::Checkpoint { rev }) => {
                self.checkpoint = self.checkpoint.filter(|waiting| *waiting != id);
                self.rooms.confirmed(&cursors, id, rev);
            }
            _ => {}
        }
        self.rooms.release(|| self.flight.oldest_subscribing());
    }

    /// Handles the answer to a command of the application.
    fn on_answer(
        &mut self,
        now: Instant,
        (id, order): (CommandId, u64),
        body: &CommandBody,
        reply: Reply,
    ) {
        match (body, &reply) {
            (CommandBody::Refresh { token }, Reply::Refreshed { expires }) => {
                self.on_refreshed(now, token, *expires);
            }
            (CommandBody::Subscribe { room, .. }, Reply::Rooms { statuses, rev, generation }) => {
                for status in statuses {
                    // If a later call decides about this room, only the caller of this one is
                    // notified.
                    if self.rooms.counts(&status.room, id, order) {
                        let change = self.rooms.subscribed(now, status);
                        self.notify(change);
                    }
                }
                self.rooms.call_returned(room, id, order);
                self.rooms.call_done(room, order);
                self.rooms.learn_rev(*rev);
                self.on_generation(*generation);
            }
            (CommandBody::Unsubscribe { room }, Reply::Checkpoint { rev }) => {
                if self.rooms.counts(room, id, order) {
                    self.rooms.remove(room);
                }
                self.rooms.call_returned(room, id, order);
                self.rooms.call_done(room, order);
                self.rooms.learn_rev(*rev);
            }
            (CommandBody::Checkpoint { cursors }, Reply::Checkpoint { rev }) => {
                self.rooms.confirmed(cursors, id, *rev)
            }
            _ => {}
        }
        let ended = matches!(body, CommandBody::Logout);
        self.outputs.push_back(Output::Reply(id, Ok(reply)));
        if ended {
            self.end(Cause::of(Code::LoggedOut));
        }
    }

    fn on_welcome(&mut self, now: Instant, welcome: Box<Welcome>) {
        self.session = Some(im_core::wire::ResumeToken {
            session: welcome.session.clone(),
            secret: welcome.secret.clone(),
        });
        self.identity.device = Some(welcome.device.clone());
        self.limits = welcome.limits.clone();
        if !welcome.resumed {
            self.rooms.drop_checkpoint();
        }
        let idle = welcome.idle.max(Duration::from_secs(1));
        self.phase =
            Phase::Online(Online { since: now, idle, heard: now, written: now, ping_until: None });
        self.plan_refresh(now, welcome.expires);
        self.events.push_back(ClientEvent::Connected(welcome));
    }

    /// Writes the resume of all rooms, after `first` (the greeting) in the same message.
    pub(super) fn write_resume(&mut self, first: Option<Bytes>) {
        let mut messages: Vec<Vec<Bytes>> = first.map(|first| vec![first]).into_iter().collect();
        let rev = self.rooms.rev();
        let mut frames = self.rooms.to_resume();
        if self.session.is_none() {
            // A new session has no checkpoint, so without cursors no resume is needed.
            frames.retain(|cursors| !cursors.is_empty());
        }
        let mut first_resume = None;
        for (at, cursors) in frames.into_iter().enumerate() {
            let named: Vec<RoomId> = cursors.iter().map(|(room, _)| room.clone()).collect();
            // Only the first frame has the revision: each later one changes the checkpoint and so
            // the revision.
            let body = CommandBody::Resume { cursors, rev: rev.filter(|_| at == 0) };
            let (id, frame) = self.flight.write(body, Origin::Resume, self.encoding);
            named.iter().for_each(|room| self.rooms.requested(room, id));
            first_resume.get_or_insert(id);
            match messages.last_mut() {
                Some(message) if at == 0 => message.push(frame),
                _ => messages.push(vec![frame]),
            }
        }
        if let Some(id) = first_resume {
            self.rooms.requested_rest(id);
        }
        for message in messages {
            self.outputs.push_back(Output::Transmit(join_encoded(&message, self.encoding)));
        }
    }

    /// `by` is the answered command with its write number.
    fn on_statuses(
        &mut self,
        now: Instant,
        by: (CommandId, u64),
        statuses: Vec<RoomStatus>,
        rev: u64,
    ) {
        for status in statuses {
            let change = self.rooms.answered(now, by.0, by.1, status);
            self.notify(change);
        }
        self.rooms.learn_rev(rev);
        self.rooms.unanswered(now, by.0, by.1);
    }

    fn on_generation(&mut self, generation: u64) {
        for room in self.rooms.generation(generation) {
            self.events.push_back(ClientEvent::Snapshot { room, entries: Vec::new() });
        }
    }

    fn notify(&mut self, change: Change) {
        if let Change::Notify(status) = change {
            self.events.push_back(ClientEvent::Room(status));
        }
    }

    fn on_refusal(&mut self, now: Instant, refusal: ErrorReply) {
        // A refusal without a number is about an unreadable message; the close that follows has the
        // details.
        let Some(id) = refusal.id else { return };
        let Some(pending) = self.flight.answered(now, id) else { return };
        let order = pending.order();
        match &pending.origin {
            Origin::User => self.on_refused(now, id, pending, refusal),
            Origin::Hello => {
                let cause = Cause {
                    code: Some(refusal.code),
                    message: refusal.message,
                    retry_after: refusal.retry_after,
                };
                self.drop_connection(now, cause);
            }
            Origin::Resume if refusal.code == Code::StaleCheckpoint.number() => {
                self.rooms.drop_checkpoint();
                self.write_resume(None);
            }
            Origin::Resume if is_retryable(refusal.code) => {
                self.rooms.refused(now, (id, order), refusal.retry_after, true)
            }
            Origin::Resume => self.rooms.unanswered(now, id, order),
            Origin::GapRepair(room) => {
                let room = room.clone();
                self.on_gap_repair_refused(now, (id, order), room, &refusal);
            }
            Origin::Checkpoint(_) => {
                self.checkpoint = self.checkpoint.filter(|waiting| *waiting != id)
            }
            Origin::Refresh => self.on_refresh_refused(now, id),
            Origin::Ping => {}
        }
        self.rooms.release(|| self.flight.oldest_subscribing());
    }

    fn on_refused(
        &mut self,
        now: Instant,
        id: CommandId,
        mut pending: Pending,
        refusal: ErrorReply,
    ) {
        let retryable = is_retryable(refusal.code);
        // Whatever the refusal, it does not count as a try while an earlier send is unanswered.
        let its_turn =
            refusal.code != Code::SenderOrder.number() && self.flight.is_next(id, &pending);
        if retryable
            && matches!(pending.body, CommandBody::Send { .. })
            && (pending.tries < self.config.send_retries || !its_turn)
        {
            let pause = Duration::from_millis(100 << pending.tries.min(7));
            pending.tries += u32::from(its_turn);
            let at = now + pause.max(refusal.retry_after.unwrap_or_default());
            let paced = refusal.code == Code::RateLimited.number();
            return self.flight.retry(id, pending, at, paced);
        }
        self.call_failed(id, &pending, Outcome::Refused);
        let error = Error::from(refusal).about(super::message_id(&pending));
        self.outputs.push_back(Output::Reply(id, Err(error)));
    }

    fn on_gap_repair_refused(
        &mut self,
        now: Instant,
        (id, order): (CommandId, u64),
        room: RoomId,
        refusal: &ErrorReply,
    ) {
        if is_retryable(refusal.code) {
            return self.rooms.refused(now, (id, order), refusal.retry_after, false);
        }
        if !self.rooms.counts(&room, id, order) {
            return;
        }
        self.rooms.call_returned(&room, id, order);
        let status = im_core::wire::Status::Denied;
        let code = Some(refusal.code);
        let head = im_core::Seq::ZERO;
        let status = RoomStatus { room, status, cursor: None, head, code };
        let change = self.rooms.moved(now, status);
        self.notify(change);
    }

    fn on_push(&mut self, now: Instant, push: Push) {
        match push {
            Push::Event(event) => self.on_event(now, event),
            Push::Signal(signal) if self.has_room() => {
                self.events.push_back(ClientEvent::Signal(signal))
            }
            // At most once, and dropped first.
            Push::Signal(_) => {}
            // For HTTP links only: a connection of one piece has no stream position.
            Push::Position(_) => {}
            Push::State(update) => self.on_state(now, update),
            Push::Snapshot(part) => self.on_snapshot(now, part),
            Push::Room(status) => {
                let change = self.rooms.moved(now, status);
                self.notify(change);
            }
            Push::Disconnect(Disconnect { code, message, retry_after }) => {
                self.drop_connection(now, Cause { code: Some(code), message, retry_after });
            }
        }
    }

    fn has_room(&self) -> bool {
        self.events.len() < self.config.max_queued_events
    }

    fn on_event(&mut self, now: Instant, event: Arc<Event>) {
        if !self.has_room() {
            self.rooms.dropped(now, &event.room);
        } else if self.rooms.take(now, &event) {
            self.events.push_back(ClientEvent::Event(event));
        }
    }

    fn on_state(&mut self, now: Instant, update: Arc<StateUpdate>) {
        if !self.has_room() {
            self.rooms.dropped(now, &update.room);
        } else if let Some(update) = self.rooms.update(update) {
            self.events.push_back(ClientEvent::State(update));
        }
    }

    fn on_snapshot(&mut self, now: Instant, part: Snapshot) {
        let room = part.room.clone();
        if !self.has_room() {
            self.rooms.dropped(now, &room);
        } else if let Some(entries) = self.rooms.snapshot(part) {
            self.events.push_back(ClientEvent::Snapshot { room, entries });
        }
    }

    /// The application has read events: dropped ones can be requested again.
    pub(crate) fn on_events_consumed(&mut self, now: Instant) {
        self.flush(now);
    }
}

/// Whether the code is retryable.
fn is_retryable(code: u16) -> bool {
    matches!(advice(code), Advice::Retry | Advice::BackOff)
}
