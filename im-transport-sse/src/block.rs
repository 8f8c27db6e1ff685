//! Lines of the event stream format (the HTML standard, section 9.2.5).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

/// Minimum size of a frame that is shared with its other subscribers instead of copied. Below it,
/// copying the frame next to its neighbours is cheaper than a chunk of its own.
const SHARE_FROM: usize = 1024;

/// Output of a stream, in chunks.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    chunks: VecDeque<Bytes>,
    /// The bytes of the next chunk.
    open: BytesMut,
}

impl Blocks {
    /// Writes a message, with the stream position if it is the last one of a batch.
    ///
    /// The two share a block because some clients, such as npm's `eventsource`, ignore an id
    /// without data, against the standard.
    ///
    /// Compact JSON has no line breaks, so the message is one line. If a frame ever had one, the
    /// message would be truncated there and its rest parsed as other fields. Each line is therefore
    /// marked as data, which parses as the same JSON.
    pub(crate) fn data(&mut self, frame: Bytes, position: Option<&str>) {
        if frame.iter().any(|byte| is_break(*byte)) {
            debug_assert!(false, "a frame has a line break in it");
            frame.split(|byte| is_break(*byte)).for_each(|line| self.line("data: ", line));
        } else if frame.len() >= SHARE_FROM {
            self.open.extend_from_slice(b"data: ");
            self.seal();
            self.chunks.push_back(frame);
            self.open.extend_from_slice(b"\n");
        } else {
            self.line("data: ", &frame);
        }
        if let Some(position) = position {
            self.line("id: ", position.as_bytes());
        }
        self.open.extend_from_slice(b"\n");
    }

    /// Writes the time to wait before the stream is resumed.
    pub(crate) fn retry(&mut self, time: Duration) {
        self.line("retry: ", time.as_millis().to_string().as_bytes());
        self.open.extend_from_slice(b"\n");
    }

    /// Writes an empty comment.
    pub(crate) fn comment(&mut self) {
        self.open.extend_from_slice(b":\n\n");
    }

    fn line(&mut self, name: &str, value: &[u8]) {
        self.open.extend_from_slice(name.as_bytes());
        self.open.extend(value.iter().filter(|byte| !is_break(**byte) && **byte != 0));
        self.open.extend_from_slice(b"\n");
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.chunks.push_back(self.open.split().freeze());
        }
    }

    /// Returns the next chunk.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        self.chunks.pop_front().or_else(|| {
            self.seal();
            self.chunks.pop_front()
        })
    }
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(mut blocks: Blocks) -> (usize, String) {
        let chunks: Vec<Bytes> = std::iter::from_fn(|| blocks.pop()).collect();
        (chunks.len(), String::from_utf8(chunks.concat()).unwrap())
    }

    /// Small frames are copied into one chunk, and large ones are shared.
    #[test]
    fn small_frames_join_large_are_shared() {
        let large = Bytes::from(format!("\"{}\"", "x".repeat(SHARE_FROM)));
        let mut blocks = Blocks::default();
        blocks.retry(Duration::from_millis(1500));
        blocks.data(Bytes::from_static(b"{}"), None);
        blocks.data(large.clone(), Some("AQ"));
        blocks.data(Bytes::from_static(b"[]"), Some("AQ-_"));
        blocks.comment();
        let shared = {
            blocks.seal();
            blocks.chunks[1].clone()
        };
        assert_eq!(shared.as_ptr(), large.as_ptr());
        let (chunks, text) = written(blocks);
        let large = std::str::from_utf8(&large).unwrap();
        assert_eq!(
            text,
            format!(
                "retry: 1500\n\ndata: {{}}\n\ndata: {large}\nid: AQ\n\ndata: []\nid: AQ-_\n\n:\n\n"
            )
        );
        assert_eq!(chunks, 3);
    }

    #[test]
    fn line_breaks_are_removed_from_fields() {
        let mut blocks = Blocks::default();
        blocks.data(Bytes::from_static(b"{}"), Some("A\r\ndata: {\"t\":\"disconnect\"}\n\n\0"));
        assert_eq!(written(blocks).1, "data: {}\nid: Adata: {\"t\":\"disconnect\"}\n\n");
    }
}
