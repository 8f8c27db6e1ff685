//! The tower service.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use im_core::code::Advice;
use im_core::engine::{Access, Connection, Engine, Peer};
use im_core::state::StreamPosition;
use im_core::wire::{Disconnect, Push, encode, list_encoded};
use im_http::{Body, ConnectionList, HalfClosed, Origins, Refusal, Transport};
use tower_service::Service;

use crate::config::LongPollConfig;
use crate::held_poll::HeldPoll;
use crate::kept_downlinks::{Downlink, KeptDownlinks};
use crate::poll_request::PollRequest;

/// `GET …/poll` as a tower service. Cheap to clone; all clones share the kept downlinks.
///
/// It answers every request that it receives: mount it in an [`im_http::Edge`], or under a path of
/// your choice. End its polls and downlinks with [`Self::shutdown`], or all connections of the
/// engine with the engine's `drain`. The edge decides which pages may read; without one, pages of
/// the same origin may.
#[derive(Clone)]
pub struct LongPoll {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    config: LongPollConfig,
    origins: Origins,
    downlinks: Arc<KeptDownlinks>,
    connections: ConnectionList,
}

impl LongPoll {
    /// Creates the polling service of an engine.
    pub fn new(engine: Engine, config: LongPollConfig) -> Self {
        let downlinks = KeptDownlinks::new(config.linger, config.max_kept);
        let (origins, connections) = (Origins::default(), ConnectionList::default());
        Self { shared: Arc::new(Shared { engine, config, origins, downlinks, connections }) }
    }

    /// Refuses new polls, answers held ones with [`im_core::Code::Draining`], and waits until all
    /// have ended.
    pub async fn shutdown(&self) {
        self.shared.downlinks.close();
        self.shared.connections.close().await;
    }

    async fn poll<B>(&self, request: Request<B>) -> Result<Response<Body>, Refusal> {
        let config = &self.shared.config;
        let asking = PollRequest::of(request.uri(), request.headers(), config.max_hold)?;
        let peer = Peer {
            transport: "poll",
            encoding: asking.encoding,
            address: im_http::peer_address(request.extensions()),
            credentials: im_http::credentials(&request)?,
        };
        let half_closed = request.extensions().get::<HalfClosed>().map(HalfClosed::wait);
        let downlink = match self.go_on(&peer, &asking).await? {
            Some(downlink) => downlink,
            None => self.begin(peer, &asking).await?,
        };
        let mut poll =
            HeldPoll::new(asking.token.session.clone(), downlink, self.shared.downlinks.clone());
        let gathered = poll.gather(asking.hold, half_closed, config.max_response_bytes).await;
        let frames = gathered.map_err(|disconnect| Refusal::from(&disconnect))?;
        let position = poll.deliver();
        tracing::trace!(frames = frames.len(), "answered a poll");
        Ok(respond(frames, &position, &asking))
    }

    /// Returns the downlink kept since the last poll, if this poll continues it.
    async fn go_on(&self, peer: &Peer, asking: &PollRequest) -> Result<Option<Downlink>, Refusal> {
        let downlinks = &self.shared.downlinks;
        let (Some((at, _)), session) = (&asking.at, &asking.token.session) else { return Ok(None) };
        let Some(connection) = downlinks.find(session, at) else { return Ok(None) };
        connection.prove(peer.clone(), &asking.token).await?;
        if connection.is_closed() {
            return match disconnect_of(&connection).await {
                Some(disconnect) if im_core::code::advice(disconnect.code) == Advice::Stop => {
                    Err(Refusal::from(&disconnect))
                }
                _ => Ok(None),
            };
        }
        if connection.encoding() != asking.encoding {
            return Ok(None);
        }
        // A concurrent poll of the same session may have taken it.
        let Some(mut downlink) = downlinks.take(session, at) else { return Ok(None) };
        for batch in downlink.unconfirmed.drain(..) {
            connection.release(batch);
        }
        Ok(Some(downlink))
    }

    /// Opens a new downlink, which replaces an existing one of the session.
    async fn begin(&self, peer: Peer, asking: &PollRequest) -> Result<Downlink, Refusal> {
        let access = Access::Token(asking.token.clone());
        let position = asking.at.as_ref().map(|(_, position)| position);
        let connection = self.shared.engine.open_stream(peer, &access, position).await?;
        let entry = self.shared.connections.enter(connection)?;
        Ok(Downlink { entry, position: String::new(), unconfirmed: Vec::new() })
    }
}

/// Returns the disconnect of a connection.
async fn disconnect_of(connection: &Connection) -> Option<Disconnect> {
    loop {
        if let Some(disconnect) = connection.take(usize::MAX).await?.close {
            return Some(disconnect);
        }
    }
}

fn respond(
    mut frames: Vec<Bytes>,
    position: &StreamPosition,
    asking: &PollRequest,
) -> Response<Body> {
    let position = position.to_string();
    // Compared as text: a downlink that was opened again has another turn in its position, and the
    // client must return with that one, or each of its polls would open another downlink.
    let unchanged = frames.is_empty() && asking.known.contains(&position);
    let mut response = if unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        frames.push(encode(&Push::Position(position.as_str().into()).to_value(), asking.encoding));
        Response::new(Body::from(list_encoded(&frames, asking.encoding)))
    };
    let headers = response.headers_mut();
    if !unchanged {
        let of = HeaderValue::from_static(im_http::media_type(asking.encoding));
        headers.insert(CONTENT_TYPE, of);
    }
    // A stream position consists of letters, digits, `-` and `_`.
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{position}\"")) {
        headers.insert(ETAG, tag);
    }
    response
}

impl fmt::Debug for LongPoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LongPoll").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Transport for LongPoll {
    fn name(&self) -> &'static str {
        "poll"
    }

    fn hold(&self) -> Option<Duration> {
        Some(self.shared.config.max_hold)
    }
}

impl<B: Send + 'static> Service<Request<B>> for LongPoll {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        // The body is ignored.
        let request = request.map(drop);
        Box::pin(async move {
            let origins = &this.shared.origins;
            Ok(im_http::answer(origins, Method::GET, request, |request| this.poll(request)).await)
        })
    }
}
