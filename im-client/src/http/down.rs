//! The downlink: an event stream, or one poll after the other. A stream that ends is reopened from
//! its stream position, and a poll whose answer was lost is repeated from there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming as Body;
use hyper::header::{self, HeaderName, HeaderValue};
use im_core::wire::{Encoding, Value, decode, encode_batch};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::link::{Incoming, LinkError};
use crate::refusal::{generous, nonsense};

use super::Down;
use super::request::{Arriving, GATEWAY_TRIES, Requests, Server, body, gateway_pause};
use super::sse::{Parser, Said};

/// Time for the head of an answer, beyond the wait that the server was asked for.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest silence of a stream; heartbeats end it.
const SILENCE: Duration = Duration::from_secs(60);
/// Tries to reopen a stream or to repeat a poll before the connection counts as lost. The pauses
/// before them are 100 ms, 400 ms and 1.6 s.
const TRIES: u32 = 3;
/// The pause before an open stream is reopened, if the server sends no `retry:`.
const RETRY: Duration = Duration::from_millis(1500);
/// Bounds of the server's `retry:`: a client never retries without a pause and never waits too
/// long.
const RETRY_BOUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A long poll that took at least this long was held by the server.
const HELD: Duration = Duration::from_secs(1);
/// The pause after a long poll that was not held and returned nothing: wire/SPEC.md, "Polling".
const UNHELD_PAUSE: Duration = Duration::from_secs(2);
/// A stream position has at most 2,048 characters: an answer with more bytes than this contains
/// more than a position.
const POSITION_ALONE: usize = 2_048 + 64;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) struct StreamReader {
    requests: Requests,
    encoding: Encoding,
    down: Down,
    /// The stream position.
    position: Option<String>,
    ready: VecDeque<Incoming>,
    stream: Option<(Body, Parser)>,
    /// The response to a poll, while it arrives.
    answer: Option<Arriving>,
    /// When the last poll was sent.
    requested_at: Instant,
    /// No poll before this time, unless a POST is answered.
    rest: Option<Instant>,
    /// Notified when a POST was answered: its commands may have produced pushes.
    posted: Arc<Notify>,
    /// Requests that failed since the last one that succeeded.
    failures: u32,
    /// Set once some bytes have arrived.
    heard: bool,
    /// Set once part of a stream, or a whole answer to a poll, has arrived.
    worked: bool,
    /// The pause before a stream is reopened.
    retry: Duration,
}

impl StreamReader {
    /// `posted` is notified of every POST that was answered.
    pub(super) fn new(server: Server, encoding: Encoding, down: Down, posted: Arc<Notify>) -> Self {
        Self {
            requests: Requests::new(server),
            encoding,
            down,
            position: None,
            ready: VecDeque::new(),
            stream: None,
            answer: None,
            requested_at: Instant::now(),
            rest: None,
            posted,
            failures: 0,
            heard: false,
            worked: false,
            retry: RETRY,
        }
    }

    /// Returns the next thing that arrives.
    pub(super) async fn next(&mut self) -> Result<Incoming, LinkError> {
        loop {
            if let Some(incoming) = self.ready.pop_front() {
                return Ok(incoming);
            }
            let got = match (self.down, self.answer.take()) {
                (_, Some(answer)) => self.read_answer(answer).await,
                (Down::Stream, _) => self.read_stream().await,
                (Down::LongPoll(hold), _) => self.poll(hold).await,
                (Down::ShortPoll(_), _) => self.poll(Duration::ZERO).await,
            };
            if let Err(error) = got {
                self.recover(error).await?;
            }
        }
    }

    /// Waits until the next try is due. A returned error ends the connection.
    async fn recover(&mut self, error: LinkError) -> Result<(), LinkError> {
        let was_open = self.stream.take().is_some();
        // A coded refusal by the server is final; a network failure may pass.
        if error.code.is_some() || (error.unfit && !self.worked) {
            return Err(error);
        }
        // The greeting has just succeeded, so silence here is the fault of this transport.
        if !self.heard && !error.gateway {
            return Err(LinkError { unfit: true, ..error });
        }
        let tries = if error.gateway { GATEWAY_TRIES - 1 } else { TRIES };
        if self.failures >= tries {
            return Err(LinkError { unfit: error.unfit || !self.worked, ..error });
        }
        tracing::debug!(%error, "the downlink was interrupted");
        self.failures += 1;
        if error.gateway {
            gateway_pause(&error, self.failures).await;
        } else if was_open {
            tokio::time::sleep(self.retry).await;
        } else {
            let pause = Duration::from_millis(100 * 4_u64.pow(self.failures - 1));
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// Records that a request succeeded.
    fn works(&mut self) {
        (self.failures, self.heard, self.worked) = (0, true, true);
    }

    async fn read_stream(&mut self) -> Result<(), LinkError> {
        if self.stream.is_none() {
            self.stream = Some((self.open_stream().await?, Parser::default()));
        }
        let Some((stream, parser)) = &mut self.stream else { return Ok(()) };
        // Our servers send something at once; a proxy that buffers it would buffer everything.
        let silence = if self.heard { SILENCE } else { PATIENCE };
        let frame = tokio::time::timeout(silence, stream.frame()).await;
        let frame = frame.map_err(|_| LinkError::cut("the stream has become silent"))?;
        let Some(frame) = frame else { return Err(LinkError::cut("the stream has ended")) };
        let frame = frame.map_err(|e| LinkError::cut(e.to_string()))?;
        let Ok(piece) = frame.into_data() else { return Ok(()) };
        let said = parser.push(&piece).map_err(|_| LinkError::unfit("not an event stream"))?;
        for said in said {
            match said {
                Said::Data(data) => {
                    let message = in_encoding(data, self.encoding)?;
                    self.ready.push_back(Incoming::Message(message));
                }
                Said::Id(position) => self.position = Some(position),
                Said::Retry(pause) => self.retry = pause.clamp(RETRY_BOUNDS.0, RETRY_BOUNDS.1),
                Said::Comment => {}
            }
        }
        if self.ready.is_empty() {
            self.ready.push_back(Incoming::Heard);
        }
        self.works();
        Ok(())
    }

    async fn open_stream(&mut self) -> Result<Body, LinkError> {
        let mut request = self.requests.server().request("/sse", Bytes::new());
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(position) =
            self.position.as_ref().and_then(|position| HeaderValue::from_str(position).ok())
        {
            headers.insert(LAST_EVENT_ID, position);
        }
        let response = self.requests.send(request, PATIENCE).await?;
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_stream = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        if response.status() == StatusCode::OK && is_stream {
            return Ok(response.into_body());
        }
        body(response, || {}).await?;
        Err(LinkError::unfit("the response is not an event stream; a proxy may have replaced it"))
    }

    /// Waits until the next poll is due.
    async fn rest(&mut self) {
        if let Some(at) = self.rest.take() {
            tokio::select! {
                () = sleep_until(at) => {}
                () = self.posted.notified() => {}
            }
        }
        self.requested_at = Instant::now();
        // The next poll covers what was posted before.
        let _ = self.posted.notified().now_or_never();
        if let Down::ShortPoll(every) = self.down {
            // Applies if the poll fails.
            self.rest = Some(self.requested_at + every);
        }
    }

    /// Plans the next poll after an answer: at once, unless this one returned nothing and was not
    /// held.
    fn plan_next(&mut self, brought_something: bool) {
        let now = Instant::now();
        let (pause, was_held) = match self.down {
            Down::ShortPoll(every) => (every, false),
            Down::LongPoll(hold) => {
                (UNHELD_PAUSE, !hold.is_zero() && now - self.requested_at >= hold.min(HELD))
            }
            Down::Stream => return,
        };
        self.rest = (!brought_something && !was_held).then(|| now + pause);
    }

    async fn poll(&mut self, hold: Duration) -> Result<(), LinkError> {
        self.rest().await;
        let at =
            self.position.as_ref().map(|position| format!("&at={position}")).unwrap_or_default();
        let path = format!("/poll?hold={}{at}", hold.as_secs());
        let mut request = self.requests.server().request(&path, Bytes::new());
        let accept = match self.encoding {
            Encoding::Json => HeaderValue::from_static("application/json"),
            Encoding::MsgPack => HeaderValue::from_static("application/msgpack"),
        };
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, accept);
        let tag = self
            .position
            .as_ref()
            .and_then(|position| HeaderValue::from_str(&format!("\"{position}\"")).ok());
        if let Some(tag) = tag {
            headers.insert(header::IF_NONE_MATCH, tag);
        }
        let response = self.requests.send(request, hold + PATIENCE).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            self.works();
            self.ready.push_back(Incoming::Heard);
            self.plan_next(false);
            return Ok(());
        }
        self.read_answer(Arriving::new(response)).await
    }

    /// Reads the next piece of a poll's response.
    async fn read_answer(&mut self, mut answer: Arriving) -> Result<(), LinkError> {
        while answer.piece().await? {
            if answer.is_good() {
                self.heard = true;
                self.ready.push_back(Incoming::Heard);
                self.answer = Some(answer);
                return Ok(());
            }
        }
        let tag = answer.headers().get(header::ETAG).and_then(position_of);
        let frames = answer.whole()?;
        // A proxy may have changed the tag: if the body does not end with it, the position is read
        // from the body.
        let position = match tag.filter(|position| ends_with(&frames, position)) {
            Some(position) => Some(position),
            None => position_in(&frames, self.encoding)?,
        };
        self.position = position.or(self.position.take());
        self.works();
        self.plan_next(brings_something(&frames, self.encoding));
        self.ready.push_back(Incoming::Message(frames));
        Ok(())
    }
}

/// The stream position in one of our entity tags.
fn position_of(tag: &HeaderValue) -> Option<String> {
    let tag = tag.to_str().ok()?;
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    Some(tag.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

/// Whether the last frame contains this stream position.
fn ends_with(frames: &[u8], position: &str) -> bool {
    let frame = position.len() + 32;
    let end = &frames[frames.len().saturating_sub(frame)..];
    !position.is_empty() && end.windows(position.len()).any(|part| part == position.as_bytes())
}

/// Whether a poll's answer contains anything but a stream position.
fn brings_something(frames: &[u8], encoding: Encoding) -> bool {
    let is_mark = |frame: &Value| frame.get("t").and_then(Value::as_text) == Some("position");
    frames.len() > POSITION_ALONE
        || decode(frames, encoding, &generous()).map_or(true, |frames| !frames.iter().all(is_mark))
}

/// The stream position at the end of a poll's answer.
fn position_in(frames: &[u8], encoding: Encoding) -> Result<Option<String>, LinkError> {
    let read = decode(frames, encoding, &generous()).map_err(|e| nonsense(&e))?;
    let is_mark = |frame: &&Value| frame.get("t").and_then(Value::as_text) == Some("position");
    let position = read.iter().rev().find(is_mark).and_then(|frame| frame.get("at"));
    Ok(position.and_then(Value::as_text).map(str::to_owned))
}

/// Converts a message of an event stream, which is always JSON, to the client's encoding.
fn in_encoding(json: Bytes, encoding: Encoding) -> Result<Bytes, LinkError> {
    if encoding == Encoding::Json {
        return Ok(json);
    }
    let frames = decode(&json, Encoding::Json, &generous()).map_err(|e| nonsense(&e))?;
    Ok(encode_batch(&frames, encoding))
}

#[cfg(test)]
mod tests {
    use im_core::wire::Push;

    use super::*;

    /// The ETag is the stream position only if the last frame of the body contains the same one.
    #[test]
    fn position_is_etag_with_matching_frame() {
        let tag = HeaderValue::from_static("W/\"AQAAAA\"");
        let position = position_of(&tag).unwrap();
        assert_eq!(position, "AQAAAA");
        assert_eq!(position_of(&HeaderValue::from_static("AQAAAA")), None);
        for encoding in Encoding::ALL {
            let frames =
                encode_batch(&[Push::Position(position.as_str().into()).to_value()], encoding);
            assert!(ends_with(&frames, &position), "{encoding:?}");
            assert!(!ends_with(&frames, "AQAAAA-gzip"), "{encoding:?}");
            assert_eq!(
                position_in(&frames, encoding).unwrap(),
                Some(position.clone()),
                "{encoding:?}"
            );
        }
    }
}
