//! A slow uplink: messages arrive at a fixed rate, and only whole messages are answered.

use std::collections::VecDeque;

use super::*;
use crate::config::Checkpoints;

/// The client, and its messages in flight.
struct Slow {
    machine: Machine,
    now: Instant,
    /// Bytes a second.
    rate: u32,
    /// Messages that the server has not read, with the times of their complete arrival.
    pipe: VecDeque<(Instant, Bytes)>,
    connects: usize,
    acks: usize,
}

impl Slow {
    fn new(rate: u32) -> Self {
        let config = Config { checkpoints: Checkpoints::Manual, ..Config::default() };
        let (encoding, now) = (Encoding::Json, Instant::now());
        let mut machine = Machine::new(config, encoding, Identity::default(), Saved::default(), 42);
        machine.start(now);
        let mut slow = Self { machine, now, rate, pipe: VecDeque::new(), connects: 0, acks: 0 };
        slow.pump();
        slow
    }

    fn pump(&mut self) {
        while let Some(output) = self.machine.output() {
            match output {
                Output::Connect => {
                    self.connects += 1;
                    self.machine.on_connected();
                }
                // Messages that have not arrived are lost.
                Output::Disconnect => self.pipe.clear(),
                Output::Reply(_, reply) => {
                    reply.unwrap();
                    self.acks += 1;
                }
                Output::Transmit(message) => {
                    let begins = self.pipe.back().map_or(self.now, |(at, _)| (*at).max(self.now));
                    let takes = Duration::from_secs(1) * message.len() as u32 / self.rate;
                    self.pipe.push_back((begins + takes, message));
                }
                Output::FetchToken => unreachable!(),
            }
        }
        while self.machine.event().is_some() {}
    }

    /// The server reads a message and answers it at once.
    fn serve(&mut self, message: &[u8]) {
        for frame in decode(message, Encoding::Json, &Limits::default()).unwrap() {
            let command = Command::from_value(frame).unwrap();
            let reply = match command.body {
                CommandBody::Hello(_) => Reply::Welcome(Box::new(welcome(false))),
                CommandBody::Ping => Reply::Pong(Timestamp::from_millis(1)),
                CommandBody::Send { .. } => append_ack("r", 1),
                other => panic!("not in this model: {other:?}"),
            };
            let reply = encode(&reply.to_value(command.id), Encoding::Json);
            self.machine.on_message(self.now, &reply, &mut |_| {});
            self.pump();
        }
    }

    /// Advances the time to `end`.
    fn until(&mut self, end: Instant) {
        loop {
            let arrives = self.pipe.front().map(|(at, _)| *at);
            let next = [arrives, self.machine.deadline()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if arrives == Some(next) {
                let (_, message) = self.pipe.pop_front().unwrap();
                self.serve(&message);
            } else {
                self.machine.on_time(self.now);
                self.pump();
            }
        }
        self.now = end;
    }

    fn send(&mut self, count: u64, bytes: usize) {
        let body = |n| {
            let CommandBody::Send { to, id, kind, .. } = send("r", n) else { unreachable!() };
            CommandBody::Send { to, id, kind, content: Value::from("x".repeat(bytes)) }
        };
        self.machine.on_commands(self.now, (0..count).map(body).collect());
        self.pump();
    }
}

/// A backlog arrives over one connection, although it takes longer than the limit of silence.
#[test]
fn backlog_arrives_over_slow_uplink() {
    let mut slow = Slow::new(1_500);
    slow.send(70, 1000);
    slow.until(slow.now + Duration::from_secs(90));
    assert_eq!((slow.acks, slow.connects), (70, 1));
}

/// Each connection delivers some of the backlog, however soon it is cut.
#[test]
fn backlog_arrives_through_cuts() {
    let mut slow = Slow::new(1_500);
    slow.send(70, 1000);
    for _ in 0..20 {
        slow.until(slow.now + Duration::from_secs(10));
        slow.machine.on_lost(slow.now, Cause::new(None, "cut"));
        slow.pipe.clear();
        slow.pump();
    }
    assert_eq!(slow.acks, 70);
}

/// A message that takes longer than a heartbeat's time limit is waited for.
#[test]
fn large_message_is_waited_for() {
    let mut slow = Slow::new(600);
    slow.send(1, 32_000);
    slow.until(slow.now + Duration::from_secs(60));
    assert_eq!((slow.acks, slow.connects), (1, 1));
}

/// A connection that stops carrying data is detected as soon as one that never did.
#[test]
fn dead_connection_with_backlog_is_left() {
    let mut slow = Slow::new(1_000_000);
    slow.send(64, 1000);
    slow.until(slow.now + Duration::from_secs(1));
    slow.rate = 1;
    slow.send(1, 100);
    slow.until(slow.now + Duration::from_secs(55));
    assert!(slow.connects > 1);
}
