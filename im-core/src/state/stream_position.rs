//! The position of a session's stream, as a text that the client returns.
//!
//! A stream position holds the differences between the stream and the session's checkpoint, for as
//! many rooms as fit, those that moved most first. The rest is delivered again: a client drops
//! redeliveries by seq. It carries no rights: a room in it is read only if the session is
//! subscribed and may read it.
//!
//! About a hundred rooms with state fit. A session with more of those and without a connection
//! receives the state of the others again whenever another node resumes it. This limit is
//! deliberate: a resume on a connection of its own sends the state of all rooms again, too, and a
//! longer stream position would travel with every batch, in headers that hold no more.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::id::{Cursor, Epoch, RoomId, Seq, SessionId};

/// The position of a session's stream: opaque to clients.
///
/// Its text, as on the wire, has at most [`StreamPosition::MAX_LEN`] characters `A–Z a–z 0–9 - _`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamPosition {
    /// The session: a position of another session is ignored.
    pub session: SessionTag,
    /// The fencing token of the downlink that issued it. It distinguishes two downlinks at the same
    /// position: what one of them has enqueued, the other may have delivered.
    pub fencing_token: u64,
    /// The number of deliveries of that downlink. So no two of its responses have the same stream
    /// position, even if their differences do not fit into it.
    pub step: u64,
    /// The checkpoint revision up to which the client received the statuses of its rooms.
    pub rev: u64,
    /// Rooms that differ from the checkpoint.
    pub rooms: Vec<RoomPosition>,
}

/// A subscriber's position in one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomPosition {
    /// The room.
    pub room: RoomTag,
    /// The last event delivered; `None` if the client received the status `denied`.
    pub cursor: Option<Cursor>,
    /// A digest of the delivered state; 0 if none was, [`RoomPosition::PARTIAL_STATE`] if it is not
    /// known which.
    pub state: u32,
}

impl RoomPosition {
    /// Some state was delivered, but not all, or it is not known which.
    pub const PARTIAL_STATE: u32 = 1;

    /// The digest of a room's whole state, from [`crate::state::StateMap::digest`] and this
    /// generation: the state of another generation has another digest.
    pub const fn digest_of(digest: u64, generation: u64) -> u32 {
        // An odd factor: different generations give different numbers.
        let mixed = digest ^ generation.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let short = (mixed >> 32) as u32 ^ mixed as u32;
        // The lowest numbers are reserved.
        if short > Self::PARTIAL_STATE { short } else { Self::PARTIAL_STATE + 1 }
    }
}

/// A session in two bytes: enough to distinguish a client's own sessions nearly always. A position
/// of another user's session does no harm either: a room in it is read only if the session is
/// subscribed and may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionTag([u8; 2]);

impl SessionTag {
    /// The tag of a session: the first bytes of the SHA-256 of its id.
    pub fn of(session: &SessionId) -> Self {
        let hash = Sha256::digest(session.as_str().as_bytes());
        Self([hash[0], hash[1]])
    }
}

/// A room in five bytes: enough to distinguish the rooms of one session. If two tags are equal,
/// neither room is included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomTag([u8; 5]);

impl RoomTag {
    /// The tag of a room: the first bytes of the SHA-256 of its id.
    pub fn of(room: &RoomId) -> Self {
        let hash = Sha256::digest(room.as_str().as_bytes());
        Self([hash[0], hash[1], hash[2], hash[3], hash[4]])
    }
}

/// The text is not a stream position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadStreamPosition;

impl fmt::Display for BadStreamPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a stream position of this server")
    }
}

impl std::error::Error for BadStreamPosition {}

/// The layout version of stream positions. Others are refused.
const LAYOUT: u8 = 3;
const MAX_BYTES: usize = StreamPosition::MAX_LEN / 4 * 3;

const DENIED: u8 = 1;
const STATE: u8 = 2;
const SAME_GENERATION: u8 = 4;

impl StreamPosition {
    /// Maximum characters of a stream position.
    pub const MAX_LEN: usize = 2048;

    /// Maximum rooms in a stream position: entries of denied rooms are the shortest.
    pub const MAX_ROOMS: usize = MAX_BYTES / 6;

    /// The position in a room, if the stream position has it.
    pub fn room(&self, room: &RoomId) -> Option<&RoomPosition> {
        let tag = RoomTag::of(room);
        self.rooms.iter().find(|room| room.room == tag)
    }
}

impl fmt::Display for StreamPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![LAYOUT];
        bytes.extend(self.session.0);
        put(&mut bytes, self.fencing_token);
        put(&mut bytes, self.step);
        put(&mut bytes, self.rev);
        let mut generation = None;
        for room in &self.rooms {
            let mut entry = Vec::with_capacity(40);
            let of = room.cursor.map(|cursor| cursor.epoch.generation);
            let same = of.is_some() && of == generation;
            let flags = [
                (room.cursor.is_none(), DENIED),
                (room.state != 0, STATE),
                (same, SAME_GENERATION),
            ];
            entry.extend(room.room.0);
            entry.push(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
            if let Some(Cursor { epoch, seq }) = room.cursor {
                if !same {
                    put(&mut entry, epoch.generation);
                }
                put(&mut entry, epoch.incarnation);
                put(&mut entry, seq.get());
            }
            if room.state != 0 {
                entry.extend(room.state.to_be_bytes());
            }
            if bytes.len() + entry.len() > MAX_BYTES {
                break;
            }
            generation = of.or(generation);
            bytes.extend(entry);
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for StreamPosition {
    type Err = BadStreamPosition;

    fn from_str(text: &str) -> Result<Self, BadStreamPosition> {
        if text.len() > Self::MAX_LEN {
            return Err(BadStreamPosition);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadStreamPosition)?;
        let mut input = Input(&bytes);
        let [layout] = input.take()?;
        if layout != LAYOUT {
            return Err(BadStreamPosition);
        }
        let session = SessionTag(input.take()?);
        let (fencing_token, step, rev) = (input.number()?, input.number()?, input.number()?);
        let mut position = Self { session, fencing_token, step, rev, rooms: Vec::new() };
        let mut held = None;
        while !input.0.is_empty() {
            let room = RoomTag(input.take()?);
            let [flags] = input.take()?;
            let cursor = match flags & DENIED != 0 {
                true => None,
                false => {
                    let generation = match held {
                        Some(generation) if flags & SAME_GENERATION != 0 => generation,
                        _ => input.number()?,
                    };
                    held = Some(generation);
                    let epoch = Epoch { generation, incarnation: input.number()? };
                    let seq = Seq::new(input.number()?).map_err(|_| BadStreamPosition)?;
                    Some(Cursor { epoch, seq })
                }
            };
            let state = if flags & STATE != 0 { u32::from_be_bytes(input.take()?) } else { 0 };
            position.rooms.push(RoomPosition { room, cursor, state });
        }
        Ok(position)
    }
}

/// A number in groups of seven bits, the lowest first (LEB128).
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadStreamPosition> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(BadStreamPosition)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u64, BadStreamPosition> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(BadStreamPosition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn room_position() -> impl Strategy<Value = RoomPosition> {
        let cursor = proptest::option::of((0u64..3, 0u64..u64::MAX, 0u64..1 << 53));
        (any::<[u8; 5]>(), cursor, prop_oneof![Just(0), any::<u32>()]).prop_map(
            |(room, cursor, state)| RoomPosition {
                room: RoomTag(room),
                cursor: cursor.map(|(generation, incarnation, seq)| Cursor {
                    epoch: Epoch { generation, incarnation },
                    seq: Seq::new(seq).unwrap(),
                }),
                state,
            },
        )
    }

    proptest! {
        /// A stream position holds the rooms that fit and omits the rest.
        #[test]
        fn fitting_rooms_round_trip(
            fencing_token in any::<u64>(),
            step in any::<u64>(),
            rev in any::<u64>(),
            rooms in proptest::collection::vec(room_position(), 0..200),
        ) {
            let session = SessionTag::of(&SessionId::new("0123456789abcdef").unwrap());
            let position = StreamPosition { session, fencing_token, step, rev, rooms };
            let text = position.to_string();
            prop_assert!(text.len() <= StreamPosition::MAX_LEN);
            let read: StreamPosition = text.parse().unwrap();
            prop_assert_eq!((read.session, read.fencing_token, read.rev), (session, fencing_token, rev));
            prop_assert!(read.rooms.len() >= position.rooms.len().min(40));
            prop_assert_eq!(&read.rooms[..], &position.rooms[..read.rooms.len()]);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,300}") {
            let _ = text.parse::<StreamPosition>();
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = URL_SAFE_NO_PAD.encode(bytes).parse::<StreamPosition>();
        }
    }

    #[test]
    fn malformed_position_is_refused() {
        let long = "A".repeat(StreamPosition::MAX_LEN + 4);
        let cut_short = ["", "Aw", "AwAA", "AwAAAAAAAQ"];
        let no_base64 = ["AwAAAAA=", "AwAAAA!"];
        let other_layouts = ["AA", "AQAAAA", "AQAAAAA", "AgAAAAA", "BAAAAAAA"];
        for text in [&cut_short[..], &no_base64, &other_layouts, &[&long]].concat() {
            assert_eq!(text.parse::<StreamPosition>(), Err(BadStreamPosition), "{text}");
        }
        assert_eq!("AwAAAAAA".parse::<StreamPosition>(), Ok(StreamPosition::default()));
    }

    /// Stream positions of two streams over the same rooms differ.
    #[test]
    fn positions_of_two_streams_differ() {
        let session = SessionTag::of(&SessionId::new("0123456789abcdef").unwrap());
        let position = |fencing_token, rev| StreamPosition {
            session,
            fencing_token,
            step: 0,
            rev,
            rooms: Vec::new(),
        };
        assert_ne!(position(1, 5).to_string(), position(2, 5).to_string());
        assert_ne!(position(1, 5).to_string(), position(1, 6).to_string());
    }
}
