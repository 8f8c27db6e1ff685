//! The transport suite of im-testkit, with a client that writes raw bytes.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::future::pending;
use std::net::SocketAddr;

use im_testkit::transport_suite::{
    Bytes, Dial, Encoding, Engine, RawLink, Received, Refused, TransportFactory, async_trait,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Maximum bytes that the system buffers for a client that does not read.
const RECEIVE_BUFFER: u32 = 16 * 1024;

struct RawTcp {
    addresses: Vec<SocketAddr>,
    /// Aborted when the factory is dropped.
    _servers: JoinSet<()>,
}

#[async_trait]
impl TransportFactory for RawTcp {
    fn encodings() -> &'static [Encoding] {
        &[Encoding::Json]
    }

    async fn serve(engines: &[Engine]) -> Self {
        let (mut addresses, mut servers) = (Vec::new(), JoinSet::new());
        for engine in engines {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            servers.spawn(raw_tcp::serve(listener, engine.clone(), pending()));
        }
        Self { addresses, _servers: servers }
    }

    async fn dial(&self, dial: Dial) -> Result<Box<dyn RawLink>, Refused> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
        let stream = socket.connect(self.addresses[dial.engine]).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (input, output) = stream.into_split();
        let (outbound, pieces) = mpsc::unbounded_channel();
        let mut writer = JoinSet::new();
        writer.spawn(write(output, pieces));
        let input = BufReader::new(input);
        Ok(Box::new(Link { outbound, _writer: writer, input, line: Vec::new() }))
    }
}

struct Link {
    outbound: mpsc::UnboundedSender<Bytes>,
    /// Writes in the background, so that the suite does not block on a server that does not read.
    /// Aborted when the link is dropped.
    _writer: JoinSet<()>,
    input: BufReader<OwnedReadHalf>,
    /// The bytes read of an incomplete line.
    line: Vec<u8>,
}

impl Link {
    fn push(&self, piece: Bytes) {
        // If the writer is gone, so is the connection.
        let _ = self.outbound.send(piece);
    }
}

async fn write(mut output: OwnedWriteHalf, mut pieces: mpsc::UnboundedReceiver<Bytes>) {
    while let Some(piece) = pieces.recv().await {
        if output.write_all(&piece).await.is_err() {
            return;
        }
    }
}

#[async_trait]
impl RawLink for Link {
    async fn send(&mut self, message: Bytes, encoding: Encoding) {
        self.send_in_pieces(message, encoding, 1).await;
    }

    async fn send_in_pieces(&mut self, message: Bytes, _: Encoding, pieces: usize) {
        let size = message.len().div_ceil(pieces).max(1);
        message.chunks(size).for_each(|piece| self.push(Bytes::copy_from_slice(piece)));
        self.push(Bytes::from_static(b"\n"));
    }

    async fn receive(&mut self) -> Received {
        loop {
            match self.input.read_until(b'\n', &mut self.line).await {
                Ok(_) if self.line.pop_if(|last| *last == b'\n').is_none() => break,
                // A heartbeat.
                Ok(_) if self.line.is_empty() => {}
                Ok(_) => return Received::Message(std::mem::take(&mut self.line).into()),
                Err(_) => break,
            }
        }
        Received::Closed(None)
    }

    fn cut(self: Box<Self>) {}
}

im_testkit::transport_suite!(bare: RawTcp);
