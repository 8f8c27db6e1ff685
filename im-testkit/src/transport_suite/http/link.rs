//! Request half and stream half as one connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use im_core::wire::{
    Command, CommandBody, Encoding, ErrorReply, Limits, Map, Value, decode, encode,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::link::{Dial, RawLink, Received, Refused};
use super::super::peer::generous;
use super::client::{Answer, Client};
use super::down::{Down, Downlink, Whose};

/// One [`RawLink`] made of a POST for each message and a stream half.
pub struct HttpLink {
    encoding: Encoding,
    jobs: mpsc::UnboundedSender<Job>,
    news: mpsc::UnboundedReceiver<News>,
    poster: JoinHandle<()>,
    /// The number of messages that are not answered.
    waiting: Arc<AtomicUsize>,
    /// Set when `hello` was answered with a session.
    welcomed: Arc<AtomicBool>,
    down: Option<Down>,
    /// Set when a stream half was requested.
    opening: bool,
    /// The end of the connection. Replies received before it are returned first.
    ended: Option<Received>,
}

enum Job {
    Post { message: Bytes, encoding: Encoding, pieces: usize },
    Open { position: Option<String> },
}

enum News {
    Received(Received),
    Opened(Box<Down>),
    /// New credentials: the stream half is opened again with them.
    Resumed,
}

impl HttpLink {
    /// Connects to the endpoints under `/im` at this address, after a request for `GET /im`.
    ///
    /// # Errors
    ///
    /// If the server refuses `GET /im`.
    pub async fn dial(address: SocketAddr, down: Downlink, dial: Dial) -> Result<Self, Refused> {
        let offered = async { Client::connect(address).await?.ask("GET /im", &[], b"").await };
        match offered.await {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => return Err(Refused { code: answer.code() }),
            Err(_) => return Err(Refused { code: None }),
        }
        let (jobs, todo) = mpsc::unbounded_channel();
        let (notify, news) = mpsc::unbounded_channel();
        let (waiting, welcomed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let poster = Poster {
            address,
            encoding: dial.encoding,
            kind: down,
            bearer: dial.token.map(|token| token.expose().to_owned()),
            session: None,
            opened: false,
            client: None,
            notify,
            waiting: waiting.clone(),
            welcomed: welcomed.clone(),
        };
        let poster = tokio::spawn(poster.run(todo));
        let (down, opening, ended) = (None, false, None);
        Ok(Self {
            encoding: dial.encoding,
            jobs,
            news,
            poster,
            waiting,
            welcomed,
            down,
            opening,
            ended,
        })
    }

    fn post(&mut self, message: Bytes, encoding: Encoding, pieces: usize) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // The poster has ended only if the connection has.
        let _ = self.jobs.send(Job::Post { message, encoding, pieces });
    }

    fn end(&mut self, code: Option<u16>) {
        self.down = None;
        self.ended.get_or_insert(Received::Closed(code));
    }
}

#[async_trait]
impl RawLink for HttpLink {
    async fn send(&mut self, message: Bytes, encoding: Encoding) {
        self.post(message, encoding, 1);
    }

    async fn send_in_pieces(&mut self, message: Bytes, encoding: Encoding, pieces: usize) {
        self.post(message, encoding, pieces);
    }

    async fn receive(&mut self) -> Received {
        loop {
            let idle = self.waiting.load(Ordering::SeqCst) == 0 && self.news.is_empty();
            if let Some(end) = self.ended.clone()
                && idle
            {
                return end;
            }
            if idle && !self.opening && self.welcomed.load(Ordering::SeqCst) {
                self.opening = true;
                let _ = self.jobs.send(Job::Open { position: None });
            }
            let coming = async {
                match &mut self.down {
                    Some(down) => down.receive().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                news = self.news.recv() => match news {
                    Some(News::Received(Received::Closed(code))) => self.end(code),
                    Some(News::Received(received)) => return received,
                    Some(News::Opened(down)) => {
                        self.opening = true;
                        self.down = Some(*down);
                    }
                    Some(News::Resumed) => {
                        let position = self.down.take().and_then(|down| down.position());
                        let _ = self.jobs.send(Job::Open { position });
                    }
                    None => return Received::Closed(None),
                },
                came = coming => match came {
                    Ok(Received::Closed(code)) => self.end(code),
                    Ok(received) => return received,
                    Err(refusal) => {
                        self.end(refusal.code());
                        if let Some(bye) = disconnect(&refusal, self.encoding) {
                            return Received::Message(bye);
                        }
                    }
                },
            }
        }
    }

    fn cut(self: Box<Self>) {}
}

impl Drop for HttpLink {
    fn drop(&mut self) {
        self.poster.abort();
    }
}

/// Returns the `disconnect` frame of a refused request.
fn disconnect(refusal: &Answer, encoding: Encoding) -> Option<Bytes> {
    let body = refusal.json();
    let mut bye = Map::from_iter([("t", Value::from("disconnect"))]);
    bye.insert("code", Value::Int(body["code"].as_i64()?));
    bye.insert("msg", Value::from(body["msg"].as_str()?));
    if let Some(wait) = body["retry_ms"].as_i64() {
        bye.insert("retry_ms", Value::Int(wait));
    }
    Some(encode(&bye.into(), encoding))
}

/// Sends messages one after the other.
struct Poster {
    address: SocketAddr,
    encoding: Encoding,
    kind: Downlink,
    bearer: Option<String>,
    session: Option<String>,
    opened: bool,
    client: Option<Client>,
    notify: mpsc::UnboundedSender<News>,
    waiting: Arc<AtomicUsize>,
    welcomed: Arc<AtomicBool>,
}

impl Poster {
    async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        while let Some(job) = jobs.recv().await {
            match job {
                Job::Post { message, encoding, pieces } => {
                    self.post(message, encoding, pieces).await;
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                }
                Job::Open { position } => self.open(position).await,
            }
        }
    }

    fn notify(&self, received: Received) {
        // The link may have been dropped.
        let _ = self.notify.send(News::Received(received));
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let bearer = self.bearer.as_ref().map(|token| ("authorization", format!("Bearer {token}")));
        let session = self.session.clone().map(|session| ("im-session", session));
        bearer.into_iter().chain(session).collect()
    }

    async fn open(&mut self, position: Option<String>) {
        self.opened = true;
        let (address, encoding, headers) = (self.address, self.encoding, self.headers());
        match Down::open(self.kind, Whose { address, encoding, headers, position }).await {
            Ok(down) => drop(self.notify.send(News::Opened(Box::new(down)))),
            Err(refused) => {
                let bye = refused.as_ref().and_then(|refusal| disconnect(refusal, encoding));
                bye.into_iter().for_each(|bye| self.notify(Received::Message(bye)));
                self.notify(Received::Closed(refused.and_then(|refusal| refusal.code())));
            }
        }
    }

    async fn post(&mut self, message: Bytes, encoding: Encoding, pieces: usize) {
        let commands = commands(&message, encoding);
        // The credentials in `hello` also authenticate the requests after it.
        for command in &commands {
            if let CommandBody::Hello(hello) = &command.body
                && let Some(token) = &hello.token
            {
                self.bearer = Some(token.expose().to_owned());
            }
        }
        match self.exchange(&message, encoding, pieces).await {
            Ok(answer) if answer.status == 200 => self.answered(&commands, answer).await,
            Ok(refusal) => self.refused(&commands, &refusal),
            Err(_) => self.notify(Received::Closed(None)),
        }
    }

    async fn exchange(
        &mut self,
        message: &[u8],
        encoding: Encoding,
        pieces: usize,
    ) -> std::io::Result<Answer> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(self.address).await?,
        };
        let mut headers = self.headers();
        let of = match encoding {
            Encoding::Json => "application/json",
            Encoding::MsgPack => "application/msgpack",
        };
        headers.push(("content-type", of.to_owned()));
        let answer = if pieces > 1 {
            chunked(&mut client, headers, message, pieces).await?
        } else {
            client.ask("POST /im/send", &headers, message).await?
        };
        let last = answer.header("connection").is_some_and(|value| value.contains("close"));
        self.client = (!last).then_some(client);
        Ok(answer)
    }

    async fn answered(&mut self, commands: &[Command], answer: Answer) {
        let frames = decode(&answer.body, self.encoding, &generous()).expect("a batch of replies");
        let ok = |frame: &Value| frame.get("t").and_then(Value::as_text) == Some("ok");
        let text = |frame: &Value, name: &str| frame.get(name)?.as_text().map(str::to_owned);
        let (mut opens, mut renewed) = (false, false);
        for frame in frames.iter().filter(|frame| ok(frame)) {
            if let (Some(session), Some(secret)) = (text(frame, "session"), text(frame, "secret")) {
                self.session = Some(format!("{session} {secret}"));
                self.welcomed.store(true, Ordering::SeqCst);
                opens |= frame.get("resumed") == Some(&Value::Bool(false));
            }
            opens |= frame.get("rooms").is_some();
            let id = frame.get("id").and_then(Value::as_int);
            let of = |command: &&Command| Some(command.id.0 as i64) == id;
            if let Some(CommandBody::Refresh { token }) =
                commands.iter().find(of).map(|command| &command.body)
            {
                self.bearer = Some(token.expose().to_owned());
                renewed = true;
            }
        }
        if renewed && self.opened {
            let _ = self.notify.send(News::Resumed);
        }
        if opens && !self.opened {
            self.open(None).await;
        }
        self.notify(Received::Message(answer.body));
    }

    fn refused(&self, commands: &[Command], refusal: &Answer) {
        let body = refusal.json();
        let code = refusal.code();
        for command in commands {
            let reply = ErrorReply {
                id: Some(command.id),
                code: code.unwrap_or_default(),
                message: body["msg"].as_str().unwrap_or_default().to_owned(),
                retry_after: body["retry_ms"].as_u64().map(std::time::Duration::from_millis),
            };
            self.notify(Received::Message(encode(&reply.to_value(), self.encoding)));
        }
        self.notify(Received::Closed(code));
    }
}

/// Sends a message in chunks (RFC 9112 section 7.1), each in a write of its own.
async fn chunked(
    client: &mut Client,
    headers: Vec<(&'static str, String)>,
    message: &[u8],
    pieces: usize,
) -> std::io::Result<Answer> {
    let headers: String =
        headers.into_iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "POST /im/send HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n{headers}\r\n"
    );
    client.send(head.as_bytes()).await?;
    for piece in message.chunks(message.len().div_ceil(pieces).max(1)) {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        client.send(&chunk).await?;
    }
    client.send(b"0\r\n\r\n").await?;
    client.finish().await
}

/// Returns the commands of a message, or nothing if a server would reject it.
fn commands(message: &[u8], encoding: Encoding) -> Vec<Command> {
    let frames = decode(message, encoding, &Limits::default()).unwrap_or_default();
    frames.into_iter().filter_map(|frame| Command::from_value(frame).ok()).collect()
}
