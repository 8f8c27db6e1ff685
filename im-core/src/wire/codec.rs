//! Bytes to values and back, in JSON and in MessagePack; batches.

use bytes::Bytes;

use crate::code::Code;

use super::scan;
use super::value::Value;

/// How frames are written as bytes. A connection has one encoding for its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// JSON text (RFC 8259).
    #[default]
    Json,
    /// MessagePack.
    MsgPack,
}

impl Encoding {
    /// All encodings there are.
    pub const ALL: [Self; 2] = [Self::Json, Self::MsgPack];

    /// The WebSocket subprotocol that chooses it (RFC 6455 section 1.9).
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "im.v1.json",
            Self::MsgPack => "im.v1.msgpack",
        }
    }

    /// The encoding that a WebSocket subprotocol names.
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.subprotocol() == name)
    }
}

/// What one message may hold. Checked before and while decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes in one message, batch included. 64 KiB by default: a long chat message has 4 KiB, and a resume with
    /// a thousand cursors fits. Worst case in memory: about eight times this per connection while it is decoded.
    pub max_message_bytes: usize,
    /// How deeply the lists and maps of a content or state value nest. 16 by default; more than 64 counts as 64.
    pub max_depth: usize,
    /// Values in one message, keys of maps not counted. 8,192 by default.
    pub max_values: usize,
    /// Frames in one message. 64 by default.
    pub max_batch: usize,
    /// Bytes of a content, or of a state value, as MessagePack. 32 KiB by default.
    pub max_content_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 64 * 1024,
            max_depth: 16,
            max_values: 8192,
            max_batch: 64,
            max_content_bytes: 32 * 1024,
        }
    }
}

/// A message that cannot be taken as frames, or a frame with a field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// The number to answer with.
    pub code: Code,
    /// What is wrong, for the peer.
    pub message: String,
}

impl WireError {
    /// An error with words of its own.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The deepest that any limit can allow: the parsers recurse, and JSON's stops at 128.
const MAX_DEPTH: usize = 64;

/// Around a content there may be: the batch's list, the frame's map, a list of entries, an entry's map; and within it
/// the object that bytes are in JSON.
const FRAME_DEPTH: usize = 5;

impl Limits {
    /// How deeply a content may nest: `max_depth`, but no deeper than what can be read back.
    pub(super) fn depth(&self) -> usize {
        self.max_depth.min(MAX_DEPTH)
    }
}

/// Splits a message into frames: one map, or a list of maps.
///
/// # Errors
///
/// `TooLarge`, `TooDeep`, `TooMany`, or `Malformed` for what is no JSON or MessagePack, for text that is not UTF-8,
/// for integers beyond 2^53 − 1, numbers that are not finite, keys that stand twice, and an empty batch.
pub fn decode(bytes: &[u8], encoding: Encoding, limits: &Limits) -> Result<Vec<Value>, WireError> {
    if bytes.len() > limits.max_message_bytes {
        let message =
            format!("{} bytes; at most {} are allowed", bytes.len(), limits.max_message_bytes);
        return Err(WireError::new(Code::TooLarge, message));
    }
    let value = parse(bytes, encoding, limits.depth() + FRAME_DEPTH, limits.max_values)?;
    let frames = match value {
        Value::Array(frames) => frames,
        frame => vec![frame],
    };
    if frames.len() > limits.max_batch {
        let message = format!(
            "{} frames in one message; at most {} are allowed",
            frames.len(),
            limits.max_batch
        );
        return Err(WireError::new(Code::TooMany, message));
    }
    if frames.is_empty() || !frames.iter().all(|frame| matches!(frame, Value::Map(_))) {
        return Err(WireError::new(
            Code::Malformed,
            "a message is one frame (a map) or a list of frames",
        ));
    }
    Ok(frames)
}

/// Parses one value within the given depth and count.
pub(super) fn parse(
    bytes: &[u8],
    encoding: Encoding,
    max_depth: usize,
    max_values: usize,
) -> Result<Value, WireError> {
    match encoding {
        Encoding::Json => {
            let text = std::str::from_utf8(bytes)
                .map_err(|_| WireError::new(Code::Malformed, "the text is not valid UTF-8"))?;
            scan::json(bytes, max_depth, max_values)?;
            serde_json::from_str(text)
                .map_err(|e| WireError::new(Code::Malformed, format!("not valid JSON: {e}")))
        }
        Encoding::MsgPack => {
            scan::msgpack(bytes, max_depth, max_values)?;
            rmp_serde::from_slice(bytes)
                .map_err(|e| WireError::new(Code::Malformed, format!("not valid MessagePack: {e}")))
        }
    }
}

/// Parses a content that was packed once, under limits that may have been others.
pub(super) fn unpack(bytes: &[u8]) -> Result<Value, WireError> {
    // Every value takes a byte at least, so that damage cannot claim more than there is.
    parse(bytes, Encoding::MsgPack, MAX_DEPTH + FRAME_DEPTH, bytes.len())
}

/// Writes one frame.
pub fn encode(value: &Value, encoding: Encoding) -> Bytes {
    let written = match encoding {
        Encoding::Json => serde_json::to_vec(value).ok(),
        Encoding::MsgPack => rmp_serde::to_vec(value).ok(),
    };
    // Only a number that is not finite has no encoding, and neither decoding nor `Content` lets one in.
    debug_assert!(written.is_some(), "a value that is not well formed reached the encoder");
    // Many of these are kept for long: without the room that the writer left to grow.
    Bytes::from(written.unwrap_or_default().into_boxed_slice())
}

/// Writes several frames as one message. A single frame stands alone, without a list around it.
pub fn encode_batch(frames: &[Value], encoding: Encoding) -> Bytes {
    let encoded: Vec<Bytes> = frames.iter().map(|frame| encode(frame, encoding)).collect();
    join_encoded(&encoded, encoding)
}

/// Joins frames that are encoded already into one message, without decoding them.
pub fn join_encoded(frames: &[Bytes], encoding: Encoding) -> Bytes {
    match frames {
        [only] => only.clone(),
        _ => list_encoded(frames, encoding),
    }
}

/// Puts frames that are encoded already into one list, without decoding them; also a single one, or none.
pub fn list_encoded(frames: &[Bytes], encoding: Encoding) -> Bytes {
    let total: usize = frames.iter().map(|frame| frame.len() + 1).sum();
    let mut out = Vec::with_capacity(total + 5);
    put_head(&mut out, frames.len(), encoding);
    put_part(&mut out, frames, true, encoding);
    out.extend_from_slice(list_end(encoding));
    out.into()
}

/// What a list of `count` frames begins with, for writers that do not have all of them yet.
pub fn list_head(count: usize, encoding: Encoding) -> Bytes {
    let mut out = Vec::new();
    put_head(&mut out, count, encoding);
    out.into()
}

/// The next frames of a list, encoded already, with what stands before each; the `first` ones follow the head.
pub fn list_part(frames: &[Bytes], first: bool, encoding: Encoding) -> Bytes {
    let total: usize = frames.iter().map(|frame| frame.len() + 1).sum();
    let mut out = Vec::with_capacity(total);
    put_part(&mut out, frames, first, encoding);
    out.into()
}

/// What a list ends with.
pub const fn list_end(encoding: Encoding) -> &'static [u8] {
    match encoding {
        Encoding::Json => b"]",
        Encoding::MsgPack => b"",
    }
}

fn put_head(out: &mut Vec<u8>, count: usize, encoding: Encoding) {
    match encoding {
        Encoding::Json => out.push(b'['),
        Encoding::MsgPack => match u16::try_from(count) {
            Ok(n) if n < 16 => out.push(0x90 | n as u8),
            Ok(n) => {
                out.push(0xdc);
                out.extend_from_slice(&n.to_be_bytes());
            }
            Err(_) => {
                out.push(0xdd);
                out.extend_from_slice(&(count as u32).to_be_bytes());
            }
        },
    }
}

fn put_part(out: &mut Vec<u8>, frames: &[Bytes], first: bool, encoding: Encoding) {
    for (at, frame) in frames.iter().enumerate() {
        if encoding == Encoding::Json && !(first && at == 0) {
            out.push(b',');
        }
        out.extend_from_slice(frame);
    }
}
