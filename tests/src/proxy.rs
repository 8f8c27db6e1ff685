//! A TCP proxy that cuts responses in the middle, like a bad network.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards all bytes, except responses to one request, which it cuts as configured. It ends with
/// the test's runtime.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    /// The beginning of the request whose responses are cut.
    request: &'static str,
    cuts: Mutex<VecDeque<usize>>,
    asked: watch::Sender<usize>,
    /// The heads of the responses.
    heads: Mutex<Vec<String>>,
}

impl Proxy {
    /// Starts a proxy for `to`. `request` is a method and the beginning of a path, such as `GET
    /// /im/sse`.
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

    /// Returns the proxy's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the next responses after so many bytes each, heads included; every other one by a
    /// reset. Later responses are forwarded whole.
    pub fn cut_next(&self, after: impl IntoIterator<Item = usize>) {
        self.shared.cuts.lock().unwrap().extend(after);
    }

    /// Returns how often the request was made, including retries after a cut response.
    pub fn asked(&self) -> usize {
        *self.shared.asked.borrow()
    }

    /// Returns the whole heads of the responses to the request.
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
        // The bytes until the cut of the response, if it is to be cut.
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
            // A reset instead of a clean close.
            let _ = client.set_zero_linger();
        }
    }
}
