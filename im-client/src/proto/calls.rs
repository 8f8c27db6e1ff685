//! Calls of the application, from the call to the command.

use std::time::Instant;

use im_core::CommandId;
use im_core::wire::{CommandBody, Content, Limits, Value};

use crate::error::{Error, ErrorKind};

use super::flight::{Origin, Pending};
use super::{Machine, Output, Phase, message_id};

/// The outcome of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server did not carry it out.
    Refused,
    /// It may have been carried out.
    Unknown,
}

impl Machine {
    /// Queues calls of the application. Each answer comes as [`Output::Reply`] under the returned
    /// number.
    pub(crate) fn on_commands(&mut self, now: Instant, bodies: Vec<CommandBody>) -> Vec<CommandId> {
        let ids = bodies.into_iter().map(|body| self.accept(body)).collect();
        self.flush(now);
        ids
    }

    fn accept(&mut self, body: CommandBody) -> CommandId {
        let refused = self.check(&body).err();
        let call = match &body {
            CommandBody::Subscribe { .. }
            | CommandBody::Unsubscribe { .. }
            | CommandBody::Refresh { .. } => Some(body.clone()),
            _ => None,
        };
        let id = self.flight.push(body, Origin::User);
        if let Some(error) = refused {
            let about = self.flight.settle(id).and_then(|pending| message_id(&pending));
            self.outputs.push_back(Output::Reply(id, Err(error.about(about))));
            return id;
        }
        match call {
            Some(CommandBody::Subscribe { room, .. }) => self.rooms.call_subscribe(&room, id),
            Some(CommandBody::Unsubscribe { room }) => self.rooms.call_unsubscribe(&room, id),
            Some(CommandBody::Refresh { token }) => self.identity.token = Some(token),
            _ => {}
        }
        id
    }

    fn check(&self, body: &CommandBody) -> Result<(), Error> {
        if let Phase::Ended(cause) = &self.phase {
            return Err(Error::closed(cause.code, &cause.message));
        }
        match body {
            CommandBody::Signal { .. } if !matches!(self.phase, Phase::Online(_)) => {
                Err(Error::new(
                    ErrorKind::Offline,
                    None,
                    "there is no connection; an ephemeral message is not queued",
                ))
            }
            CommandBody::Send { content: value, .. }
            | CommandBody::Signal { content: value, .. }
            | CommandBody::PutState { value, .. } => self.check_value(value),
            _ => Ok(()),
        }
    }

    /// Refuses a value that no server accepts: on the wire it would cost the connection.
    fn check_value(&self, value: &Value) -> Result<(), Error> {
        let mut limits = Limits::default();
        limits.max_content_bytes = usize::try_from(self.limits.content_bytes).unwrap_or(usize::MAX);
        limits.max_values /= 2;
        let refused =
            |e: im_core::wire::ContentError| Error::invalid(e.to_string()).with_code(e.code());
        Content::new(value, &limits).map(drop).map_err(refused)
    }

    /// Handles a failed call of the application. The server's checkpoint may contain a room that is
    /// not subscribed here: one whose unsubscription failed, or one that this client does not know.
    pub(super) fn call_failed(&mut self, id: CommandId, pending: &Pending, known: Outcome) {
        let (CommandBody::Subscribe { room, .. } | CommandBody::Unsubscribe { room }) =
            &pending.body
        else {
            return;
        };
        self.rooms.call_returned(room, id, pending.order());
        if matches!((known, &pending.body), (Outcome::Refused, CommandBody::Unsubscribe { .. })) {
            // Refused or not, the room is unsubscribed here.
            self.rooms.call_done(room, pending.order());
        }
        if known == Outcome::Unknown || matches!(pending.body, CommandBody::Unsubscribe { .. }) {
            self.rooms.distrust_checkpoint();
        }
    }
}
