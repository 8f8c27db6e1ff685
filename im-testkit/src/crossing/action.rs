//! What clients do in a room, reported to the checker.

use im_core::wire::{AppendAck, CommandBody, Map, Target, Value};
use im_core::{CommandId, Cursor, EventKind, MessageId, Stamp};

use super::case::Class;
use super::user::{User, content};
use crate::history::Fingerprint;
use crate::transport_suite::peer::{key, message, says};

/// One write. Its text is unique within the case.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Say { id: MessageId, words: String },
    Signal { words: String },
    PutState { key: &'static str, words: String },
    RemoveState { key: &'static str },
}

impl Action {
    /// Returns a write of this class.
    pub(super) fn of(class: Class, key: &'static str, words: String) -> Self {
        match class {
            Class::Durable => Self::say(words),
            Class::Ephemeral => Self::Signal { words },
            Class::State => Self::PutState { key, words },
        }
    }

    pub(super) fn say(words: String) -> Self {
        Self::Say { id: MessageId::random(), words }
    }

    pub(super) fn words(&self) -> &str {
        match self {
            Self::Say { words, .. } | Self::Signal { words } | Self::PutState { words, .. } => {
                words
            }
            Self::RemoveState { .. } => "",
        }
    }

    pub(super) fn is_signal(&self) -> bool {
        matches!(self, Self::Signal { .. })
    }
}

/// The content of an ack.
#[derive(Debug)]
pub(super) struct Done {
    /// The message was stored by an earlier send.
    pub(super) duplicate: bool,
}

fn kind_of_signals() -> EventKind {
    EventKind::new("typing").expect("a valid kind")
}

impl User {
    /// Returns the command of an action, which is reported to the checker before it is written.
    pub(super) fn intend(&self, action: &Action) -> CommandBody {
        let room = self.room.clone();
        match action {
            Action::Say { id, words } => {
                let says = Fingerprint::of(&EventKind::message(), &content(words));
                self.checker.sent(&self.name, &self.room, id, says);
                message(&self.room, id, words)
            }
            Action::Signal { words } => {
                let says_so = Fingerprint::of(&kind_of_signals(), &content(words));
                if self.announces {
                    self.checker.signal_sent(&self.name, &self.room, says_so);
                }
                let to = Target::Room(room);
                CommandBody::Signal { to, kind: kind_of_signals(), content: says(words) }
            }
            Action::PutState { key: name, words } => {
                let value = Map::from_iter([("text", words.as_str())]).into();
                CommandBody::PutState { room, key: key(name), value, stamp: None }
            }
            Action::RemoveState { key: name } => {
                CommandBody::RemoveState { room, key: key(name), stamp: None }
            }
        }
    }

    pub(super) async fn begin_action(&mut self, action: &Action) -> CommandId {
        let body = self.intend(action);
        self.begin(body).await
    }

    /// Waits for the ack of an action.
    pub(super) async fn done(&mut self, action: &Action, command: CommandId) -> Done {
        let answer = self.answer(command).await.expect("an ack, since all users may write");
        match action {
            Action::Say { id, words } => {
                let ack = AppendAck::from_value(answer).expect("a complete ack");
                let says = Fingerprint::of(&EventKind::message(), &content(words));
                let at = Cursor { epoch: ack.epoch, seq: ack.seq };
                self.checker.acked(&self.name, &self.room, id, says, at);
                Done { duplicate: ack.duplicate }
            }
            Action::Signal { .. } => Done { duplicate: false },
            Action::PutState { key: name, .. } | Action::RemoveState { key: name } => {
                let stamp = answer.get("stamp").and_then(Value::as_text).expect("a stamp");
                let stamp: Stamp = stamp.parse().expect("a stamp");
                self.checker.state_applied(&self.room, &key(name), stamp);
                Done { duplicate: false }
            }
        }
    }

    pub(super) async fn does(&mut self, action: &Action) -> Done {
        let command = self.begin_action(action).await;
        self.done(action, command).await
    }
}
