//! Conversion between bytes and values, in JSON and MessagePack; batches.

use bytes::Bytes;

use crate::code::Code;

use super::scan;
use super::value::Value;

/// The byte format of frames. A connection has one encoding for its whole lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// JSON text (RFC 8259).
    #[default]
    Json,
    /// MessagePack.
    MsgPack,
}

impl Encoding {
    /// All encodings.
    pub const ALL: [Self; 2] = [Self::Json, Self::MsgPack];

    /// The WebSocket subprotocol that selects it (RFC 6455 section 1.9).
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

/// Bounds of one message. Checked before and while decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes in one message, batch included. 64 KiB by default: a long chat message has 4 KiB, and
    /// a resume with a thousand cursors fits. Worst case in memory: about eight times this per
    /// connection during decoding.
    pub max_message_bytes: usize,
    /// Nesting depth of the lists and maps of a content or state value. 16 by default; more than 64
    /// counts as 64.
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

/// A message that is not a valid list of frames, or a frame with an invalid field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// The code of the error ack.
    pub code: Code,
    /// The message for the peer.
    pub message: String,
}

impl WireError {
    /// Creates an error with this message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The upper bound of every depth limit: the parsers recurse, and JSON's stops at 128.
const MAX_DEPTH: usize = 64;

/// Levels around a content: the batch's list, the frame's map, a list of entries, an entry's map;
/// and within it the object that represents bytes in JSON.
const FRAME_DEPTH: usize = 5;

impl Limits {
    /// The maximum depth of a content: `max_depth`, bounded by what the parsers can read back.
    pub(super) fn depth(&self) -> usize {
        self.max_depth.min(MAX_DEPTH)
    }
}

/// Splits a message into frames: one map, or a list of maps.
///
/// # Errors
///
/// `TooLarge`, `TooDeep`, `TooMany`, or `Malformed` for invalid JSON or MessagePack, for text that
/// is not UTF-8, for integers beyond 2^53 − 1, numbers that are not finite, duplicate keys, and an
/// empty batch.
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

/// Parses a packed content, under limits that may differ from those at packing.
pub(super) fn unpack(bytes: &[u8]) -> Result<Value, WireError> {
    // Every value has at least one byte, so a damaged length cannot claim more values than bytes.
    parse(bytes, Encoding::MsgPack, MAX_DEPTH + FRAME_DEPTH, bytes.len())
}

/// Encodes one frame.
pub fn encode(value: &Value, encoding: Encoding) -> Bytes {
    let written = match encoding {
        Encoding::Json => serde_json::to_vec(value).ok(),
        Encoding::MsgPack => rmp_serde::to_vec(value).ok(),
    };
    // Only a number that is not finite has no encoding, and neither decoding nor `Content` accepts
    // one.
    debug_assert!(written.is_some(), "a value that is not well formed reached the encoder");
    // Many of these live long: drop the spare capacity of the writer.
    Bytes::from(written.unwrap_or_default().into_boxed_slice())
}

/// Encodes several frames as one message. A single frame is not wrapped in a list.
pub fn encode_batch(frames: &[Value], encoding: Encoding) -> Bytes {
    let encoded: Vec<Bytes> = frames.iter().map(|frame| encode(frame, encoding)).collect();
    join_encoded(&encoded, encoding)
}

/// Joins encoded frames into one message, without decoding them.
pub fn join_encoded(frames: &[Bytes], encoding: Encoding) -> Bytes {
    match frames {
        [only] => only.clone(),
        _ => list_encoded(frames, encoding),
    }
}

/// Joins encoded frames into one list, without decoding them; also a single one, or none.
pub fn list_encoded(frames: &[Bytes], encoding: Encoding) -> Bytes {
    let total: usize = frames.iter().map(|frame| frame.len() + 1).sum();
    let mut out = Vec::with_capacity(total + 5);
    put_head(&mut out, frames.len(), encoding);
    put_part(&mut out, frames, true, encoding);
    out.extend_from_slice(list_end(encoding));
    out.into()
}

/// The start of a list of `count` frames, for writers that do not have all of them yet.
pub fn list_head(count: usize, encoding: Encoding) -> Bytes {
    let mut out = Vec::new();
    put_head(&mut out, count, encoding);
    out.into()
}

/// The next encoded frames of a list, each with its separator; the `first` ones follow the head.
pub fn list_part(frames: &[Bytes], first: bool, encoding: Encoding) -> Bytes {
    let total: usize = frames.iter().map(|frame| frame.len() + 1).sum();
    let mut out = Vec::with_capacity(total);
    put_part(&mut out, frames, first, encoding);
    out.into()
}

/// The end of a list.
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
