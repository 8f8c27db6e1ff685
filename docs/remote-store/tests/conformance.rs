//! The suites of im-testkit, and two stores on one database.
#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "../database/server.rs"]
mod serve;

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use im_core::ports::{Appended, LogRange};
use im_core::state::{Act, Append, Authority, IdempotencyKey, NewEvent, RoomSeed, content_hash};
use im_core::store::BackendStore;
use im_core::wire::{Content, Limits, PageFrom, Role, RoomKind, Value};
use im_core::{EventKind, MessageId, RoomId, Seq, Timestamp, UserId};
use im_testkit::backend_suite::{Backend, BackendFactory, async_trait};
use im_testkit::store_suite::{Store, StoreFactory};

/// Starts a server on a port of its own. It ends with the test.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || serve::serve(&listener));
    address
}

/// The address of the latest server.
#[derive(Default)]
struct Servers(Mutex<Option<SocketAddr>>);

impl Servers {
    fn start(&self) -> SocketAddr {
        *self.0.lock().unwrap().insert(server())
    }

    fn last(&self) -> SocketAddr {
        self.0.lock().unwrap().unwrap()
    }
}

fn backend(address: SocketAddr) -> Arc<dyn Backend> {
    Arc::new(remote_store::backend(address))
}

#[async_trait]
impl BackendFactory for Servers {
    async fn create(&self) -> Arc<dyn Backend> {
        backend(self.start())
    }

    async fn reopen(&self, _closed: Arc<dyn Backend>) -> Option<Arc<dyn Backend>> {
        Some(backend(self.last()))
    }

    async fn another(&self) -> Option<Arc<dyn Backend>> {
        Some(backend(self.last()))
    }
}

async fn store(address: SocketAddr) -> Arc<dyn Store> {
    Arc::new(BackendStore::open(backend(address)).await.unwrap())
}

#[async_trait]
impl StoreFactory for Servers {
    async fn open(&self) -> Arc<dyn Store> {
        store(self.start()).await
    }

    async fn reopen(&self, _closed: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        Some(store(self.last()).await)
    }
}

mod as_backend {
    im_testkit::backend_suite!(super::Servers::default());
}

mod as_store {
    im_testkit::store_suite!(super::Servers::default());
}

fn append(room: &RoomId, act: Act) -> Append {
    let (authority, at) = (Authority::Service, Timestamp::from_millis(1));
    Append { room: room.clone(), authority, act, at, max_members: 10 }
}

/// A message of ann's under an id.
fn send(room: &RoomId, id: &str) -> Append {
    let (kind, value) = (EventKind::message(), Value::from(id));
    let key = IdempotencyKey {
        id: MessageId::new(format!("message-id-with-{id}")).unwrap(),
        hash: content_hash(&kind, &value),
    };
    let content = Content::new(&value, &Limits::default()).unwrap();
    let from = UserId::new("ann").unwrap();
    let event = NewEvent { from, kind, content, idempotency_key: Some(key) };
    append(room, Act::Post { event, seed: None })
}

const WRITERS: usize = 4;
const SENDS: usize = 40;

/// Two stores that append to one room at once, each send through both, keep it dense, whole and without a repeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_share_a_room() {
    let address = server();
    let (one, other) = (store(address).await, store(address).await);
    let (room, ann) = (RoomId::new("tea").unwrap(), UserId::new("ann").unwrap());
    let members = vec![(ann.clone(), Role::Owner)];
    let seed = RoomSeed { kind: RoomKind::Group, open: false, members };
    let made = one.append(vec![append(&room, Act::Create { by: ann, seed })]).await;
    assert!(made[0].is_ok(), "{made:?}");
    let tasks: Vec<_> = (0..WRITERS)
        .flat_map(|writer| [(writer, Arc::clone(&one)), (writer, Arc::clone(&other))])
        .map(|(writer, store)| {
            let room = room.clone();
            tokio::spawn(async move {
                let mut seqs = Vec::new();
                for n in 0..SENDS {
                    let append = send(&room, &format!("{writer} {n}").replace(' ', "-"));
                    seqs.push(loop {
                        match store.append(vec![append.clone()]).await.remove(0) {
                            Ok(Appended::Committed(event)) => break (event.seq, true),
                            Ok(Appended::Duplicate { record, .. }) => break (record.seq, false),
                            Err(_) => {}
                        }
                    });
                }
                (writer, seqs)
            })
        })
        .collect();
    let (mut by_writer, mut committed) = (vec![Vec::new(); WRITERS], HashSet::new());
    for task in tasks {
        let (writer, seqs) = task.await.unwrap();
        committed.extend(seqs.iter().filter(|(_, new)| *new).map(|(seq, _)| *seq));
        by_writer[writer].push(seqs.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>());
    }
    for seqs in by_writer {
        assert_eq!(seqs[0], seqs[1], "both stores return the same seq for a send");
    }
    assert_eq!(committed.len(), WRITERS * SENDS, "each send was committed once");
    for store in [one, other] {
        let from = PageFrom::After(Seq::ZERO);
        let range = LogRange { from, limit: 1_000, max_bytes: usize::MAX };
        let page = store.read(&room, range).await.unwrap().unwrap();
        let seqs: Vec<u64> = page.events.iter().map(|event| event.seq.get()).collect();
        assert_eq!(seqs, (1..=(WRITERS * SENDS) as u64 + 1).collect::<Vec<_>>());
        let ids: HashSet<_> = page.events.iter().filter_map(|event| event.id.clone()).collect();
        assert_eq!(ids.len(), WRITERS * SENDS);
    }
}
