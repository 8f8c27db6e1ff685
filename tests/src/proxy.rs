//! A network that breaks: a TCP proxy that ends answers in mid-stream.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Hands on what goes through it, but for answers to one request, which it breaks off where it was told to. It ends with the
/// test's runtime.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    /// How the request begins whose answers are broken off.
    request: &'static str,
    cuts: Mutex<VecDeque<usize>>,
    asked: watch::Sender<usize>,
    /// How the answers began.
    heads: Mutex<Vec<String>>,
}

impl Proxy {
    /// Stands before `to`. `request` is a method and the beginning of a path, such as `GET /im/sse`.
    pub async fn start(to: SocketAddr, request: &'static str) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (cuts, heads, asked) = Default::default();
        let shared = Arc::new(Shared { to, request, cuts, asked, heads });
        let these = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = socket.accept().await {
                let shared = these.clone();
                tokio::spawn(async move { shared.carry(client).await });
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks off the next answers after so many bytes each, heads included; every other one by a reset. Those after them
    /// are handed on whole.
    pub fn cut_next(&self, after: impl IntoIterator<Item = usize>) {
        self.shared.cuts.lock().unwrap().extend(after);
    }

    /// How often the request was made, a broken answer being asked for again included.
    pub fn asked(&self) -> usize {
        *self.shared.asked.borrow()
    }

    /// How the answers to the request began, their heads in whole.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }

    /// Waits until the request was made so often.
    pub async fn was_asked(&self, times: usize) {
        self.shared.asked.subscribe().wait_for(|asked| *asked >= times).await.unwrap();
    }
}

impl Shared {
    async fn carry(&self, mut client: TcpStream) {
        let Ok(mut server) = TcpStream::connect(self.to).await else { return };
        let (mut up, mut down) = ([0; 4096], [0; 4096]);
        // How many bytes of the answer are left, if it is to be broken off.
        let mut left: Option<usize> = None;
        let mut is_head = false;
        loop {
            tokio::select! {
                read = client.read(&mut up) => {
                    let Ok(read @ 1..) = read else { return };
                    if up[..read].starts_with(self.request.as_bytes()) {
                        left = self.cuts.lock().unwrap().pop_front();
                        self.asked.send_modify(|asked| *asked += 1);
                        is_head = true;
                    }
                    if server.write_all(&up[..read]).await.is_err() {
                        return;
                    }
                }
                read = server.read(&mut down) => {
                    let Ok(read @ 1..) = read else { return };
                    if std::mem::take(&mut is_head) {
                        let head = String::from_utf8_lossy(&down[..read]).into_owned();
                        self.heads.lock().unwrap().push(head);
                    }
                    let passed = left.map_or(read, |left| left.min(read));
                    if client.write_all(&down[..passed]).await.is_err() {
                        return;
                    }
                    left = left.map(|left| left - passed);
                    if left == Some(0) {
                        return self.end(&client);
                    }
                }
            }
        }
    }

    fn end(&self, client: &TcpStream) {
        if self.asked.borrow().is_multiple_of(2) {
            // Closed with a reset, in place of a proper end.
            let _ = client.set_zero_linger();
        }
    }
}
