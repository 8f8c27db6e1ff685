//! The adapter: requests of one process.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use im_core::backend::{BackendError, BackendErrorKind, BackendResult, Way};
use im_core::kv::{Database, DatabaseInfo, Each, Rows, Value, WriteBatch, Written};
use im_core::ports::Durability;
use parking_lot::Mutex;

use crate::frames::{damaged, receive, send, to_value, value};

/// How long the server may take to connect, and for one reply.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rows of one reply.
const CHUNK: u64 = 256;

/// A database at an address, with the connections that are idle.
pub struct Remote {
    address: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
}

/// A snapshot, and the connection that holds it open.
struct Snapshot<'a> {
    remote: &'a Remote,
    stream: Mutex<Option<TcpStream>>,
    version: Vec<u8>,
}

impl Remote {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, idle: Mutex::default() }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        if let Some(stream) = self.idle.lock().pop() {
            return Ok(stream);
        }
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// One request on an idle connection, which is dropped if it fails.
    fn ask(&self, request: &[Vec<u8>]) -> BackendResult<Vec<Vec<u8>>> {
        let mut stream = self.connect().map_err(unavailable)?;
        let reply = exchange(&mut stream, request).map_err(unavailable)?;
        self.idle.lock().push(stream);
        Ok(reply)
    }
}

fn exchange(stream: &mut TcpStream, request: &[Vec<u8>]) -> io::Result<Vec<Vec<u8>>> {
    send(stream, request)?;
    receive(stream)
}

fn unavailable(error: io::Error) -> BackendError {
    let words = format!("the database does not answer: {error}");
    BackendError::new(BackendErrorKind::Unavailable, words).because(error)
}

fn get(version: &[u8], key: &[u8]) -> [Vec<u8>; 3] {
    [b"g".to_vec(), version.to_vec(), key.to_vec()]
}

/// Shows the rows of a range, which `ask` returns in chunks.
fn scan(
    range: Range<&[u8]>,
    way: Way,
    each: Each<'_>,
    version: &[u8],
    ask: impl Fn(&[Vec<u8>]) -> BackendResult<Vec<Vec<u8>>>,
) -> BackendResult<()> {
    let (mut first, mut behind) = (range.start.to_vec(), range.end.to_vec());
    let kind = if way == Way::Forwards { b"f" } else { b"b" };
    loop {
        let limit = CHUNK.to_be_bytes().to_vec();
        let request = [kind.to_vec(), version.to_vec(), first.clone(), behind.clone(), limit];
        let rows = ask(&request)?;
        for row in rows.chunks_exact(2) {
            if each(&row[0], &row[1]).is_break() {
                return Ok(());
            }
        }
        match rows.chunks_exact(2).next_back() {
            Some(last) if way == Way::Forwards => first = [&last[0][..], &[0]].concat(),
            Some(last) => behind = last[0].clone(),
            None => return Ok(()),
        }
    }
}

fn first_value(reply: &[Vec<u8>]) -> BackendResult<Option<Value>> {
    reply.first().map(|field| to_value(field)).ok_or_else(|| unavailable(damaged()))
}

impl Rows for Remote {
    fn get(&self, key: &[u8]) -> BackendResult<Option<Value>> {
        first_value(&self.ask(&get(&[], key))?)
    }

    fn scan(&self, range: Range<&[u8]>, way: Way, each: Each<'_>) -> BackendResult<()> {
        scan(range, way, each, &[], |request| self.ask(request))
    }
}

impl Snapshot<'_> {
    /// One request on the snapshot's connection.
    fn ask(&self, request: &[Vec<u8>]) -> BackendResult<Vec<Vec<u8>>> {
        let mut held = self.stream.lock();
        let stream = held.as_mut().ok_or_else(|| unavailable(damaged()))?;
        let reply = exchange(stream, request);
        if reply.is_err() {
            *held = None;
        }
        reply.map_err(unavailable)
    }
}

impl Rows for Snapshot<'_> {
    fn get(&self, key: &[u8]) -> BackendResult<Option<Value>> {
        first_value(&self.ask(&get(&self.version, key))?)
    }

    fn scan(&self, range: Range<&[u8]>, way: Way, each: Each<'_>) -> BackendResult<()> {
        scan(range, way, each, &self.version, |request| self.ask(request))
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        let _ = self.ask(&[b"r".to_vec(), self.version.clone()]);
        self.remote.idle.lock().extend(self.stream.lock().take());
    }
}

impl Database for Remote {
    fn info(&self) -> DatabaseInfo {
        // The server keeps everything in memory: a batch survives the end of its clients.
        let (name, durability) = ("remote", Durability::ProcessCrash);
        DatabaseInfo { name, durability, exclusive: false, snapshots: true, immediate: false }
    }

    fn snapshot(&self) -> BackendResult<Option<Box<dyn Rows + '_>>> {
        let mut stream = self.connect().map_err(unavailable)?;
        let mut reply = exchange(&mut stream, &[b"s".to_vec()]).map_err(unavailable)?;
        let version = reply.pop().ok_or_else(|| unavailable(damaged()))?;
        let stream = Mutex::new(Some(stream));
        Ok(Some(Box::new(Snapshot { remote: self, stream, version })))
    }

    fn write(&self, batch: &WriteBatch) -> BackendResult<Written> {
        let mut request = vec![b"w".to_vec(), (batch.checks.len() as u64).to_be_bytes().to_vec()];
        for (key, held) in batch.checks.iter().chain(&batch.changes) {
            request.extend([key.clone(), value(held.as_deref())]);
        }
        let mut stream = self.connect().map_err(unavailable)?;
        // Once it is under way, only a reply says what became of it.
        let reply = exchange(&mut stream, &request).map_err(|error| {
            let words = format!("the outcome of a batch is not known: {error}");
            BackendError::new(BackendErrorKind::InDoubt, words).because(error)
        })?;
        self.idle.lock().push(stream);
        let is_applied = reply.first().is_some_and(|field| field == b"a");
        Ok(if is_applied { Written::Applied } else { Written::Changed })
    }

    fn close(&self) -> BackendResult<()> {
        self.idle.lock().clear();
        Ok(())
    }
}
