//! The servers of the cases: engines on one store, each with all transports.
//!
//! All cases of a test program share them. Each case has a room and users of its own.

use std::collections::HashSet;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use im_core::engine::{Engine, EngineConfig};
use im_core::memory::{MemoryBus, MemoryStore};
use im_core::ports::Unlimited;
use tokio::runtime::{Builder, Runtime};

use crate::transport_suite::http::Client;

/// The interval in which two engines compare themselves with the store: so they discover each
/// other.
const HEAD_CHECK: Duration = Duration::from_millis(200);
/// For intervals that must not affect a case.
const NEVER: Duration = Duration::from_secs(3600);

/// Engines and the addresses of their servers.
#[derive(Debug)]
pub struct Setup {
    pub(super) store: Arc<MemoryStore>,
    addresses: Vec<SocketAddr>,
    cases: AtomicUsize,
    _engines: Vec<Engine>,
    /// The runtime of the servers: each test has another one of its own.
    _runtime: Runtime,
}

impl Setup {
    /// Starts `engines` engines on one store and one bus. `serve` serves one of them at an address
    /// of its own, with the endpoints of all four transports under `/im`.
    ///
    /// # Panics
    ///
    /// If they cannot be started.
    pub fn open<F>(engines: usize, serve: fn(Engine) -> F) -> Self
    where
        F: Future<Output = SocketAddr> + Send + 'static,
    {
        // A runtime cannot be blocked on from a thread of another one.
        std::thread::spawn(move || {
            let runtime =
                Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let store = Arc::new(MemoryStore::new());
            let (engines, addresses) = runtime.block_on(start(engines, store.clone(), serve));
            let cases = AtomicUsize::new(0);
            Self { store, addresses, cases, _engines: engines, _runtime: runtime }
        })
        .join()
        .expect("servers that start")
    }

    /// Returns the number of engines.
    pub fn engines(&self) -> usize {
        self.addresses.len()
    }

    /// Returns the number of a case and the route of its clients.
    pub(super) fn next(&self) -> (usize, Route) {
        let number = self.cases.fetch_add(1, Ordering::Relaxed);
        let turn = Arc::new(AtomicUsize::new(number));
        (number, Route { addresses: self.addresses.clone(), turn })
    }
}

/// The route of one case's clients: each connection and each request goes to the next server, as
/// behind a proxy without session affinity.
#[derive(Debug, Clone)]
pub(super) struct Route {
    addresses: Vec<SocketAddr>,
    turn: Arc<AtomicUsize>,
}

impl Route {
    /// Returns whether two requests reach different servers.
    pub(super) fn wanders(&self) -> bool {
        self.addresses.len() > 1
    }

    pub(super) async fn connect(&self) -> Client {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let address = self.addresses[turn % self.addresses.len()];
        Client::connect(address).await.expect("a server that accepts connections")
    }
}

async fn start<F: Future<Output = SocketAddr>>(
    count: usize,
    store: Arc<MemoryStore>,
    serve: fn(Engine) -> F,
) -> (Vec<Engine>, Vec<SocketAddr>) {
    let bus = Arc::new(MemoryBus::new(1 << 16));
    let (mut engines, mut addresses) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let builder = Engine::builder().allow_anonymous().store(store.clone()).bus(bus.clone());
        let check = if count > 1 { HEAD_CHECK } else { NEVER };
        let config = EngineConfig::default().head_check(check).session_check(NEVER);
        let builder = builder.rate_limiter(Arc::new(Unlimited)).config(config);
        let engine = builder.start().await.expect("an engine that starts");
        addresses.push(serve(engine.clone()).await);
        engines.push(engine);
    }
    while generations(&addresses).await.len() > 1 {
        tokio::task::yield_now().await;
    }
    (engines, addresses)
}

/// Returns the generations of state that the servers name. A second server that starts begins a new
/// one, which the first learns with its next comparison.
async fn generations(addresses: &[SocketAddr]) -> HashSet<String> {
    const INBOX: &[u8] =
        br#"[{"t":"hello","id":1,"v":1,"user":"first"},{"t":"subscribe","id":2,"room":"user:first"}]"#;
    let json = [("content-type", "application/json".to_owned())];
    let mut generations = HashSet::new();
    for address in addresses {
        let mut client =
            Client::connect(*address).await.expect("a server that accepts connections");
        let answer = client.ask("POST /im/send", &json, INBOX).await.expect("a response").json();
        let of = |reply: &serde_json::Value| reply["gen"].as_str().map(str::to_owned);
        let named = answer.as_array().and_then(|replies| replies.iter().find_map(of));
        generations.insert(named.expect("the name of a generation"));
    }
    generations
}
