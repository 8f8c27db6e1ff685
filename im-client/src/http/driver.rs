//! One connection's task. Posts messages one after the other, which preserves their order, and
//! reads the downlink. While a message that changes subscriptions is being posted, the downlink
//! waits: the answer must come first.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use futures::channel::mpsc::{self, Sender};
use futures::channel::oneshot;
use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Body as _;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request};
use im_core::wire::{Encoding, Welcome, decode};
use tokio::sync::Notify;

use crate::link::{Incoming, LinkError};
use crate::refusal::{generous, nonsense};

use super::Down;
use super::down::StreamReader;
use super::queue::{Message, Queue};
use super::request::{GATEWAY_TRIES, Requests, Server, body, gateway_pause};

/// Time for a POST, beyond the time that its body takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The slowest uplink whose POSTs do not time out, in bytes a second.
const SLOWEST: u64 = 500;

/// The header that names the session.
pub(super) const SESSION: HeaderName = HeaderName::from_static("im-session");

pub(super) struct Driver {
    server: Server,
    encoding: Encoding,
    down: Down,
    outgoing: Queue,
    incoming: Sender<Incoming>,
    /// Resolves when the connection closes: the application reads no more, and queued messages are
    /// still posted.
    closing: oneshot::Receiver<()>,
    closes: bool,
    /// The connection for POSTs while none is in progress.
    requests: Option<Requests>,
    /// The pending read of the downlink. Kept across other work, so that no poll is abandoned.
    reading: Option<Reading>,
    /// Notifies the downlink of every POST that was answered.
    posted: Arc<Notify>,
}

/// A message that is being posted.
struct Posting {
    answer: BoxFuture<'static, (Requests, Result<Bytes, LinkError>)>,
    /// The downlink has to wait for the answer.
    first: bool,
}

enum Happened {
    /// The application wrote a message; `None` if the connection was dropped.
    Message(Option<Message>),
    Answered(Requests, Result<Bytes, LinkError>),
    Down(Box<StreamReader>, Result<Incoming, LinkError>),
}

impl Driver {
    pub(super) fn new(
        server: Server,
        encoding: Encoding,
        down: Down,
        outgoing: Queue,
        (incoming, closing): (Sender<Incoming>, oneshot::Receiver<()>),
    ) -> Self {
        let requests = Some(Requests::new(server.clone()));
        let (closes, reading, posted) = (false, None, Arc::default());
        Self {
            server,
            encoding,
            down,
            outgoing,
            incoming,
            closing,
            closes,
            requests,
            reading,
            posted,
        }
    }

    pub(super) async fn run(mut self) {
        let mut posting: Option<Posting> = None;
        loop {
            let happened = self.next(&mut posting).await;
            let passed_on = match happened {
                Happened::Message(None) => return,
                Happened::Message(Some(message)) => {
                    posting = self.post(message);
                    continue;
                }
                Happened::Answered(requests, answer) => {
                    (self.requests, posting) = (Some(requests), None);
                    self.posted.notify_one();
                    answer.and_then(|replies| self.on_replies(replies))
                }
                Happened::Down(reader, said) => {
                    self.read_on(reader);
                    said
                }
            };
            let last = passed_on.is_err();
            // An error means that the receiver is gone.
            let gone = self.pass_on(passed_on.unwrap_or_else(Incoming::Closed)).await.is_err();
            if gone || last {
                return;
            }
        }
    }

    async fn pass_on(&mut self, arrived: Incoming) -> Result<(), mpsc::SendError> {
        if self.closes {
            return Ok(());
        }
        tokio::select! {
            sent = self.incoming.send(arrived) => sent,
            _ = &mut self.closing => {
                self.closes = true;
                Ok(())
            }
        }
    }

    async fn next(&mut self, posting: &mut Option<Posting>) -> Happened {
        let waits = posting.as_ref().is_some_and(|posting| posting.first);
        let idle = posting.is_none();
        tokio::select! {
            (requests, answer) = answered(posting) => Happened::Answered(requests, answer),
            message = self.outgoing.next(), if idle => Happened::Message(message),
            (reader, said) = read(&mut self.reading), if !waits => Happened::Down(reader, said),
        }
    }

    fn post(&mut self, message: Message) -> Option<Posting> {
        let mut requests = self.requests.take()?;
        let first = message.changes_subscriptions();
        let content_type = match self.encoding {
            Encoding::Json => HeaderValue::from_static("application/json"),
            Encoding::MsgPack => HeaderValue::from_static("application/msgpack"),
        };
        if let Some(token) = message.token() {
            self.server.show(token);
        }
        let tries = if message.is_idempotent() { GATEWAY_TRIES } else { 1 };
        let mut request = self.server.request("/send", message.encode(self.encoding));
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(header::CONTENT_TYPE, content_type);
        let mut heard = self.incoming.clone();
        let answer = Box::pin(async move {
            for failures in 1..tries {
                match post_once(&mut requests, request.clone(), &mut heard).await {
                    Err(error) if error.gateway => {
                        tracing::debug!(%error, "retrying the POST");
                        gateway_pause(&error, failures).await;
                    }
                    answer => return (requests, answer),
                }
            }
            let answer = post_once(&mut requests, request, &mut heard).await;
            (requests, answer)
        });
        Some(Posting { answer, first })
    }

    /// Looks for the welcome, which contains what the downlink needs to open.
    fn on_replies(&mut self, replies: Bytes) -> Result<Incoming, LinkError> {
        if self.reading.is_none() {
            let frames = decode(&replies, self.encoding, &generous()).map_err(|e| nonsense(&e))?;
            let welcome = frames.into_iter().find_map(|frame| Welcome::from_value(frame).ok());
            if let Some(welcome) = welcome {
                self.outgoing.gather_within(welcome.limits);
                let session = format!("{} {}", welcome.session, welcome.secret.expose());
                let session = HeaderValue::from_str(&session)
                    .map_err(|_| LinkError::unfit("the session id fits into no header"))?;
                self.server.headers.insert(SESSION, session);
                let (server, posted) = (self.server.clone(), self.posted.clone());
                let reader = StreamReader::new(server, self.encoding, self.down, posted);
                self.read_on(Box::new(reader));
            }
        }
        Ok(Incoming::Message(replies))
    }

    fn read_on(&mut self, mut reader: Box<StreamReader>) {
        self.reading = Some(Box::pin(async move {
            let said = reader.next().await;
            (reader, said)
        }));
    }
}

/// Posts the message. Each piece of the response is a sign of life.
async fn post_once(
    requests: &mut Requests,
    request: Request<Full<Bytes>>,
    heard: &mut Sender<Incoming>,
) -> Result<Bytes, LinkError> {
    let bytes = request.body().size_hint().upper().unwrap_or_default();
    let patience = PATIENCE + Duration::from_millis(1000 * bytes / SLOWEST);
    let response = requests.send(request, patience).await?;
    body(response, || {
        // A full channel holds a sign of life already.
        let _ = heard.try_send(Incoming::Heard);
    })
    .await
}

async fn answered(posting: &mut Option<Posting>) -> (Requests, Result<Bytes, LinkError>) {
    match posting {
        Some(posting) => (&mut posting.answer).await,
        None => std::future::pending().await,
    }
}

type Reading = BoxFuture<'static, (Box<StreamReader>, Result<Incoming, LinkError>)>;

async fn read(reading: &mut Option<Reading>) -> (Box<StreamReader>, Result<Incoming, LinkError>) {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}
