//! A WebSocket (RFC 6455) by hand, which can be cut in the middle of a frame.

use std::io;

use bytes::Bytes;
use im_core::wire::Encoding;

use crate::transport_suite::Received;
use crate::transport_suite::http::Client;

/// Any key works: masking protects intermediaries, and there are none (section 5.3).
const MASK: [u8; 4] = [0x5a, 0x01, 0xfe, 0x33];
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// An open WebSocket.
#[derive(Debug)]
pub(super) struct Ws {
    pub(super) client: Client,
    encoding: Encoding,
}

impl Ws {
    pub(super) async fn open(mut client: Client, encoding: Encoding) -> io::Result<Self> {
        let headers = [
            ("upgrade", "websocket".to_owned()),
            ("connection", "upgrade".to_owned()),
            ("sec-websocket-version", "13".to_owned()),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==".to_owned()),
            ("sec-websocket-protocol", encoding.subprotocol().to_owned()),
        ];
        client.begin("GET /im/ws", &headers, b"").await?;
        let answer = client.answer().await?;
        assert_eq!(answer.status, 101, "{answer:?}");
        Ok(Self { client, encoding })
    }

    /// Encodes a message as one masked frame (section 5.2).
    pub(super) fn frame(&self, message: &[u8]) -> Vec<u8> {
        let opcode = if self.encoding == Encoding::Json { TEXT } else { BINARY };
        let mut frame = vec![0x80 | opcode];
        match message.len() {
            len @ 0..=125 => frame.push(0x80 | len as u8),
            len => {
                assert!(len < 1 << 16, "a frame of less than 64 KiB");
                frame.push(0x80 | 126);
                frame.extend((len as u16).to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(message.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    /// Returns the next message or the end.
    pub(super) async fn receive(&mut self) -> Received {
        loop {
            match self.next().await {
                Ok((TEXT | BINARY, message)) => return Received::Message(message),
                Ok((CLOSE, body)) => {
                    let code = body.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                    return Received::Closed(code);
                }
                Ok(_) => {}
                Err(_) => return Received::Closed(None),
            }
        }
    }

    async fn next(&mut self) -> io::Result<(u8, Bytes)> {
        let head = self.client.take(2).await?;
        assert_eq!(head[0] & 0xf0, 0x80, "an unfragmented frame without extensions");
        let len = match head[1] {
            126 => {
                let len = self.client.take(2).await?;
                u64::from(u16::from_be_bytes([len[0], len[1]]))
            }
            127 => {
                let len = self.client.take(8).await?;
                len.iter().fold(0, |len, byte| len << 8 | u64::from(*byte))
            }
            len => u64::from(len),
        };
        Ok((head[0] & 0x0f, self.client.take(len as usize).await?))
    }
}
