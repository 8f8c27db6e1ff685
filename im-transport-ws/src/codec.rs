//! WebSocket messages over a socket: tungstenite on a [`Link`], one per connection.

use im_core::Code;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::link::{Flooded, Link};

/// Size of tungstenite's read buffer, in bytes. It lives as long as the connection, so it is small;
/// [`Link`] compensates for that.
const READ_BUFFER: usize = 256;

/// Maximum bytes of control frames that tungstenite may buffer: a few times the largest (RFC 6455
/// section 5.5).
const MAX_CONTROL: usize = 1024;

/// A socket, raw or wrapped.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for T {}

/// Creates the server side of WebSocket over a link. A message has up to `limit` bytes.
pub(crate) async fn over<S: Socket>(link: Link<S>, limit: usize) -> WebSocketStream<Link<S>> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_CONTROL)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit));
    WebSocketStream::from_raw_socket(link, Role::Server, Some(config)).await
}

/// Returns the code of a protocol violation; `None` if the peer or its socket is gone.
pub(crate) fn fault(error: &WsError) -> Option<Code> {
    match error {
        WsError::Capacity(_) => Some(Code::TooLarge),
        WsError::Utf8(_) => Some(Code::Malformed),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        WsError::Protocol(_) => Some(Code::Malformed),
        WsError::Io(error) if error.get_ref().is_some_and(|error| error.is::<Flooded>()) => {
            Some(Code::RateLimited)
        }
        _ => None,
    }
}
