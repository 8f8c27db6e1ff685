//! HTTP/1.1 requests to one server, over connections that are kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming as Body};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use crate::link::LinkError;
use crate::refusal::refused;

use super::dial::{Dial, Tcp};

/// Most bytes of a response: more than any server sends.
const MAX_BODY: usize = 16 << 20;

/// Longest silence within a response.
const SILENCE: Duration = Duration::from_secs(30);

/// Tries of a request whose answers come from a gateway without an answer of the server.
pub(super) const GATEWAY_TRIES: u32 = 4;

/// The pause after `failures` such answers: 250 ms, doubled each time, or the gateway's
/// `Retry-After`, at most 5 s.
pub(super) async fn gateway_pause(error: &LinkError, failures: u32) {
    let pause = Duration::from_millis(125 << failures.min(5));
    let pause = pause.max(error.retry_after.unwrap_or_default().min(Duration::from_secs(5)));
    tokio::time::sleep(pause).await;
}

/// A server's address.
#[derive(Debug, Clone)]
pub(super) struct Server {
    authority: String,
    /// The path before `/send`, `/sse` and `/poll`.
    prefix: String,
    /// Headers of every request.
    pub(super) headers: HeaderMap,
    /// The credentials sent last. Every request has them, unless `headers` has others.
    bearer: Arc<Mutex<Option<HeaderValue>>>,
    /// How streams to the server are opened.
    pub(super) dial: Arc<dyn Dial>,
}

impl Server {
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|e| format!("{url}: {e}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            _ => return Err(format!("{url}: the address must begin with http://")),
        }
        let authority = uri.authority().ok_or_else(|| format!("{url}: the address has no host"))?;
        let authority = match authority.port() {
            Some(_) => authority.to_string(),
            None => format!("{authority}:80"),
        };
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let (headers, bearer, dial) = (HeaderMap::new(), Arc::default(), Arc::new(Tcp));
        Ok(Self { authority, prefix, headers, bearer, dial })
    }

    /// Adds these credentials to every later request of every clone of this.
    pub(super) fn show(&self, token: &str) {
        let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}")) else {
            return tracing::warn!("the token fits into no header: only the greeting contains it");
        };
        value.set_sensitive(true);
        *self.bearer.lock() = Some(value);
    }

    /// A request to the server's `path`, with the headers of every request.
    pub(super) fn request(&self, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        // Cannot fail: composed of a parsed prefix and of the characters of stream positions.
        *request.uri_mut() = format!("{}{path}", self.prefix).parse().unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        if let Some(bearer) = &*self.bearer.lock() {
            request.headers_mut().entry(header::AUTHORIZATION).or_insert_with(|| bearer.clone());
        }
        if let Ok(host) = HeaderValue::from_str(&self.authority) {
            request.headers_mut().insert(header::HOST, host);
        }
        request
    }
}

/// Requests one after the other.
#[derive(Debug)]
pub(super) struct Requests {
    server: Server,
    idle: Option<SendRequest<Full<Bytes>>>,
}

impl Requests {
    pub(super) fn new(server: Server) -> Self {
        Self { server, idle: None }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Sends a request, over the open connection or a new one. The response's head must arrive
    /// within `patience`.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<Response<Body>, LinkError> {
        let cut =
            |e: &dyn std::fmt::Display| LinkError::cut(format!("{}: {e}", self.server.authority));
        let answer = async {
            let mut kept = self.idle.take();
            if let Some(idle) = &mut kept
                && idle.ready().await.is_err()
            {
                kept = None;
            }
            let mut sender = match kept {
                Some(idle) => idle,
                None => connect(&self.server).await?,
            };
            let answer = sender.send_request(request).await.map_err(|e| cut(&e))?;
            Ok::<_, LinkError>((sender, answer))
        };
        let answer = tokio::time::timeout(patience, answer).await;
        let (sender, answer) = answer.map_err(|_| cut(&"no answer in time"))??;
        self.idle = Some(sender);
        Ok(answer)
    }
}

async fn connect(server: &Server) -> Result<SendRequest<Full<Bytes>>, LinkError> {
    let cut = |e: &dyn std::fmt::Display| LinkError::cut(format!("{}: {e}", server.authority));
    let stream = server.dial.dial(&server.authority).await.map_err(|e| cut(&e))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| cut(&e))?;
    // The task ends when the sender is dropped and the last response was read or dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP connection ended");
        }
    });
    Ok(sender)
}

/// A response whose body arrives in pieces. Each piece is a sign of life, however long the body
/// takes.
#[derive(Debug)]
pub(super) struct Arriving {
    head: Parts,
    body: Body,
    bytes: BytesMut,
}

impl Arriving {
    pub(super) fn new(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        Self { head, body, bytes: BytesMut::new() }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Whether the response is a success, not a refusal.
    pub(super) fn is_good(&self) -> bool {
        self.head.status.is_success()
    }

    /// Waits for the next piece. Returns whether there may be more.
    pub(super) async fn piece(&mut self) -> Result<bool, LinkError> {
        let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
        let frame = frame.map_err(|_| LinkError::cut("the response stopped before its end"))?;
        let Some(frame) = frame else { return Ok(false) };
        let frame = frame.map_err(|e| LinkError::cut(e.to_string()))?;
        if let Ok(data) = frame.into_data() {
            self.bytes.extend_from_slice(&data);
        }
        if self.bytes.len() > MAX_BODY {
            return Err(LinkError::unfit("the response is too large"));
        }
        Ok(!self.body.is_end_stream())
    }

    /// Returns the whole body of a good response; a refusal is converted to its error.
    pub(super) fn whole(self) -> Result<Bytes, LinkError> {
        let Self { head, bytes, .. } = self;
        if head.status.is_success() {
            return Ok(bytes.freeze());
        }
        Err(refused(head.status, &head.headers, &bytes))
    }
}

/// Returns the whole body of a good response; a refusal is converted to its error. `alive` is
/// called with each piece of a good one: an error page of a proxy is no sign of life of the server.
pub(super) async fn body(
    response: Response<Body>,
    mut alive: impl FnMut(),
) -> Result<Bytes, LinkError> {
    let mut arriving = Arriving::new(response);
    while arriving.piece().await? {
        if arriving.is_good() {
            alive();
        }
    }
    arriving.whole()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses_are_parsed() {
        let server = Server::parse("http://localhost/chat/im/").unwrap();
        assert_eq!((&*server.authority, &*server.prefix), ("localhost:80", "/chat/im"));
        let request = server.request("/poll?hold=5", Bytes::new());
        assert_eq!(request.uri(), "/chat/im/poll?hold=5");
        assert_eq!(request.headers()[header::HOST], "localhost:80");
        assert_eq!(Server::parse("http://[::1]:8080").unwrap().authority, "[::1]:8080");
        for wrong in ["localhost/im", "ws://localhost", "https://localhost", "http://"] {
            assert!(Server::parse(wrong).is_err(), "{wrong}");
        }
    }
}
