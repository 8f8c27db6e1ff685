//! Requests and replies as bytes: a frame is a list of fields, each with its length before it.
//!
//! | request | fields | reply |
//! |---|---|---|
//! | `s` | | the version of a new snapshot |
//! | `r` | version | – |
//! | `g` | version, key | the value |
//! | `f`, `b` | version, first key, key behind the last one, limit | key and value of each row, from that end |
//! | `w` | number of checks; key and value of each check, of each change | `a` applied, `c` changed |
//!
//! A version is eight bytes; none: what is there now. A value has a byte before it; none: there is no value.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// The largest frame in bytes.
const MOST: usize = 256 << 20;

/// Sends a frame.
///
/// # Errors
///
/// The stream's, or the frame is too large.
pub fn send(stream: &mut TcpStream, fields: &[Vec<u8>]) -> io::Result<()> {
    let mut frame = vec![0; 4];
    for field in fields {
        frame.extend_from_slice(&length(field.len())?);
        frame.extend_from_slice(field);
    }
    let len = length(frame.len() - 4)?;
    frame[..4].copy_from_slice(&len);
    stream.write_all(&frame)
}

/// Receives a frame.
///
/// # Errors
///
/// The stream's, or the frame is damaged.
pub fn receive(stream: &mut TcpStream) -> io::Result<Vec<Vec<u8>>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = u32::from_be_bytes(len) as usize;
    if len > MOST {
        return Err(damaged());
    }
    let mut frame = vec![0; len];
    stream.read_exact(&mut frame)?;
    let (mut rest, mut fields) = (frame.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (len, tail) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let len = u32::from_be_bytes(*len) as usize;
        let (field, tail) = tail.split_at_checked(len).ok_or_else(damaged)?;
        fields.push(field.to_vec());
        rest = tail;
    }
    Ok(fields)
}

fn length(len: usize) -> io::Result<[u8; 4]> {
    let len = u32::try_from(len).ok().filter(|len| *len as usize <= MOST);
    len.map(u32::to_be_bytes).ok_or_else(damaged)
}

/// A frame is not what it has to be.
pub fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame is damaged or too large")
}

/// The field that a value is.
pub fn value(value: Option<&[u8]>) -> Vec<u8> {
    value.map_or_else(Vec::new, |value| [&[1], value].concat())
}

/// The value that a field is.
pub fn to_value(field: &[u8]) -> Option<Vec<u8>> {
    field.split_first().map(|(_, value)| value.to_vec())
}

/// The number that a field is.
///
/// # Errors
///
/// It has not eight bytes.
pub fn number(field: &[u8]) -> io::Result<u64> {
    Ok(u64::from_be_bytes(field.try_into().map_err(|_| damaged())?))
}
