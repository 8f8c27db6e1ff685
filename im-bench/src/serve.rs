//! `im-bench serve`: the engine with all its transports, as a process to measure and to kill.
//!
//! The transports are mounted at [`EDGE`]. Every other path is a plain WebSocket, for the load
//! scenarios.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use http::{Request, Response};
use im_core::engine::{Engine, EngineConfig};
use im_core::ports::Unlimited;
use im_http::{Body, Edge, Listener, ListenerConfig, UplinkConfig};
use im_stores::{StoreAddress, Tuning};
use im_transport_longpoll::{LongPoll, LongPollConfig};
use im_transport_sse::{Sse, SseConfig};
use im_transport_ws::{WebSocket, WsConfig};
use tower_service::Service;

use crate::child::{Ready, shutdown_signal};

/// Options of `im-bench serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Address of the listener; port 0 selects a free port.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Store: memory, sled:PATH, sqlite:PATH, postgres://…, mysql://….
    #[arg(long, default_value = "memory")]
    store: StoreAddress,
    /// Appends in one commit; by default the store's and the engine's own defaults.
    #[arg(long)]
    batch: Option<usize>,
    /// Apply the default rate limit. Without it, users are not limited.
    #[arg(long)]
    limited: bool,
    /// Pin to this core.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
}

/// The path of all transports.
pub(crate) const EDGE: &str = "/im";

/// The longest time for connections to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Returns the command line of a server on this store.
pub(crate) fn arguments(store: &StoreAddress) -> Vec<String> {
    ["serve", "--store", &store.reveal()].map(str::to_owned).to_vec()
}

/// As [`arguments`], with so many appends in one commit.
pub(crate) fn batched(store: &StoreAddress, batch: usize) -> Vec<String> {
    let mut arguments = arguments(store);
    arguments.extend(["--batch".to_owned(), batch.to_string()]);
    arguments
}

/// As [`arguments`], with the default rate limit.
pub(crate) fn limited(store: &StoreAddress) -> Vec<String> {
    let mut arguments = arguments(store);
    arguments.push("--limited".to_owned());
    arguments
}

/// Serves until the end of standard input, SIGTERM or Ctrl-C. Users are not authenticated.
pub(crate) async fn run(options: Options) -> Result<()> {
    let (mut tuning, mut config) = (Tuning::default(), EngineConfig::default());
    config = config.max_connections_per_address(usize::MAX);
    if let Some(batch) = options.batch {
        // A shard sends its queue in one call, which a store never splits.
        (tuning, config) = (tuning.max_batch(batch), config.append_batch(batch));
    }
    im_http::raise_file_limit();
    let store = options.store.open_tuned(tuning).await?;
    let mut engine = Engine::builder().allow_anonymous().store(store.clone()).config(config);
    if !options.limited {
        engine = engine.rate_limiter(Arc::new(Unlimited));
    }
    let engine = engine.start().await?;
    let served = Served::new(&engine);
    // All load comes from one address.
    let bounds = ListenerConfig::default().max_connections_per_address(usize::MAX);
    let listener = Listener::bind(options.listen)
        .await
        .with_context(|| format!("listen on {}", options.listen))?
        .config(bounds);
    Ready::announce(listener.local_addr()?)?;
    let stop = async {
        if let Err(error) = shutdown_signal().await {
            tracing::error!(%error, "stopping: the shutdown signal cannot be awaited");
        }
        // Open streams and held polls end with the drain; the listener waits for them.
        engine.drain(DRAIN).await;
    };
    listener.serve_until(served.clone(), stop).await?;
    served.ws.shutdown().await;
    store.close().await?;
    Ok(())
}

/// All services behind one port.
#[derive(Clone)]
struct Served {
    ws: WebSocket,
    edge: Edge,
}

impl Served {
    fn new(engine: &Engine) -> Self {
        let ws = WebSocket::new(engine.clone(), WsConfig::default());
        let edge = Edge::new(engine.clone(), UplinkConfig::default())
            .at(EDGE)
            .mount(ws.clone())
            .mount(Sse::new(engine.clone(), SseConfig::default()))
            .mount(LongPoll::new(engine.clone(), LongPollConfig::default()));
        Self { ws, edge }
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<B> Service<Request<B>> for Served
where
    Edge: Service<Request<B>, Response = Response<Body>, Error = Infallible, Future = Answering>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        // Both services are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answering {
        if request.uri().path().starts_with(EDGE) {
            return self.edge.call(request);
        }
        let upgrading = self.ws.call(request);
        Box::pin(async move { upgrading.await.map(|response| response.map(Body::new)) })
    }
}
