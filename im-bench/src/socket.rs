//! A lean WebSocket client for the load scenarios: tiny buffers, no retries, no bookkeeping.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use futures::{SinkExt, StreamExt};
use im_core::wire::{
    self, Command, CommandBody, Encoding, Hello, Limits, Push, ServerFrame, Value,
};
use im_core::{CommandId, UserId};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Connections from one source address to one server address: fewer than Linux has ephemeral ports.
const PER_SOURCE: usize = 20_000;

/// A WebSocket over plain TCP.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Connects. `nth` is the number of the connection in this run and selects its loopback address.
///
/// # Errors
///
/// If the server does not accept the connection.
pub(crate) async fn connect(
    server: SocketAddr,
    path: &str,
    subprotocol: Option<&'static str>,
    nth: usize,
) -> Result<Socket> {
    let socket = TcpSocket::new_v4()?;
    if let (IpAddr::V4(ip), source @ 1..) = (server.ip(), nth / PER_SOURCE)
        && ip.is_loopback()
    {
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + u32::try_from(source)?);
        socket.bind(SocketAddr::new(source.into(), 0))?;
    }
    let stream = socket.connect(server).await.with_context(|| format!("connect to {server}"))?;
    stream.set_nodelay(true)?;
    let mut request = format!("ws://{server}{path}").into_client_request()?;
    if let Some(name) = subprotocol {
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    let config = WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0);
    let (socket, _) = client_async_with_config(request, stream, Some(config))
        .await
        .context("WebSocket handshake")?;
    Ok(socket)
}

/// Reads until the connection ends, so that pings are answered. Drops all messages.
pub(crate) async fn keep_reading(mut socket: Socket) -> Result<()> {
    while let Some(message) = socket.next().await {
        message?;
    }
    bail!("the server closed an idle connection")
}

/// A connection that speaks the protocol, one command at a time.
#[derive(Debug)]
pub(crate) struct Talker {
    socket: Socket,
    encoding: Encoding,
    last: u64,
    limits: Limits,
    /// Number of events received so far.
    pub(crate) events: u64,
}

impl Talker {
    /// Connects and sends `hello` in JSON.
    ///
    /// # Errors
    ///
    /// If the server does not accept the connection or refuses `hello`.
    pub(crate) async fn open(server: SocketAddr, user: &UserId, nth: usize) -> Result<Self> {
        Self::open_in(Encoding::Json, server, user, nth).await
    }

    /// Connects and sends `hello` in this encoding.
    ///
    /// # Errors
    ///
    /// As [`Talker::open`].
    pub(crate) async fn open_in(
        encoding: Encoding,
        server: SocketAddr,
        user: &UserId,
        nth: usize,
    ) -> Result<Self> {
        let socket = connect(server, "/", Some(encoding.subprotocol()), nth).await?;
        let mut talker = Self { socket, encoding, last: 0, limits: Limits::default(), events: 0 };
        let hello = Hello {
            version: wire::VERSION,
            token: None,
            user: Some(user.clone()),
            device: None,
            session: None,
            client: None,
        };
        talker.call(CommandBody::Hello(Box::new(hello))).await?;
        Ok(talker)
    }

    /// Sends a command, waits for its reply and returns its fields.
    ///
    /// # Errors
    ///
    /// If the command is refused or the connection ends.
    pub(crate) async fn call(&mut self, body: CommandBody) -> Result<Value> {
        let name = body.name();
        let id = self.post(body).await?;
        loop {
            for frame in self.receive().await? {
                match frame {
                    ServerFrame::Ok { id: answered, body } if answered == id => return Ok(body),
                    ServerFrame::Err(error) => {
                        bail!("`{name}` was refused: {} ({})", error.message, error.code)
                    }
                    _ => {}
                }
            }
        }
    }

    /// Sends a command without waiting for its reply.
    ///
    /// # Errors
    ///
    /// If the connection ends.
    pub(crate) async fn post(&mut self, body: CommandBody) -> Result<CommandId> {
        self.last += 1;
        let id = CommandId(self.last);
        let frame = wire::encode(&Command { id, body }.to_value(), self.encoding);
        let message = match self.encoding {
            Encoding::Json => Message::Text(Utf8Bytes::try_from(frame)?),
            Encoding::MsgPack => Message::Binary(frame),
        };
        self.socket.send(message).await?;
        Ok(id)
    }

    /// Waits until at least one event was received.
    ///
    /// # Errors
    ///
    /// If the connection ends.
    pub(crate) async fn until_an_event(&mut self) -> Result<()> {
        while self.events == 0 {
            self.receive().await?;
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<Vec<ServerFrame>> {
        loop {
            let message =
                self.socket.next().await.context("the server closed the connection")??;
            if !message.is_text() && !message.is_binary() {
                continue;
            }
            let frames: Vec<ServerFrame> =
                wire::decode(&message.into_data(), self.encoding, &self.limits)?
                    .into_iter()
                    .map(ServerFrame::from_value)
                    .collect::<Result<_, _>>()?;
            self.events +=
                frames.iter().filter(|f| matches!(f, ServerFrame::Push(Push::Event(_)))).count()
                    as u64;
            return Ok(frames);
        }
    }

    /// Returns the socket, for raw use.
    pub(crate) fn into_socket(self) -> Socket {
        self.socket
    }
}
