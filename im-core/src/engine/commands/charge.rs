//! Charges to quotas, made before it is known whether anything will be stored.

use std::net::IpAddr;
use std::sync::Arc;

use crate::error::Result;
use crate::id::{Seq, UserId};
use crate::ports::{Payer, Resource};
use crate::wire::AppendAck;

use super::super::connection::Conn;
use super::super::core::Core;
use super::super::registry::network_of;
use super::cost::quota;

/// Charges for something that is not stored yet: refunded on drop, unless they are committed.
///
/// So a command that stores nothing uses no quota, whichever way it ends: refused by a later
/// charge, by a hook or by the store, acknowledged as a duplicate, or dropped with its connection.
#[derive(Debug, Default)]
pub(crate) struct Charge(Option<Box<Shares>>);

#[derive(Debug)]
struct Shares {
    core: Arc<Core>,
    shares: Vec<Share>,
}

#[derive(Debug)]
struct Share {
    payer: Owner,
    resource: Resource,
    amount: u64,
}

#[derive(Debug)]
enum Owner {
    Address(IpAddr),
    User(UserId),
}

impl Owner {
    fn payer(&self) -> Payer<'_> {
        match self {
            Self::Address(address) => Payer::Address(*address),
            Self::User(user) => Payer::User(user),
        }
    }
}

impl Charge {
    /// Charges a user.
    pub(super) fn user(
        &mut self,
        core: &Arc<Core>,
        user: &UserId,
        resource: Resource,
        amount: u64,
    ) -> Result<()> {
        self.take(core, || Owner::User(user.clone()), resource, amount)
    }

    /// Charges the connection's address, where it is known.
    pub(super) fn address(
        &mut self,
        core: &Arc<Core>,
        conn: &Conn,
        resource: Resource,
        amount: u64,
    ) -> Result<()> {
        let Some(address) = conn.address else { return Ok(()) };
        self.take(core, || Owner::Address(network_of(address)), resource, amount)
    }

    fn take(
        &mut self,
        core: &Arc<Core>,
        payer: impl FnOnce() -> Owner,
        resource: Resource,
        amount: u64,
    ) -> Result<()> {
        if !core.quotas.limits(resource) {
            return Ok(());
        }
        let share = Share { payer: payer(), resource, amount };
        quota(core, share.payer.payer(), resource, amount)?;
        let held = self.0.get_or_insert_with(|| {
            Box::new(Shares { core: core.clone(), shares: Vec::with_capacity(1) })
        });
        held.shares.push(share);
        Ok(())
    }

    /// Keeps the charges: the operation was stored.
    pub(super) fn commit(mut self) {
        self.0 = None;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Some(held) = self.0.take() else { return };
        let Shares { core, shares } = *held;
        for Share { payer, resource, amount } in shares {
            core.quotas.refund(payer.payer(), resource, amount, core.now());
        }
    }
}

/// The charges of an append.
#[derive(Debug, Default)]
pub(crate) struct Charges {
    /// For the event.
    pub(super) event: Charge,
    /// For the room that it creates, if it does not exist.
    pub(super) room: Charge,
}

impl Charges {
    /// Commits the charges for what the append has stored, and refunds the rest.
    ///
    /// An unknown outcome counts as nothing stored: the client retries the same command, which is
    /// charged then, unless it turns out to be a duplicate.
    pub(crate) fn settle(self, outcome: &Result<AppendAck>) {
        let Ok(ack) = outcome else { return };
        if !ack.duplicate {
            self.event.commit();
            if ack.seq == Seq::FIRST {
                self.room.commit();
            }
        }
    }
}
