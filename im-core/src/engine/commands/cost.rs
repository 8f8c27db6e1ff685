//! What commands cost, and who has to pay for them.
//!
//! The unit is a token of the rate limit: what a short `send` costs, which writes a message and its room. Rows that are written
//! one by one cost a token each, rooms that are looked up a quarter, and rows of a page, which lie side by side, a sixteenth. A
//! frame that is refused costs one as well.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::ports::{Payer, Resource};
use crate::wire::CommandBody;

use super::super::config::EngineConfig;
use super::super::connection::Conn;
use super::super::core::Core;
use super::super::metrics;
use super::super::registry::network_of;

/// Rows that each first member of a room is: one found by the room, and one by the user.
pub(crate) const ROWS_PER_MEMBER: usize = 2;

/// Rooms whose head, right to read and state are looked up for a token.
const ROOMS_PER_TOKEN: usize = 4;

/// Rows of a page for a token.
const PAGE_ROWS_PER_TOKEN: u32 = 16;

/// What a command costs, in tokens.
pub(super) fn cost(body: &CommandBody, config: &EngineConfig) -> u32 {
    1 + match body {
        CommandBody::Resume { cursors, .. } | CommandBody::Checkpoint { cursors } => {
            extra_cost(cursors.len())
        }
        CommandBody::Create { members, .. } => tokens(members.len() * ROWS_PER_MEMBER),
        CommandBody::History { limit, .. }
        | CommandBody::Members { limit, .. }
        | CommandBody::Rooms { limit, .. } => page_cost((*limit).clamp(1, config.max_page)),
        CommandBody::Sessions => page_cost(tokens(config.max_sessions_per_user)),
        _ => 0,
    }
}

/// What so many rooms cost that are looked up, in tokens.
pub(crate) fn extra_cost(rooms: usize) -> u32 {
    tokens(rooms / ROOMS_PER_TOKEN)
}

/// What a page of so many rows costs, in tokens.
pub(super) fn page_cost(rows: u32) -> u32 {
    rows / PAGE_ROWS_PER_TOKEN
}

fn tokens(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// What a record of so many bytes counts for against a quota of stored bytes: its keys and its indexes take their place too.
pub(crate) fn stored(bytes: usize) -> u64 {
    bytes as u64 + 128
}

/// Counts against the user's rate.
pub(crate) fn pay(core: &Core, user: &UserId, cost: u32, operation: &'static str) -> Result<()> {
    let slow_down = |wait| Error::of(Code::RateLimited, operation).retry_after(wait);
    core.limiter.take(user, cost, core.now()).map_err(slow_down)
}

/// Counts against the user's rate what a command costs beside the `paid` tokens that it has taken already.
pub(crate) fn pay_more(
    core: &Core,
    user: &UserId,
    paid: u32,
    more: u32,
    operation: &'static str,
) -> Result<()> {
    let slow_down = |wait| Error::of(Code::RateLimited, operation).retry_after(wait);
    core.limiter.charge_more(user, paid, more, core.now()).map_err(slow_down)
}

/// Counts against what the connection's address may use, where that is known.
pub(crate) fn address_quota(
    core: &Core,
    conn: &Conn,
    resource: Resource,
    amount: u64,
) -> Result<()> {
    let Some(address) = conn.address else { return Ok(()) };
    quota(core, Payer::Address(network_of(address)), resource, amount)
}

/// Counts against a quota.
pub(super) fn quota(core: &Core, payer: Payer<'_>, resource: Resource, amount: u64) -> Result<()> {
    core.quotas.take(payer, resource, amount, core.now()).map_err(|wait| {
        let whose = if matches!(payer, Payer::User(_)) { "user" } else { "address" };
        ::metrics::counter!(metrics::QUOTA_REFUSALS, "payer" => whose, "resource" => resource.name())
            .increment(1);
        let words = format!("too many {} of this {whose}; wait", resource.name());
        Error::new(Code::RateLimited, "quota", words).retry_after(wait)
    })
}

/// Whether another command of `cost` tokens may be carried out now, or another frame be looked at. A client that goes on
/// regardless of refusals is cut off in the end.
///
/// The user's rate comes first: a command that it refuses takes of the address, which others share, what a refused frame does.
pub(super) fn allow(core: &Core, conn: &Conn, cost: u32) -> Result<()> {
    let user = conn.session().map(|session| &session.user);
    let paid = user.map_or(Ok(()), |user| pay(core, user, cost, "command"));
    let of_address = if paid.is_ok() { cost } else { 1 };
    let counted = address_quota(core, conn, Resource::Commands, of_address.into());
    if let (Some(user), Ok(()), Err(_)) = (user, &paid, &counted) {
        // What the address may not do now, its user does later.
        core.limiter.refund(user, cost, core.now());
    }
    paid.and(counted).inspect_err(|error| refused(core, conn, error.delay().unwrap_or_default()))
}

/// A frame of a connection without a session was refused. There is no rate to hold it to, so all of them are counted.
pub(super) fn refused_stranger(core: &Core, conn: &Conn) {
    refused(core, conn, core.config.handshake_timeout);
}

/// Refused frames of a client that does not wait, beyond which it is slowed, at least; see [`slowed_from`].
const SLOWED_FROM: u32 = 256;

/// Four times what a client has on its way that keeps to `in_flight`.
fn slowed_from(core: &Core) -> u32 {
    core.config.max_in_flight.saturating_mul(4).max(SLOWED_FROM)
}

/// A frame was refused, and the client was told to wait: counts it, until the client has waited for so long, and closes the
/// connection if it has sent too many meanwhile.
pub(crate) fn refused(core: &Core, conn: &Conn, wait: Duration) {
    let now = core.running();
    // A limiter of the embedder's may say nothing of how long.
    let until = now + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 2).max(1);
    if conn.flood_until.fetch_max(until, Ordering::Relaxed) <= now {
        conn.flood.store(0, Ordering::Relaxed);
    }
    let before = conn.flood.fetch_add(1, Ordering::Relaxed);
    if before >= slowed_from(core) {
        conn.slowed.store(true, Ordering::Relaxed);
    }
    if before >= core.config.max_flood {
        ::metrics::counter!(metrics::FLOODS).increment(1);
        conn.close(Code::RateLimited, Code::RateLimited.meaning());
    }
}

/// A send that was paid for was refused because an earlier one comes first: it costs nothing. Returns how long to wait: as the
/// rate asks for, so that all come through that come again, or `wait`. What it took for storage is returned with its
/// [`Charges`](super::Charges).
pub(crate) fn behind(core: &Core, conn: &Conn, wait: Duration) -> Duration {
    let Some(session) = conn.session() else { return wait };
    // A send costs one token, whatever it says.
    let (cost, now) = (1, core.now());
    if let Some(address) = conn.address {
        let payer = Payer::Address(network_of(address));
        core.quotas.refund(payer, Resource::Commands, cost.into(), now);
    }
    let paced = core.limiter.refund(&session.user, cost, now);
    let wait = if paced.is_zero() { wait } else { paced };
    refused(core, conn, wait);
    wait
}
