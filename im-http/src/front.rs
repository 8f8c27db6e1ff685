//! Processing of each request from our own listener to a service, and of its response.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Either};
use hyper::body::{Body, Incoming};
use hyper_util::service::TowerToHyperService;
use tower_service::Service;

use crate::body::BoxError;
use crate::credentials::PeerAddr;
use crate::forwarded::client;
use crate::grammar::check_grammar;
use crate::hosts::HostCheck;
use crate::listener_config::ListenerConfig;
use crate::lists::lists;
use crate::refusal::Refusal;
use crate::timed::{BodyTime, TimedBody};
use crate::turns::Turns;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The target of a request as it arrived, before a router stripped a prefix.
#[derive(Debug, Clone)]
pub(crate) struct Target(Uri);

impl Target {
    pub(crate) fn of<B>(request: &Request<B>) -> &Uri {
        request.extensions().get().map_or(request.uri(), |Self(target)| target)
    }
}

/// The path to the service for the requests of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    config: Arc<ListenerConfig>,
    host: Arc<HostCheck>,
    peer: SocketAddr,
    turns: Arc<Turns>,
}

impl Front {
    pub(crate) fn new(config: Arc<ListenerConfig>, host: Arc<HostCheck>, peer: SocketAddr) -> Self {
        Self { config, host, peer, turns: Arc::default() }
    }

    pub(crate) fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// Answers a request with the service, unless it is refused here.
    pub(crate) async fn answer<S, B>(
        self,
        service: TowerToHyperService<S>,
        mut request: Request<Incoming>,
    ) -> Result<Response<impl Body<Data = Bytes, Error = BoxError>>, S::Error>
    where
        S: Service<Request<TimedBody>, Response = Response<B>> + Clone,
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let turn = self.turns.begin();
        let may_stay = stays_open(&request);
        let from = client(&self.config.proxies, self.peer, request.headers());
        let target = Target(request.uri().clone());
        request.extensions_mut().insert(target);
        request.extensions_mut().insert(PeerAddr(from));
        request.extensions_mut().insert(self.turns.half_closed());
        let time = BodyTime::new(self.config.body_timeout);
        request.extensions_mut().insert(time.clone());
        let version = request.version();
        let request = request.map(|body| TimedBody::new(body, time.clone()));
        let mut response = match self.admit(&request) {
            Err(refusal) => refusal.into_response().map(Either::Left),
            Ok(()) => hyper::service::Service::call(&service, request).await?.map(Either::Right),
        };
        if time.is_late() && version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        } else if may_stay
            && time.is_whole()
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            // Not announced with an unread body: hyper may close the connection because of it.
            self.announce(response.headers_mut());
        }
        Ok(response.map(|body| {
            body.map_err(move |error| {
                // The turn ends when the body is dropped.
                let _ = &turn;
                error
            })
        }))
    }

    fn admit<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        check_grammar(request)?;
        Ok(self.host.check(request.uri(), request.headers())?)
    }

    /// Announces the idle time-out (RFC 2068 section 19.7.1), which clients still read.
    fn announce(&self, headers: &mut HeaderMap) {
        if headers.contains_key(CONNECTION) {
            return;
        }
        let seconds = self.config.idle_timeout.as_secs();
        if let Ok(value) = HeaderValue::from_str(&format!("timeout={seconds}")) {
            headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
            headers.insert(KEEP_ALIVE, value);
        }
    }
}

/// Returns whether the client allows the connection to be reused.
fn stays_open<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11 && !lists(request.headers(), &CONNECTION, "close")
}
