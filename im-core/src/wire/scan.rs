//! Depth and count, checked on raw bytes in one pass and without allocation in proportion to what the bytes claim.
//!
//! A scan does not validate: what it lets through may still fail to parse. It promises only that parsing will not
//! nest deeper or build more values than was allowed.

use crate::code::Code;

use super::codec::WireError;

const TOO_DEEP: &str = "values nest too deeply";
const TOO_MANY: &str = "too many values in one message";
const CUT_SHORT: &str = "the message ends in the middle of a value";

/// Scans JSON text: counts brackets for depth, and commas and brackets for values.
pub(super) fn json(bytes: &[u8], max_depth: usize, max_values: usize) -> Result<(), WireError> {
    let (mut depth, mut values) = (0_usize, 1_usize);
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => skip_string(&mut rest),
            b'[' | b'{' => {
                depth += 1;
                values += 1;
                if depth > max_depth {
                    return Err(WireError::new(Code::TooDeep, TOO_DEEP));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if values > max_values {
            return Err(WireError::new(Code::TooMany, TOO_MANY));
        }
    }
    Ok(())
}

fn skip_string(rest: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => {
                rest.next();
            }
            b'"' => return,
            _ => {}
        }
    }
}

/// Scans MessagePack: walks the headers, so that a length that lies is found before anything is built from it.
pub(super) fn msgpack(bytes: &[u8], max_depth: usize, max_values: usize) -> Result<(), WireError> {
    let cut_short = || WireError::new(Code::Malformed, CUT_SHORT);
    // How many values each open list or map still waits for.
    let mut open: Vec<usize> = Vec::with_capacity(max_depth.min(32));
    let (mut at, mut values) = (0_usize, 0_usize);
    loop {
        let head = *bytes.get(at).ok_or_else(cut_short)?;
        let (skip, children) = header(head, &bytes[at + 1..]).ok_or_else(cut_short)?;
        at = at.checked_add(1 + skip).filter(|at| *at <= bytes.len()).ok_or_else(cut_short)?;
        values += 1;
        if values > max_values || children > max_values * 2 {
            return Err(WireError::new(Code::TooMany, TOO_MANY));
        }
        if is_container(head) {
            if open.len() >= max_depth {
                return Err(WireError::new(Code::TooDeep, TOO_DEEP));
            }
            open.push(children);
        }
        while let Some(0) = open.last() {
            open.pop();
        }
        match open.last_mut() {
            Some(left) => *left -= 1,
            None if at == bytes.len() => return Ok(()),
            None => return Err(WireError::new(Code::Malformed, "bytes follow after the message's end")),
        }
    }
}

const fn is_container(head: u8) -> bool {
    matches!(head, 0x80..=0x9f | 0xdc..=0xdf)
}

/// How many bytes follow the head byte, and how many values follow those. Keys of maps count as values.
fn header(head: u8, rest: &[u8]) -> Option<(usize, usize)> {
    let be = |n: usize| Some(rest.get(..n)?.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte)));
    Some(match head {
        0x80..=0x8f => (0, usize::from(head & 15) * 2),
        0x90..=0x9f => (0, usize::from(head & 15)),
        0xa0..=0xbf => (usize::from(head & 31), 0),
        0xc4 | 0xd9 => (1 + be(1)?, 0),
        0xc5 | 0xda => (2 + be(2)?, 0),
        0xc6 | 0xdb => (4 + be(4)?, 0),
        0xc7 => (2 + be(1)?, 0),
        0xc8 => (3 + be(2)?, 0),
        0xc9 => (5 + be(4)?, 0),
        0xcc | 0xd0 => (1, 0),
        0xcd | 0xd1 => (2, 0),
        0xca | 0xce | 0xd2 => (4, 0),
        0xcb | 0xcf | 0xd3 => (8, 0),
        0xd4 => (2, 0),
        0xd5 => (3, 0),
        0xd6 => (5, 0),
        0xd7 => (9, 0),
        0xd8 => (17, 0),
        0xdc => (2, be(2)?),
        0xdd => (4, be(4)?),
        0xde => (2, be(2)?.checked_mul(2)?),
        0xdf => (4, be(4)?.checked_mul(2)?),
        _ => (0, 0),
    })
}
