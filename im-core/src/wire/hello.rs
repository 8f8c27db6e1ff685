//! The first frame and its secrets.

use std::fmt;
use std::sync::Arc;

use crate::id::{DeviceId, SessionId, UserId};

use super::codec::WireError;
use super::fields::{Field, Fields, int, missing};
use super::value::{Map, Value};

/// The first frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The protocol's version.
    pub version: u64,
    /// Credentials, where the transport did not carry them.
    pub token: Option<Secret>,
    /// The user that the client claims to be. Accepted only by servers that allow anonymous users.
    pub user: Option<UserId>,
    /// The device. A random one if absent.
    pub device: Option<DeviceId>,
    /// The session to resume.
    pub session: Option<ResumeToken>,
    /// The client's name and version, for logs. At most 64 bytes are used.
    pub client: Option<Arc<str>>,
}

/// Proof of a session's ownership, beside the credentials: issued in `welcome`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeToken {
    /// The session.
    pub session: SessionId,
    /// Its secret, 128 bits or more.
    pub secret: Secret,
}

/// A text whose value never appears in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself. The caller must not log or store it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Field for Secret {
    fn read(value: Value) -> Result<Self, String> {
        let text = <Arc<str>>::read(value)?;
        if text.is_empty() || text.len() > 4096 {
            return Err("1 to 4096 bytes were expected".into());
        }
        Ok(Self(text))
    }
}

impl Hello {
    pub(super) fn from_fields(mut f: Fields) -> Result<Self, WireError> {
        let (session, secret) = (f.take("session")?, f.take("secret")?);
        Ok(Self {
            version: f.need("v")?,
            token: f.take("token")?,
            user: f.take("user")?,
            device: f.take("device")?,
            session: match (session, secret) {
                (Some(session), Some(secret)) => Some(ResumeToken { session, secret }),
                (None, None) => None,
                (Some(_), None) => return Err(missing("secret")),
                (None, Some(_)) => return Err(missing("session")),
            },
            client: f.take("client")?,
        })
    }

    pub(super) fn put_fields(&self, map: &mut Map) {
        map.push("v", int(self.version));
        map.push_some("token", self.token.as_ref().map(Secret::expose));
        map.push_some("user", self.user.as_ref());
        map.push_some("device", self.device.as_ref());
        if let Some(token) = &self.session {
            map.push("session", &token.session);
            map.push("secret", token.secret.expose());
        }
        map.push_some("client", self.client.as_deref());
    }
}
