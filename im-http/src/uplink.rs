//! Commands by POST: one message in, the list of its acks out.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use im_core::Code;
use im_core::engine::{Engine, Peer};
use im_core::wire::Encoding;
use tower_service::Service;

use crate::answers;
use crate::body::{Body, BoxError};
use crate::credentials::{credentials, peer_address};
use crate::endpoint::answer;
use crate::lists::{elements, lists};
use crate::origin::Origins;
use crate::refusal::Refusal;
use crate::request::{content_type, media_type, session};
use crate::timed::{BodyTime, BodyTooSlow, TimedBody};

/// Bytes of a refused body that are read nevertheless, because a client that writes its whole
/// request before it reads would not receive the refusal (RFC 9112 section 9.6).
const LINGER_BYTES: usize = 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// Configuration of the uplink. The engine bounds the size of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UplinkConfig {
    /// How long the body of a request may take to arrive, in addition to its size at 500 bytes a
    /// second. 30 s by default: the slowest networks in use carry more. The largest message by
    /// default (64 KiB) has 161 s. Worst case in memory: one message per concurrent request.
    ///
    /// For `POST …/send` it replaces
    /// [`ListenerConfig::body_timeout`](crate::ListenerConfig::body_timeout), which bounds the
    /// bodies of all other requests to our own listener.
    pub body_timeout: Duration,
}

impl Default for UplinkConfig {
    fn default() -> Self {
        Self { body_timeout: Duration::from_secs(30) }
    }
}

impl UplinkConfig {
    /// Sets [`Self::body_timeout`].
    #[must_use]
    pub fn body_timeout(mut self, time: Duration) -> Self {
        self.body_timeout = time;
        self
    }
}

/// `POST …/send` as a tower service. Cheap to clone.
///
/// The [`Edge`](crate::Edge) decides which pages may send; without one, pages of the same origin
/// may.
#[derive(Clone)]
pub struct Uplink {
    shared: Arc<(Engine, UplinkConfig)>,
    origins: Origins,
}

impl Uplink {
    /// Creates the uplink of an engine.
    pub fn new(engine: Engine, config: UplinkConfig) -> Self {
        Self { shared: Arc::new((engine, config)), origins: Origins::default() }
    }

    async fn handle<B>(&self, request: Request<B>) -> Result<Response<Body>, Refusal>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let (engine, config) = &*self.shared;
        let encoding = encoding_of(request.headers())?;
        let token = session(request.headers())?;
        let peer = Peer {
            transport: "post",
            encoding,
            address: peer_address(request.extensions()),
            credentials: credentials(&request)?,
        };
        let message = read(request, engine.limits().max_message_bytes, config.body_timeout).await?;
        let answers = engine.call(peer, token.as_ref(), message).await?;
        let mut response = Response::new(answers::body(answers, encoding).await);
        let of = HeaderValue::from_static(media_type(encoding));
        response.headers_mut().insert(CONTENT_TYPE, of);
        Ok(response)
    }
}

impl fmt::Debug for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uplink").field("config", &self.shared.1).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for Uplink
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let origins = &this.origins;
            Ok(answer(origins, Method::POST, request, |request| this.handle(request)).await)
        })
    }
}

fn encoding_of(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let encoding = content_type(headers)?;
    // An element that is not text is a coding nevertheless.
    let plain = elements(headers, &CONTENT_ENCODING)
        .all(|coding| coding.is_ok_and(|coding| coding.eq_ignore_ascii_case("identity")));
    match plain {
        true => Ok(encoding),
        false => {
            Err(Refusal::new(Code::WrongEncoding, "send the message without a content encoding"))
        }
    }
}

/// The fault of a body.
enum Fault {
    TooLarge,
    TooSlow,
    CutOff,
}

impl Fault {
    fn of(error: &BoxError) -> Self {
        if BodyTooSlow::caused(error) { Self::TooSlow } else { Self::CutOff }
    }
}

/// Reads a message of at most `max` bytes.
async fn read<B>(request: Request<B>, max: usize, within: Duration) -> Result<Bytes, Refusal>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    // A client that expects 100-continue, or announces more than is ever read, is refused at once.
    let asks = lists(request.headers(), &EXPECT, "100-continue");
    let announced = request.body().size_hint().lower();
    // On our own listener the body has a time-out already. It is set to `within`, so that each body
    // has one timer.
    let own = match request.extensions().get::<BodyTime>() {
        Some(time) => {
            time.set(within);
            None
        }
        None => Some(BodyTime::new(within)),
    };
    let mut body = pin!(request.into_body());
    let last = HeaderValue::from_static("close");
    let too_large = |words| Refusal::new(Code::TooLarge, words).header(CONNECTION, last.clone());
    if announced > max as u64 {
        if !asks && announced <= LINGER_BYTES as u64 {
            linger(body.as_mut()).await;
        }
        return Err(too_large(format!("a message has at most {max} bytes")));
    }
    let collected = match own {
        None => collect(body.as_mut(), max).await,
        Some(time) => collect(pin!(TimedBody::new(body.as_mut(), time)), max).await,
    };
    match collected {
        Ok(message) => Ok(message),
        Err(Fault::CutOff) => Err(Refusal::new(Code::Malformed, "the message was cut off")
            .header(CONNECTION, last.clone())),
        Err(Fault::TooLarge) => {
            linger(body.as_mut()).await;
            Err(too_large(format!("a message has at most {max} bytes")))
        }
        Err(Fault::TooSlow) => {
            Err(Refusal::new(Code::IdleTimeout, "the message took too long to arrive")
                .status(StatusCode::REQUEST_TIMEOUT)
                .header(CONNECTION, last.clone()))
        }
    }
}

async fn collect<B>(mut body: Pin<&mut B>, max: usize) -> Result<Bytes, Fault>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.as_mut().frame().await {
        let Ok(data) = frame.map_err(|error| Fault::of(&error.into()))?.into_data() else {
            continue;
        };
        if first.len() + rest.len() + data.len() > max {
            return Err(Fault::TooLarge);
        }
        match first.is_empty() && rest.is_empty() {
            // Most bodies arrive in one piece.
            true => first = data,
            false => {
                if rest.is_empty() {
                    rest.extend_from_slice(&std::mem::take(&mut first));
                }
                rest.extend_from_slice(&data);
            }
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Reads and discards the rest of a body, bounded in bytes and time.
async fn linger<B: HttpBody<Data = Bytes>>(mut body: Pin<&mut B>) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.as_mut().frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > LINGER_BYTES {
                return;
            }
        }
    };
    // A slower client does not receive the refusal.
    let _ = tokio::time::timeout(LINGER, reading).await;
}

#[cfg(test)]
mod tests {
    use hyper::body::Frame;
    use tokio::time::{Instant, Sleep};

    use super::*;

    /// A body that arrives in pieces.
    struct Drip {
        left: usize,
        piece: usize,
        every: Duration,
        next: Pin<Box<Sleep>>,
    }

    impl Drip {
        fn new(left: usize, piece: usize, every: Duration) -> Self {
            Self { left, piece, every, next: Box::pin(tokio::time::sleep(every)) }
        }
    }

    impl HttpBody for Drip {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            std::task::ready!(self.next.as_mut().poll(cx));
            let (piece, every) = (self.piece.min(self.left), self.every);
            self.left -= piece;
            self.next.as_mut().reset(Instant::now() + every);
            Poll::Ready(Some(Ok(Frame::data(vec![b'x'; piece].into()))))
        }
    }

    /// The largest message over an uplink of 1,500 bytes a second arrives, although it exceeds the
    /// time-out.
    #[tokio::test(start_paused = true)]
    async fn slow_body_is_read_whole() {
        let body = Drip::new(64 * 1024, 750, Duration::from_millis(500));
        let within = UplinkConfig::default().body_timeout;
        let begin = Instant::now();
        let read = read(Request::new(body), 64 * 1024, within).await;
        assert_eq!(read.map_err(|_| ()).unwrap().len(), 64 * 1024);
        assert!(begin.elapsed() > within);
    }

    /// A body of single bytes is refused about when a body that never arrives is.
    #[tokio::test(start_paused = true)]
    async fn body_of_single_bytes_is_refused() {
        for every in [Duration::from_secs(1), Duration::from_secs(3600)] {
            let begin = Instant::now();
            let read = read(Request::new(Drip::new(9000, 1, every)), 9000, Duration::from_secs(30));
            assert!(read.await.is_err());
            assert!(begin.elapsed() < Duration::from_secs(31));
        }
    }
}
