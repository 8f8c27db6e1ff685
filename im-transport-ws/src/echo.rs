//! A service that echoes each message, for test suites such as Autobahn's.
//!
//! Handshake, codec, writing and closing are those of the transport, without the engine. Unlike the
//! transport it accepts text and binary messages on the same connection, and closes with the codes
//! of RFC 6455 section 7.4.1.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use im_core::Code;
use im_core::wire::Disconnect;
use im_http::Refusal;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::codec::{self, Socket};
use crate::link::Link;
use crate::service::Raw;
use crate::{closing, handshake};

/// How long to wait for the peer's half of the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The echo service. Cheap to clone; all clones share their connections.
#[derive(Debug, Clone)]
pub struct Echo {
    bounds: Bounds,
    tasks: TaskTracker,
}

/// Bounds on a message.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    message: usize,
    /// Bytes of a message including the headers of its frames.
    framed: u32,
}

impl Echo {
    /// Creates an echo for messages of up to `max_message_bytes`.
    ///
    /// `max_framing_bytes` bounds their frame headers, as the transport's
    /// [`WsConfig::max_framing_bytes`](crate::WsConfig::max_framing_bytes) does. Each connection
    /// holds two messages at most.
    pub fn new(max_message_bytes: usize, max_framing_bytes: usize) -> Self {
        let framed = max_message_bytes.saturating_add(max_framing_bytes);
        let framed = u32::try_from(framed).unwrap_or(u32::MAX);
        let bounds = Bounds { message: max_message_bytes, framed };
        Self { bounds, tasks: TaskTracker::new() }
    }

    fn handshake<B>(&self, mut request: Request<B>) -> Result<Response<Full<Bytes>>, Refusal> {
        let (response, _) = handshake::agree(&request, Full::default)?;
        let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(|| {
            handshake::upgrade_required(Code::Malformed, "this connection cannot be upgraded")
        })?;
        self.tasks.spawn(begin(upgrade, self.bounds));
        Ok(response)
    }
}

impl<B> Service<Request<B>> for Echo {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.handshake(request).unwrap_or_else(Refusal::into_response)))
    }
}

async fn begin(upgrade: OnUpgrade, bounds: Bounds) {
    let Ok(upgraded) = upgrade.await else { return };
    match Raw::of(upgraded) {
        Some(Raw::Tcp(socket, early, _place)) => talk(socket, early, bounds).await,
        Some(Raw::Other(upgraded)) => talk(TokioIo::new(upgraded), Bytes::new(), bounds).await,
        None => {}
    }
}

async fn talk<S: Socket>(socket: S, early: Bytes, bounds: Bounds) {
    let mut ws = codec::over(Link::new(socket, early, bounds.framed), bounds.message).await;
    loop {
        let (data, bytes): (Data, Bytes) = match ws.next().await {
            Some(Ok(Message::Text(text))) => (Data::Text, text.into()),
            Some(Ok(Message::Binary(bytes))) => (Data::Binary, bytes),
            Some(Ok(Message::Close(_))) => {
                return closing::answer_close(&mut ws, CLOSE_TIMEOUT).await;
            }
            Some(Ok(control)) => {
                ws.get_mut().control_read(control.len());
                continue;
            }
            Some(Err(error)) => match disconnect(&error) {
                Some(disconnect) => {
                    return closing::send_close(&mut ws, &disconnect, CLOSE_TIMEOUT).await;
                }
                None => return,
            },
            None => return,
        };
        let link = ws.get_mut();
        link.begin_message(bounds.framed);
        if link.push(OpCode::Data(data), &bytes).is_err() || link.flush().await.is_err() {
            return;
        }
    }
}

/// Returns the disconnect for a protocol violation; `None` if the peer is gone.
fn disconnect(error: &WsError) -> Option<Disconnect> {
    codec::fault(error)?;
    let code = match error {
        WsError::Capacity(_) => CloseCode::Size,
        WsError::Utf8(_) => CloseCode::Invalid,
        _ => CloseCode::Protocol,
    };
    Some(Disconnect { code: code.into(), message: error.to_string(), retry_after: None })
}
