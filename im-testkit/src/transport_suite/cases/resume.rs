//! Resume: every later event is delivered, or the status says `gap`, `reset` or `denied`.

use std::collections::HashMap;
use std::sync::Arc;

use im_core::memory::MemoryStore;
use im_core::wire::{CommandBody, MemberAct, ResumeToken, RoomStatus, Status};
use im_core::{Code, Cursor, Epoch, MessageId, RoomId, Seq};

use super::*;

/// The step of a conversation after which the connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Dialled,
    HelloWritten,
    Welcomed,
    SubscribeWritten,
    Subscribed,
    SendWritten,
    SendAnswered,
    OthersPublished,
    EventsRead,
    CheckpointWritten,
    Checkpointed,
    MoreSendsWritten,
    ResumeWritten,
    Resumed,
    SendRetried,
}

const STEPS: [Step; 15] = [
    Step::Dialled,
    Step::HelloWritten,
    Step::Welcomed,
    Step::SubscribeWritten,
    Step::Subscribed,
    Step::SendWritten,
    Step::SendAnswered,
    Step::OthersPublished,
    Step::EventsRead,
    Step::CheckpointWritten,
    Step::Checkpointed,
    Step::MoreSendsWritten,
    Step::ResumeWritten,
    Step::Resumed,
    Step::SendRetried,
];

/// What a client keeps across its connections.
struct Memory {
    token: Option<ResumeToken>,
    rev: Option<u64>,
    /// The cursor of the client, and the last one that the server is known to have stored.
    cursor: Cursor,
    confirmed: Option<Cursor>,
    /// Messages that were written and not acked, in their order.
    pending: Vec<MessageId>,
    /// All messages that were ever written, in their order.
    wrote: Vec<MessageId>,
}

struct Story<F> {
    world: World<F>,
    room: RoomId,
    memory: Memory,
    cut_at: Step,
}

/// A cut at any step loses no event and delivers none twice; all messages are stored once, in
/// order.
pub async fn cut_at_any_step_delivers_once<F: TransportFactory>(shape: Shape) {
    for cut_at in STEPS {
        let world = World::<F>::new(shape).await;
        let room = world.group("r", &["ann", "bob"]).await;
        let cursor = world.head(&room).await;
        let memory = Memory {
            token: None,
            rev: None,
            cursor,
            confirmed: None,
            pending: vec![],
            wrote: vec![],
        };
        Story { world, room, memory, cut_at }.run().await;
    }
}

impl<F: TransportFactory> Story<F> {
    async fn run(mut self) {
        let mut peer = self.world.dial().await;
        self.first_epoch(&mut peer).await;
        peer.cut();
        self.publish("while away").await;
        if self.cut_at >= Step::ResumeWritten {
            let mut peer = self.world.dial().await;
            self.second_epoch(&mut peer).await;
            peer.cut();
            self.publish("while away again").await;
        }
        let mut peer = self.world.dial().await;
        self.come_back(&mut peer).await;
        self.check(&mut peer).await;
    }

    async fn publish(&self, words: &str) {
        let to = im_core::wire::Target::Room(self.room.clone());
        self.world
            .engine()
            .publish(im_core::engine::Publish::text(to, user("bob"), words))
            .await
            .unwrap();
    }

    async fn send(&mut self, peer: &mut Peer) -> im_core::CommandId {
        let id = MessageId::random();
        self.memory.pending.push(id.clone());
        self.memory.wrote.push(id.clone());
        peer.begin(message(&self.room, &id, id.as_str())).await
    }

    async fn first_epoch(&mut self, peer: &mut Peer) {
        if self.cut_at == Step::Dialled {
            return;
        }
        let hello = peer.begin(CommandBody::Hello(Box::new(hello_as("ann")))).await;
        if self.cut_at == Step::HelloWritten {
            return;
        }
        let welcome =
            im_core::wire::Welcome::from_value(peer.answer(hello).await.unwrap()).unwrap();
        self.memory.token = Some(ResumeToken { session: welcome.session, secret: welcome.secret });
        if self.cut_at == Step::Welcomed {
            return;
        }
        let since = Some(self.memory.cursor);
        let subscribe = peer.begin(CommandBody::Subscribe { room: self.room.clone(), since }).await;
        if self.cut_at == Step::SubscribeWritten {
            return;
        }
        let (_, rev, _) =
            RoomStatus::list_from_value(peer.answer(subscribe).await.unwrap()).unwrap();
        (self.memory.rev, self.memory.confirmed) = (Some(rev), since);
        if self.cut_at == Step::Subscribed {
            return;
        }
        let sending = self.send(peer).await;
        if self.cut_at == Step::SendWritten {
            return;
        }
        peer.answer(sending).await.unwrap();
        self.memory.pending.clear();
        if self.cut_at == Step::SendAnswered {
            return;
        }
        self.publish("one").await;
        self.publish("two").await;
        if self.cut_at == Step::OthersPublished {
            return;
        }
        for _ in 0..3 {
            self.read(peer).await;
        }
        if self.cut_at == Step::EventsRead {
            return;
        }
        let cursors = vec![(self.room.clone(), self.memory.cursor)];
        let checkpoint = peer.begin(CommandBody::Checkpoint { cursors }).await;
        if self.cut_at == Step::CheckpointWritten {
            return;
        }
        let fields = peer.answer(checkpoint).await.unwrap();
        self.memory.rev =
            fields.get("rev").and_then(im_core::wire::Value::as_int).map(|rev| rev as u64);
        self.memory.confirmed = Some(self.memory.cursor);
        if self.cut_at == Step::Checkpointed {
            return;
        }
        self.send(peer).await;
        self.send(peer).await;
    }

    /// Resumes once and is cut again at one of the later steps.
    async fn second_epoch(&mut self, peer: &mut Peer) {
        let hello = hello_again("ann", self.memory.token.clone().expect("it was welcomed"));
        let resume = CommandBody::Resume { cursors: self.differing(), rev: self.memory.rev };
        let ids = peer.batch(vec![CommandBody::Hello(Box::new(hello)), resume]).await;
        if self.cut_at == Step::ResumeWritten {
            return;
        }
        peer.answer(ids[0]).await.unwrap();
        let (_, rev, _) = RoomStatus::list_from_value(peer.answer(ids[1]).await.unwrap()).unwrap();
        self.memory.rev = Some(rev);
        if self.cut_at == Step::Resumed {
            return;
        }
        let first = self.memory.pending[0].clone();
        peer.begin(message(&self.room, &first, first.as_str())).await;
    }

    /// The cursors that differ from the server's checkpoint.
    fn differing(&self) -> Vec<(RoomId, Cursor)> {
        let known = self.memory.rev.is_some() && self.memory.confirmed == Some(self.memory.cursor);
        if known { vec![] } else { vec![(self.room.clone(), self.memory.cursor)] }
    }

    async fn come_back(&mut self, peer: &mut Peer) {
        match self.memory.token.clone() {
            Some(token) => assert!(peer.hello(hello_again("ann", token)).await.unwrap().resumed),
            None => _ = peer.welcome_as("ann").await,
        }
        let resumed = match peer.resume(self.differing(), self.memory.rev).await {
            // The server's checkpoint is newer than the client's revision: send all cursors.
            Err(Code::StaleCheckpoint) => {
                peer.resume(vec![(self.room.clone(), self.memory.cursor)], None).await
            }
            resumed => resumed,
        };
        let (statuses, _) = resumed.unwrap();
        assert_eq!(statuses.len(), 1, "cut at {:?}", self.cut_at);
        assert_eq!(statuses[0].status, Status::Ok, "cut at {:?}", self.cut_at);
        for id in std::mem::take(&mut self.memory.pending) {
            peer.say_as(&self.room, &id, id.as_str()).await.unwrap();
        }
    }

    /// Reads one event and drops a redelivery.
    async fn read(&mut self, peer: &mut Peer) {
        let event = peer.event().await;
        assert_eq!(event.epoch, self.memory.cursor.epoch);
        if event.seq > self.memory.cursor.seq {
            assert_eq!(event.seq, self.memory.cursor.seq.next(), "cut at {:?}: a gap", self.cut_at);
            self.memory.cursor.seq = event.seq;
        }
    }

    async fn check(&mut self, peer: &mut Peer) {
        let head = self.world.head(&self.room).await;
        while self.memory.cursor.seq < head.seq {
            self.read(peer).await;
        }
        let said = self.world.said(&self.room).await;
        let own: Vec<String> =
            said.into_iter().filter(|(from, _)| *from == user("ann")).map(|(_, t)| t).collect();
        let wrote: Vec<String> = self.memory.wrote.iter().map(ToString::to_string).collect();
        assert_eq!(
            own, wrote,
            "cut at {:?}: every written message is stored once, in order",
            self.cut_at
        );
    }
}

/// Each cursor of a `resume` gets `ok`, `gap`, `reset` or `denied`, and events continue exactly
/// from the cursor in the answer.
pub async fn cursor_is_answered_whole_or_refused<F: TransportFactory>(shape: Shape) {
    let store = Arc::new(MemoryStore::new().keep_events(10));
    let world = World::<F>::with(shape, Setup { store, ..Setup::default() }).await;
    let mut cursors = Vec::new();
    for name in ["ok", "gap", "ahead", "epoch", "denied", "level"] {
        let r = world.group(name, &["ann", "bob"]).await;
        for n in 0..20 {
            let to = im_core::wire::Target::Room(r.clone());
            let publish = im_core::engine::Publish::text(to, user("ann"), &n.to_string());
            world.engine().publish(publish).await.unwrap();
        }
        cursors.push((r.clone(), world.head(&r).await));
    }
    let other = Epoch { generation: 1, incarnation: 1 };
    let places = [seq(15), seq(4), seq(99), seq(15), seq(15), seq(21)];
    for ((_, cursor), place) in cursors.iter_mut().zip(places) {
        cursor.seq = place;
    }
    cursors[3].1.epoch = other;
    world
        .engine()
        .change_members(&cursors[4].0, &user("ann"), im_core::state::Intent::Remove(user("bob")))
        .await
        .unwrap();
    cursors.push((room("nowhere"), Cursor { epoch: other, seq: seq(1) }));
    let mut bob = world.peer("bob").await;
    let (statuses, _) = bob.resume(cursors.clone(), None).await.unwrap();
    let of = |name: &str| statuses.iter().find(|status| status.room == room(name)).unwrap();
    let brief = |name: &str| {
        (of(name).status, of(name).cursor.map(|cursor| cursor.seq.get()), of(name).code)
    };
    assert_eq!(brief("ok"), (Status::Ok, Some(15), None));
    assert_eq!(brief("level"), (Status::Ok, Some(21), None));
    assert_eq!(brief("gap"), (Status::Gap, Some(11), None));
    assert_eq!(brief("ahead"), (Status::Reset, Some(21), None));
    assert_eq!(brief("epoch"), (Status::Reset, Some(21), None));
    assert_eq!(brief("denied"), (Status::Denied, None, Some(Code::NotFound.number())));
    assert_eq!(brief("nowhere"), (Status::Denied, None, Some(Code::NotFound.number())));
    // Events continue after the cursor of each answer.
    let mut next =
        HashMap::from([("ok", 16), ("gap", 12), ("ahead", 22), ("epoch", 22), ("level", 22)]);
    read_on(&mut bob, &mut next, 6 + 10).await;
    for name in ["ok", "gap", "ahead", "epoch", "level"] {
        world.engine().publish(last_words(&room(name))).await.unwrap();
    }
    read_on(&mut bob, &mut next, 5).await;
    assert!(next.values().all(|next| *next == 23), "{next:?}");
}

/// Reads `count` events, each of which must be the next one of its room.
async fn read_on(peer: &mut Peer, next: &mut HashMap<&str, u64>, count: usize) {
    for _ in 0..count {
        let event = peer.event().await;
        let expected = next.get_mut(event.room.as_str()).expect("an event of an accessible room");
        assert_eq!(event.seq, seq(*expected), "{}", event.room);
        *expected += 1;
    }
}

fn last_words(room: &RoomId) -> im_core::engine::Publish {
    im_core::engine::Publish::text(
        im_core::wire::Target::Room(room.clone()),
        user("ann"),
        "last words",
    )
}

/// `subscribe` with a cursor is answered as `resume` would: `ok` from the cursor, or `reset`.
pub async fn subscribe_with_cursor_equals_resume<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    ann.say(&r, "2").await.unwrap();
    ann.say(&r, "3").await.unwrap();
    let head = world.head(&r).await;
    let ahead = ann.subscribe(&r, Some(Cursor { seq: seq(9), ..head })).await.unwrap();
    assert_eq!((ahead.status, ahead.cursor), (Status::Reset, Some(head)));
    let start = Cursor { seq: Seq::ZERO, ..head };
    let from_start = ann.subscribe(&r, Some(start)).await.unwrap();
    assert_eq!(
        (from_start.status, from_start.cursor, from_start.head),
        (Status::Ok, Some(start), head.seq)
    );
    for n in 1..=3 {
        assert_eq!(ann.event().await.seq, seq(n));
    }
    assert_eq!(ann.subscribe(&room("nowhere"), None).await.unwrap_err(), Code::NotFound);
}

/// A thousand rooms resume from the checkpoint in one message; only new events are delivered.
pub async fn thousand_rooms_resume_in_one_message<F: TransportFactory>(shape: Shape) {
    const ROOMS: usize = 1000;
    const NEWS: usize = 7;
    let world = World::<F>::new(shape).await;
    let mut ann = world.peer("ann").await;
    let mut cursors = Vec::new();
    for n in 0..ROOMS {
        let r = world.group(&format!("room-{n}"), &["ann"]).await;
        cursors.push((r.clone(), world.head(&r).await));
    }
    let mut rev = 0;
    for part in cursors.chunks(400) {
        let (statuses, new) = ann.resume(part.to_vec(), None).await.unwrap();
        assert_eq!(statuses.len(), part.len());
        rev = new;
    }
    ann.settled().await;
    let token = ann.token();
    ann.cut();
    for (r, _) in cursors.iter().step_by(ROOMS / NEWS + 1) {
        world.engine().publish(last_words(r)).await.unwrap();
    }
    let mut ann = world.dial().await;
    let hello = CommandBody::Hello(Box::new(hello_again("ann", token)));
    // Only one room differs from the checkpoint.
    let differing = vec![cursors[0].clone()];
    let ids =
        ann.batch(vec![hello, CommandBody::Resume { cursors: differing, rev: Some(rev) }]).await;
    ann.answer(ids[0]).await.unwrap();
    let (statuses, _, _) = RoomStatus::list_from_value(ann.answer(ids[1]).await.unwrap()).unwrap();
    assert_eq!(statuses.len(), ROOMS);
    assert!(statuses.iter().all(|status| status.status == Status::Ok));
    let mut heard = Vec::new();
    for _ in 0..NEWS {
        heard.push(ann.event().await.room.clone());
    }
    heard.sort();
    let mut expected: Vec<RoomId> =
        cursors.iter().step_by(ROOMS / NEWS + 1).map(|(r, _)| r.clone()).collect();
    expected.sort();
    assert_eq!(heard, expected);
}

/// A `resume` with another revision than the stored one is refused; the right one continues.
pub async fn stale_checkpoint_is_refused<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    let start = ann.subscribe(&r, None).await.unwrap().cursor.unwrap();
    let (_, rev) = ann.resume(vec![(r.clone(), start)], None).await.unwrap();
    ann.settled().await;
    let token = ann.token();
    ann.cut();
    for wrong in [rev - 1, rev + 1] {
        let mut again = world.dial().await;
        let welcome = again.hello(hello_again("ann", token.clone())).await.unwrap();
        assert_eq!(welcome.rev, rev);
        assert_eq!(again.resume(vec![], Some(wrong)).await.unwrap_err(), Code::StaleCheckpoint);
        again.cut();
    }
    let mut again = world.dial().await;
    again.hello(hello_again("ann", token)).await.unwrap();
    assert!(again.resume(vec![], Some(rev)).await.is_ok());
    again.say(&r, "hello").await.unwrap();
    assert_eq!(again.heard().await, "hello");
}

/// After a reconnect, delivery continues after the confirmed cursor, not after the last delivered
/// event.
pub async fn checkpoint_sets_resume_position<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    let start = ann.subscribe(&r, None).await.unwrap().cursor.unwrap();
    for n in 2..=5 {
        ann.say(&r, &n.to_string()).await.unwrap();
    }
    for n in 2..=5 {
        assert_eq!(ann.event().await.seq, seq(n));
    }
    let rev = ann.checkpoint(vec![(r.clone(), Cursor { seq: seq(3), ..start })]).await.unwrap();
    let token = ann.token();
    ann.cut();
    let mut again = world.dial().await;
    again.hello(hello_again("ann", token)).await.unwrap();
    let (statuses, _) = again.resume(vec![], Some(rev)).await.unwrap();
    assert_eq!(statuses[0].cursor.map(|cursor| cursor.seq), Some(seq(3)));
    assert_eq!(again.event().await.seq, seq(4));
    assert_eq!(again.event().await.seq, seq(5));
}

/// A confirmed cursor beyond what was delivered skips no event.
pub async fn checkpoint_beyond_delivered_is_ignored<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    let start = ann.subscribe(&r, None).await.unwrap().cursor.unwrap();
    let rev = ann.checkpoint(vec![(r.clone(), Cursor { seq: seq(1000), ..start })]).await.unwrap();
    let token = ann.token();
    ann.cut();
    world.engine().publish(last_words(&r)).await.unwrap();
    let mut again = world.dial().await;
    again.hello(hello_again("ann", token)).await.unwrap();
    again.resume(vec![], Some(rev)).await.unwrap();
    assert_eq!(again.heard().await, "last words");
}

/// A user banned while disconnected gets `denied` on resume.
pub async fn membership_is_checked_again_on_resume<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    bob.subscribe(&r, None).await.unwrap();
    let (statuses, rev) = bob.resume(vec![(r.clone(), world.head(&r).await)], None).await.unwrap();
    assert_eq!(statuses[0].status, Status::Ok);
    bob.settled().await;
    let token = bob.token();
    bob.cut();
    ann.member(&r, "bob", MemberAct::Ban).await.unwrap();
    ann.say(&r, "about bob").await.unwrap();
    let mut bob = world.dial().await;
    bob.hello(hello_again("bob", token)).await.unwrap();
    let (statuses, _) = bob.resume(vec![], Some(rev)).await.unwrap();
    assert_eq!(
        (statuses[0].status, statuses[0].code),
        (Status::Denied, Some(Code::Banned.number()))
    );
}

/// A subscription over the bound per session is refused with 4508 until another one ends.
pub async fn rooms_per_session_are_bounded<F: TransportFactory>(shape: Shape) {
    let config = EngineConfig::default().max_rooms_per_session(2);
    let world = World::<F>::with(shape, Setup { config, ..Setup::default() }).await;
    let mut ann = world.peer("ann").await;
    let mut cursors = Vec::new();
    for name in ["a", "b", "c"] {
        let r = world.group(name, &["ann"]).await;
        cursors.push((r.clone(), world.head(&r).await));
    }
    assert_eq!(ann.resume(cursors.clone(), None).await.unwrap_err(), Code::TooMany);
    ann.subscribe(&cursors[0].0, None).await.unwrap();
    ann.subscribe(&cursors[1].0, None).await.unwrap();
    assert_eq!(ann.subscribe(&cursors[2].0, None).await.unwrap_err(), Code::TooMany);
    ann.ask(CommandBody::Unsubscribe { room: cursors[0].0.clone() }).await.unwrap();
    assert!(ann.subscribe(&cursors[2].0, None).await.is_ok());
}

/// An unsubscribed room delivers nothing more; other rooms continue.
pub async fn unsubscribed_room_is_quiet<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let (r, other) = (world.group("r", &["ann"]).await, world.group("other", &["ann"]).await);
    let mut ann = world.peer("ann").await;
    ann.subscribe(&r, None).await.unwrap();
    ann.subscribe(&other, None).await.unwrap();
    ann.ask(CommandBody::Unsubscribe { room: r.clone() }).await.unwrap();
    ann.say(&r, "unheard").await.unwrap();
    ann.say(&other, "heard").await.unwrap();
    assert_eq!(ann.heard().await, "heard");
}
