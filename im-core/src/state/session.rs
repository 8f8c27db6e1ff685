//! What outlives a connection: who the session belongs to, and what it follows from where.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{Cursor, DeviceId, RoomId, SessionId, UserId};
use crate::time::Timestamp;
use crate::wire::Secret;

/// A session, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its public id.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// The hash of the secret that resumes it.
    pub secret: SecretHash,
    /// Since when.
    pub created: Timestamp,
    /// Until when it can be resumed; moved on whenever it is used.
    pub expires: Timestamp,
    /// Whether it was ended for good.
    pub revoked: bool,
}

/// SHA-256 of a secret with 128 random bits or more. Its strength is the secret's own; no salt is needed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Hashes a secret.
    pub fn of(secret: &Secret) -> Self {
        Self(Sha256::digest(secret.expose().as_bytes()).into())
    }

    /// Whether `secret` is the one that was hashed. Takes the same time wherever they differ.
    pub fn matches(&self, secret: &Secret) -> bool {
        let other = Self::of(secret);
        self.0.iter().zip(other.0).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// What a session follows, and from where, as far as the client has confirmed.
///
/// Invariant: a cursor is never beyond what the client itself has named or been given as a start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// Counts up with every change; a client names it to say what its differences are against.
    pub rev: u64,
    /// The rooms followed, each with its confirmed cursor.
    pub cursors: BTreeMap<RoomId, Cursor>,
}
