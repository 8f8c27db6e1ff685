//! Writing and reading the parts of a record.

use im_core::ports::StoreResult;
use im_core::{Seq, Timestamp};

use crate::error::damaged;

/// The version that every record begins with.
const VERSION: u8 = 1;

/// Writes a record.
pub(crate) struct Out(Vec<u8>);

impl Out {
    pub(crate) fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity + 1);
        bytes.push(VERSION);
        Self(bytes)
    }

    pub(crate) fn u8(mut self, n: u8) -> Self {
        self.0.push(n);
        self
    }

    pub(crate) fn u32(mut self, n: u32) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, n: u64) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    pub(crate) fn time(self, time: Timestamp) -> Self {
        self.u64(time.as_millis())
    }

    /// A text of at most 255 bytes, as every id is.
    pub(crate) fn text(mut self, text: &str) -> Self {
        debug_assert!(text.len() <= usize::from(u8::MAX));
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// Bytes up to the end of the record.
    pub(crate) fn rest(mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(bytes);
        self.0
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a record.
pub(crate) struct In<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> In<'a> {
    /// A record of this sort.
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> StoreResult<Self> {
        match bytes.split_first() {
            Some((&VERSION, bytes)) => Ok(Self { bytes, what }),
            _ => Err(damaged(what)),
        }
    }

    fn take(&mut self, len: usize) -> StoreResult<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(len).ok_or_else(|| damaged(self.what))?;
        self.bytes = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> StoreResult<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| damaged(self.what))
    }

    pub(crate) fn u8(&mut self) -> StoreResult<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> StoreResult<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> StoreResult<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn time(&mut self) -> StoreResult<Timestamp> {
        Ok(Timestamp::from_millis(self.u64()?))
    }

    pub(crate) fn seq(&mut self) -> StoreResult<Seq> {
        let n = self.u64()?;
        self.made(Seq::new(n))
    }

    pub(crate) fn text(&mut self) -> StoreResult<&'a str> {
        let len = self.u8()?;
        let bytes = self.take(usize::from(len))?;
        self.made(std::str::from_utf8(bytes))
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.bytes
    }

    /// What was made of a part, or that the record is damaged.
    pub(crate) fn made<T, E>(&self, result: Result<T, E>) -> StoreResult<T> {
        result.map_err(|_| damaged(self.what))
    }

    /// What a number stands for, or that the record is damaged.
    pub(crate) fn meant<T>(&self, option: Option<T>) -> StoreResult<T> {
        option.ok_or_else(|| damaged(self.what))
    }
}
