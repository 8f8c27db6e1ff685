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
use im_core::state::Mark;
use im_core::wire::{Bye, Push, encode, list_encoded};
use im_http::{Body, HalfClosed, Origins, Refusal, Roll, Transport};
use tower_service::Service;

use crate::asking::Asking;
use crate::config::LongPollConfig;
use crate::held::Held;
use crate::kept::{Downlink, Kept};

/// `GET …/poll` as a tower service. Cheap to clone; all clones share what they keep.
///
/// It answers every request that reaches it: mount it in an [`im_http::Edge`], or under a path of your choice. End its
/// polls and what it keeps by [`Self::shutdown`], or all connections of the engine by the engine's `drain`. Which pages
/// may read is the edge's to say; alone, it lets in pages of the same origin.
#[derive(Clone)]
pub struct LongPoll {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    config: LongPollConfig,
    origins: Origins,
    kept: Arc<Kept>,
    roll: Roll,
}

impl LongPoll {
    /// Polling for this engine.
    pub fn new(engine: Engine, config: LongPollConfig) -> Self {
        let kept = Kept::new(config.linger, config.max_kept);
        let (origins, roll) = (Origins::default(), Roll::default());
        Self { shared: Arc::new(Shared { engine, config, origins, kept, roll }) }
    }

    /// Takes no further polls, answers those that are held with [`im_core::Code::Draining`], and waits until all have ended.
    pub async fn shutdown(&self) {
        self.shared.kept.close();
        self.shared.roll.close().await;
    }

    async fn poll<B>(&self, request: Request<B>) -> Result<Response<Body>, Refusal> {
        let config = &self.shared.config;
        let asking = Asking::of(request.uri(), request.headers(), config.max_hold)?;
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
        let mut held = Held::new(asking.token.session.clone(), downlink, self.shared.kept.clone());
        let gathered = held.gather(asking.hold, half_closed, config.max_response_bytes).await;
        let frames = gathered.map_err(|bye| Refusal::from(&bye))?;
        let mark = held.deliver();
        tracing::trace!(frames = frames.len(), "answered a poll");
        Ok(respond(frames, &mark, &asking))
    }

    /// The downlink that was kept since the last poll, if this one goes on from there.
    async fn go_on(&self, peer: &Peer, asking: &Asking) -> Result<Option<Downlink>, Refusal> {
        let kept = &self.shared.kept;
        let (Some((at, _)), session) = (&asking.at, &asking.token.session) else { return Ok(None) };
        let Some(connection) = kept.find(session, at) else { return Ok(None) };
        connection.prove(peer.clone(), &asking.token).await?;
        if connection.is_closed() {
            return match farewell(&connection).await {
                Some(bye) if im_core::code::advice(bye.code) == Advice::Stop => {
                    Err(Refusal::from(&bye))
                }
                _ => Ok(None),
            };
        }
        if connection.encoding() != asking.encoding {
            return Ok(None);
        }
        // Another poll of the same session may have been faster.
        let Some(mut downlink) = kept.take(session, at) else { return Ok(None) };
        for batch in downlink.unconfirmed.drain(..) {
            connection.release(batch);
        }
        Ok(Some(downlink))
    }

    /// A new downlink, in the place of whatever the session had.
    async fn begin(&self, peer: Peer, asking: &Asking) -> Result<Downlink, Refusal> {
        let access = Access::Token(asking.token.clone());
        let mark = asking.at.as_ref().map(|(_, mark)| mark);
        let connection = self.shared.engine.open_stream(peer, &access, mark).await?;
        let entry = self.shared.roll.enter(connection)?;
        Ok(Downlink { entry, mark: String::new(), unconfirmed: Vec::new() })
    }
}

/// Why a connection ended.
async fn farewell(connection: &Connection) -> Option<Bye> {
    loop {
        if let Some(bye) = connection.take(usize::MAX).await?.close {
            return Some(bye);
        }
    }
}

fn respond(mut frames: Vec<Bytes>, mark: &Mark, asking: &Asking) -> Response<Body> {
    let mark = mark.to_string();
    // To the letter: a downlink that has begun anew has another turn, and the client has to come back with that mark, or
    // every poll of its would begin one.
    let unchanged = frames.is_empty() && asking.known.contains(&mark);
    let mut response = if unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        frames.push(encode(&Push::Mark(mark.as_str().into()).to_value(), asking.encoding));
        Response::new(Body::from(list_encoded(&frames, asking.encoding)))
    };
    let headers = response.headers_mut();
    if !unchanged {
        let of = HeaderValue::from_static(im_http::media_type(asking.encoding));
        headers.insert(CONTENT_TYPE, of);
    }
    // A mark has letters, digits, - and _ only.
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{mark}\"")) {
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
        // Nothing of the body is looked at.
        let request = request.map(drop);
        Box::pin(async move {
            let origins = &this.shared.origins;
            Ok(im_http::answer(origins, Method::GET, request, |request| this.poll(request)).await)
        })
    }
}
