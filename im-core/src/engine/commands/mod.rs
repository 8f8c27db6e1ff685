//! Execution of commands, one after the other for each connection. Each sees the effects of those
//! before it; appends are queued at a shard and acknowledged from there, so that a client may send
//! many without waiting.
//!
//! | module | commands |
//! |---|---|
//! | `session` | hello, refresh, logout, sessions, kick, ticket |
//! | `append` | send, create, join, leave, member |
//! | `read` | subscribe, unsubscribe, resume, checkpoint, history, members, rooms |
//! | `live` | signal, put_state, remove_state |
//!
//! `cost` has the cost of each command; `charge` refunds quotas for what is not stored.

mod append;
mod charge;
mod cost;
mod live;
mod read;
mod session;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::coop::consume_budget;
use tokio::time::sleep;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::CommandId;
use crate::wire::{Command, CommandBody, ListRoom, Reply, Value, WireError, decode, encode};

use super::connection::{Conn, Session};
use super::core::Core;
use super::metrics;

pub(crate) use append::{direct_seed, inbox_seed, submitted};
pub(crate) use charge::Charges;
use cost::page_cost;
pub(crate) use cost::{ROWS_PER_MEMBER, address_quota, behind, extra_cost, pay, pay_more, stored};
pub(crate) use live::{check_stamp, deliver_signal, put_state};
pub(crate) use read::{LOOK_UPS_AT_ONCE, ROOMS_IN_A_SLICE, end_subscription};

/// Pause in reading a connection after each refused frame of a flood: 100 a second are refused,
/// which costs next to nothing, and other connections are not affected.
const PAUSE_IN_A_FLOOD: Duration = Duration::from_millis(10);

/// Bytes of messages and pages that count as one read or write of a socket.
const BYTES_OF_A_UNIT: usize = 64;
/// Reads and writes that tokio allows a task in one turn. 8 KiB of commands take some 0.1 ms of a
/// core.
const UNITS_OF_A_TURN: usize = 128;

/// The outcome of a command.
enum Outcome {
    /// This is the ack.
    Reply(Reply),
    /// This is the ack, encoded.
    Encoded(Bytes),
    /// A shard sends the ack.
    Later,
    /// The ack was sent already.
    Answered,
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Self::new(error.code, "frame", error.message)
    }
}

/// Processes one message of a connection.
pub(super) async fn message(core: &Arc<Core>, conn: &Arc<Conn>, message: Bytes) {
    if let Some(frames) = decoded(core, conn, &message) {
        each(core, conn, frames).await;
    }
}

/// Decodes the frames of a message. A message that cannot be decoded ends the connection.
pub(super) fn decoded(core: &Core, conn: &Conn, message: &[u8]) -> Option<Vec<Value>> {
    conn.work.fetch_add(message.len(), Ordering::Relaxed);
    match decode(message, conn.encoding, &core.config.limits) {
        Ok(frames) => Some(frames),
        Err(error) => {
            conn.close(error.code, error.message);
            None
        }
    }
}

/// Executes the frames of a message, each once there is capacity for its ack.
pub(super) async fn each(core: &Arc<Core>, conn: &Arc<Conn>, frames: Vec<Value>) {
    for frame in frames {
        conn.outbox.admit().await;
        if conn.outbox.is_closed() {
            return;
        }
        let greets = conn.session().is_none() && is_hello(&frame);
        match Command::from_value(frame) {
            Ok(command) => self::command(core, conn, command).await,
            Err((id, error)) => {
                if greets {
                    conn.refuse_hello(Code::OutOfOrder);
                }
                refuse_frame(core, conn, id, &error.into());
            }
        }
        yield_if_due(conn).await;
        if conn.slowed.swap(false, Ordering::Relaxed) {
            sleep(PAUSE_IN_A_FLOOD).await;
        }
    }
}

/// Charges the connection's messages and pages to its task's turn. Refusals, and pages of a store
/// in memory, never wait: without this the task would run as long as there are frames. It is the
/// scheduler's own budget, so the task's other futures do not run either before other tasks had
/// their turn.
async fn yield_if_due(conn: &Conn) {
    let units = conn.work.swap(0, Ordering::Relaxed) / BYTES_OF_A_UNIT;
    for _ in 0..units.min(UNITS_OF_A_TURN) {
        consume_budget().await;
    }
}

fn is_hello(frame: &Value) -> bool {
    frame.get("t").and_then(Value::as_text) == Some("hello")
}

/// Sends the error ack of a frame that is not a command. It costs as much as a command.
fn refuse_frame(core: &Core, conn: &Conn, id: Option<CommandId>, error: &Error) {
    let allowed = cost::allow(core, conn, 1);
    if conn.session().is_none() {
        cost::refused_stranger(core, conn);
    }
    refuse(core, conn, id, allowed.as_ref().err().unwrap_or(error));
}

async fn command(core: &Arc<Core>, conn: &Arc<Conn>, command: Command) {
    let Command { id, body } = command;
    ::metrics::counter!(metrics::COMMANDS, "command" => body.name()).increment(1);
    let outcome = match (conn.session(), body) {
        (None, CommandBody::Hello(hello)) => session::hello(core, conn, id, *hello).await,
        (None, _) => return refuse_unknown(core, conn, id),
        (Some(_), CommandBody::Hello(_)) => {
            cost::allow(core, conn, 1).and(Err(Error::of(Code::OutOfOrder, "hello")))
        }
        (Some(session), body) => {
            let allowed = cost::allow(core, conn, cost::cost(&body, &core.config));
            carry_out(core, conn, session, id, body, allowed).await
        }
    };
    match outcome {
        Ok(Outcome::Reply(reply)) => conn.outbox.ack(encode(&reply.to_value(id), conn.encoding)),
        Ok(Outcome::Encoded(reply)) => {
            conn.work.fetch_add(reply.len(), Ordering::Relaxed);
            conn.outbox.ack(reply);
        }
        Ok(Outcome::Later | Outcome::Answered) => {}
        Err(error) => refuse(core, conn, Some(id), &error),
    }
}

/// Refuses a command before the handshake. Behind a refused `hello` that may be retried, the
/// connection stays open; otherwise the client violates the protocol, and the connection ends.
fn refuse_unknown(core: &Core, conn: &Conn, id: CommandId) {
    let code = conn.hello_refused();
    refuse(core, conn, Some(id), &Error::of(code.unwrap_or(Code::OutOfOrder), "command"));
    match code {
        Some(_) => cost::refused_stranger(core, conn),
        None => conn.close(Code::OutOfOrder, Code::OutOfOrder.meaning()),
    }
}

fn refuse(core: &Core, conn: &Conn, id: Option<CommandId>, error: &Error) {
    conn.outbox.ack(encode(&core.refusal(id, error).to_value(), conn.encoding));
}

async fn carry_out(
    core: &Arc<Core>,
    conn: &Arc<Conn>,
    session: &Session,
    id: CommandId,
    body: CommandBody,
    allowed: Result<()>,
) -> Result<Outcome> {
    let at = append::At { core, conn, session, id };
    let body = match body {
        CommandBody::Send { to, id, kind, content } => {
            return at.send(append::Sending { to, id, kind, content }, allowed).await;
        }
        body => allowed.map(|()| body)?,
    };
    match body {
        CommandBody::Create { room, kind, open, members } => {
            return at.create(room, kind, open, members).await;
        }
        CommandBody::Join { room } => return at.join(room).await,
        CommandBody::Leave { room } => return at.leave(room).await,
        CommandBody::Member { room, user, act } => return at.member(room, user, act).await,
        CommandBody::Ping => return Ok(Outcome::Reply(Reply::Pong(core.now()))),
        _ => {}
    }
    // The commands below must see the effects of the appends before them.
    conn.outbox.appends_settled().await;
    let _reserved = core.acks.reserve_for(&body, &core.config).await?;
    let page = ListRoom { encoding: conn.encoding, max_bytes: core.config.max_page_bytes };
    let reply = match body {
        CommandBody::Subscribe { room, since } => {
            return read::subscribe(core, conn, session, id, room, since).await;
        }
        CommandBody::Resume { cursors, rev } => {
            return read::resume(core, conn, session, id, cursors, rev).await;
        }
        CommandBody::Logout => return session::logout(core, conn, session, id).await,
        CommandBody::Unsubscribe { room } => read::unsubscribe(core, conn, session, room).await?,
        CommandBody::Checkpoint { cursors } => {
            read::checkpoint(core, conn, session, cursors).await?
        }
        CommandBody::History { room, epoch, from, limit } => {
            let asked = read::Asking { room, epoch, from, limit };
            return Ok(Outcome::Encoded(read::history(core, session, id, &asked, page).await?));
        }
        CommandBody::Members { room, after, limit } => {
            let (members, more) = read::members(core, session, &room, after, limit).await?;
            let _turn = core.acks.turn_to_encode().await;
            return Ok(Outcome::Encoded(page.members(id, &members, more)));
        }
        CommandBody::Rooms { after, limit } => {
            let (rooms, more) = read::rooms(core, session, after, limit).await?;
            let _turn = core.acks.turn_to_encode().await;
            return Ok(Outcome::Encoded(page.rooms(id, &rooms, more)));
        }
        CommandBody::Signal { to, kind, content } => {
            live::signal(core, session, to, kind, &content).await?
        }
        CommandBody::PutState { room, key, value, stamp } => {
            live::change_state(core, session, room, key, Some(value), stamp).await?
        }
        CommandBody::RemoveState { room, key, stamp } => {
            live::change_state(core, session, room, key, None, stamp).await?
        }
        CommandBody::Ticket => session::ticket(core, session).await?,
        CommandBody::Refresh { token } => session::refresh(core, session, token).await?,
        CommandBody::Sessions => session::list(core, &session.user).await.map(Reply::Sessions)?,
        CommandBody::Kick { session: other } => session::kick(core, session, &other).await?,
        // Handled above.
        _ => return Err(Error::of(Code::UnknownKind, "command")),
    };
    Ok(Outcome::Reply(reply))
}

pub(crate) use read::history_page;
pub(crate) use session::{
    attach, authenticate_owner, check_connection_limit, end_sessions, list as list_sessions, prove,
    redeem, server_limits, spend, take_over, unknown,
};
