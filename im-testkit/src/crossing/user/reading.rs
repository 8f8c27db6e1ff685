//! How a client processes pushes.

use std::sync::Arc;

use im_core::wire::{Push, ServerFrame, StateUpdate, Status, Value};

use super::{PATIENCE, User, content, text};
use crate::crossing::action::Action;
use crate::crossing::line::{Ended, Item, Line};
use crate::transport_suite::peer::soon;

impl User {
    /// Reads pushes until `done`. Returns false at the time-out: then something is missing.
    pub(in crate::crossing) async fn read_until(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        let reading = async {
            while !done(self) {
                self.take().await;
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.is_ok()
    }

    /// Reads pushes until this text was received.
    pub(in crate::crossing) async fn hear(&mut self, words: &str) -> bool {
        self.read_until(|user| user.heard.contains(words)).await
    }

    /// Reads pushes until one of these was received.
    pub(in crate::crossing) async fn hear_any(&mut self, actions: &[Action]) {
        self.read_until(|user| actions.iter().any(|action| user.heard.contains(action.words())))
            .await;
    }

    /// Reads pushes until all signals among these were received. They may be lost, but nothing here
    /// loses them. Polls that alternate between servers may: a signal reaches only subscribers that
    /// are present.
    pub(in crate::crossing) async fn hear_signals(&mut self, actions: &[Action]) {
        if self.transport.is_polls() && self.route.wanders() {
            return;
        }
        for signal in actions.iter().filter(|action| action.is_signal()) {
            assert!(self.hear(signal.words()).await, "{} missed {signal:?}", self.name);
        }
    }

    /// Reads pushes until every event that any witness named, and the newest state, was received.
    pub(in crate::crossing) async fn sync_up(&mut self) {
        self.read_until(|user| user.subscriber.is_whole() && user.subscriber.has_newest_state())
            .await;
    }

    /// Reads pushes until the room has a status.
    pub(in crate::crossing) async fn begun(&mut self) {
        let room = self.room.clone();
        self.read_until(|user| user.subscriber.is_subscribed(&room)).await;
    }

    /// Reads pushes until the newest stream position covers all that was read.
    pub(in crate::crossing) async fn with_position(&mut self) {
        if !self.transport.is_request_stream() {
            return;
        }
        let done = |user: &Self| {
            let marked = user.position.as_ref().map(|(_, cursor)| *cursor);
            user.inbox.is_empty() && marked == Some(user.cursor())
        };
        self.read_until(done).await;
    }

    /// Processes the next push.
    pub(in crate::crossing) async fn take(&mut self) {
        let item = loop {
            if let Some(item) = self.inbox.pop_front() {
                break item;
            }
            let position = self.position.as_ref().map(|(position, _)| position.clone());
            match self.line().down(position.as_deref()).await {
                Ok(items) => self.sort(items),
                Err(Ended(code)) => panic!("{} was disconnected: {code:?}", self.name),
            }
        };
        match item {
            Item::Position(position) => self.position = Some((position, self.cursor())),
            Item::Frame(frame) => self.look_at(frame),
        }
        self.pass_positions();
    }

    pub(super) fn pass_positions(&mut self) {
        while let Some(Item::Position(position)) = self.inbox.front() {
            self.position = Some((position.clone(), self.cursor()));
            self.inbox.pop_front();
        }
    }

    fn look_at(&mut self, frame: Value) {
        let Ok(ServerFrame::Push(mut push)) = ServerFrame::from_value(frame) else { return };
        if self.is_lenient() {
            self.discard(&mut push);
        }
        self.subscriber.push(&push);
        match push {
            Push::Event(event) => self.heard.extend(text(&event.content)),
            Push::Signal(signal) => self.heard.extend(text(&signal.content)),
            Push::State(update) => self.value(&update),
            Push::Snapshot(part) => part.entries.iter().for_each(|entry| self.value(entry)),
            Push::Room(status) => assert_eq!(status.status, Status::Ok, "nothing was trimmed"),
            Push::Disconnect(disconnect) => {
                panic!("{} was disconnected: {disconnect:?}", self.name)
            }
            Push::Position(_) => {}
        }
    }

    /// From one poll to the next, or in a storm, this client reaches another server, which may not
    /// have the newest state yet. The client then discards older values, as the protocol requires.
    fn is_lenient(&self) -> bool {
        let hurries = self.hurried || self.transport.is_polls();
        hurries && self.route.wanders() && !self.quiet
    }

    fn discard(&self, push: &mut Push) {
        let older = |update: &StateUpdate| {
            self.values.get(update.key.as_str()).is_some_and(|(held, _)| update.stamp < *held)
        };
        match push {
            Push::Snapshot(part) => part.entries.retain(|entry| !older(entry)),
            Push::State(update) if older(update) => {
                let (stamp, words) = self.values[update.key.as_str()].clone();
                let value = words.map(|words| content(&words));
                *update = Arc::new(StateUpdate { stamp, value, ..StateUpdate::clone(update) });
            }
            _ => {}
        }
    }

    fn value(&mut self, update: &StateUpdate) {
        let words = update.value.as_ref().and_then(text);
        self.heard.extend(words.clone());
        let held = self.values.get(update.key.as_str()).map(|(stamp, _)| *stamp);
        if held.is_none_or(|held| held < update.stamp) {
            self.values.insert(update.key.as_str().to_owned(), (update.stamp, words));
        }
    }

    /// Drains a connection that this client left and the server did not, and returns the code of
    /// its end. Only signals are reported to the checker, since the client drops the rest. With
    /// several servers, signals are not reported either: the other server may get them later.
    pub(in crate::crossing) async fn look_back(&mut self, mut line: Line) -> Option<u16> {
        let (items, code) = soon(line.drain()).await;
        let mut bye = None;
        for item in items {
            let Item::Frame(frame) = item else { continue };
            match ServerFrame::from_value(frame) {
                Ok(ServerFrame::Push(Push::Signal(signal))) if !self.route.wanders() => {
                    self.subscriber.signal(&signal);
                }
                Ok(ServerFrame::Push(Push::Disconnect(farewell))) => bye = Some(farewell.code),
                _ => {}
            }
        }
        code.or(bye)
    }
}
