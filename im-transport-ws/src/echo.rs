//! A service that sends each message back, for suites of tests such as Autobahn's.
//!
//! Handshake, codec, writing and closing are those of the transport; only the engine is missing. Unlike the transport it
//! takes text and binary messages on the same connection, and closes with the codes of RFC 6455 section 7.4.1.

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
use im_core::wire::Bye;
use im_http::Refusal;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::codec::{self, Socket};
use crate::service::Raw;
use crate::{farewell, handshake};

/// How long to wait for the peer's half of the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The service. Cheap to clone; all clones share their connections.
#[derive(Debug, Clone)]
pub struct Echo {
    max_message_bytes: usize,
    tasks: TaskTracker,
}

impl Echo {
    /// An echo of messages of up to so many bytes. Each connection holds two of them at most.
    pub fn new(max_message_bytes: usize) -> Self {
        Self { max_message_bytes, tasks: TaskTracker::new() }
    }

    fn handshake<B>(&self, mut request: Request<B>) -> Result<Response<Full<Bytes>>, Refusal> {
        let (response, _) = handshake::agree(&request, Full::default)?;
        let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(|| {
            handshake::upgrade_required(Code::Malformed, "this connection cannot be upgraded")
        })?;
        self.tasks.spawn(begin(upgrade, self.max_message_bytes));
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

async fn begin(upgrade: OnUpgrade, limit: usize) {
    let Ok(upgraded) = upgrade.await else { return };
    match Raw::of(upgraded) {
        Some(Raw::Tcp(socket, early, _place)) => talk(socket, early, limit).await,
        Some(Raw::Other(upgraded)) => talk(TokioIo::new(upgraded), Bytes::new(), limit).await,
        None => {}
    }
}

async fn talk<S: Socket>(socket: S, early: Bytes, limit: usize) {
    let mut ws = codec::over(socket, early, limit).await;
    loop {
        let (data, bytes): (Data, Bytes) = match ws.next().await {
            Some(Ok(Message::Text(text))) => (Data::Text, text.into()),
            Some(Ok(Message::Binary(bytes))) => (Data::Binary, bytes),
            Some(Ok(Message::Close(_))) => return farewell::theirs(&mut ws, CLOSE_TIMEOUT).await,
            Some(Ok(_)) => continue,
            Some(Err(error)) => match bye(&error) {
                Some(bye) => return farewell::ours(&mut ws, &bye, CLOSE_TIMEOUT).await,
                None => return,
            },
            None => return,
        };
        let link = ws.get_mut();
        if link.push(OpCode::Data(data), &bytes).is_err() || link.flush().await.is_err() {
            return;
        }
    }
}

/// What the peer is told that broke the protocol.
fn bye(error: &WsError) -> Option<Bye> {
    codec::fault(error)?;
    let code = match error {
        WsError::Capacity(_) => CloseCode::Size,
        WsError::Utf8(_) => CloseCode::Invalid,
        _ => CloseCode::Protocol,
    };
    Some(Bye { code: code.into(), message: error.to_string(), retry_after: None })
}
