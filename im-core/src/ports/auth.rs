//! Authentication: the embedder's [`Authenticator`] maps credentials to an identity.

use std::collections::HashMap;

use async_trait::async_trait;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{DeviceId, UserId};
use crate::time::Timestamp;
use crate::wire::{Secret, Value};

/// The credentials that a peer presents.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// A bearer token: from the `Authorization` header (RFC 6750 section 2.1) or from the `hello`
    /// frame.
    pub token: Option<Secret>,
    /// The `Cookie` header, verbatim (RFC 6265 section 4.2).
    pub cookie: Option<Secret>,
    /// The user that the peer claims to be. Not a proof.
    pub claimed_user: Option<UserId>,
    /// The device that the peer claims to use.
    pub claimed_device: Option<DeviceId>,
    /// An identity that the embedder's own middleware established before the engine saw the
    /// request.
    pub established: Option<Identity>,
}

/// An authenticated user.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// The device, where the authenticator knows it. Otherwise the client names one, or a random
    /// one is used.
    pub device: Option<DeviceId>,
    /// Further claims of the authenticator; hooks see them.
    pub claims: Value,
    /// When the credentials expire. The connection is closed then, unless they were refreshed.
    pub expires: Option<Timestamp>,
}

impl Identity {
    /// Creates an identity with a user and nothing else.
    pub fn of(user: UserId) -> Self {
        Self { user, device: None, claims: Value::Null, expires: None }
    }
}

/// Turns credentials into an identity.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Returns the identity of these credentials.
    ///
    /// Called once per connection, before any session or room is read, and again for each
    /// `refresh`. Bounded by the handshake timeout.
    ///
    /// # Errors
    ///
    /// [`Code::Unauthenticated`] without credentials, [`Code::BadCredentials`] for wrong ones,
    /// [`Code::Expired`] for expired ones; [`Code::Overloaded`] if no decision is possible now.
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity>;
}

/// Accepts every claimed user, and guests without a claim.
///
/// For demos, and for services behind a gateway that authenticates.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAnonymous;

#[async_trait]
impl Authenticator for AllowAnonymous {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity> {
        if let Some(identity) = &credentials.established {
            return Ok(identity.clone());
        }
        let user = match &credentials.claimed_user {
            Some(user) => user.clone(),
            None => guest()?,
        };
        Ok(Identity::of(user))
    }
}

fn guest() -> Result<UserId> {
    let random = crate::id::SessionId::random();
    UserId::new(format!("guest-{random}"))
        .map_err(|e| Error::of(Code::BadCredentials, "authenticate").because(e))
}

/// Accepts a fixed list of tokens. For traffic between services and for tests.
#[derive(Debug, Clone, Default)]
pub struct StaticTokens {
    tokens: HashMap<String, Identity>,
}

impl StaticTokens {
    /// Creates an empty list: no token is accepted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a token: `token` proves `identity` from now on.
    #[must_use]
    pub fn with(mut self, token: impl Into<String>, identity: Identity) -> Self {
        self.tokens.insert(token.into(), identity);
        self
    }
}

#[async_trait]
impl Authenticator for StaticTokens {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity> {
        if let Some(identity) = &credentials.established {
            return Ok(identity.clone());
        }
        let token = credentials
            .token
            .as_ref()
            .ok_or_else(|| Error::of(Code::Unauthenticated, "authenticate"))?;
        self.tokens
            .get(token.expose())
            .cloned()
            .ok_or_else(|| Error::of(Code::BadCredentials, "authenticate"))
    }
}
