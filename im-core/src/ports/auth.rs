//! Who is it? The embedder says, by an [`Authenticator`] of their own.

use std::collections::HashMap;

use async_trait::async_trait;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{DeviceId, UserId};
use crate::time::Timestamp;
use crate::wire::{Secret, Value};

/// What a peer shows to prove who it is.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// A bearer token: from the `Authorization` header (RFC 6750 section 2.1) or from the `hello` frame.
    pub token: Option<Secret>,
    /// The `Cookie` header as it came (RFC 6265 section 4.2).
    pub cookie: Option<Secret>,
    /// Who the peer says it is. Proof of nothing.
    pub claimed_user: Option<UserId>,
    /// Which device the peer says it is on.
    pub claimed_device: Option<DeviceId>,
    /// An identity that the embedder's own middleware has established already, before the engine saw the request.
    pub established: Option<Identity>,
}

/// Who it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// The device, where the authenticator knows it. Otherwise the client names one, or a random one is used.
    pub device: Option<DeviceId>,
    /// Whatever else the authenticator knows; hooks see it.
    pub claims: Value,
    /// When the credentials cease to be good. The connection is closed then, unless they were refreshed.
    pub expires: Option<Timestamp>,
}

impl Identity {
    /// A user, with nothing else known.
    pub fn of(user: UserId) -> Self {
        Self { user, device: None, claims: Value::Null, expires: None }
    }
}

/// Turns credentials into an identity.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Says who it is.
    ///
    /// Called once for a connection, before anything of a session or room is touched, and again for each `refresh`. It
    /// is bounded by the handshake's time-out.
    ///
    /// # Errors
    ///
    /// [`Code::Unauthenticated`] without credentials, [`Code::BadCredentials`] for wrong ones, [`Code::Expired`] for old
    /// ones; [`Code::Overloaded`] if it cannot be said now.
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity>;
}

/// Believes everyone: you are who you say you are, or a guest. For demos, and for services behind a gate of their own.
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

/// Knows a fixed list of tokens. For services among themselves and for tests.
#[derive(Debug, Clone, Default)]
pub struct StaticTokens {
    tokens: HashMap<String, Identity>,
}

impl StaticTokens {
    /// No token is good yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `token` proves `identity` from now on.
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
