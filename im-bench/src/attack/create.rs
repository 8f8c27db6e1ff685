//! Attackers that create rooms with many members at the highest allowed rate: the most expensive
//! command, since each member is a row.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use im_core::wire::{self, Command, CommandBody, Encoding, Limits, RoomKind, ServerFrame};
use im_core::{Code, CommandId, RoomId, UserId};
use tokio_tungstenite::tungstenite::Message;

use super::{At, Setup};
use crate::socket::{Socket, Talker};

/// Options of `im-bench attack create`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Members of each room.
    #[arg(long, default_value_t = 256)]
    members: u32,
    /// Commands in flight of each attacker.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
}

/// The interval in which each attacker must get a room: the limit must not lock a user out.
const ONE_ROOM: Duration = Duration::from_secs(10);

/// The counts of one attacker.
#[derive(Debug, Default)]
struct Got {
    rooms: u64,
    /// Refusals with 4200.
    slowed: u64,
    /// Connections that were closed for the flood.
    closed: u64,
}

/// Attacks until `until`.
pub(super) async fn run(
    options: &Options,
    setup: &Setup,
    server: At,
    until: Instant,
) -> Result<Vec<String>> {
    let begun = Instant::now();
    let attackers: Vec<_> = (0..setup.attackers)
        .map(|nth| tokio::spawn(attack(options.clone(), server, nth, until)))
        .collect();
    let mut got = Vec::new();
    for attacker in attackers {
        got.push(attacker.await??);
    }
    let all = |of: fn(&Got) -> u64| got.iter().map(of).sum::<u64>();
    let least = got.iter().map(|got| got.rooms).min().unwrap_or(0);
    println!(
        "  {} rooms of {} members, {least} for the slowest attacker; {} refused with 4200, {} closed",
        all(|got| got.rooms),
        options.members,
        all(|got| got.slowed),
        all(|got| got.closed)
    );
    let due = begun.elapsed().as_secs() / ONE_ROOM.as_secs();
    let fault = format!("an attacker got {least} rooms; one every {ONE_ROOM:?} is due, {due}");
    Ok(if least < due { vec![fault] } else { Vec::new() })
}

async fn attack(options: Options, server: At, nth: u32, until: Instant) -> Result<Got> {
    let (mut got, mut next, frame) = (Got::default(), 0, Frame::new(options.members)?);
    let user = UserId::new(format!("attacker{nth}"))?;
    while Instant::now() < until {
        let talker = Talker::open_in(Encoding::MsgPack, server, &user, nth as usize + 1).await;
        let Ok(talker) = talker else {
            // `hello` counts against the rate, too.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut attacker =
            Attacker { socket: talker.into_socket(), frame: &frame, nth, next, under_way: 0 };
        let open = attacker.storm(&options, &mut got, until).await?;
        got.closed += u64::from(!open);
        next = attacker.next;
    }
    Ok(got)
}

/// A `create` that is encoded once: the attackers must not use the CPU time of the attacked server.
struct Frame {
    bytes: Vec<u8>,
    /// The offsets of the room's digits and of the command id.
    room: usize,
    id: usize,
}

/// Command ids from here on are five bytes of MessagePack.
const FIRST_ID: u32 = 1 << 16;
/// The placeholder of the room's digits.
const DIGITS: &str = "9999999999999999";

impl Frame {
    fn new(members: u32) -> Result<Self> {
        let member = |n| UserId::new(format!("somebody-{n}"));
        let members = (1..members).map(member).collect::<Result<_, _>>()?;
        let room = RoomId::new(format!("attack-{DIGITS}"))?;
        let body = CommandBody::Create { room, kind: RoomKind::Group, open: false, members };
        let command = Command { id: CommandId(FIRST_ID.into()), body };
        let bytes = wire::encode(&command.to_value(), Encoding::MsgPack).to_vec();
        let find = |what: &[u8]| bytes.windows(what.len()).position(|bytes| bytes == what);
        let room = find(DIGITS.as_bytes()).context("no room in the frame")?;
        let id = find(&FIRST_ID.to_be_bytes()).context("no id in the frame")?;
        Ok(Self { room, id, bytes })
    }

    /// Returns the next frame of the attacker.
    fn of(&self, attacker: u32, next: u32) -> Bytes {
        let mut bytes = self.bytes.clone();
        let digits = format!("{attacker:06}{next:010}");
        bytes[self.room..][..DIGITS.len()].copy_from_slice(digits.as_bytes());
        bytes[self.id..][..4].copy_from_slice(&(FIRST_ID + next).to_be_bytes());
        Bytes::from(bytes)
    }
}

struct Attacker<'a> {
    socket: Socket,
    frame: &'a Frame,
    nth: u32,
    next: u32,
    under_way: u32,
}

impl Attacker<'_> {
    /// Attacks until `until`. Returns whether the connection is still open.
    async fn storm(&mut self, options: &Options, got: &mut Got, until: Instant) -> Result<bool> {
        while Instant::now() < until {
            while self.under_way < options.window {
                if self.post().await.is_err() {
                    return Ok(false);
                }
            }
            let answer = tokio::time::timeout_at(until.into(), self.socket.next()).await;
            match answer {
                Err(_) => return Ok(true),
                Ok(None | Some(Err(_))) => return Ok(false),
                Ok(Some(Ok(Message::Binary(bytes)))) => self.read(&bytes, got)?,
                Ok(Some(Ok(_))) => {}
            }
        }
        Ok(true)
    }

    async fn post(&mut self) -> Result<()> {
        self.next += 1;
        let frame = self.frame.of(self.nth, self.next);
        self.socket.send(Message::Binary(frame)).await.context("sending failed")?;
        self.under_way += 1;
        Ok(())
    }

    fn read(&mut self, bytes: &[u8], got: &mut Got) -> Result<()> {
        for frame in wire::decode(bytes, Encoding::MsgPack, &Limits::default())? {
            match ServerFrame::from_value(frame)? {
                ServerFrame::Ok { .. } => got.rooms += 1,
                ServerFrame::Err(error) if error.code == Code::RateLimited.number() => {
                    got.slowed += 1;
                }
                ServerFrame::Err(error) => {
                    bail!("an attacker was refused: {} ({})", error.message, error.code)
                }
                _ => continue,
            }
            self.under_way = self.under_way.saturating_sub(1);
        }
        Ok(())
    }
}
