//! Messages over WebSocket (RFC 6455). The subprotocol names the encoding.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::SplitStream;
use futures::{SinkExt, Stream, StreamExt};
use im_core::Code;
use im_core::wire::Encoding;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request, StatusCode, Uri, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::link::{Connected, Incoming, Link, LinkError};
use crate::refusal::refused;

/// Connects by WebSocket.
#[derive(Debug, Clone)]
pub struct WebSocket {
    url: String,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    config: WebSocketConfig,
}

impl WebSocket {
    /// Connects to a server at `ws://host:port/path`.
    ///
    /// Buffers are small (4 KiB to read, 16 KiB to write), since most clients are idle most of the
    /// time; one message may have up to 16 MiB.
    pub fn new(url: impl Into<String>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .write_buffer_size(16 * 1024)
            .max_write_buffer_size(4 << 20)
            .max_message_size(Some(16 << 20))
            .max_frame_size(Some(16 << 20));
        Self { url: url.into(), headers: Vec::new(), config }
    }

    /// Adds a header to the handshake: for example a cookie or an origin.
    #[must_use]
    pub fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sets the size of the read buffer, which is held for the whole connection.
    #[must_use]
    pub fn read_buffer(mut self, bytes: usize) -> Self {
        self.config = self.config.read_buffer_size(bytes);
        self
    }

    fn request(&self, encoding: Encoding) -> Result<Request<()>, LinkError> {
        let wrong = |e: &dyn std::fmt::Display| {
            LinkError::coded(Code::BadField.number(), format!("{}: {e}", self.url))
        };
        let mut request = self.url.as_str().into_client_request().map_err(|e| wrong(&e))?;
        let subprotocol = HeaderValue::from_static(encoding.subprotocol());
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        for (name, value) in &self.headers {
            request.headers_mut().append(name.clone(), value.clone());
        }
        Ok(request)
    }
}

#[async_trait]
impl Link for WebSocket {
    async fn connect(&self, encoding: Encoding) -> Result<Connected, LinkError> {
        let request = self.request(encoding)?;
        let stream = dial(request.uri()).await?;
        let moved = Arc::new(AtomicBool::new(false));
        let stream = Counted { inner: stream, moved: moved.clone() };
        let connecting = client_async_with_config(request, stream, Some(self.config));
        let (socket, _) = connecting.await.map_err(|error| handshake_error(&error))?;
        Ok(split(socket, encoding, moved))
    }
}

async fn dial(uri: &Uri) -> Result<TcpStream, LinkError> {
    let wrong = |why: &str| LinkError::coded(Code::BadField.number(), format!("{uri}: {why}"));
    if uri.scheme_str() != Some("ws") {
        return Err(wrong("the address must begin with ws://"));
    }
    let host = uri.host().ok_or_else(|| wrong("the address has no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await;
    let stream = stream.map_err(|e| LinkError::cut(format!("cannot connect: {e}")))?;
    stream.set_nodelay(true).map_err(|e| LinkError::cut(e.to_string()))?;
    Ok(stream)
}

fn split<S>(socket: WebSocketStream<S>, encoding: Encoding, moved: Arc<AtomicBool>) -> Connected
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, stream) = socket.split();
    let sink = sink.sink_map_err(|error| LinkError::cut(error.to_string()));
    let sink = sink.with(move |message: Bytes| std::future::ready(to_message(message, encoding)));
    Connected { sink: Box::pin(sink), stream: Box::pin(Arriving { stream, moved }) }
}

/// A socket that records that bytes arrived.
#[derive(Debug)]
struct Counted<S> {
    inner: S,
    moved: Arc<AtomicBool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, out);
        if out.filled().len() > before {
            self.moved.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What arrives. Bytes of an incomplete message are a sign of life.
struct Arriving<S> {
    stream: SplitStream<WebSocketStream<S>>,
    moved: Arc<AtomicBool>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for Arriving<S> {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let polled = self.stream.poll_next_unpin(cx);
        let moved = self.moved.swap(false, Ordering::Relaxed);
        match polled {
            Poll::Pending if moved => Poll::Ready(Some(Incoming::Heard)),
            polled => polled.map(|item| item.map(incoming)),
        }
    }
}

fn to_message(bytes: Bytes, encoding: Encoding) -> Result<Message, LinkError> {
    match encoding {
        // The encoder's output is valid UTF-8; the check is cheap beside the write.
        Encoding::Json => Utf8Bytes::try_from(bytes).map(Message::Text).map_err(|_| {
            LinkError::coded(Code::Malformed.number(), "a message is not valid UTF-8")
        }),
        Encoding::MsgPack => Ok(Message::Binary(bytes)),
    }
}

fn incoming(item: Result<Message, WsError>) -> Incoming {
    match item {
        Ok(Message::Text(text)) => Incoming::Message(text.into()),
        Ok(Message::Binary(bytes)) => Incoming::Message(bytes),
        Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Incoming::Heard,
        Ok(Message::Close(Some(frame))) => {
            Incoming::Closed(LinkError::coded(frame.code.into(), frame.reason.to_string()))
        }
        Ok(Message::Close(None)) => {
            Incoming::Closed(LinkError::cut("the server closed without a reason"))
        }
        Err(error) => Incoming::Closed(LinkError::cut(error.to_string())),
    }
}

/// The error of a handshake that did not end in a WebSocket.
fn handshake_error(error: &WsError) -> LinkError {
    let response = match error {
        WsError::Http(response) => response,
        // The address is invalid, so a retry would fail too.
        WsError::Url(error) => {
            return LinkError::coded(Code::BadField.number(), format!("cannot connect: {error}"));
        }
        error => return LinkError::cut(format!("cannot connect: {error}")),
    };
    let body = response.body().as_deref().unwrap_or_default();
    let mut error = refused(response.status(), response.headers(), body);
    // A proxy dropped the upgrade. Our server also answers 426, but only because it received no
    // upgrade.
    error.unfit |= response.status() == StatusCode::UPGRADE_REQUIRED;
    error
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio_tungstenite::tungstenite::http::Response;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    /// The status of a refused handshake maps to the code of the same meaning.
    #[test]
    fn http_refusal_maps_to_code() {
        let refusal = |status: u16| {
            let response =
                Response::builder().status(status).header("retry-after", "7").body(None).unwrap();
            handshake_error(&WsError::Http(Box::new(response)))
        };
        assert_eq!(refusal(401).code, Some(4300));
        assert_eq!(refusal(429).code, Some(4200));
        assert_eq!(refusal(429).retry_after, Some(Duration::from_secs(7)));
        assert_eq!(refusal(500).code, None);
        assert!(refusal(502).gateway && refusal(403).unfit);
        let body = Some(br#"{"code":4500,"msg":"no upgrade"}"#.to_vec());
        let response = Response::builder().status(426).body(body).unwrap();
        let error = handshake_error(&WsError::Http(Box::new(response)));
        assert_eq!((error.code, error.message.as_str()), (Some(4500), "no upgrade"));
        assert!(error.unfit);
        let wrong = WebSocket::new("no url").request(Encoding::Json).unwrap_err();
        assert_eq!(wrong.code, Some(4504));
    }

    #[test]
    fn handshake_carries_encoding_and_headers() {
        let link = WebSocket::new("ws://localhost/im")
            .header(header::COOKIE, HeaderValue::from_static("a=b"));
        let request = link.request(Encoding::MsgPack).unwrap();
        assert_eq!(request.headers()[header::SEC_WEBSOCKET_PROTOCOL], "im.v1.msgpack");
        assert_eq!(request.headers()[header::COOKIE], "a=b");
    }

    /// Bytes of a message count before the whole message has arrived.
    #[tokio::test(start_paused = true)]
    async fn partial_message_counts_as_activity() {
        let (mut server, client) = tokio::io::duplex(64);
        let moved = Arc::new(AtomicBool::new(false));
        let client = Counted { inner: client, moved: moved.clone() };
        let socket = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let mut stream = split(socket, Encoding::Json, moved).stream;
        // A text of 100 bytes (RFC 6455 section 5.2).
        server.write_all(&[0x81, 100]).await.unwrap();
        for _ in 0..4 {
            assert_eq!(stream.next().await, Some(Incoming::Heard));
            assert!(futures::FutureExt::now_or_never(stream.next()).is_none(), "once for each");
            server.write_all(&[b'x'; 25]).await.unwrap();
        }
        assert_eq!(stream.next().await, Some(Incoming::Message("x".repeat(100).into())));
    }
}
