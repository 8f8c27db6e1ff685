//! One connection's task. Posts messages one after the other, so that their order stands, and reads what comes down. While
//! a message is under way that changes what is followed, what comes down waits: its answer comes first.

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

/// How long a POST may take beyond the time that its body takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The slowest uplink for which a POST is given its time, in bytes a second.
const SLOWEST: u64 = 500;

/// The header that names the session.
pub(super) const SESSION: HeaderName = HeaderName::from_static("im-session");

pub(super) struct Driver {
    server: Server,
    encoding: Encoding,
    down: Down,
    outgoing: Queue,
    incoming: Sender<Incoming>,
    /// Ends when the connection closes: nobody reads then, and what waits on its way up goes up nevertheless.
    closing: oneshot::Receiver<()>,
    closes: bool,
    /// Where posts go while none is under way.
    requests: Option<Requests>,
    /// What comes down next. Kept while other things happen, so that no poll is given up.
    reading: Option<Reading>,
    /// Tells what comes down of every POST that was answered.
    posted: Arc<Notify>,
}

/// A message that is being posted.
struct Posting {
    answer: BoxFuture<'static, (Requests, Result<Bytes, LinkError>)>,
    /// What comes down has to wait for the answer.
    first: bool,
}

enum Happened {
    /// The application wants to write, or nobody holds the connection any more.
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
            // Nobody listens any more if this fails.
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
                        tracing::debug!(%error, "the message is posted again");
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

    /// Looks for the welcome, with which the downlink can be opened.
    fn on_replies(&mut self, replies: Bytes) -> Result<Incoming, LinkError> {
        if self.reading.is_none() {
            let frames = decode(&replies, self.encoding, &generous()).map_err(|e| nonsense(&e))?;
            let welcome = frames.into_iter().find_map(|frame| Welcome::from_value(frame).ok());
            if let Some(welcome) = welcome {
                self.outgoing.gather_within(welcome.limits);
                let session = format!("{} {}", welcome.session, welcome.secret.expose());
                let session = HeaderValue::from_str(&session)
                    .map_err(|_| LinkError::unfit("the session fits no header"))?;
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

/// Posts the message. Pieces of the response are signs of life.
async fn post_once(
    requests: &mut Requests,
    request: Request<Full<Bytes>>,
    heard: &mut Sender<Incoming>,
) -> Result<Bytes, LinkError> {
    let bytes = request.body().size_hint().upper().unwrap_or_default();
    let patience = PATIENCE + Duration::from_millis(1000 * bytes / SLOWEST);
    let response = requests.send(request, patience).await?;
    body(response, || {
        // One that waits already says the same.
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
