//! The transport suite over real sockets, with a third-party client.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

use std::net::SocketAddr;

use bytes::Bytes;
use futures::stream::{SplitStream, StreamExt};
use futures::{Sink, SinkExt};
use im_http::Listener;
use im_testkit::transport_suite::{
    Dial, Encoding, Engine, RawLink, Received, Refused, TransportFactory, async_trait,
};
use im_transport_ws::{WebSocket, WsConfig};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// Maximum bytes that the system buffers for a client that does not read.
const RECEIVE_BUFFER: u32 = 16 * 1024;

struct Served {
    addresses: Vec<SocketAddr>,
    /// Aborted when the factory is dropped.
    _listeners: JoinSet<()>,
}

#[async_trait]
impl TransportFactory for Served {
    async fn serve(engines: &[Engine]) -> Self {
        let (mut addresses, mut listeners) = (Vec::new(), JoinSet::new());
        for engine in engines {
            let service = WebSocket::new(engine.clone(), WsConfig::default());
            let listener = Listener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            listeners.spawn(async move { listener.serve(service).await.unwrap() });
        }
        Self { addresses, _listeners: listeners }
    }

    async fn dial(&self, dial: Dial) -> Result<Box<dyn RawLink>, Refused> {
        let address = self.addresses[dial.engine];
        let mut request = format!("ws://{address}/").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(dial.encoding.subprotocol()));
        if let Some(token) = &dial.token {
            let bearer = format!("Bearer {}", token.expose());
            headers.insert(AUTHORIZATION, HeaderValue::from_str(&bearer).unwrap());
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
        let stream = socket.connect(address).await.unwrap();
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Box::new(Link::new(socket))),
            Err(WsError::Http(response)) => {
                Err(Refused { code: code_of(response.body().as_deref()) })
            }
            Err(other) => panic!("no handshake: {other}"),
        }
    }
}

/// Reads the code in the body of a refusal.
fn code_of(body: Option<&[u8]>) -> Option<u16> {
    let body: serde_json::Value = serde_json::from_slice(body?).ok()?;
    u16::try_from(body.get("code")?.as_u64()?).ok()
}

struct Link {
    outbound: mpsc::UnboundedSender<Frame>,
    /// Writes in the background, so that the suite does not block on a server that does not read.
    writer: JoinHandle<()>,
    stream: SplitStream<WebSocketStream<TcpStream>>,
}

impl Link {
    fn new(socket: WebSocketStream<TcpStream>) -> Self {
        let (sink, stream) = socket.split();
        let (outbound, frames) = mpsc::unbounded_channel();
        Self { outbound, writer: tokio::spawn(write(sink, frames)), stream }
    }

    /// Frames are built by hand, because the suite also sends invalid ones.
    fn push(&mut self, payload: Bytes, code: Data, last: bool) {
        // If the writer is gone, so is the connection.
        let _ = self.outbound.send(Frame::message(payload, OpCode::Data(code), last));
    }
}

async fn write(
    mut sink: impl Sink<Message, Error = WsError> + Unpin,
    mut frames: mpsc::UnboundedReceiver<Frame>,
) {
    while let Some(frame) = frames.recv().await {
        if sink.send(Message::Frame(frame)).await.is_err() {
            return;
        }
    }
}

fn data(encoding: Encoding) -> Data {
    match encoding {
        Encoding::Json => Data::Text,
        Encoding::MsgPack => Data::Binary,
    }
}

#[async_trait]
impl RawLink for Link {
    async fn send(&mut self, message: Bytes, encoding: Encoding) {
        self.push(message, data(encoding), true);
    }

    async fn send_in_pieces(&mut self, message: Bytes, encoding: Encoding, pieces: usize) {
        let size = message.len().div_ceil(pieces).max(1);
        let count = message.len().div_ceil(size);
        for at in 0..count {
            let part = message.slice(at * size..((at + 1) * size).min(message.len()));
            let code = if at == 0 { data(encoding) } else { Data::Continue };
            self.push(part, code, at + 1 == count);
        }
    }

    async fn receive(&mut self) -> Received {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Received::Message(text.into()),
                Some(Ok(Message::Binary(bytes))) => return Received::Message(bytes),
                Some(Ok(Message::Close(frame))) => {
                    return Received::Closed(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Received::Closed(None),
            }
        }
    }

    fn cut(self: Box<Self>) {}
}

impl Drop for Link {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

im_testkit::transport_suite!(Served);
