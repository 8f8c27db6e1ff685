//! A network that fails: a TCP proxy that falls silent, or refuses.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Stands before a database server, and hands on what goes through it until it is told otherwise. It ends with the test's
/// runtime.
pub struct Proxy {
    /// The server's address, by way of the proxy.
    url: String,
    shared: Arc<Shared>,
}

/// What the proxy does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Hands on.
    Open,
    /// Takes what it is sent, and nothing comes of it: a peer that has vanished without a word.
    Deaf,
    /// Hands on a request with this text, and no answer to it, nor anything after it on that connection. Then it is open.
    DeafAfter(&'static str),
    /// Ends connections, those that come and those that are there when something is sent on them.
    Shut,
}

struct Shared {
    to: String,
    mood: Mutex<Mood>,
    accepted: watch::Sender<usize>,
    /// Connections that a text has made deaf.
    deaf: watch::Sender<usize>,
}

impl Proxy {
    /// Stands before the server that a URL names.
    pub async fn start(url: &str) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (before, place) = url.rsplit_once('@').unwrap();
        let (to, database) = place.split_once('/').unwrap();
        let url = format!("{before}@{}/{database}", socket.local_addr().unwrap());
        let (mood, accepted, deaf) =
            (Mutex::new(Mood::Open), Default::default(), Default::default());
        let shared = Arc::new(Shared { to: to.to_owned(), mood, accepted, deaf });
        let these = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = socket.accept().await {
                these.accepted.send_modify(|count| *count += 1);
                let shared = Arc::clone(&these);
                tokio::spawn(async move { shared.carry(client).await });
            }
        });
        Self { url, shared }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        *self.shared.accepted.borrow()
    }

    /// Waits until a text has made so many connections deaf.
    pub async fn deafened(&self, count: usize) {
        self.shared.deaf.subscribe().wait_for(|deaf| *deaf >= count).await.unwrap();
    }
}

impl Shared {
    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    /// Whether what was sent makes the connection deaf.
    fn is_met(&self, sent: &[u8]) -> bool {
        let mut mood = self.mood.lock().unwrap();
        let Mood::DeafAfter(text) = *mood else { return false };
        let is_met = sent.windows(text.len()).any(|part| part == text.as_bytes());
        if is_met {
            *mood = Mood::Open;
            self.deaf.send_modify(|count| *count += 1);
        }
        is_met
    }

    async fn carry(&self, mut client: TcpStream) {
        if self.mood() == Mood::Shut {
            return;
        }
        let Ok(mut server) = TcpStream::connect(&self.to).await else { return };
        let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        let mut deaf = false;
        loop {
            tokio::select! {
                read = client.read(&mut up) => {
                    let Ok(read @ 1..) = read else { return };
                    match self.mood() {
                        Mood::Shut => return,
                        Mood::Deaf => deaf = true,
                        Mood::Open | Mood::DeafAfter(_) => {}
                    }
                    if deaf {
                        continue;
                    }
                    deaf = self.is_met(&up[..read]);
                    if server.write_all(&up[..read]).await.is_err() {
                        return;
                    }
                }
                read = server.read(&mut down) => {
                    let Ok(read @ 1..) = read else { return };
                    if !deaf && self.mood() != Mood::Deaf && client.write_all(&down[..read]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
