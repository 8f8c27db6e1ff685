//! A peer over WebSocket.

use std::collections::HashMap;

use futures::FutureExt;
use serde_json::{Value, json};

use super::peer::{LISTEN, Peer};
use super::wire::{Broken, Outcome, Socket};

/// Maximum messages that are processed before the next action.
const AT_ONCE: u32 = 100;

/// The command whose reply is expected.
#[derive(Debug)]
enum Expected {
    /// Statuses of these rooms, for these cursors.
    Rooms(Vec<(usize, Option<u64>)>),
    Left(usize),
}

impl Peer {
    pub(super) async fn web_socket(&mut self) -> Outcome<()> {
        let mut socket = Socket::open(self.requests.server).await?;
        self.judge.opened(None);
        let (greeting, since) = self.greeting();
        let mut expected = HashMap::new();
        let since = since.into_iter().map(|(at, since)| (at, Some(since))).collect();
        expected.insert(2, Expected::Rooms(since));
        socket.send(&greeting).await?;
        self.send_all(&mut socket).await?;
        while !(self.is_done() && expected.is_empty()) {
            // Each frame may be a message of its own: process all that have arrived.
            let mut arrived = tokio::time::timeout(LISTEN, socket.next()).await.ok();
            let mut most = AT_ONCE;
            while let Some(frames) = arrived {
                for frame in frames? {
                    self.frame(&frame, &mut expected)?;
                }
                most -= 1;
                arrived = if most > 0 { socket.next().now_or_never() } else { None };
            }
            match self.draw(1000) {
                _ if self.shared.is_quiet() => self.resubscribe(&mut socket, &mut expected).await?,
                0..=39 => self.pause(20, 400).await,
                40..=47 => return Err(Broken::Cut),
                48..=70 => self.ask(&mut socket, &mut expected).await?,
                _ => {}
            }
            let waited = self.waits();
            self.write();
            if !waited || self.draw(100) == 0 {
                self.send_all(&mut socket).await?;
            }
        }
        Ok(())
    }

    async fn send_all(&mut self, socket: &mut Socket) -> Outcome<()> {
        if !self.waits() {
            return Ok(());
        }
        let frames: Vec<_> = self.sends().cloned().collect();
        socket.send(&Value::Array(frames)).await
    }

    /// Subscribes again, unsubscribes, or confirms cursors. One room at a time, so that each reply
    /// belongs to one room.
    async fn ask(
        &mut self,
        socket: &mut Socket,
        expected: &mut HashMap<u64, Expected>,
    ) -> Outcome<()> {
        if !expected.is_empty() {
            return Ok(());
        }
        let frame = match self.draw(4) {
            0 | 1 => match self.question(true) {
                Some((at, since, sub)) => {
                    expected.insert(id(&sub), Expected::Rooms(vec![(at, since)]));
                    sub
                }
                None => return Ok(()),
            },
            2 => match self.leave() {
                Some((at, unsub)) => {
                    expected.insert(id(&unsub), Expected::Left(at));
                    unsub
                }
                None => return Ok(()),
            },
            _ => self.checkpoint(),
        };
        self.judge.note(frame.to_string().chars().take(80).collect());
        socket.send(&frame).await
    }

    /// Subscribes to every unsubscribed room at the end.
    async fn resubscribe(
        &mut self,
        socket: &mut Socket,
        expected: &mut HashMap<u64, Expected>,
    ) -> Outcome<()> {
        let (Some(at), true) = (self.left_room(), expected.is_empty()) else { return Ok(()) };
        self.judge.asks(at);
        let id = self.command();
        let room = &self.judge.rooms[at];
        let since = room.cursor;
        expected.insert(id, Expected::Rooms(vec![(at, Some(since))]));
        let (name, epoch) = (&room.name, &room.epoch);
        socket
            .send(
                &json!({"t": "subscribe", "id": id, "room": name, "epoch": epoch, "since": since}),
            )
            .await
    }

    fn frame(&mut self, frame: &Value, expected: &mut HashMap<u64, Expected>) -> Outcome<()> {
        match frame["t"].as_str() {
            Some("disconnect") => return Err(Broken::Code(frame["code"].as_u64().unwrap_or(0))),
            Some("err") if frame["id"] == 1 => {
                return Err(Broken::Code(frame["code"].as_u64().unwrap_or(0)));
            }
            // A new connection resumes everything, whatever was refused.
            Some("err") if expected.contains_key(&id(frame)) => return Err(Broken::Cut),
            Some("ok" | "err") => {
                self.welcomed(frame);
                self.answered(frame);
                match expected.remove(&id(frame)) {
                    Some(Expected::Rooms(since)) => self.statuses(frame, &since),
                    Some(Expected::Left(at)) => self.judge.left(at),
                    None => {}
                }
            }
            _ => self.judge.push(frame),
        }
        Ok(())
    }

    /// On a duplex connection the statuses in a reply count in their order among the events.
    fn statuses(&mut self, reply: &Value, since: &[(usize, Option<u64>)]) {
        for status in reply["rooms"].as_array().into_iter().flatten() {
            let named =
                |(at, _): &&(usize, Option<u64>)| status["room"] == *self.judge.rooms[*at].name;
            let since = since.iter().find(named).and_then(|(_, since)| *since);
            self.judge.answered(status, since);
            self.judge.status(status);
        }
    }
}

fn id(frame: &Value) -> u64 {
    frame["id"].as_u64().unwrap_or(0)
}
