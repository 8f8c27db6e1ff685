//! The body of a stream.
//!
//! The HTTP server polls it, so a client that does not read stops it, and further pushes wait in
//! the outbox within its bound.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use im_core::Code;
use im_core::code::{Advice, advice};
use im_core::engine::{Batch, BatchId};
use im_core::wire::{Disconnect, Encoding, Push, encode};
use im_http::Entry;

use crate::block::Blocks;
use crate::gzip::Gzip;
use crate::probe::Probe;

/// Practically for ever: the wait of a browser that must not resume its stream.
const NOT_BY_ITSELF: Duration = Duration::from_secs(24 * 3600);

/// Bytes of messages for each byte of a stream position. A position lists every room that has
/// advanced, so sending it with each batch could exceed the batch. A resumed stream redelivers at
/// most this much.
const BYTES_PER_POSITION_BYTE: usize = 4;

type Waiting = Pin<Box<dyn Future<Output = Batch> + Send>>;

/// An open stream.
pub(crate) struct Stream {
    entry: Entry,
    max_bytes: usize,
    blocks: Blocks,
    gzip: Option<Gzip>,
    /// The batch that the HTTP server has, released when it polls for more.
    written: Option<BatchId>,
    waiting: Option<Waiting>,
    probe: Option<Probe>,
    /// Bytes of messages since the last position.
    since_position: usize,
    /// Bytes of the last position.
    position: usize,
    ended: bool,
}

impl Stream {
    pub(crate) fn new(entry: Entry, retry: Duration, max_bytes: usize) -> Self {
        let mut blocks = Blocks::default();
        blocks.retry(retry);
        // A client resumes with a stream position, and a ticket is refused without one, so the
        // stream starts with it.
        let position = entry.connection().stream_position().to_string();
        let frame = encode(&Push::Position(position.as_str().into()).to_value(), Encoding::Json);
        blocks.data(frame, Some(&position));
        Self {
            entry,
            max_bytes,
            blocks,
            gzip: None,
            written: None,
            waiting: None,
            probe: None,
            since_position: 0,
            position: position.len(),
            ended: false,
        }
    }

    /// Detects whether a peer that has ended its half still reads, if a probe is available.
    pub(crate) fn probed(self, probe: Option<Probe>) -> Self {
        Self { probe, ..self }
    }

    /// Compresses the output if a compressor is set.
    pub(crate) fn compressed(self, gzip: Option<Gzip>) -> Self {
        Self { gzip, ..self }
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Batch> {
        let waiting = self.waiting.get_or_insert_with(|| {
            let (connection, max) = (self.entry.connection().clone(), self.max_bytes);
            Box::pin(async move { connection.next(max).await })
        });
        let batch = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(batch)
    }

    /// Returns the next chunk of output. With compression, all pending chunks become one.
    fn chunk(&mut self) -> Option<Bytes> {
        let first = self.blocks.pop()?;
        let Some(gzip) = &mut self.gzip else { return Some(first) };
        let chunks: Vec<Bytes> =
            std::iter::once(first).chain(std::iter::from_fn(|| self.blocks.pop())).collect();
        match gzip.write(&chunks) {
            Ok(chunk) => Some(chunk),
            Err(error) => {
                // The stream ends: without the lost bytes the client could not parse the rest. It
                // resumes.
                tracing::error!(%error, "a stream ended: its compression failed");
                (self.gzip, self.ended) = (None, true);
                None
            }
        }
    }

    fn write(&mut self, batch: Batch) {
        let Batch { id, mut frames, heartbeat, close, .. } = batch;
        tracing::trace!(frames = frames.len(), heartbeat, "batch out");
        self.written = Some(id);
        let bye = if close.is_some() { frames.pop() } else { None };
        self.since_position += frames.iter().map(Bytes::len).sum::<usize>();
        if let Some(last) = frames.pop() {
            frames.into_iter().for_each(|frame| self.blocks.data(frame, None));
            let position = self.next_position();
            self.blocks.data(last, position.as_deref());
        }
        if heartbeat {
            self.blocks.comment();
        }
        if let Some(close) = close {
            if let Some(wait) = wait_after(&close) {
                self.blocks.retry(wait);
            }
            bye.into_iter().for_each(|frame| self.blocks.data(frame, None));
            self.ended = true;
        }
    }
}

impl Stream {
    /// Returns the stream position after the delivered batch, if one is due.
    fn next_position(&mut self) -> Option<String> {
        if self.since_position < BYTES_PER_POSITION_BYTE * self.position {
            return None;
        }
        let position = self.entry.connection().stream_position().to_string();
        (self.since_position, self.position) = (0, position.len());
        Some(position)
    }
}

/// Returns the `retry` for a disconnect, because a browser does not interpret codes.
fn wait_after(disconnect: &Disconnect) -> Option<Duration> {
    let stays_away =
        disconnect.code == Code::Superseded.number() || advice(disconnect.code) == Advice::Stop;
    if stays_away { Some(NOT_BY_ITSELF) } else { disconnect.retry_after }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(chunk) = self.chunk() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if let Some(id) = self.written.take() {
                self.entry.connection().release(id);
            }
            if self.ended {
                return Poll::Ready(self.gzip.take().map(|gzip| Ok(Frame::data(gzip.end()))));
            }
            if let Poll::Ready(batch) = self.poll_batch(cx) {
                self.write(batch);
                continue;
            }
            let this = &mut *self;
            match this.probe.as_mut().map(|probe| probe.poll(cx)) {
                Some(Poll::Ready(())) => this.blocks.comment(),
                _ => return Poll::Pending,
            }
        }
    }
}
