//! How much may a stranger use?

use std::net::IpAddr;
use std::time::Duration;

use crate::id::UserId;
use crate::time::Timestamp;

use super::allowance::{Allowance, Buckets};

/// Who pays for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payer<'a> {
    /// Everybody at an address (of IPv6, one /64), whoever they say they are.
    Address(IpAddr),
    /// A user, wherever they are.
    User(&'a UserId),
}

/// What is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// New sessions. Paid by an address.
    Sessions,
    /// Rooms made by `create`, and direct rooms made by their first message. Paid by an address and by a user.
    Rooms,
    /// Connections, requests and frames, refused ones too. Paid by an address.
    Commands,
    /// Bytes of contents, members and state that are stored, with some 128 for each record. Paid by a user.
    Bytes,
}

impl Resource {
    /// Its name in metrics and words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Rooms => "rooms",
            Self::Commands => "commands",
            Self::Bytes => "bytes",
        }
    }
}

/// Bounds what one address and one user may use, beside the [`RateLimiter`](super::RateLimiter). None by default
/// ([`NoQuotas`]): an embedder who knows every user by name needs none, and addresses say little behind a proxy.
///
/// What is over is refused with [`Code::RateLimited`](crate::Code::RateLimited) and the time to wait.
pub trait Quotas: Send + Sync {
    /// Takes so much of what the payer may use at `now`. Never waits itself.
    ///
    /// # Errors
    ///
    /// How long until it is allowed.
    fn take(
        &self,
        payer: Payer<'_>,
        resource: Resource,
        amount: u64,
        now: Timestamp,
    ) -> Result<(), Duration>;

    /// Returns what was taken for something that was not done: sessions, rooms and bytes of which nothing was stored, since the
    /// store or another bound refused the command, or it was a duplicate; and the command itself where it was refused because
    /// an earlier send comes first ([`Code::SenderOrder`](crate::Code::SenderOrder)). Where the store cannot say whether it has stored
    /// something, it is returned as well: the client sends the same again.
    ///
    /// By default nothing is returned: commands that store nothing then use up the quota all the same.
    fn give_back(&self, payer: Payer<'_>, resource: Resource, amount: u64, now: Timestamp) {
        let _ = (payer, resource, amount, now);
    }

    /// Whether anybody's use of the resource is bounded. Where it is not, the engine leaves out what it would do to count it: for
    /// rooms, a read of the store for each message to a direct room that nobody is subscribed to here.
    fn limits(&self, _: Resource) -> bool {
        true
    }
}

/// No bounds.
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

/// An [`Allowance`] for each address and each user, on this node and in memory: what was used is forgotten with the process.
///
/// Each allowance remembers up to 100,000 addresses or users that were active lately, about 100 bytes each; while none of them
/// has its whole allowance again, newcomers are refused for a second.
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
    /// No bounds yet.
    pub fn none() -> Self {
        Self::default()
    }

    /// Bounds the sessions that an address opens.
    #[must_use]
    pub fn sessions_per_address(mut self, allowance: Allowance) -> Self {
        self.address_sessions = Some(Buckets::new(allowance));
        self
    }

    /// Bounds the rooms that an address makes.
    #[must_use]
    pub fn rooms_per_address(mut self, allowance: Allowance) -> Self {
        self.address_rooms = Some(Buckets::new(allowance));
        self
    }

    /// Bounds the frames and requests of an address, in tokens of the [`RateLimiter`](super::RateLimiter).
    #[must_use]
    pub fn commands_per_address(mut self, allowance: Allowance) -> Self {
        self.address_commands = Some(Buckets::new(allowance));
        self
    }

    /// Bounds the rooms that a user makes.
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

    fn give_back(&self, payer: Payer<'_>, resource: Resource, amount: u64, now: Timestamp) {
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
