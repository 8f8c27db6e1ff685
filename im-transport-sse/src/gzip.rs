//! Compression of a stream (RFC 1951, RFC 1952), with little memory per stream.
//!
//! A compressor takes a third of a megabyte, and a stream is open for hours and mostly silent. A
//! stream therefore owns none: it keeps the tail of its output, and borrows a compressor for each
//! write, which is primed with that tail as the client's dictionary. Each write ends on a byte
//! boundary, in blocks of its own, so the client can decompress all of it at once.

use std::sync::Arc;

use bytes::Bytes;
use flate2::{Compress, CompressError, Compression, Crc, FlushCompress};
use parking_lot::Mutex;

/// Bytes of output that a stream keeps. The next message resembles the last few: more would hardly
/// shorten it, and the compressor has to read them for each write.
const HISTORY: usize = 4096;

/// Header of a member without a name or a time, of unknown system (RFC 1952 section 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// An empty last block (RFC 1951 section 3.2.6).
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Idle compressors. There are as many as threads have ever written at the same time.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Compress>>,
}

impl Pool {
    fn take(&self) -> Compress {
        match self.idle.lock().pop() {
            Some(mut compress) => {
                compress.reset();
                compress
            }
            None => Compress::new(Compression::fast(), false),
        }
    }

    fn give_back(&self, compress: Compress) {
        self.idle.lock().push(compress);
    }
}

/// The compressed form of one stream.
pub(crate) struct Gzip {
    pool: Arc<Pool>,
    history: Vec<u8>,
    written: Crc,
    has_begun: bool,
}

impl Gzip {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, history: Vec::new(), written: Crc::new(), has_begun: false }
    }

    /// Compresses the chunks of one write. The client can decompress all of them from the result.
    ///
    /// # Errors
    ///
    /// None in practice: the compressor always has room and is in the right state.
    pub(crate) fn write(&mut self, chunks: &[Bytes]) -> Result<Bytes, CompressError> {
        let length: usize = chunks.iter().map(Bytes::len).sum();
        let mut out = Vec::with_capacity(length / 2 + 64);
        let mut compress = self.pool.take();
        if !self.history.is_empty() {
            // The client has these bytes already; only the compressor needs them, so the output is
            // discarded.
            run(&mut compress, &self.history, FlushCompress::Sync, &mut out)?;
            out.clear();
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            out.extend_from_slice(&HEADER);
        }
        for chunk in chunks {
            run(&mut compress, chunk, FlushCompress::None, &mut out)?;
            self.written.update(chunk);
            self.remember(chunk);
        }
        run(&mut compress, &[], FlushCompress::Sync, &mut out)?;
        self.pool.give_back(compress);
        Ok(out.into())
    }

    /// Returns the end of the compressed stream.
    pub(crate) fn end(&self) -> Bytes {
        let trailer = [self.written.sum().to_le_bytes(), self.written.amount().to_le_bytes()];
        let header: &[u8] = if self.has_begun { &[] } else { &HEADER };
        [header, &LAST_BLOCK, &trailer.concat()].concat().into()
    }

    fn remember(&mut self, chunk: &[u8]) {
        let chunk = &chunk[chunk.len().saturating_sub(HISTORY)..];
        let kept = self.history.len().min(HISTORY - chunk.len());
        self.history.drain(..self.history.len() - kept);
        if self.history.capacity() < kept + chunk.len() {
            self.history.reserve_exact(HISTORY - kept);
        }
        self.history.extend_from_slice(chunk);
    }
}

/// Runs the compressor until it has read all input and written all output to be flushed.
fn run(
    compress: &mut Compress,
    mut input: &[u8],
    flush: FlushCompress,
    out: &mut Vec<u8>,
) -> Result<(), CompressError> {
    loop {
        out.reserve(input.len() / 2 + 64);
        let before = compress.total_in();
        compress.compress_vec(input, out, flush)?;
        // It reads no more than it received.
        let taken = usize::try_from(compress.total_in() - before).unwrap_or(usize::MAX);
        input = input.get(taken..).unwrap_or_default();
        if input.is_empty() && out.len() < out.capacity() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzDecoder;

    use super::*;

    fn event(n: usize) -> Bytes {
        let noise = n.wrapping_mul(2_654_435_761) % 100_000;
        Bytes::from(format!(
            "data: {{\"t\":\"event\",\"room\":\"tea\",\"epoch\":\"1f3a.2\",\"seq\":{n},\"from\":\"alice\",\"at\":17672256{noise:05},\"kind\":\"message\",\"mid\":\"by-hand-{noise:05x}\",\"content\":{{\"text\":\"Is anybody there?\"}}}}\nid: AQ{noise:05}\n\n"
        ))
    }

    /// Compresses writes, and decompresses each one at once.
    fn there_and_back(gzip: &mut Gzip, writes: &[Vec<Bytes>]) -> (usize, usize) {
        let mut decoder = GzDecoder::new(Vec::new());
        let (mut plain, mut packed) = (Vec::new(), 0);
        for chunks in writes {
            let bytes = gzip.write(chunks).unwrap();
            packed += bytes.len();
            decoder.write_all(&bytes).unwrap();
            decoder.flush().unwrap();
            plain.extend(chunks.concat());
            assert!(*decoder.get_ref() == plain, "all of a write can be read at once");
            assert!(gzip.history.capacity() <= HISTORY);
            assert!(plain.ends_with(&gzip.history));
        }
        decoder.write_all(&gzip.end()).unwrap();
        decoder.try_finish().unwrap();
        (plain.len(), packed)
    }

    /// Each write can be decompressed at once and is much shorter.
    #[test]
    fn gzip_flushes_each_write() {
        let writes: Vec<Vec<Bytes>> = (0..100).map(|n| vec![event(n)]).collect();
        let (plain, packed) = there_and_back(&mut Gzip::new(Arc::default()), &writes);
        assert!(packed * 3 < plain, "{plain} bytes became {packed}");
    }

    #[test]
    fn writes_of_every_size_come_through() {
        let noise = |n: usize| -> Bytes {
            (0..n).map(|at| (at * at / 7 % 251) as u8).collect::<Vec<u8>>().into()
        };
        let sizes = [0, 1, 3, 100, 4095, 4096, 4097, 70_000, 5, 300_000, 0, 2];
        let mut writes: Vec<Vec<Bytes>> = sizes.iter().map(|n| vec![noise(*n)]).collect();
        writes.push(vec![]);
        writes.push((0..300).map(event).collect());
        writes.push(vec![Bytes::from_static(b":\n\n")]);
        there_and_back(&mut Gzip::new(Arc::default()), &writes);
        there_and_back(&mut Gzip::new(Arc::default()), &[]);
    }

    #[test]
    fn streams_share_compressors_and_nothing_else() {
        let pool = Arc::new(Pool::default());
        let mut streams: Vec<Gzip> = (0..50).map(|_| Gzip::new(pool.clone())).collect();
        for (n, stream) in streams.iter_mut().enumerate() {
            there_and_back(stream, &[vec![event(n)], vec![event(n * 7), event(n + 1)]]);
        }
        assert_eq!(pool.idle.lock().len(), 1);
    }
}
