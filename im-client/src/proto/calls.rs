//! What the application calls for, from the call to the command.

use std::time::Instant;

use im_core::CommandId;
use im_core::wire::{CommandBody, Content, Limits, Value};

use crate::error::{Error, ErrorKind};

use super::flight::{Origin, Pending};
use super::{Machine, Output, Phase, message_id};

/// What is known of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server did not do it.
    Refused,
    /// It may have been done.
    Unknown,
}

impl Machine {
    /// The application calls for these things. Each answer comes as [`Output::Reply`] under the number returned.
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
                    "there is no connection now; a signal makes no sense later",
                ))
            }
            CommandBody::Send { content: value, .. }
            | CommandBody::Signal { content: value, .. }
            | CommandBody::PutState { value, .. } => self.check_value(value),
            _ => Ok(()),
        }
    }

    /// A value that no server takes is refused here: on the wire it would cost the connection.
    fn check_value(&self, value: &Value) -> Result<(), Error> {
        let mut limits = Limits::default();
        limits.max_content_bytes = usize::try_from(self.limits.content_bytes).unwrap_or(usize::MAX);
        limits.max_values /= 2;
        let refused =
            |e: im_core::wire::ContentError| Error::invalid(e.to_string()).with_code(e.code());
        Content::new(value, &limits).map(drop).map_err(refused)
    }

    /// A call of the application's failed. The server's checkpoint may hold a room that is not subscribed here: one that
    /// could not be left, or of which nobody knows.
    pub(super) fn call_failed(&mut self, id: CommandId, pending: &Pending, known: Outcome) {
        let (CommandBody::Subscribe { room, .. } | CommandBody::Unsubscribe { room }) =
            &pending.body
        else {
            return;
        };
        self.rooms.call_returned(room, id, pending.order());
        if matches!((known, &pending.body), (Outcome::Refused, CommandBody::Unsubscribe { .. })) {
            // Refused or not, the client has left the room.
            self.rooms.call_done(room, pending.order());
        }
        if known == Outcome::Unknown || matches!(pending.body, CommandBody::Unsubscribe { .. }) {
            self.rooms.distrust_checkpoint();
        }
    }
}
