//! Requests and responses of HTTP/1.1 (RFC 9112), as far as the suite needs them.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// The receive buffer in bytes: bounds what the system buffers for a client that does not read.
const RECEIVE_BUFFER: u32 = 16 * 1024;

/// A response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The head, header names in lower case.
    pub head: String,
    /// The body; empty until it is read.
    pub body: Bytes,
}

impl Answer {
    /// Returns the value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let of = |line: &str| line.split_once(": ").map(|(found, _)| found == name);
        let line = self.head.lines().find(|line| of(line) == Some(true))?;
        line.split_once(": ").map(|(_, value)| value)
    }

    /// Parses the body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the code of a refusal.
    pub fn code(&self) -> Option<u16> {
        u16::try_from(self.json().get("code")?.as_u64()?).ok()
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.contains("chunked"))
    }

    fn length(&self) -> usize {
        self.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    read: BytesMut,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// If the system refuses the connection.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: BytesMut::new() })
    }

    /// Sends a request and reads the complete response.
    ///
    /// # Errors
    ///
    /// If the connection ends early.
    pub async fn ask(
        &mut self,
        head: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> io::Result<Answer> {
        self.begin(head, headers, body).await?;
        self.finish().await
    }

    /// Reads the complete response to the request that was sent.
    ///
    /// # Errors
    ///
    /// If the connection ends early.
    pub async fn finish(&mut self) -> io::Result<Answer> {
        let mut answer = self.answer().await?;
        answer.body = self.body(&answer).await?;
        Ok(answer)
    }

    /// Sends a request: method and target, headers, and a body unless it is empty.
    ///
    /// # Errors
    ///
    /// If the connection ends early.
    pub async fn begin(
        &mut self,
        head: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> io::Result<()> {
        self.send(&request(head, headers, body)).await
    }

    /// Sends raw bytes.
    ///
    /// # Errors
    ///
    /// If the connection ends early.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Reads the head of a response. Cancel-safe.
    ///
    /// # Errors
    ///
    /// If the connection ends early.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        loop {
            let end = self.read.windows(4).position(|window| window == b"\r\n\r\n");
            let Some(end) = end else {
                self.more().await?;
                continue;
            };
            let head = self.read.split_to(end + 4);
            let head = String::from_utf8_lossy(&head).into_owned();
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            let status = status.ok_or(io::ErrorKind::InvalidData)?;
            let lower = |line: &str| match line.split_once(": ") {
                Some((name, value)) => format!("{}: {value}\n", name.to_ascii_lowercase()),
                None => format!("{line}\n"),
            };
            return Ok(Answer {
                status,
                head: head.lines().map(lower).collect(),
                body: Bytes::new(),
            });
        }
    }

    pub(crate) async fn body(&mut self, answer: &Answer) -> io::Result<Bytes> {
        if answer.is_chunked() {
            let mut body = BytesMut::new();
            while let Some(chunk) = self.chunk().await? {
                body.extend_from_slice(&chunk);
            }
            return Ok(body.freeze());
        }
        if answer.status == 304 || answer.status == 204 {
            return Ok(Bytes::new());
        }
        while self.read.len() < answer.length() {
            self.more().await?;
        }
        Ok(self.read.split_to(answer.length()).freeze())
    }

    /// Returns the next chunk of a chunked body (RFC 9112 section 7.1), or `None` at its end.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// If the connection ends early.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(line) = self.read.windows(2).position(|window| window == b"\r\n") {
                let size = std::str::from_utf8(&self.read[..line]).unwrap_or("?");
                let size = usize::from_str_radix(size.trim(), 16)
                    .map_err(|_| io::ErrorKind::InvalidData)?;
                if self.read.len() >= line + 2 + size + 2 {
                    self.read.advance(line + 2);
                    let chunk = self.read.split_to(size).freeze();
                    self.read.advance(2);
                    return Ok((size > 0).then_some(chunk));
                }
            }
            self.more().await?;
        }
    }

    /// Reads up to the end of the connection.
    ///
    /// # Errors
    ///
    /// If the connection ends early.
    pub async fn rest(&mut self) -> io::Result<Bytes> {
        while self.more().await.is_ok() {}
        Ok(self.read.split().freeze())
    }

    /// Waits until unread bytes or the end have arrived, without reading them. Cancel-safe.
    ///
    /// # Errors
    ///
    /// If the connection ends early.
    pub async fn arrived(&self) -> io::Result<()> {
        if self.read.is_empty() {
            self.stream.peek(&mut [0]).await?;
        }
        Ok(())
    }

    /// Reads exactly `bytes` bytes. Cancel-safe.
    ///
    /// # Errors
    ///
    /// If the connection ends early.
    pub async fn take(&mut self, bytes: usize) -> io::Result<Bytes> {
        while self.read.len() < bytes {
            self.more().await?;
        }
        Ok(self.read.split_to(bytes).freeze())
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Encodes a request (RFC 9112 section 3).
pub(crate) fn request(head: &str, headers: &[(&str, String)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{head} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if head.starts_with("POST") {
        request += &format!("content-length: {}\r\n", body.len());
    }
    request += "\r\n";
    [request.as_bytes(), body].concat()
}
