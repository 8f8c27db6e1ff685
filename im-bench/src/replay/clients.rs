//! The clients of a replay: each is one user, subscribes to every room of its lines, and sends them
//! in order.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::future::try_join_all;
use im_client::{Client, ClientEvent, Config, Events, Message, PendingAck, Reconnect};
use im_core::wire::{Content, Encoding, Limits, RoomKind, Status};
use im_core::{Cursor, EventKind, MessageId, Seq, UserId};
use im_testkit::history::{Checker, Fingerprint};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::delivery_check::DeliveryCheck;
use super::ledger::Ledger;
use super::link::Cuttable;
use super::log::{Line, Log, mix};
use super::trace::Trace;
use super::transport::Route;

/// Members in the `create` of a room. The others join.
const FIRST_MEMBERS: usize = 200;

/// One client and its lines.
pub(super) struct Member {
    pub(super) user: UserId,
    client: Client,
    events: Option<Events>,
    pub(super) check: Arc<DeliveryCheck>,
    /// Indices of its lines in the log.
    lines: Vec<usize>,
    /// Indices of its subscribed rooms.
    pub(super) rooms: BTreeSet<usize>,
}

/// The state that all clients share.
#[derive(Clone)]
pub(super) struct Stage {
    pub(super) log: Arc<Log>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) checker: Checker,
    pub(super) seed: u64,
    /// The ratio to the log's own pace; as fast as possible if `None`.
    pub(super) speed: Option<f64>,
    /// Maximum number of unacked sends of one client.
    pub(super) window: usize,
    /// Whether commands and frames of the clients are traced.
    pub(super) traced: bool,
}

/// All clients; the last one is the service, which sends the channel's own lines.
pub(super) struct Clients {
    pub(super) members: Vec<Member>,
    stage: Stage,
    /// Tasks that read the events of the clients, as long as they live.
    listening: JoinSet<Result<()>>,
}

impl Clients {
    /// Connects `clients` users and the service.
    ///
    /// # Errors
    ///
    /// If one of them cannot connect.
    pub(super) async fn connect(
        stage: Stage,
        clients: usize,
        server: SocketAddr,
        (route, encoding): (Route, Encoding),
    ) -> Result<Self> {
        let mut members = Vec::with_capacity(clients + 1);
        for nth in 0..=clients {
            let user = if nth == clients {
                UserId::new("service")?
            } else {
                UserId::new(format!("client-{nth}"))?
            };
            let trace = stage.traced.then(Arc::<Trace>::default);
            let check =
                DeliveryCheck::new(nth, user.as_str(), &stage.checker, stage.ledger.clone())
                    .traced(trace);
            let check = Arc::new(check);
            let turns = Arc::new(route.turns(nth));
            let ledger = stage.ledger.clone();
            let link = Cuttable { client: nth, server, turns, ledger, check: check.clone() };
            let mut config = Config::default();
            config.max_unacknowledged = stage.window;
            // A killed server is back within a second, and this run waits for it.
            config.reconnect =
                Reconnect::default().pauses(Duration::from_millis(50), Duration::from_millis(500));
            config.send_retries = u32::MAX;
            let builder = Client::over(link)
                .user(user.clone())
                .encoding(encoding)
                .config(config)
                .tap(check.tap());
            let (client, events) =
                builder.connect().await.with_context(|| format!("{user} cannot connect"))?;
            members.push(Member {
                user,
                client,
                events: Some(events),
                check,
                lines: Vec::new(),
                rooms: BTreeSet::new(),
            });
        }
        for (nth, line) in stage.log.lines.iter().enumerate() {
            let member = &mut members[line.client(clients)];
            member.lines.push(nth);
            member.rooms.insert(line.room);
        }
        // The service creates all rooms.
        members[clients].rooms.extend(0..stage.log.rooms.len());
        Ok(Self { members, stage, listening: JoinSet::new() })
    }

    /// Lets each client subscribe to at least `least` rooms; those beyond its own are chosen by the
    /// seed.
    pub(super) fn widen(&mut self, least: usize) {
        let rooms = self.stage.log.rooms.len();
        for (nth, member) in self.members.iter_mut().enumerate() {
            let mut draw = mix(self.stage.seed ^ mix(nth as u64));
            while member.rooms.len() < least.min(rooms) {
                draw = mix(draw);
                member.rooms.insert((draw % rooms as u64) as usize);
            }
        }
    }

    /// Creates the rooms and makes all subscriptions. Returns the first cursor of each room.
    ///
    /// # Errors
    ///
    /// If the server refuses a command.
    pub(super) async fn settle(&self) -> Result<Vec<Cursor>> {
        let rooms = 0..self.stage.log.rooms.len();
        let begin = try_join_all(rooms.map(|room| self.make(room))).await?;
        try_join_all(self.members.iter().map(|member| self.subscribe(member))).await?;
        Ok(begin)
    }

    async fn make(&self, nth: usize) -> Result<Cursor> {
        let service = self.members.last().context("there is no service")?;
        let room = self.stage.log.rooms[nth].clone();
        let others = self
            .members
            .iter()
            .filter(|member| member.rooms.contains(&nth) && member.user != service.user);
        let (first, late): (Vec<_>, Vec<_>) =
            others.enumerate().partition(|(at, _)| *at < FIRST_MEMBERS);
        let first = first.into_iter().map(|(_, member)| member.user.clone()).collect();
        let ack = service.client.create(room.clone(), RoomKind::Group, true, first).await?;
        for (_, member) in late {
            member.client.join(room.clone()).await?;
        }
        self.stage.ledger.step();
        Ok(Cursor { epoch: ack.epoch, seq: Seq::ZERO })
    }

    async fn subscribe(&self, member: &Member) -> Result<()> {
        let subscribe = |room: &usize| {
            let room = self.stage.log.rooms[*room].clone();
            async move {
                let status = member.client.subscribe(room.clone(), None).await?;
                ensure!(
                    status.status == Status::Ok,
                    "{} cannot subscribe to {room}: {:?}",
                    member.user,
                    status.status
                );
                self.stage.ledger.step();
                Ok(())
            }
        };
        try_join_all(member.rooms.iter().map(subscribe)).await.map(drop)
    }

    /// Unsubscribes the first subscribed client from a room, as if the subscription had been lost:
    /// the run must fail.
    ///
    /// # Errors
    ///
    /// If the server refuses the command.
    pub(super) async fn drop_a_subscription(&self) -> Result<()> {
        let follows = |member: &&Member| !member.rooms.is_empty();
        let member = self.members.iter().find(follows).context("no client has a subscription")?;
        let room = member.rooms.first().context("the client has no subscription")?;
        Ok(member.client.unsubscribe(self.stage.log.rooms[*room].clone()).await?)
    }

    /// Lets all clients send their lines; returns when all are acked and counted.
    ///
    /// # Errors
    ///
    /// If a client ends, or a send is refused finally.
    pub(super) async fn speak(&mut self) -> Result<()> {
        let mut speaking = JoinSet::new();
        let begin = Instant::now();
        for member in &mut self.members {
            let speaker = Speaker {
                stage: self.stage.clone(),
                user: member.user.clone(),
                client: member.client.clone(),
                begin,
            };
            let (posted, receipts) = mpsc::unbounded_channel();
            speaking.spawn(speaker.clone().post(member.lines.clone(), posted));
            speaking.spawn(speaker.count(receipts));
            if let Some(events) = member.events.take() {
                self.listening.spawn(listen(events));
            }
        }
        loop {
            tokio::select! {
                Some(done) = speaking.join_next() => done??,
                Some(ended) = self.listening.join_next() => ended??,
                else => break,
            }
            if speaking.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Returns the client of the service, which may read every room.
    pub(super) fn service(&self) -> Option<&Client> {
        self.members.last().map(|member| &member.client)
    }

    /// Returns the trace of each client, if there are traces.
    pub(super) fn traces(&self) -> Vec<(UserId, Arc<Trace>)> {
        let traced = |member: &Member| Some((member.user.clone(), member.check.trace()?));
        self.members.iter().filter_map(traced).collect()
    }

    /// Ends all clients.
    pub(super) fn leave(&self) {
        self.members.iter().for_each(|member| member.client.close());
    }
}

/// Reads the events of a client, which the checker has seen before. Fails if the client ends.
async fn listen(mut events: Events) -> Result<()> {
    while let Some(event) = events.next().await {
        if let ClientEvent::Closed { code, message } = event {
            return Err(anyhow!("a client ended: {message} ({code:?})"));
        }
    }
    bail!("a client ended")
}

/// One client while it sends.
#[derive(Clone)]
struct Speaker {
    stage: Stage,
    user: UserId,
    client: Client,
    begin: Instant,
}

/// A send without an ack.
struct Posted {
    line: usize,
    id: MessageId,
    content: Fingerprint,
    delivery: PendingAck,
}

impl Speaker {
    /// Sends the lines in order, as fast as window and pace allow.
    async fn post(self, lines: Vec<usize>, posted: mpsc::UnboundedSender<Posted>) -> Result<()> {
        let log = self.stage.log.clone();
        for nth in lines {
            let line = &log.lines[nth];
            if let Some(speed) = self.stage.speed {
                tokio::time::sleep_until(self.begin + line.due.div_f64(speed)).await;
            }
            let waiting =
                self.post_one(nth, line).await.with_context(|| format!("line {}", line.number))?;
            posted
                .send(waiting)
                .map_err(|_| anyhow!("the counter of the acks of {} has ended", self.user))?;
        }
        Ok(())
    }

    async fn post_one(&self, nth: usize, line: &Line) -> Result<Posted> {
        let room = self.stage.log.rooms[line.room].clone();
        let id = line.message_id(self.stage.seed)?;
        let value = line.content();
        let content =
            Fingerprint::of(&EventKind::message(), &Content::new(&value, &Limits::default())?);
        self.stage.checker.sent(&self.user, &room, &id, content);
        self.stage.ledger.posted();
        let delivery = self.client.post(Message::room(room, value).id(id.clone())).await?;
        Ok(Posted { line: nth, id, content, delivery })
    }

    /// Counts the acks as they arrive.
    async fn count(self, mut posted: mpsc::UnboundedReceiver<Posted>) -> Result<()> {
        while let Some(Posted { line, id, content, delivery }) = posted.recv().await {
            let line = &self.stage.log.lines[line];
            let ack = delivery.await.with_context(|| format!("line {}", line.number))?;
            let at = Cursor { epoch: ack.epoch, seq: ack.seq };
            self.stage.checker.acked(&self.user, &ack.room, &id, content, at);
            self.stage.ledger.count().await;
        }
        Ok(())
    }
}
