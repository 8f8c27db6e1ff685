//! Ids of users, devices, rooms, sessions and messages, and positions in a room's log.
//!
//! Every id is a newtype with a checked constructor, so every existing value is legal. Text ids are
//! shared (`Arc<str>`): a clone is one atomic increment.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

mod position;
mod v7;

pub use position::{Cursor, Epoch, Seq};

/// The largest integer that every encoding carries exactly: 2^53 − 1 (RFC 8259 section 6, I-JSON
/// RFC 7493 section 2.2).
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The reason why a text is not a legal id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("{what} is empty")]
    Empty {
        /// The type of id that was expected.
        what: &'static str,
    },
    /// The text is longer than the id allows.
    #[error("{what} is {len} bytes long; at most {max} are allowed")]
    TooLong {
        /// The type of id that was expected.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The longest allowed, in bytes.
        max: usize,
    },
    /// The text is shorter than the id demands.
    #[error(
        "{what} is {len} bytes long; at least {min} are needed, so that it is unique by chance"
    )]
    TooShort {
        /// The type of id that was expected.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The shortest allowed, in bytes.
        min: usize,
    },
    /// The text holds a character that the id does not allow.
    #[error("{what} holds {found:?}, which is not allowed there")]
    BadChar {
        /// The type of id that was expected.
        what: &'static str,
        /// The first offending character.
        found: char,
    },
    /// The number is outside what every encoding carries.
    #[error("{what} must be between {min} and 2^53 - 1")]
    OutOfRange {
        /// The number that was expected.
        what: &'static str,
        /// The smallest allowed.
        min: u64,
    },
    /// The text does not have the form of this id.
    #[error("{what} is malformed")]
    Malformed {
        /// The type of id that was expected.
        what: &'static str,
    },
}

/// Returns whether a character is invisible: white space, controls, what Unicode calls
/// default-ignorable (zero-width and bidirectional marks, fillers, variation selectors, tags;
/// DerivedCoreProperties.txt of Unicode 16), the marks of annotations, and the blank Braille
/// pattern.
fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_control();
    }
    c.is_control()
        || c.is_whitespace()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | ':')
}

fn check(
    what: &'static str,
    text: &str,
    min: usize,
    max: usize,
    allowed: impl Fn(char) -> bool,
) -> Result<(), IdError> {
    let len = text.len();
    if len == 0 {
        return Err(IdError::Empty { what });
    }
    if len > max {
        return Err(IdError::TooLong { what, len, max });
    }
    if let Some(found) = text.chars().find(|c| !allowed(*c)) {
        return Err(IdError::BadChar { what, found });
    }
    if len < min {
        return Err(IdError::TooShort { what, len, min });
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident, $what:literal, $min:literal ..= $max:literal, $allowed:expr) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The longest allowed, in bytes of UTF-8.
            pub const MAX_LEN: usize = $max;

            /// Checks `text` and converts it to an id.
            ///
            /// # Errors
            ///
            /// [`IdError`] names the rule that the text breaks.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                check($what, text, $min, $max, $allowed)?;
                Ok(Self(text.into()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, shared.
            #[cfg(feature = "engine")]
            pub(crate) fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }

            /// Checks a shared text.
            #[cfg(feature = "engine")]
            pub(crate) fn from_shared(text: &Arc<str>) -> Result<Self, IdError> {
                check($what, text, $min, $max, $allowed)?;
                Ok(Self(Arc::clone(text)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), &self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;
            fn try_from(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
    };
}

text_id! {
    /// A person or a service, named by the embedder: 1 to 64 bytes of UTF-8.
    ///
    /// White space, controls and invisible marks are not allowed. Compared byte by byte: no case
    /// folding, no Unicode normalisation.
    UserId, "user id", 1..=64, |c| !is_invisible(c)
}

text_id! {
    /// One of a user's devices: 1 to 64 bytes, same characters as [`UserId`].
    DeviceId, "device id", 1..=64, |c| !is_invisible(c)
}

text_id! {
    /// A room: 1 to 128 bytes, same characters as [`UserId`].
    ///
    /// Ids that begin with `dm:` or `user:` are reserved for the engine: see [`RoomId::direct`] and
    /// [`RoomId::inbox`].
    RoomId, "room id", 1..=128, |c| !is_invisible(c)
}

text_id! {
    /// A message's id, chosen by its sender: 16 to 64 of `A–Z a–z 0–9 - _ . ~ :`.
    ///
    /// It must carry at least 96 random bits, since (room, sender, id) is the idempotency key of a
    /// send. A UUID in its usual text form has enough; so do 16 characters of random base64url.
    MessageId, "message id", 16..=64, is_token
}

text_id! {
    /// A session's public id, shown in session lists: 1 to 64 of `A–Z a–z 0–9 - _ . ~ :`.
    ///
    /// It is not a secret.
    SessionId, "session id", 1..=64, is_token
}

text_id! {
    /// A key of latest-wins state in a room: 1 to 128 bytes, same characters as [`UserId`].
    StateKey, "state key", 1..=128, |c| !is_invisible(c)
}

text_id! {
    /// The kind of an event: 1 to 32 of `A–Z a–z 0–9 - _ . ~ :`.
    ///
    /// Kinds that begin with `im.` are reserved for the engine (membership changes, for instance);
    /// the rest are the embedder's. `message` is the default.
    EventKind, "event kind", 1..=32, is_token
}

impl UserId {
    const ERASED: &'static str = "im.erased";

    /// The user that replaces every erased user: `im.erased`.
    ///
    /// No client can be this user: credentials that name it are refused, and so are memberships of
    /// it.
    pub fn erased() -> Self {
        Self(Self::ERASED.into())
    }

    /// Returns whether the id is the placeholder of erased users.
    pub fn is_erased(&self) -> bool {
        &*self.0 == Self::ERASED
    }
}

impl RoomId {
    const DIRECT: &'static str = "dm:";
    const INBOX: &'static str = "user:";

    /// The direct room of two users, the same from either side.
    ///
    /// The id is `dm:` and the first 20 bytes, in hexadecimal, of the SHA-256 of both ids, sorted,
    /// each preceded by its length as a 32-bit big-endian number. No two different pairs produce
    /// the same hash input.
    pub fn direct(a: &UserId, b: &UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let mut hash = Sha256::new();
        for user in [low, high] {
            // A user id is at most 64 bytes long.
            hash.update((user.as_str().len() as u32).to_be_bytes());
            hash.update(user.as_str().as_bytes());
        }
        let digest = hash.finalize();
        let mut text = String::with_capacity(43);
        text.push_str(Self::DIRECT);
        push_hex(&mut text, &digest[..20]);
        Self(text.into())
    }

    /// A user's inbox: stores durable messages to the user; each of their devices may subscribe.
    pub fn inbox(user: &UserId) -> Self {
        Self(format!("{}{user}", Self::INBOX).into())
    }

    /// Returns whether only the engine may create a room with this id.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(Self::DIRECT) || self.0.starts_with(Self::INBOX)
    }

    /// The user whose inbox this is, if it is one.
    pub fn inbox_owner(&self) -> Option<UserId> {
        UserId::new(self.0.strip_prefix(Self::INBOX)?).ok()
    }
}

impl EventKind {
    /// The kind of an ordinary message: `message`.
    pub fn message() -> Self {
        Self("message".into())
    }

    /// A change of a room's members: `im.members`. Its content is a
    /// [`MemberChange`](crate::wire::MemberChange).
    pub fn members() -> Self {
        Self("im.members".into())
    }

    /// A signal to a user's devices: another user added you to a room. Its content is `{"room":
    /// …}`.
    pub fn room() -> Self {
        Self("im.room".into())
    }

    /// The remainder of an event whose sender was erased: `im.erased`. Its content is an empty map.
    pub fn erased() -> Self {
        Self("im.erased".into())
    }

    /// Returns whether only the engine may write events of this kind.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with("im.")
    }
}

impl MessageId {
    /// The smallest id in byte order.
    #[cfg(feature = "engine")]
    pub(crate) fn least() -> Self {
        // Of the characters allowed, `-` has the least byte, and no id is shorter.
        Self("----------------".into())
    }

    /// Creates a random id of 128 bits, in 32 hexadecimal digits.
    ///
    /// For messages, [`MessageId::now_v7`] is the better choice.
    pub fn random() -> Self {
        Self(random_hex::<16>().into())
    }
}

impl SessionId {
    /// Creates a random id of 96 bits, in 24 hexadecimal digits.
    pub fn random() -> Self {
        Self(random_hex::<12>().into())
    }
}

/// A client's number for a command, returned in its ack. At most 2^53 − 1; the server attaches no
/// other meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// One engine among those that share a store. Random; breaks ties between state stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// Creates a random id.
    pub fn random() -> Self {
        Self(u32::from_be_bytes(random_bytes()))
    }
}

/// `N` bytes from the system's generator.
///
/// # Panics
///
/// If the operating system cannot supply random numbers: without them no id or secret is safe.
#[allow(
    clippy::expect_used,
    reason = "without the system's generator no id or secret would be safe to give out"
)]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system's random generator failed");
    bytes
}

/// A generation that nothing has had before: a random number below 2^53, which every encoding carries.
pub fn new_generation() -> u64 {
    u64::from_be_bytes(random_bytes()) & MAX_SAFE_INTEGER
}

fn random_hex<const N: usize>() -> String {
    let mut text = String::with_capacity(N * 2);
    push_hex(&mut text, &random_bytes::<N>());
    text
}

/// Appends `bytes` to `text` in lower-case hexadecimal.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_invisible_characters() {
        for bad in [
            "",
            "a b",
            "a\n",
            "\u{202e}evil",
            "a\u{200b}",
            "\u{feff}x",
            "\u{3164}",
            "a\u{fe0f}",
            "a\u{e0041}",
        ] {
            assert!(UserId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["|trey|", "Zoë", "用户", "a@b.example"] {
            assert!(UserId::new(good).is_ok(), "{good:?}");
        }
        assert!(UserId::new("x".repeat(65)).is_err());
        assert!(MessageId::new("short").is_err());
    }

    #[test]
    #[cfg(feature = "engine")]
    fn least_message_id_is_the_minimum() {
        assert_eq!(MessageId::new(MessageId::least().as_str()), Ok(MessageId::least()));
        assert!((' '..='~').filter(|c| is_token(*c)).all(|c| c >= '-'));
    }

    #[test]
    fn direct_room_is_symmetric_and_unique() {
        let id = |s: &str| UserId::new(s).unwrap();
        assert_eq!(RoomId::direct(&id("a"), &id("b")), RoomId::direct(&id("b"), &id("a")));
        assert_ne!(RoomId::direct(&id("ab"), &id("c")), RoomId::direct(&id("a"), &id("bc")));
        assert_eq!(RoomId::inbox(&id("a")).inbox_owner(), Some(id("a")));
    }

    #[test]
    fn epoch_round_trips_and_parses_strictly() {
        let epoch = Epoch { generation: u64::MAX, incarnation: 0 };
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        for bad in ["", "1", "1.", ".1", "+1.1", "01.1", "1.1.1", "A.1", "11111111111111111.1"] {
            assert!(bad.parse::<Epoch>().is_err(), "{bad:?}");
        }
    }
}
