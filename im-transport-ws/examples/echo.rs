//! Echoes each WebSocket message on the transport's own codec, for `cargo xtask autobahn`.
//!
//! The first line of output is the address. It stops when its standard input ends, on Ctrl-C, or on
//! SIGTERM.

use std::io::{self, Read};

use im_http::{Listener, ListenerConfig};
use im_transport_ws::echo::Echo;

/// Maximum bytes of a message: the largest of the Autobahn suite.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Maximum bytes of frame headers in a message: the suite sends 4 MiB in frames of 64 bytes, each
/// with a header of six.
const MAX_FRAMING_BYTES: usize = 1024 * 1024;

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = Listener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    // The parent process may end without a signal.
    let (gone, left) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || gone.send(io::stdin().read_to_end(&mut Vec::new())));
    let stop = async {
        tokio::select! {
            _ = left => {}
            _ = im_http::shutdown_signal() => {}
        }
    };
    let bounds = ListenerConfig::default().max_connections_per_address(usize::MAX);
    listener.config(bounds).serve_until(Echo::new(MAX_MESSAGE_BYTES, MAX_FRAMING_BYTES), stop).await
}
