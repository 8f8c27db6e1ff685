//! The closing handshake (RFC 6455 section 7), bounded in time.
//!
//! If a socket is dropped with bytes unread, the system resets it, and the reset can overtake the
//! close frame on its way to the peer. Unless the peer has sent its own close frame, incoming bytes
//! are therefore read and discarded.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use im_core::wire::Disconnect;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, OpCode};

use crate::codec::Socket;
use crate::link::Link;

/// Longest reason in a close frame, in bytes: a control frame holds 125, of which the code takes
/// two (RFC 6455 section 5.5).
const MAX_REASON: usize = 123;

/// Boxed, because every connection needs it only once, at its end.
type Closing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Sends a close frame, and waits for the peer's.
pub(crate) fn send_close<'a, S: Socket>(
    ws: &'a mut WebSocketStream<Link<S>>,
    disconnect: &Disconnect,
    within: Duration,
) -> Closing<'a> {
    let frame =
        CloseFrame { code: disconnect.code.into(), reason: reason(&disconnect.message).into() };
    bounded(within, async move {
        // A pending pong is flushed first: nothing may follow the close frame (RFC 6455 section
        // 5.5.1).
        if ws.flush().await.is_err() || ws.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
        loop {
            match ws.next().await {
                Some(Ok(Message::Close(_))) => return hang_up(ws).await,
                Some(Ok(_)) => {}
                // The input is not WebSocket, or ended.
                Some(Err(_)) | None => return linger(ws).await,
            }
        }
    })
}

/// Answers the peer's close frame. tungstenite has queued the answer.
pub(crate) fn answer_close<S: Socket>(
    ws: &mut WebSocketStream<Link<S>>,
    within: Duration,
) -> Closing<'_> {
    bounded(within, async move {
        while let Some(Ok(_)) = ws.next().await {}
        hang_up(ws).await;
    })
}

/// Sends a close frame to a peer that has ended its half of the connection without one. tungstenite
/// writes nothing to such a peer, so the frame is built here.
pub(crate) async fn close_half_closed<S: Socket>(link: &mut Link<S>, disconnect: &Disconnect) {
    let payload = [&disconnect.code.to_be_bytes(), reason(&disconnect.message).as_bytes()].concat();
    let pushed = link.push(OpCode::Control(Control::Close), &payload);
    if pushed.is_ok()
        && let Err(error) = link.shutdown().await
    {
        tracing::debug!(%error, "the peer was gone before the end");
    }
}

fn bounded<'a>(within: Duration, polite: impl Future<Output = ()> + Send + 'a) -> Closing<'a> {
    Box::pin(async move {
        if tokio::time::timeout(within, polite).await.is_err() {
            tracing::debug!("the peer did not close in time");
        }
    })
}

/// Ends our half of the connection.
async fn hang_up<S: Socket>(ws: &mut WebSocketStream<Link<S>>) {
    if let Err(error) = ws.get_mut().shutdown().await {
        tracing::debug!(%error, "the peer was gone before the end");
    }
}

/// Ends our half of the connection, and discards further input.
async fn linger<S: Socket>(ws: &mut WebSocketStream<Link<S>>) {
    hang_up(ws).await;
    let mut forgotten = [0; 512];
    while matches!(ws.get_mut().read(&mut forgotten).await, Ok(count) if count > 0) {}
}

/// Cuts a text to the length that a close frame can hold.
fn reason(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_REASON)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(reason("the server goes away"), "the server goes away");
        let long = "ü".repeat(100);
        assert_eq!(reason(&long), "ü".repeat(61));
    }
}
