//! What comes down: an event stream, or one poll after the other. A stream that ends is taken up again from its stream position, and
//! so is a poll whose answer was lost.

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

/// How long the head of an answer may take beyond what the server was asked to wait.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a stream may say nothing, heartbeats included.
const SILENCE: Duration = Duration::from_secs(60);
/// Tries to take a stream or a poll up again before the connection counts as lost. The pauses before them are 100 ms, 400 ms
/// and 1.6 s.
const TRIES: u32 = 3;
/// The pause before a stream that was open is taken up again, where the server names none by `retry:`.
const RETRY: Duration = Duration::from_millis(1500);
/// What a server may name: a client neither asks without a pause nor stays away.
const RETRY_BOUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A long poll that took this long was held.
const HELD: Duration = Duration::from_secs(1);
/// The pause after a long poll that was not held and brought nothing: wire/SPEC.md, "Polling".
const UNHELD_PAUSE: Duration = Duration::from_secs(2);
/// A stream position has 2,048 characters at most: an answer with more bytes than this brings something beside it.
const POSITION_ALONE: usize = 2_048 + 64;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) struct StreamReader {
    requests: Requests,
    encoding: Encoding,
    down: Down,
    /// Where we stand.
    position: Option<String>,
    ready: VecDeque<Incoming>,
    stream: Option<(Body, Parser)>,
    /// The response to a poll, of which more is to come.
    answer: Option<Arriving>,
    /// When the last poll was sent.
    requested_at: Instant,
    /// Before then no further poll, unless a POST is answered.
    rest: Option<Instant>,
    /// A POST was answered: what it did may have something to say.
    posted: Arc<Notify>,
    /// Requests that failed since the last one that worked.
    failures: u32,
    /// Part of something has come down.
    heard: bool,
    /// Part of a stream, or a whole answer to a poll, has come down.
    worked: bool,
    /// The pause before a stream is taken up again.
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

    /// The next thing that comes down.
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

    /// Waits until the next try is due. An error that comes back ends the connection.
    async fn recover(&mut self, error: LinkError) -> Result<(), LinkError> {
        let was_open = self.stream.take().is_some();
        // What the server says counts at once; what the network does may pass.
        if error.code.is_some() || (error.unfit && !self.worked) {
            return Err(error);
        }
        // The greeting has just come through, so that silence here is this transport's.
        if !self.heard && !error.gateway {
            return Err(LinkError { unfit: true, ..error });
        }
        let tries = if error.gateway { GATEWAY_TRIES - 1 } else { TRIES };
        if self.failures >= tries {
            return Err(LinkError { unfit: error.unfit || !self.worked, ..error });
        }
        tracing::debug!(%error, "what comes down was interrupted");
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

    /// A request did what it was made for.
    fn works(&mut self) {
        (self.failures, self.heard, self.worked) = (0, true, true);
    }

    async fn read_stream(&mut self) -> Result<(), LinkError> {
        if self.stream.is_none() {
            self.stream = Some((self.open_stream().await?, Parser::default()));
        }
        let Some((stream, parser)) = &mut self.stream else { return Ok(()) };
        // Our servers say something at once; what holds it back would hold back all.
        let silence = if self.heard { SILENCE } else { PATIENCE };
        let frame = tokio::time::timeout(silence, stream.frame()).await;
        let frame = frame.map_err(|_| LinkError::cut("the stream says nothing any more"))?;
        let Some(frame) = frame else { return Err(LinkError::cut("the stream has ended")) };
        let frame = frame.map_err(|e| LinkError::cut(e.to_string()))?;
        let Ok(piece) = frame.into_data() else { return Ok(()) };
        let said = parser.push(&piece).map_err(|_| LinkError::unfit("this is no event stream"))?;
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
        Err(LinkError::unfit("something between us and the server gives no event stream"))
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
        // What was posted before comes down by this poll.
        let _ = self.posted.notified().now_or_never();
        if let Down::ShortPoll(every) = self.down {
            // For the case that it fails.
            self.rest = Some(self.requested_at + every);
        }
    }

    /// A poll was answered. The next one follows at once, unless this one brought nothing and was not held.
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

    /// The next piece of a poll's response.
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
        // Something on the way may have changed the tag; what is not at the end is looked for.
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

/// The stream position that an entity tag of ours is.
fn position_of(tag: &HeaderValue) -> Option<String> {
    let tag = tag.to_str().ok()?;
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    Some(tag.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

/// Whether the last frame holds this stream position.
fn ends_with(frames: &[u8], position: &str) -> bool {
    let frame = position.len() + 32;
    let end = &frames[frames.len().saturating_sub(frame)..];
    !position.is_empty() && end.windows(position.len()).any(|part| part == position.as_bytes())
}

/// Whether a poll's answer holds anything but a stream position.
fn brings_something(frames: &[u8], encoding: Encoding) -> bool {
    let is_mark = |frame: &Value| frame.get("t").and_then(Value::as_text) == Some("position");
    frames.len() > POSITION_ALONE
        || decode(frames, encoding, &generous()).map_or(true, |frames| !frames.iter().all(is_mark))
}

/// The stream position at the end of what a poll gave.
fn position_in(frames: &[u8], encoding: Encoding) -> Result<Option<String>, LinkError> {
    let read = decode(frames, encoding, &generous()).map_err(|e| nonsense(&e))?;
    let is_mark = |frame: &&Value| frame.get("t").and_then(Value::as_text) == Some("position");
    let position = read.iter().rev().find(is_mark).and_then(|frame| frame.get("at"));
    Ok(position.and_then(Value::as_text).map(str::to_owned))
}

/// A message of an event stream, which is always in JSON, as the client reads it.
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

    /// The ETag is the stream position only if the last frame of the body has the same one.
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
