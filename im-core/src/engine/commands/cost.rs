//! The cost of commands, and who is charged.
//!
//! The unit is a token of the rate limit: the cost of a short `send`, which writes a message and
//! its room. Rows written one by one cost a token each, rooms looked up a quarter, and rows of a
//! page, which are adjacent, a sixteenth. A refused frame costs a token as well.

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

/// Rows per first member of a room: one found by the room, and one by the user.
pub(crate) const ROWS_PER_MEMBER: usize = 2;

/// Rooms whose head, access and state are looked up per token.
const ROOMS_PER_TOKEN: usize = 4;

/// Rows of a page per token.
const PAGE_ROWS_PER_TOKEN: u32 = 16;

/// The cost of a command, in tokens.
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

/// The cost of looking up `rooms` rooms, in tokens.
pub(crate) fn extra_cost(rooms: usize) -> u32 {
    tokens(rooms / ROOMS_PER_TOKEN)
}

/// The cost of a page of `rows` rows, in tokens.
pub(super) fn page_cost(rows: u32) -> u32 {
    rows / PAGE_ROWS_PER_TOKEN
}

fn tokens(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Bytes charged for a stored record: its keys and indexes occupy space too.
pub(crate) fn stored(bytes: usize) -> u64 {
    bytes as u64 + 128
}

/// Charges the user's rate limit.
pub(crate) fn pay(core: &Core, user: &UserId, cost: u32, operation: &'static str) -> Result<()> {
    let slow_down = |wait| Error::of(Code::RateLimited, operation).retry_after(wait);
    core.limiter.take(user, cost, core.now()).map_err(slow_down)
}

/// Charges the user's rate limit with the cost of a command beyond the `paid` tokens that it was
/// charged already.
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

/// Charges the quota of the connection's address, where it is known.
pub(crate) fn address_quota(
    core: &Core,
    conn: &Conn,
    resource: Resource,
    amount: u64,
) -> Result<()> {
    let Some(address) = conn.address else { return Ok(()) };
    quota(core, Payer::Address(network_of(address)), resource, amount)
}

/// Charges a quota.
pub(super) fn quota(core: &Core, payer: Payer<'_>, resource: Resource, amount: u64) -> Result<()> {
    core.quotas.take(payer, resource, amount, core.now()).map_err(|wait| {
        let whose = if matches!(payer, Payer::User(_)) { "user" } else { "address" };
        ::metrics::counter!(metrics::QUOTA_REFUSALS, "payer" => whose, "resource" => resource.name())
            .increment(1);
        let words = format!("too many {} of this {whose}; wait", resource.name());
        Error::new(Code::RateLimited, "quota", words).retry_after(wait)
    })
}

/// Checks whether another command of `cost` tokens may be executed now, or another frame parsed. A
/// client that keeps sending after refusals is disconnected in the end.
///
/// The user's rate is checked first: a command that it refuses costs the address, which other users
/// share, no more than a refused frame.
pub(super) fn allow(core: &Core, conn: &Conn, cost: u32) -> Result<()> {
    let user = conn.session().map(|session| &session.user);
    let paid = user.map_or(Ok(()), |user| pay(core, user, cost, "command"));
    let of_address = if paid.is_ok() { cost } else { 1 };
    let counted = address_quota(core, conn, Resource::Commands, of_address.into());
    if let (Some(user), Ok(()), Err(_)) = (user, &paid, &counted) {
        // A command refused by the address quota is not charged to its user.
        core.limiter.refund(user, cost, core.now());
    }
    paid.and(counted).inspect_err(|error| refused(core, conn, error.delay().unwrap_or_default()))
}

/// Counts a refused frame of a connection without a session. There is no rate for it, so all of
/// them count.
pub(super) fn refused_stranger(core: &Core, conn: &Conn) {
    refused(core, conn, core.config.handshake_timeout);
}

/// Minimum number of refused frames of a client that does not wait after which it is slowed; see
/// [`slowed_from`].
const SLOWED_FROM: u32 = 256;

/// Four times the frames in flight of a client that respects `in_flight`.
fn slowed_from(core: &Core) -> u32 {
    core.config.max_in_flight.saturating_mul(4).max(SLOWED_FROM)
}

/// Counts a refused frame whose client was told to wait. The count restarts when the client has
/// waited so long; the connection is closed if it sent too many meanwhile.
pub(crate) fn refused(core: &Core, conn: &Conn, wait: Duration) {
    let now = core.running();
    // A limiter of the embedder may return no delay.
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

/// Refunds a charged send that was refused because an earlier one must be retried first. Returns
/// the time to wait: the rate limit's, so that all retries are accepted, or `wait`. The charge for
/// storage is refunded with its [`Charges`](super::Charges).
pub(crate) fn behind(core: &Core, conn: &Conn, wait: Duration) -> Duration {
    let Some(session) = conn.session() else { return wait };
    // A send costs one token, whatever its content.
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
