//! Refused messages, their codes, and whether the connection survives.

use im_core::wire::{Command, Encoding, Limits, ServerFrame, decode};
use serde::{Deserialize, Serialize};

use super::refused_cases::{
    at_the_limit, broken_json, broken_msgpack, long_ids, too_much, wrong_frames,
};
use super::{golden, unhex};

/// A message that must be refused.
#[derive(Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) name: String,
    pub(crate) encoding: String,
    /// The message as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// The message as bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hex: Option<String>,
    /// The message as pieces of text (JSON) or of hexadecimal (MessagePack), each with a repetition
    /// count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pieces: Option<Vec<(String, usize)>>,
    pub(crate) code: u16,
    /// `close`: the message is not accepted at all. `err`: it gets an error ack and the connection
    /// survives.
    pub(crate) answer: String,
    /// The number in the `err`, where it could be parsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct UsedLimits {
    message_bytes: usize,
    depth: usize,
    values: usize,
    batch: usize,
}

#[derive(Serialize, Deserialize)]
struct File {
    about: String,
    limits: UsedLimits,
    refused: Vec<Refused>,
    /// Messages at the very limits, which must be accepted.
    taken: Vec<Refused>,
}

const ABOUT: &str = "Messages from a client that a server must refuse under the limits given, with the code. `close` \
    means that the message cannot be taken and the connection ends with this code; `err` that it is answered by an err \
    frame, with the id where it could be read. `taken` holds messages at the very limits.";

#[test]
fn malformed_frames_get_expected_code() {
    let limits = Limits::default();
    let used = UsedLimits {
        message_bytes: limits.max_message_bytes,
        depth: limits.max_depth,
        values: limits.max_values,
        batch: limits.max_batch,
    };
    let parts = [broken_json(), broken_msgpack(), too_much(), wrong_frames(), long_ids()];
    let refused: Vec<Refused> = parts.into_iter().flatten().collect();
    let made = File { about: ABOUT.into(), limits: used, refused, taken: at_the_limit() };
    let kept: File = serde_json::from_str(&golden("refused.json", &made)).unwrap();
    for case in kept.refused.iter().chain(&kept.taken) {
        check(case, &limits);
    }
}

fn bytes(case: &Refused) -> (Vec<u8>, Encoding) {
    let encoding = if case.encoding == "json" { Encoding::Json } else { Encoding::MsgPack };
    let bytes = match (&case.text, &case.hex, &case.pieces) {
        (Some(text), None, None) => text.clone().into_bytes(),
        (None, Some(hex), None) => unhex(hex),
        (None, None, Some(pieces)) => {
            let whole: String = pieces.iter().map(|(piece, times)| piece.repeat(*times)).collect();
            if encoding == Encoding::Json { whole.into_bytes() } else { unhex(&whole) }
        }
        _ => panic!("{}: one of text, hex and pieces", case.name),
    };
    (bytes, encoding)
}

fn check(case: &Refused, limits: &Limits) {
    let (name, (bytes, encoding)) = (&case.name, bytes(case));
    let found = match decode(&bytes, encoding, limits) {
        Err(e) => ("close", e.code.number(), None),
        Ok(frames) => match Command::from_value(frames[0].clone()) {
            Ok(_) => ("ok", 0, None),
            Err((id, e)) => ("err", e.code.number(), id.map(|id| id.0)),
        },
    };
    assert_eq!(found, (case.answer.as_str(), case.code, case.id), "{name} ({})", case.encoding);
}

#[test]
fn client_ignores_unknown_frame_kinds() {
    let frames = decode(br#"{"t":"newer","x":1}"#, Encoding::Json, &Limits::default()).unwrap();
    assert_eq!(ServerFrame::from_value(frames[0].clone()), Ok(ServerFrame::Unknown));
}
