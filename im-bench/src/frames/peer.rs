//! A peer that uses everything that the protocol allows: slow reads, lost answers, older stream
//! positions, concurrent polls, subscriptions that change while a stream is open.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::judge::{Judge, Position};
use super::wire::{Broken, Outcome, Requests, Said};
use super::{Over, Shared};
use crate::replay::log::mix;

/// Stream positions that a peer keeps.
const POSITIONS: usize = 5;

/// Maximum sends in one batch. A message holds 64 frames.
const BATCH: u64 = 40;

/// The time for which a peer reads before its next action.
pub(super) const LISTEN: Duration = Duration::from_millis(50);

/// A send without an ack.
#[derive(Debug, Clone)]
struct Outgoing {
    at: usize,
    mid: String,
    frame: Value,
}

/// One session with its subscriptions.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) user: String,
    over: Over,
    pub(super) shared: Arc<Shared>,
    pub(super) judge: Judge,
    pub(super) requests: Requests,
    draws: u64,
    positions: VecDeque<Position>,
    outgoing: Vec<Outgoing>,
    sent: u64,
    /// The id of the last command.
    command: u64,
}

impl Peer {
    pub(super) fn new(
        nth: usize,
        (server, over, seed): (SocketAddr, Over, u64),
        rooms: impl IntoIterator<Item = (usize, String, String)>,
        shared: &Arc<Shared>,
    ) -> Self {
        let user = format!("peer-{nth}");
        Self {
            judge: Judge::new(format!("{user} over {over:?}"), rooms, shared.clone()),
            user,
            over,
            shared: shared.clone(),
            requests: Requests::new(server, None),
            draws: mix(seed ^ mix(nth as u64)),
            positions: VecDeque::new(),
            outgoing: Vec::new(),
            sent: 0,
            command: 10,
        }
    }

    /// Runs until all sends are acked and all events are received.
    pub(super) async fn run(mut self) {
        if self.over != Over::Ws {
            self.restart().await;
        }
        loop {
            let ended = match self.over {
                Over::Ws => self.web_socket().await,
                Over::Sse => self.event_stream().await,
                Over::Long => self.polls(1).await,
                Over::Short => self.polls(0).await,
            };
            let Err(broken) = ended else { return };
            self.judge.note(format!("over: {broken:?}"));
            if matches!(broken, Broken::Code(4400)) {
                self.shared.found(format!("{}: the session is unknown", self.user));
                self.requests.session = None;
            }
            self.pause(5, 100).await;
        }
    }

    pub(super) fn draw(&mut self, below: u64) -> u64 {
        self.draws = mix(self.draws);
        self.draws % below
    }

    pub(super) async fn pause(&mut self, least: u64, most: u64) {
        let pause = least + self.draw(most - least + 1);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    pub(super) fn is_done(&self) -> bool {
        self.shared.is_quiet()
            && self.outgoing.is_empty()
            && self.left_room().is_none()
            && self.judge.is_in_sync()
    }

    pub(super) fn command(&mut self) -> u64 {
        self.command += 1;
        self.command
    }

    // ---- commands ----

    /// Returns `hello`, with the session if there is one, and `resume` from the peer's own cursors.
    pub(super) fn greeting(&mut self) -> (Value, Vec<(usize, u64)>) {
        let mut hello =
            json!({"t": "hello", "id": 1, "v": 1, "user": self.user, "device": self.user});
        if let Some((session, secret)) =
            self.requests.session.as_ref().and_then(|session| session.split_once(' '))
        {
            hello["session"] = session.into();
            hello["secret"] = secret.into();
        }
        let subscribed = |at: &usize| self.judge.rooms[*at].is_subscribed;
        let rooms: Vec<usize> = (0..self.judge.rooms.len()).filter(subscribed).collect();
        let mut since = Vec::new();
        let mut cursors = Vec::new();
        for at in rooms {
            self.judge.asks(at);
            let room = &self.judge.rooms[at];
            since.push((at, room.cursor));
            cursors.push(json!([room.name, room.epoch, room.cursor]));
        }
        (json!([hello, {"t": "resume", "id": 2, "cursors": cursors}]), since)
    }

    /// Applies the reply to `hello`.
    pub(super) fn welcomed(&mut self, reply: &Value) {
        if let (Some(session), Some(secret)) = (reply["session"].as_str(), reply["secret"].as_str())
        {
            self.requests.session = Some(format!("{session} {secret}"));
        }
    }

    /// Posts `hello` and `resume` until they are answered.
    async fn restart(&mut self) {
        let (greeting, since) = self.greeting();
        let replies = self.until_answered(&greeting).await;
        for reply in &replies {
            self.welcomed(reply);
            let statuses = reply["rooms"].as_array().into_iter().flatten();
            for status in statuses {
                let named = |(at, _): &&(usize, u64)| status["room"] == *self.judge.rooms[*at].name;
                let since = since.iter().find(named).map(|(_, since)| *since);
                self.judge.answered(status, since);
            }
        }
        self.positions.clear();
    }

    /// Posts until the reply arrives: commands that change subscriptions are idempotent.
    async fn until_answered(&mut self, frames: &Value) -> Vec<Value> {
        loop {
            match self.requests.post(frames).await {
                Ok(replies) if replies.iter().all(|reply| reply["t"] == "ok") => return replies,
                Ok(replies) => self.judge.note(format!("refused: {replies:?}")),
                Err(broken) => self.judge.note(format!("no reply: {broken:?}")),
            }
            self.pause(10, 200).await;
        }
    }

    /// Chooses a room to subscribe again: from its cursor, from before it, or from the head.
    pub(super) fn question(&mut self, may_wait: bool) -> Option<(usize, Option<u64>, Value)> {
        let at = self.draw(self.judge.rooms.len() as u64) as usize;
        let room = &self.judge.rooms[at];
        if room.is_subscribed && !room.is_settled && !may_wait {
            // One request at a time.
            return None;
        }
        let cursor = room.cursor;
        let since = match self.draw(10) {
            0 => None,
            1..=4 => Some(cursor),
            _ => Some(cursor.saturating_sub(self.draw(700)).max(1)),
        };
        self.judge.asks(at);
        let id = self.command();
        let room = &self.judge.rooms[at];
        let mut sub = json!({"t": "subscribe", "id": id, "room": room.name});
        if let Some(since) = since {
            sub["epoch"] = room.epoch.clone().into();
            sub["since"] = since.into();
        }
        Some((at, since, sub))
    }

    /// Chooses a room to unsubscribe, of which all requested statuses have arrived.
    pub(super) fn leave(&mut self) -> Option<(usize, Value)> {
        let at = self.draw(self.judge.rooms.len() as u64) as usize;
        let id = self.command();
        let room = &self.judge.rooms[at];
        (room.is_subscribed && room.is_settled)
            .then(|| (at, json!({"t": "unsubscribe", "id": id, "room": room.name})))
    }

    pub(super) fn checkpoint(&mut self) -> Value {
        let subscribed = self.judge.rooms.iter().filter(|room| room.is_subscribed);
        let cursors: Vec<_> =
            subscribed.map(|room| json!([room.name, room.epoch, room.cursor])).collect();
        let id = self.command();
        json!({"t": "checkpoint", "id": id, "cursors": cursors})
    }

    /// Returns an unsubscribed room: all are subscribed again before the end.
    pub(super) fn left_room(&self) -> Option<usize> {
        self.judge.rooms.iter().position(|room| !room.is_subscribed)
    }

    async fn command_by_post(&mut self, which: u64) {
        match which {
            0 | 1 => {
                if let Some((at, since, sub)) = self.question(false) {
                    self.subscribe(at, since, &sub).await;
                }
            }
            2 => {
                if let Some((at, unsub)) = self.leave() {
                    self.until_answered(&json!([unsub])).await;
                    self.judge.left(at);
                }
            }
            _ => {
                let checkpoint = self.checkpoint();
                self.until_answered(&json!([checkpoint])).await;
                self.judge.note("checkpoint".into());
            }
        }
    }

    async fn subscribe(&mut self, at: usize, since: Option<u64>, sub: &Value) {
        self.judge.note(format!("subscribe {} from {since:?}", self.judge.rooms[at].name));
        let replies = self.until_answered(&json!([sub])).await;
        let statuses = replies.iter().filter_map(|reply| reply["rooms"].as_array()).flatten();
        statuses.for_each(|status| self.judge.answered(status, since));
    }

    /// Runs the POSTs beside reading: sends, and at times other commands.
    async fn beside(&mut self) {
        if self.shared.is_quiet() {
            if let Some(at) = self.left_room() {
                let since = self.judge.rooms[at].cursor;
                self.judge.asks(at);
                let room = &self.judge.rooms[at];
                let sub = json!({"t": "subscribe", "id": 3, "room": room.name, "epoch": room.epoch, "since": since});
                self.subscribe(at, Some(since), &sub).await;
            }
        } else if self.draw(100) < 4 {
            let which = self.draw(5);
            self.command_by_post(which).await;
        }
        self.write();
        if !self.outgoing.is_empty() {
            let frames: Vec<_> = self.sends().cloned().collect();
            match self.requests.post(&Value::Array(frames)).await {
                Ok(replies) => replies.iter().for_each(|reply| self.answered(reply)),
                Err(broken) => self.judge.note(format!("sends without a reply: {broken:?}")),
            }
        }
    }

    pub(super) fn waits(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Creates some sends, if none is in flight and some are left.
    pub(super) fn write(&mut self) {
        if !self.outgoing.is_empty() || self.draw(10) > 1 {
            return;
        }
        let wished = 1 + self.draw(BATCH);
        let count = self.shared.take_sends(wished);
        let rooms = self.judge.rooms.len() as u64;
        // Some rooms are busier than others.
        let (one, other) = (self.draw(rooms), self.draw(rooms));
        let at = one.min(other).min(self.draw(rooms)) as usize;
        for _ in 0..count {
            self.sent += 1;
            let (id, length) = (self.command(), self.draw(200) as usize);
            let mid = format!("{}-message-{:08}", self.user, self.sent);
            let text = "tea ".repeat(length / 4);
            let room = &self.judge.rooms[at].name;
            let content = json!({"text": text, "nth": self.sent});
            let frame =
                json!({"t": "send", "id": id, "room": room, "mid": mid, "content": content});
            self.outgoing.push(Outgoing { at, mid, frame });
        }
    }

    /// Returns the sends without an ack, in their order.
    pub(super) fn sends(&self) -> impl Iterator<Item = &Value> {
        self.outgoing.iter().map(|send| &send.frame)
    }

    /// Applies the reply to a send. A retryably refused send stays, in its order.
    pub(super) fn answered(&mut self, reply: &Value) {
        let Some(nth) = self.outgoing.iter().position(|send| send.frame["id"] == reply["id"])
        else {
            return;
        };
        if reply["t"] == "ok" {
            let Outgoing { at, mid, .. } = self.outgoing.remove(nth);
            let room = &self.judge.rooms[at];
            let seq = reply["seq"].as_u64().unwrap_or(0);
            if reply["epoch"] != *room.epoch {
                self.shared.found(format!("{}: {reply} in {}", self.user, room.epoch));
            }
            if let Err(wrong) = self.shared.logs.acked(room.nth, seq, &mid) {
                self.shared.found(format!("{} in {}: {wrong}", self.user, room.name));
            }
            self.shared.acknowledged();
        } else if !matches!(reply["code"].as_u64(), Some(4100..=4299)) {
            let send = self.outgoing.remove(nth);
            self.shared.found(format!("{}: {} was refused: {reply}", self.user, send.frame));
            self.shared.acknowledged();
        }
    }

    // ---- pushes over HTTP ----

    /// Returns the last stream position, or at times an older one, or none.
    fn position(&mut self) -> Option<Position> {
        let nth = match self.draw(100) {
            _ if self.shared.is_quiet() => 0,
            0 => return None,
            1..=20 => self.draw(POSITIONS as u64) as usize,
            _ => 0,
        };
        let last = self.positions.len().checked_sub(1)?;
        self.positions.get(last.saturating_sub(nth)).cloned()
    }

    fn came_to(&mut self, text: String) {
        if self.positions.len() == POSITIONS {
            self.positions.pop_front();
        }
        let position = self.judge.position(text);
        self.positions.push_back(position);
    }

    fn on_frame(&mut self, frame: &Value) -> Outcome<()> {
        match frame["t"].as_str() {
            Some("disconnect") => Err(Broken::Code(frame["code"].as_u64().unwrap_or(0))),
            _ => {
                self.judge.push(frame);
                Ok(())
            }
        }
    }

    async fn event_stream(&mut self) -> Outcome<()> {
        let from = self.position();
        let text = |from: &Option<Position>| from.as_ref().map(|from| from.text.clone());
        let mut stream = self.requests.stream(text(&from).as_deref()).await?;
        self.judge.opened(from.as_ref());
        while !self.is_done() {
            if let Ok(said) = tokio::time::timeout(LISTEN, stream.next()).await {
                for said in said? {
                    match said {
                        Said::Frame(frame) => self.on_frame(&frame)?,
                        Said::Position(text) => self.came_to(text),
                    }
                }
            }
            match self.draw(1000) {
                _ if self.shared.is_quiet() => {}
                0..=39 => self.pause(20, 400).await,
                40..=47 => return Err(Broken::Cut),
                48..=51 => {
                    // The older stream stays open until the newer one is registered.
                    let from = self.position();
                    let newer = self.requests.stream(text(&from).as_deref()).await?;
                    self.judge.opened(from.as_ref());
                    stream = newer;
                }
                52..=53 => {
                    self.restart().await;
                    return Err(Broken::Cut);
                }
                _ => {}
            }
            self.beside().await;
        }
        Ok(())
    }

    async fn polls(&mut self, hold: u64) -> Outcome<()> {
        let mut polls = Requests::new(self.requests.server, self.requests.session.clone());
        while !self.is_done() {
            let from = self.position();
            let at = from.as_ref().map(|from| from.text.clone());
            let at = at.as_deref();
            match self.draw(100) {
                _ if self.shared.is_quiet() => self.took(&from, polls.poll(at, hold).await?)?,
                0..=2 => {
                    let after = Duration::from_millis(self.draw(30));
                    polls.poll_in_vain(at, hold, after).await?;
                    self.judge.note("polled without reading the answer".into());
                }
                3..=5 => {
                    let lost = polls.poll(at, hold).await?.len();
                    self.judge.note(format!("lost an answer of {lost} frames"));
                }
                6..=8 => self.poll_twice(&mut polls, &from, hold).await?,
                9 => {
                    self.restart().await;
                    polls.session = self.requests.session.clone();
                }
                10..=13 => self.pause(20, 400).await,
                _ => self.took(&from, polls.poll(at, hold).await?)?,
            }
            self.beside().await;
            if hold == 0 {
                self.pause(2, 40).await;
            }
        }
        Ok(())
    }

    /// Two concurrent polls. The one that the server considers older may be refused with 4101.
    async fn poll_twice(
        &mut self,
        polls: &mut Requests,
        from: &Option<Position>,
        hold: u64,
    ) -> Outcome<()> {
        let at = from.as_ref().map(|from| from.text.as_str());
        let mut second = Requests::new(polls.server, polls.session.clone());
        let later = Duration::from_millis(self.draw(5));
        let (one, other) = tokio::join!(polls.poll(at, hold), async {
            tokio::time::sleep(later).await;
            second.poll(at, hold).await
        });
        self.judge.note(format!("polled twice: {}, {}", one.is_ok(), other.is_ok()));
        if let Ok(frames) = one
            && (other.is_err() || self.draw(2) == 0)
        {
            self.took(from, frames)?;
        }
        match other {
            Ok(frames) => self.took(from, frames),
            Err(Broken::Code(4101)) => Ok(()),
            Err(broken) => Err(broken),
        }
    }

    fn took(&mut self, from: &Option<Position>, frames: Vec<Value>) -> Outcome<()> {
        self.judge.opened(from.as_ref());
        for frame in frames {
            match frame["at"].as_str().filter(|_| frame["t"] == "position") {
                Some(text) => self.came_to(text.to_owned()),
                None => self.on_frame(&frame)?,
            }
        }
        Ok(())
    }
}
