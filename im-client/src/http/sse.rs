//! Reading an event stream (WHATWG HTML, section 9.2.6 "Interpreting an event stream"), as far as
//! our servers write one.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

/// One item of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// A message.
    Data(Bytes),
    /// A stream position.
    Id(String),
    /// A comment, sent as a sign of life.
    Comment,
    /// How long to wait before the stream is reopened.
    Retry(Duration),
}

/// Assembles lines from the pieces that arrive.
#[derive(Debug, Default)]
pub(super) struct Parser {
    rest: BytesMut,
    /// How many bytes of `rest` were searched for the end of a line.
    searched: usize,
    data: Vec<u8>,
    has_data: bool,
    id: Option<String>,
}

/// Not an event stream, or a line that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// Most bytes of a block: more than any message of a server.
const MAX_BLOCK: usize = 16 << 20;

impl Parser {
    /// Adds a piece. Returns the items that it completed.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<Vec<Said>, TooLong> {
        self.rest.extend_from_slice(piece);
        let mut said = Vec::new();
        while let Some(at) = self.rest[self.searched..].iter().position(|byte| *byte == b'\n') {
            let mut line = self.rest.split_to(self.searched + at);
            self.rest.advance(1);
            self.searched = 0;
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            self.line(&line, &mut said);
        }
        self.searched = self.rest.len();
        if self.rest.len() + self.data.len() > MAX_BLOCK { Err(TooLong) } else { Ok(said) }
    }

    fn line(&mut self, line: &[u8], said: &mut Vec<Said>) {
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = match colon {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match (field, colon) {
            (b"", None) => self.dispatch(said),
            (b"", Some(_)) => said.push(Said::Comment),
            (b"data", _) => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
            (b"retry", _) if value.iter().all(u8::is_ascii_digit) => {
                let ms = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
                said.extend(ms.map(|ms| Said::Retry(Duration::from_millis(ms))));
            }
            (b"id", _) => self.id = std::str::from_utf8(value).ok().map(str::to_owned),
            _ => {}
        }
    }

    /// Ends a block. Its id counts also if it has no data.
    fn dispatch(&mut self, said: &mut Vec<Said>) {
        if std::mem::take(&mut self.has_data) {
            said.push(Said::Data(std::mem::take(&mut self.data).into()));
        }
        said.extend(self.id.take().map(Said::Id));
    }
}

#[cfg(test)]
mod tests {
    use im_core::wire::{Encoding, Map, Value, decode};

    use super::*;
    use crate::proto::scenarios;
    use crate::refusal::generous;

    const STREAM: &str = "retry: 1500\n\ndata: {\"a\":1}\n\ndata:one\ndata: two\r\nid: m1\n\n: alive\n\nid: m2\n\nevent: x\n\n";

    fn expected() -> Vec<Said> {
        let data = |text: &'static str| Said::Data(Bytes::from_static(text.as_bytes()));
        let id = |text: &str| Said::Id(text.into());
        let retry = Said::Retry(Duration::from_millis(1500));
        vec![retry, data("{\"a\":1}"), data("one\ntwo"), id("m1"), Said::Comment, id("m2")]
    }

    #[test]
    fn stream_parses_in_any_pieces() {
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let said: Vec<Said> = STREAM
                .as_bytes()
                .chunks(size)
                .flat_map(|piece| parser.push(piece).unwrap())
                .collect();
            assert_eq!(said, expected(), "in pieces of {size}");
        }
    }

    #[test]
    fn retry_without_digits_is_ignored() {
        let said = Parser::default().push(b"retry: 1.5\nretry:\nretry: -1\nretry: 7\n").unwrap();
        assert_eq!(said, [Said::Retry(Duration::from_millis(7))]);
    }

    fn described(said: Vec<Said>) -> Vec<Value> {
        let describe = |said| match said {
            Said::Data(data) => {
                let message = decode(&data, Encoding::Json, &generous()).unwrap().remove(0);
                Some(Map::from_iter([("message", message)]).into())
            }
            Said::Id(id) => Some(Map::from_iter([("position", Value::from(id))]).into()),
            Said::Comment | Said::Retry(_) => None,
        };
        said.into_iter().filter_map(describe).collect()
    }

    /// The event streams in `wire/scenarios` mean the same wherever their bytes are divided.
    #[test]
    fn event_streams_parse_in_any_pieces() {
        let scenarios = scenarios("event stream");
        assert!(!scenarios.is_empty(), "found no scenarios");
        for (name, scenario) in scenarios {
            let stream = scenario.get("text").and_then(Value::as_text).unwrap().as_bytes();
            let expected = scenario.get("output").and_then(Value::as_array).unwrap();
            let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
                let mut parser = Parser::default();
                described(pieces.flat_map(|piece| parser.push(piece).unwrap()).collect())
            };
            for at in 0..=stream.len() {
                let (first, rest) = stream.split_at(at);
                assert_eq!(read(&mut [first, rest].into_iter()), expected, "{name}: cut at {at}");
            }
            for size in 1..stream.len() {
                assert_eq!(read(&mut stream.chunks(size)), expected, "{name}: pieces of {size}");
            }
        }
    }

    #[test]
    fn endless_line_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        assert!((0..17).any(|_| parser.push(&piece).is_err()));
    }
}
