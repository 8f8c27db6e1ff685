//! Commands outside the log: ephemeral messages, and latest-wins state.

use std::sync::Arc;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{EventKind, RoomId, StateKey, UserId};
use crate::ports::{Action, BusMessage, Resource, Verdict};
use crate::state::Merge;
use crate::time::Stamp;
use crate::wire::{Content, Push, Reply, Signal, StateUpdate, Target, Value};

use super::super::connection::Session;
use super::super::core::{Core, check_read};
use super::super::metrics;
use super::super::outgoing::Outgoing;
use super::charge::Charge;
use super::cost::stored;

pub(super) async fn signal(
    core: &Arc<Core>,
    session: &Session,
    to: Target,
    kind: EventKind,
    content: &Value,
) -> Result<Reply> {
    if kind.is_reserved() {
        return Err(Error::new(
            Code::Forbidden,
            "signal",
            "kinds that begin with im. are the server's own",
        ));
    }
    let content = checked(core, content)?;
    let action = Action::Signal { to: to.clone(), kind: kind.clone() };
    let verdict = core.ask(&session.identity(), &action).await?;
    let to = match to {
        Target::Peer(peer) => Target::Room(RoomId::direct(&session.user, &peer)),
        other => other,
    };
    match &to {
        Target::Room(room) => may_write(core, room, &session.user, &verdict).await?,
        _ if verdict == Verdict::Allow => {}
        _ => return Err(not_to_users("signal")),
    }
    let signal = Signal { to, from: session.user.clone(), at: core.now(), kind, content };
    send_signal(core, Arc::new(signal));
    Ok(Reply::Done)
}

/// The refusal of a message to a user that no hook has allowed.
pub(super) fn not_to_users(operation: &'static str) -> Error {
    Error::new(Code::Forbidden, operation, "what is sent to a user needs the server's leave")
}

fn checked(core: &Core, value: &Value) -> Result<Content> {
    Content::new(value, &core.config.limits)
        .map_err(|e| Error::new(e.code(), "content", e.to_string()))
}

async fn may_write(core: &Core, room: &RoomId, user: &UserId, verdict: &Verdict) -> Result<()> {
    let (record, membership) = core.rights(room, user).await?;
    let record = record.ok_or_else(|| Error::of(Code::NotFound, "write"))?;
    if *verdict == Verdict::Allow || record.may_write(membership) {
        return Ok(());
    }
    // A non-member learns as much as by reading: not whether the room exists.
    check_read(&record, user, membership, verdict)?;
    Err(Error::of(Code::Forbidden, "write"))
}

fn send_signal(core: &Arc<Core>, signal: Arc<Signal>) {
    deliver_signal(core, &signal);
    core.publish(BusMessage::Signal(signal));
}

/// Delivers an ephemeral message on this node.
pub(crate) fn deliver_signal(core: &Core, signal: &Arc<Signal>) {
    match &signal.to {
        Target::Room(room) => {
            if let Some(room) = core.hub.get(room) {
                room.signal(&Outgoing::new(Push::Signal(signal.clone())));
            }
        }
        Target::User(user) => {
            let item = Outgoing::new(Push::Signal(signal.clone()));
            core.registry.of_user(user).iter().for_each(|conn| conn.outbox.signal(item.clone()));
        }
        // A peer was resolved to a room when the message was sent, since that needs the sender.
        Target::Peer(_) => {}
    }
}

impl Core {
    /// Sends an ephemeral message, here and on the other nodes.
    pub(crate) fn signal(self: &Arc<Self>, signal: Signal) {
        send_signal(self, Arc::new(signal));
    }
}

pub(super) async fn change_state(
    core: &Arc<Core>,
    session: &Session,
    room: RoomId,
    key: StateKey,
    value: Option<Value>,
    stamp: Option<Stamp>,
) -> Result<Reply> {
    let value = value.map(|value| checked(core, &value)).transpose()?;
    check_stamp(core, stamp)?;
    let action =
        Action::PutState { room: room.clone(), key: key.clone(), stamped: stamp.is_some() };
    let verdict = core.ask(&session.identity(), &action).await?;
    may_write(core, &room, &session.user, &verdict).await?;
    let bytes = key.as_str().len() + value.as_ref().map_or(0, |value| value.packed().len());
    let mut charge = Charge::default();
    charge.user(core, &session.user, Resource::Bytes, stored(bytes))?;
    let stamp = put_state(core, room, key, value, session.user.clone(), stamp).await?;
    charge.commit();
    Ok(Reply::Applied(stamp))
}

/// Refuses stamps too far ahead: they would win over all other writes until their time has come.
pub(crate) fn check_stamp(core: &Core, stamp: Option<Stamp>) -> Result<()> {
    let most = core.now().plus(core.config.max_stamp_ahead);
    if stamp.is_some_and(|stamp| stamp.ms > most) {
        Err(Error::of(Code::StampAhead, "put_state"))
    } else {
        Ok(())
    }
}

/// Merges a state update into its room, fans it out, and queues it for the store.
pub(crate) async fn put_state(
    core: &Arc<Core>,
    room: RoomId,
    key: StateKey,
    value: Option<Content>,
    from: UserId,
    stamp: Option<Stamp>,
) -> Result<Stamp> {
    if core.stopped.is_cancelled() {
        return Err(Error::of(Code::Draining, "put_state"));
    }
    if !core.state_writer.has_room() {
        return Err(Error::of(Code::Overloaded, "put_state"));
    }
    let live = core.activate(&room).await?;
    // Held until the update waits for the store: a read after an eviction then finds it there.
    let hold = core.hold_state(&live).await;
    let hold = hold.inspect_err(|_| core.hub.retire_if_idle(&live))?;
    if let Some(held) = live.state_of(&key) {
        core.stamps.lock().observe(held.stamp);
    }
    let stamp = match stamp {
        Some(stamp) => {
            core.stamps.lock().observe(stamp);
            stamp
        }
        None => core.stamp(),
    };
    let update = Arc::new(StateUpdate { room, key, stamp, from, value });
    // A held state is not evicted.
    let merged = live.merge(update.clone(), &core.config.state).unwrap_or(Merge::Stale);
    if merged == Merge::Applied {
        core.state_writer.push(update.clone());
        // If the room was retired and loaded again meanwhile, its new subscribers receive the
        // update as well.
        if let Some(now) = core.hub.get(&update.room).filter(|now| !Arc::ptr_eq(now, &live)) {
            core.merge_remote(now, update.clone());
        }
        core.publish(BusMessage::State(update));
    }
    drop(hold);
    core.hub.evict_state();
    core.hub.retire_if_idle(&live);
    match merged {
        Merge::Applied => Ok(stamp),
        Merge::Stale => {
            ::metrics::counter!(metrics::STALE_STATE).increment(1);
            Err(Error::of(Code::Stale, "put_state"))
        }
        Merge::Full => {
            Err(Error::new(Code::TooMany, "put_state", "the room has reached its maximum of state"))
        }
    }
}
