//! Quotas of addresses and users.

use std::net::IpAddr;
use std::time::Duration;

use crate::id::UserId;
use crate::time::Timestamp;

use super::allowance::{Allowance, Buckets};

/// The party that is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payer<'a> {
    /// An address (of IPv6, one /64), whichever users connect from it.
    Address(IpAddr),
    /// A user, on whichever address.
    User(&'a UserId),
}

/// The resource that is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// New sessions. Charged to an address.
    Sessions,
    /// Rooms created by `create`, and direct rooms created by their first message. Charged to an
    /// address and to a user.
    Rooms,
    /// Connections, requests and frames, including refused ones. Charged to an address.
    Commands,
    /// Bytes of contents, memberships and state that are stored, with some 128 for each record.
    /// Charged to a user.
    Bytes,
}

impl Resource {
    /// Its name in metrics and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Rooms => "rooms",
            Self::Commands => "commands",
            Self::Bytes => "bytes",
        }
    }
}

/// Bounds the use of one address and one user, beside the [`RateLimiter`](super::RateLimiter).
///
/// None by default ([`NoQuotas`]): an embedder that knows its users needs none, and behind a proxy
/// addresses say little. Use beyond a quota is refused with
/// [`Code::RateLimited`](crate::Code::RateLimited) and the time to wait.
pub trait Quotas: Send + Sync {
    /// Charges `amount` to the payer at `now`. Never waits itself.
    ///
    /// # Errors
    ///
    /// The time until the amount is available.
    fn take(
        &self,
        payer: Payer<'_>,
        resource: Resource,
        amount: u64,
        now: Timestamp,
    ) -> Result<(), Duration>;

    /// Refunds the charge of an operation that was not done.
    ///
    /// These are: sessions, rooms and bytes of which nothing was stored, since the store or another
    /// bound refused the command or it was a duplicate; and the command itself if it was refused
    /// because an earlier send must be retried first
    /// ([`Code::SenderOrder`](crate::Code::SenderOrder)). An unknown outcome of the store is
    /// refunded as well: the client retries the same command.
    ///
    /// By default nothing is refunded: commands that store nothing then use up the quota all the
    /// same.
    fn refund(&self, payer: Payer<'_>, resource: Resource, amount: u64, now: Timestamp) {
        let _ = (payer, resource, amount, now);
    }

    /// Returns whether any use of the resource is bounded. If not, the engine omits the work of
    /// counting it: for rooms, one store read per message to a direct room without subscribers on
    /// this node.
    fn limits(&self, _: Resource) -> bool {
        true
    }
}

/// No quotas.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoQuotas;

impl Quotas for NoQuotas {
    fn take(&self, _: Payer<'_>, _: Resource, _: u64, _: Timestamp) -> Result<(), Duration> {
        Ok(())
    }

    fn limits(&self, _: Resource) -> bool {
        false
    }
}

/// An [`Allowance`] for each address and each user, on this node and in memory: a restart resets
/// all use.
///
/// Each allowance tracks up to 100,000 recently active addresses or users, about 100 bytes each;
/// while none of them has its whole allowance again, new ones are refused for a second.
///
/// ```
/// use std::time::Duration;
/// use im_core::ports::{Allowance, Allowances};
///
/// let hour = Duration::from_secs(3600);
/// let quotas = Allowances::none()
///     .sessions_per_address(Allowance { amount: 600, per: hour, at_once: 100 })
///     .bytes_per_user(Allowance { amount: 16 << 20, per: hour, at_once: 16 << 20 });
/// # drop(quotas);
/// ```
#[derive(Debug, Default)]
pub struct Allowances {
    address_sessions: Option<Buckets<IpAddr>>,
    address_rooms: Option<Buckets<IpAddr>>,
    address_commands: Option<Buckets<IpAddr>>,
    user_rooms: Option<Buckets<UserId>>,
    user_bytes: Option<Buckets<UserId>>,
}

impl Allowances {
    /// Creates quotas without bounds.
    pub fn none() -> Self {
        Self::default()
    }

    /// Bounds the sessions that an address opens.
    #[must_use]
    pub fn sessions_per_address(mut self, allowance: Allowance) -> Self {
        self.address_sessions = Some(Buckets::new(allowance));
        self
    }

    /// Bounds the rooms that an address creates.
    #[must_use]
    pub fn rooms_per_address(mut self, allowance: Allowance) -> Self {
        self.address_rooms = Some(Buckets::new(allowance));
        self
    }

    /// Bounds the frames and requests of an address, in tokens of the
    /// [`RateLimiter`](super::RateLimiter).
    #[must_use]
    pub fn commands_per_address(mut self, allowance: Allowance) -> Self {
        self.address_commands = Some(Buckets::new(allowance));
        self
    }

    /// Bounds the rooms that a user creates.
    #[must_use]
    pub fn rooms_per_user(mut self, allowance: Allowance) -> Self {
        self.user_rooms = Some(Buckets::new(allowance));
        self
    }

    /// Bounds the bytes that a user has stored.
    #[must_use]
    pub fn bytes_per_user(mut self, allowance: Allowance) -> Self {
        self.user_bytes = Some(Buckets::new(allowance));
        self
    }

    fn of_addresses(&self, resource: Resource) -> Option<&Buckets<IpAddr>> {
        match resource {
            Resource::Sessions => self.address_sessions.as_ref(),
            Resource::Rooms => self.address_rooms.as_ref(),
            Resource::Commands => self.address_commands.as_ref(),
            Resource::Bytes => None,
        }
    }

    fn of_users(&self, resource: Resource) -> Option<&Buckets<UserId>> {
        match resource {
            Resource::Rooms => self.user_rooms.as_ref(),
            Resource::Bytes => self.user_bytes.as_ref(),
            Resource::Sessions | Resource::Commands => None,
        }
    }
}

impl Quotas for Allowances {
    fn take(
        &self,
        payer: Payer<'_>,
        resource: Resource,
        amount: u64,
        now: Timestamp,
    ) -> Result<(), Duration> {
        match payer {
            Payer::Address(address) => {
                self.of_addresses(resource).map_or(Ok(()), |held| held.take(&address, amount, now))
            }
            Payer::User(user) => {
                self.of_users(resource).map_or(Ok(()), |held| held.take(user, amount, now))
            }
        }
    }

    fn refund(&self, payer: Payer<'_>, resource: Resource, amount: u64, now: Timestamp) {
        match payer {
            Payer::Address(address) => {
                if let Some(held) = self.of_addresses(resource) {
                    held.return_unused(&address, amount, now);
                }
            }
            Payer::User(user) => {
                if let Some(held) = self.of_users(resource) {
                    held.return_unused(user, amount, now);
                }
            }
        }
    }

    fn limits(&self, resource: Resource) -> bool {
        match resource {
            Resource::Sessions => self.address_sessions.is_some(),
            Resource::Rooms => self.address_rooms.is_some() || self.user_rooms.is_some(),
            Resource::Commands => self.address_commands.is_some(),
            Resource::Bytes => self.user_bytes.is_some(),
        }
    }
}
